"""``rookery bundle push``, ``export``, ``import``: releases on their way to a server, or onto a stick."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.bundle_files import FILE, check_model_signature, instant, open_file, read_file, release_keys, trusted_root
from fleet_server.cli.bundle_verify import expiries, verified
from fleet_server.cli.bundle_yank import warn_of_yank
from fleet_server.cli.errors import AUTH, CONFLICT, FAILURE, CliError
from fleet_server.cli.key_status import talk_of_ends
from fleet_server.cli.output import print_one, size, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client
    from ota.bundle.reader_disk import Bundle

FOLDER = click.Path(path_type=Path, file_okay=False)
TRIES = 4
PAUSE_S = 1.0


@click.command()
@click.argument("file", type=FILE)
@pass_session
def push(session: Session, file: Path) -> None:
    """Give a signed bundle to the server; it takes only what is rightly signed. Begun again, it goes on where it was cut off."""
    _push(session.client(), open_file(file))


def _push(client: "Client", opened: "Bundle") -> None:
    from ota.bundle.errors import BundleError
    from ota.bundle.manifest import travelling_all

    manifest = opened.manifest
    metadata = opened.metadata().get(f"{manifest.channel}.json")
    if metadata is None:
        raise CliError(
            CONFLICT, f"{opened.path.name} is not signed",
            f"sign it with: rookery bundle sign {opened.path} --key FILE --trust FOLDER",
        )  # fmt: skip
    lengths = travelling_all(manifest, deltas=opened.has_deltas)
    wanted = _missing(client, sorted(lengths))
    total_bytes, done_bytes, sent_bytes = sum(lengths[one] for one in wanted), 0, 0
    try:
        for digest in wanted:
            if _put(client, digest, b"".join(opened.content(digest, lengths[digest]))):
                sent_bytes += lengths[digest]
            done_bytes += lengths[digest]
            talk(f"{size(done_bytes)} of {size(total_bytes)}: {digest[:12]}…")
        body = {"metadata": json.loads(metadata), "manifests": [opened.manifest_bytes.decode()]}
    except (BundleError, ValueError) as error:
        raise CliError(CONFLICT, f"{opened.path.name} is damaged: {error}", "build and sign it again") from None
    client.publish(f"/channels/{manifest.channel}/metadata", body)
    there = len(lengths) - len(wanted)
    talk(
        f"{manifest.release} is published on {manifest.channel}; {len(lengths)} files, {size(sent_bytes)} sent"
        + (f", {there} were there already" if there else "")
    )


def _missing(client: "Client", digests: list[str]) -> list[str]:
    """Those that the server does not have; all of them where it is too old to be asked."""
    try:
        found = client.post("/content/missing", {"sha256": digests})
        return sorted(set(digests) & set(found["missing"]))
    except CliError as error:
        if error.code == AUTH:
            raise
        return digests
    except (KeyError, TypeError):
        return digests


def _put(client: "Client", digest: str, data: bytes) -> bool:
    # A line that breaks costs this file once more, not the push; what the server refuses is refused at once.
    for attempt in range(TRIES):
        try:
            return client.put_content(digest, data)
        except CliError as error:
            if error.code != FAILURE or attempt == TRIES - 1:
                raise
            talk(f"{error.message}; trying again")
            time.sleep(PAUSE_S * 2**attempt)
    raise AssertionError("unreachable: the last try returns or raises")


@click.command()
@click.argument("file", type=FILE)
@click.option("--out", required=True, type=FILE, help="The file for the stick (NAME.rookery).")
@click.option("--trust", type=FOLDER, help="Folder of a ceremony: its roots and targets go along.")
@click.option("--metadata", type=FILE, help="Newer metadata of the channel (rookery channel fetch): its expiry is later.")
@click.option("--root", "root_file", type=FILE, help="The root to judge by (else the pinned one, else root.json beside FILE).")
@click.option("--with-deltas", is_flag=True, help="Keep the patches: for a server that is to hand them out.")
@click.option("--at", metavar="TIME", help="Judge expiry as of then.")
@pass_session
def export(
    session: Session, file: Path, out: Path, trust: Path | None, metadata: Path | None, root_file: Path | None, with_deltas: bool,
    at: str | None,
) -> None:  # fmt: skip
    """Make one file for a USB stick or across an air gap: content and the chain from the root, verified before it is kept."""
    from fleet_server.cli.channels import read_trust
    from ota.bundle.errors import BundleError
    from ota.bundle.writer_disk import copy_bundle
    from ota.trust.ceremony_disk import root_chain
    from ota.trust.errors import TrustError
    from ota.trust.roles import parse_metadata

    opened = open_file(file)
    root, _ = trusted_root(root_file, file)
    now_s = instant(at)
    chain = opened.metadata()
    channel = opened.manifest.channel
    try:
        if trust is not None:
            newest, targets = read_trust(trust)
            for data in [*root_chain(trust).values(), newest]:
                one = parse_metadata(data, "root")
                chain[f"{one.signed.version}.root.json"] = one.to_bytes()
            chain["targets.json"] = targets.to_bytes()
        if metadata is not None:
            chain[f"{channel}.json"] = parse_metadata(read_file(metadata), channel).to_bytes()
        partial = out.with_name(f".{out.stem}.part.rookery")
        try:
            copy_bundle(file, partial, chain, deltas=with_deltas)
            verified(partial, root, now_s, out.name)
            partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    except (TrustError, BundleError) as error:
        raise CliError(CONFLICT, str(error)) from None
    except OSError as error:
        raise CliError(FAILURE, f"cannot write {out}: {error.strerror}") from None
    made = open_file(out)
    ends_s = expiries(made)
    end_s, length_bytes = min(ends_s.values()), out.stat().st_size
    body = {"file": str(out), "release": made.manifest.release, "length_bytes": length_bytes, "expires_s": end_s}
    lines = [("file", out), ("release", made.manifest.release), ("size", size(length_bytes)),
             ("installable until", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(end_s)))]  # fmt: skip
    print_one(body, lines, session.output, "file")
    talk_of_ends(ends_s)
    if metadata is None:
        warn_of_yank(session, made.manifest.release, made.manifest.channel, ends_s[channel])


@click.command("import")
@click.argument("file", type=FILE)
@click.option("--root", "root_file", type=FILE, help="The root to judge by (else the pinned one, else root.json beside FILE).")
@click.option("--at", metavar="TIME", help="Judge expiry as of then.")
@click.option("--upstream", type=FILE, help="Demand this model.sig (OpenSSF model signing) of whoever made the model.")
@click.option("--upstream-key", "upstream_keys", multiple=True, type=FILE, help="Public key (PEM) of --upstream's signer.")
@pass_session
def import_bundle(
    session: Session, file: Path, root_file: Path | None, at: str | None, upstream: Path | None, upstream_keys: tuple[Path, ...]
) -> None:
    """Take a bundle from a stick into a server that has no line to the releaser: everything is checked here first, then pushed.

    Roots and targets that the server lacks go along (that needs an admin).
    """
    root, where = trusted_root(root_file, file)
    verified(file, root, instant(at))
    opened = open_file(file)
    check_model_signature(opened, release_keys(opened))
    if upstream is not None:
        names = check_upstream(opened, read_file(upstream), [read_file(key) for key in upstream_keys])
        talk(f"the models are those that {upstream.name} vouches for: {', '.join(names)}")
    elif upstream_keys:
        raise CliError(CONFLICT, "--upstream-key without --upstream", "give the model.sig that it shall have signed")
    talk(f"{file.name} is right by the root of {where}")
    client = session.client()
    _bring_chain(client, opened)
    _push(client, opened)


def check_upstream(opened: "Bundle", signature: bytes, keys: list[bytes]) -> list[str]:
    """Names under which the upstream signature lists the release's models; CliError unless it vouches for every one of them."""
    from ota.bundle.errors import BundleError
    from ota.bundle.model_signature import read_model_signature

    if not keys:
        raise CliError(CONFLICT, "--upstream needs --upstream-key", "the public key (PEM) of whoever signed the model")
    try:
        signed = {sha256: name for name, sha256 in read_model_signature(signature, keys).items()}
    except BundleError as error:
        raise CliError(CONFLICT, f"the upstream signature is refused: {error.problem}") from None
    models = sorted({variant.model for variant in opened.manifest.variants if variant.model})
    foreign = [path for path in models if opened.manifest.files[path].sha256 not in signed]
    if foreign or not models:
        raise CliError(CONFLICT, f"the upstream signature does not vouch for {', '.join(foreign) or 'a release without a model'}")
    return [signed[opened.manifest.files[path].sha256] for path in models]


def _bring_chain(client: "Client", opened: "Bundle") -> None:
    from ota.bundle.tuf_types import Metadata

    there: dict[str, Any] = client.get("/trust")
    metadata = opened.metadata()
    targets = metadata["targets.json"]
    roots = {int(name.partition(".")[0]): data for name, data in metadata.items() if name.endswith(".root.json")}
    newer = sorted(version for version in roots if version > (there.get("root_version") or 0))
    stale = Metadata.from_bytes(targets).signed.version > there.get("versions", {}).get("targets", 0)
    steps: list[dict[str, Any]] = [{"root": json.loads(roots[version])} for version in newer]
    if stale:
        steps = [*steps[:-1], {**(steps[-1] if steps else {}), "targets": json.loads(targets)}]
    for step in steps:
        client.publish("/trust/root", step)
        talk(f"the server took {' and '.join(step)} of the stick")
