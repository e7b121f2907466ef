"""``rookery bundle``: releases, from a folder to the server."""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, trust_option
from fleet_server.cli.output import clock, print_items, print_one, size, talk
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from ota.bundle.reader_disk import Bundle

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def bundle() -> None:
    """Releases: build, sign, verify, info, push, list."""


@bundle.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--out", type=FILE, help="Else NAME-VERSION.rookery in the present folder.")
@pass_session
def build(session: Session, folder: Path, out: Path | None) -> None:
    """Make a bundle from FOLDER/bundle.toml: manifest, variants, and parity samples made with the reference variant.

    The same folder gives the same bytes (set created_s in bundle.toml, or SOURCE_DATE_EPOCH).
    """
    from fleet_server.cli.bundle_spec import check_models, make_draft, make_parity_samples, read_spec
    from ota.bundle.errors import BundleError
    from ota.bundle.writer_disk import write_bundle

    spec = read_spec(folder)
    created_s = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    draft = make_draft(folder, spec, created_s, make_parity_samples(folder, spec))
    check_models(folder, spec)
    target = out or Path(f"{draft.manifest.name}-{draft.manifest.version}.rookery")
    try:
        digest = write_bundle(target, draft.manifest, draft.files)
    except (BundleError, OSError) as error:
        raise CliError(FAILURE, f"cannot write {target}: {error}") from None
    body = {"file": str(target), "release": draft.manifest.release, "sha256": digest, "files": len(draft.files)}
    print_one(body, list(body.items()), session.output, "file")
    if draft.manifest.golden.acceptance is None:
        talk("this release has no acceptance set: it will be called parity only")


@bundle.command()
@click.argument("file", type=FILE)
@click.option("--key", "key_file", required=True, type=FILE, help="A release key of the channel.")
@trust_option
@click.option("--metadata", type=FILE, help="The channel's present metadata (else asked of the server).")
@passphrase_option
@pass_session
def sign(session: Session, file: Path, key_file: Path, trust: Path, metadata: Path | None, passphrase_file: Path | None) -> None:
    """Put a release on its channel: the next version of the channel's metadata, signed, inside the bundle.

    Where a channel needs several keys, each signer runs this on the same file.
    """
    from fleet_server.cli.channels import present_metadata, published, read_trust, sign_channel
    from ota.bundle.errors import BundleError
    from ota.bundle.manifest import target_path
    from ota.bundle.writer_disk import add_metadata
    from ota.trust.errors import TrustError
    from ota.trust.roles import CHANNEL_LIFE_S, add_release, parse_metadata

    opened = _open(file)
    manifest = opened.manifest
    channel = manifest.channel
    root, targets = read_trust(trust)
    signer = open_signer(session, key_file, passphrase_file)
    present = present_metadata(_bytes(metadata) if metadata else published(session.client(), channel), targets, channel)
    try:
        path = target_path(channel, manifest.name, manifest.version)
        following = add_release(present, path, opened.manifest_bytes, time.time() + CHANNEL_LIFE_S)
        begun = opened.metadata().get(f"{channel}.json")
        if begun is not None:
            draft = parse_metadata(begun, channel)
            if (draft.signed.version, draft.signed.targets) == (following.signed.version, following.signed.targets):
                following = draft  # another signer was here first: his signature stays
        status = sign_channel(following, targets, channel, signer, key_file)
        signed = {f"{parse_metadata(root, 'root').signed.version}.root.json": root, "targets.json": targets.to_bytes(),
                  f"{channel}.json": following.to_bytes()}  # fmt: skip
        add_metadata(file, signed)
    except (TrustError, BundleError) as error:
        raise CliError(CONFLICT, str(error)) from None
    except OSError as error:
        raise CliError(FAILURE, f"cannot write {file}: {error.strerror}") from None
    talk(f"{manifest.release} on {channel}, version {following.signed.version} of the channel: {status}")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None


@bundle.command()
@click.argument("file", type=FILE)
@click.option(
    "--root", "root_file", type=FILE, help="The root that you trust (else root.json beside the bundle; never one inside it)."
)
@pass_session
def verify(session: Session, file: Path, root_file: Path | None) -> None:
    """Check signatures, expiry and every byte of content; exit code 5 and the reason for anything wrong."""
    from ota.bundle.reader_disk import verify_bundle
    from ota.trust.refusal import Refusal

    trusted = root_file or file.parent / "root.json"
    try:
        root_bytes = trusted.read_bytes()
    except OSError as error:
        raise CliError(FAILURE, f"cannot read the trusted root {trusted}: {error.strerror}", "give it with --root FILE") from None
    if not file.exists():
        raise CliError(FAILURE, f"there is no {file}")
    outcome = verify_bundle(file, root_bytes, time.time())
    if isinstance(outcome, Refusal):
        raise CliError(CONFLICT, f"{file.name} is refused ({outcome.code}): {outcome.detail}")
    body = {"release": outcome.manifest.release, "target": outcome.path, "sha256": outcome.manifest_sha256}
    print_one(body, [*body.items(), ("verdict", "signatures, expiry and all content are right")], session.output, "release")


@bundle.command()
@click.argument("file", type=FILE)
@click.option("--for", "device", metavar="DEVICE", help="Say which variant this device would get, and why.")
@pass_session
def info(session: Session, file: Path, device: str | None) -> None:
    """Show what a bundle holds; nothing is verified."""
    import msgspec

    opened = _open(file)
    manifest = opened.manifest
    lines: list[tuple[str, Any]] = [
        ("release", manifest.release), ("channel", manifest.channel), ("counter", manifest.counter),
        ("hardware", ", ".join(manifest.hardware)), ("labels", ", ".join(manifest.labels)),
        ("acceptance", manifest.golden.acceptance.path if manifest.golden.acceptance else "none: parity only"),
        ("signed", ", ".join(sorted(opened.metadata())) or "no"),
    ]  # fmt: skip
    lengths = {one.id: manifest.files[one.model].length_bytes for one in manifest.variants}
    lines += [(f"variant {one.id}", f"{one.accelerator}, {one.model}, {size(lengths[one.id])}") for one in manifest.variants]
    if device:
        lines.append(("for " + device, _choice(session, opened, device)))
    print_one(msgspec.to_builtins(manifest), lines, session.output, "name")


def _choice(session: Session, opened: "Bundle", device: str) -> str:
    import msgspec

    from ota.bundle.variants import resolve
    from ota.wire.enrolment import BoardFacts

    facts = session.client().get(f"/devices/{segment(device)}")["facts"]
    found = resolve(opened.manifest, msgspec.convert(facts, BoardFacts))
    return f"{found.variant.id if found.variant else 'none'}: {found.reason}"


@bundle.command()
@click.argument("file", type=FILE)
@pass_session
def push(session: Session, file: Path) -> None:
    """Give a signed bundle to the server; it takes only what is rightly signed."""
    from ota.bundle.errors import BundleError

    opened = _open(file)
    manifest = opened.manifest
    metadata = opened.metadata().get(f"{manifest.channel}.json")
    if metadata is None:
        raise CliError(
            CONFLICT, f"{file.name} is not signed", f"sign it with: rookery bundle sign {file} --key FILE --trust FOLDER"
        )
    client = session.client()
    lengths = {entry.sha256: entry.length_bytes for entry in manifest.files.values()}
    sent_bytes = 0
    try:
        for digest, length_bytes in sorted(lengths.items()):
            if client.put_content(digest, b"".join(opened.content(digest, length_bytes))):
                sent_bytes += length_bytes
        body = {"metadata": json.loads(metadata), "manifests": [opened.manifest_bytes.decode()]}
    except (BundleError, ValueError) as error:
        raise CliError(CONFLICT, f"{file.name} is damaged: {error}", "build and sign it again") from None
    client.publish(f"/channels/{manifest.channel}/metadata", body)
    talk(f"{manifest.release} is published on {manifest.channel}; {len(lengths)} files, {size(sent_bytes)} sent")


@bundle.command("list")
@pass_session
def list_bundles(session: Session) -> None:
    """List the releases on the server, newest first."""
    columns = [
        ("release", lambda item: item["release"]),
        ("channel", lambda item: item["channel"]),
        ("counter", lambda item: item["counter"]),
        ("acceptance", lambda item: item.get("acceptance") or "parity only"),
        ("variants", lambda item: ", ".join(variant["id"] for variant in item["variants"])),
        ("created", lambda item: clock(item["created_s"])),
        ("yanked", lambda item: item.get("yanked")),
    ]
    print_items(session.client().items("/releases"), columns, session.output, "release")


def _open(file: Path) -> "Bundle":
    from ota.bundle.errors import BundleError
    from ota.bundle.reader_disk import open_bundle

    try:
        return open_bundle(file)
    except BundleError as error:
        raise CliError(CONFLICT, str(error)) from None
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None
