"""``rookery bundle``: releases, from a folder to the server. What reads, compares and carries them stands in ``bundle_*``."""

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.bundle_compare import diff
from fleet_server.cli.bundle_files import FILE, open_file, read_file
from fleet_server.cli.bundle_golden import golden, make_parity_samples
from fleet_server.cli.bundle_init import init
from fleet_server.cli.bundle_transfer import export, import_bundle, push
from fleet_server.cli.bundle_verify import info, verify
from fleet_server.cli.bundle_yank import yank
from fleet_server.cli.errors import AUTH, CONFLICT, FAILURE, USAGE, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, trust_option
from fleet_server.cli.output import clock, print_items, print_one, size, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client
    from ota.bundle.reader_disk import Bundle
    from ota.bundle.tuf_types import Metadata, Targets
    from ota.trust.key_types import Signer


@click.group()
def bundle() -> None:
    """Releases: init, build, golden, sign, verify, info, diff, push, list, yank, export, import."""


for _command in (init, golden, verify, info, diff, push, yank, export, import_bundle):
    bundle.add_command(_command)


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=FILE, help="Else NAME-VERSION.rookery in the present folder.")
@click.option("--delta-from", "bases", multiple=True, type=FILE, help="A bundle that boards run: patches that save 20 % or more.")
@click.option("--plain", is_flag=True, help="Nothing packed, manifest version 1: for boards with an agent of before.")
@pass_session
def build(session: Session, folder: Path, out: Path | None, bases: tuple[Path, ...], plain: bool) -> None:
    """Make a bundle from FOLDER/bundle.toml: manifest, variants, and parity samples made with the reference variant.

    The same folder gives the same bytes (set created_s in bundle.toml, or SOURCE_DATE_EPOCH; keep golden/parity.json).
    """
    from fleet_server.cli.bundle_spec import check_models, make_draft, read_spec
    from ota.bundle.errors import BundleError
    from ota.bundle.manifest import PLAIN_VERSION, VERSION, travelling_all
    from ota.bundle.packing_disk import pack_release
    from ota.bundle.writer_disk import write_contents

    spec = read_spec(folder)
    created_s = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    draft = make_draft(folder, spec, created_s, make_parity_samples(folder, spec), PLAIN_VERSION if plain else VERSION)
    check_models(folder, spec)
    target = out or Path(f"{draft.manifest.name}-{draft.manifest.version}.rookery")
    try:
        with tempfile.TemporaryDirectory(prefix="rookery-pack-") as work:
            release = pack_release(draft.manifest, draft.files, Path(work), [open_file(one) for one in bases])
            digest = write_contents(target, release.manifest, release.contents)
    except (BundleError, OSError) as error:
        raise CliError(FAILURE, f"cannot write {target}: {error}") from None
    travel_bytes = sum(travelling_all(release.manifest, deltas=False).values())
    deltas = sum(len(entry.deltas) for entry in release.manifest.files.values())
    used_bytes = sum(map(len, draft.files.values()))
    body: dict[str, Any] = {
        "file": str(target), "release": release.manifest.release, "sha256": digest, "files": len(draft.files),
        "length_bytes": used_bytes, "travelling_bytes": travel_bytes, "deltas": deltas,
    }  # fmt: skip
    lines = [*list(body.items())[:4], ("size", f"{size(used_bytes)}, {size(travel_bytes)} as it travels")]
    lines += [("deltas", str(deltas) if deltas else "none saved 20 %")] if bases else []
    print_one(body, lines, session.output, "file")
    if draft.manifest.golden.acceptance is None and draft.manifest.kind == "model":
        talk("this release has no acceptance set: it will be called parity only")


@bundle.command()
@click.argument("file", type=FILE)
@click.option("--key", "key", required=True, metavar="KEY", help="A release key of the channel: FILE, pkcs11:…, awskms:….")
@trust_option
@click.option("--metadata", type=FILE, help="The channel's present metadata (else asked of the server).")
@click.option("--first", is_flag=True, help="Nothing was published on the channel yet: begin its version 1, without a server.")
@click.option("--no-model-signature", is_flag=True, help="Do not put a model.sig (OpenSSF model signing) into the release.")
@passphrase_option
@pass_session
def sign(
    session: Session, file: Path, key: str, trust: Path, metadata: Path | None, first: bool,
    no_model_signature: bool, passphrase_file: Path | None,
) -> None:  # fmt: skip
    """Put a release on its channel: the next version of the channel's metadata, signed, inside the bundle.

    Where a channel needs several keys, each signer runs this on the same file. The first signature adds model.sig, by which
    others' tools know the model; it is a file of the release, so the manifest is written anew with it.
    """
    from fleet_server.cli.channels import least_version, present_metadata, published, read_trust
    from ota.bundle.errors import BundleError
    from ota.trust.errors import TrustError

    if first and metadata:
        raise CliError(USAGE, "--first says that the channel has no metadata yet", "give --first or --metadata")
    opened = open_file(file)
    channel = opened.manifest.channel
    root, targets = read_trust(trust)
    signer = open_signer(session, key, passphrase_file)
    if first or metadata:
        present = present_metadata(read_file(metadata) if metadata else None, targets, channel)
    else:
        client = _client_to_ask(session, channel)
        present = present_metadata(published(client, channel), targets, channel, least_version(client, channel))
    try:
        if not no_model_signature:
            opened = _with_model_signature(opened, signer, targets)
        status, version = _sign(opened, present, targets, signer, key, root, trust)
    except (TrustError, BundleError) as error:
        raise CliError(CONFLICT, str(error)) from None
    except OSError as error:
        raise CliError(FAILURE, f"cannot write {file}: {error.strerror}") from None
    talk(f"{opened.manifest.release} on {channel}, version {version} of the channel: {status}")


def _client_to_ask(session: Session, channel: str) -> "Client":
    try:
        return session.client()
    except CliError as error:
        if error.code != AUTH:
            raise
        hint = f"--metadata FILE (rookery channel fetch {channel} --out FILE), --first where nothing was published yet"
        raise CliError(AUTH, f"{error.message}, to ask what {channel} has now", f"{error.hint}; else {hint}") from None


def _with_model_signature(opened: "Bundle", signer: "Signer", targets: "Metadata[Targets]") -> "Bundle":
    # Only before anybody has signed: the manifest changes with it, and with the manifest all signatures.
    import msgspec

    from ota.bundle.manifest import MODEL, VERSION
    from ota.bundle.model_signature import FILE_NAME, sign_model, statement
    from ota.bundle.reader_disk import open_bundle
    from ota.bundle.writer_disk import contents_of, file_entry, write_contents

    manifest = opened.manifest
    role = targets.signed.get_delegated_role(manifest.channel) if _delegates(targets, manifest.channel) else None
    if manifest.v < VERSION or manifest.kind != MODEL or manifest.model_signature or opened.metadata():
        return opened
    if role is None or signer.public_key.keyid not in role.keyids or FILE_NAME in manifest.files:
        return opened  # a stranger's key is refused in a moment, with the words for that
    payload = statement(f"{manifest.name}-{manifest.version}", {path: one.sha256 for path, one in manifest.files.items()})
    pem = str(signer.public_key.keyval["public"]).encode()
    data = sign_model(payload, lambda signed: bytes.fromhex(signer.sign(signed).signature), pem)
    entry = file_entry(data)
    whole = msgspec.structs.replace(manifest, files={**manifest.files, FILE_NAME: entry}, model_signature=FILE_NAME)
    write_contents(opened.path, whole, {**contents_of(opened), entry.sha256: data})
    return open_bundle(opened.path)


def _delegates(targets: "Metadata[Targets]", channel: str) -> bool:
    delegations = targets.signed.delegations
    return delegations is not None and delegations.roles is not None and channel in delegations.roles


def _sign(
    opened: "Bundle", present: "Metadata[Targets]", targets: "Metadata[Targets]", signer: "Signer", key: str, root: bytes,
    trust: Path,
) -> tuple[str, int]:  # fmt: skip
    from fleet_server.cli.channels import sign_channel
    from ota.bundle.manifest import target_path
    from ota.bundle.writer_disk import add_metadata
    from ota.trust.ceremony_disk import root_chain
    from ota.trust.roles import CHANNEL_LIFE_S, add_release, parse_metadata

    manifest = opened.manifest
    channel = manifest.channel
    path = target_path(channel, manifest.name, manifest.version)
    following = add_release(present, path, opened.manifest_bytes, time.time() + CHANNEL_LIFE_S)
    begun = opened.metadata().get(f"{channel}.json")
    if begun is not None:
        draft = parse_metadata(begun, channel)
        if (draft.signed.version, draft.signed.targets) == (following.signed.version, following.signed.targets):
            following = draft  # another signer was here first: his signature stays
    status = sign_channel(following, targets, channel, signer, Path(key))
    # A board that was born with an older root follows the chain; each file in the one form that a bundle's metadata has.
    roots = [parse_metadata(data, "root") for data in [*root_chain(trust).values(), root]]
    signed = {f"{one.signed.version}.root.json": one.to_bytes() for one in roots}
    add_metadata(opened.path, {**signed, "targets.json": targets.to_bytes(), f"{channel}.json": following.to_bytes()})
    return status, int(following.signed.version)


@bundle.command("list")
@pass_session
def list_bundles(session: Session) -> None:
    """List the releases on the server, newest first."""
    columns = [
        ("release", lambda item: item["release"]),
        ("kind", lambda item: item.get("kind")),
        ("channel", lambda item: item["channel"]),
        ("counter", lambda item: item["counter"]),
        ("acceptance", lambda item: item.get("acceptance") or "parity only"),
        ("variants", lambda item: ", ".join(variant["id"] for variant in item["variants"])),
        ("created", lambda item: clock(item["created_s"])),
        ("yanked", lambda item: item.get("yanked")),
        ("advisory", lambda item: item.get("advisory")),
    ]
    print_items(session.client().items("/releases"), columns, session.output, "release")
