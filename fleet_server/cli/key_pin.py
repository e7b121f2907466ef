"""``rookery key pin``: the root that this person trusts, remembered beside the command line's settings."""

from pathlib import Path

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.key_files import write_file
from fleet_server.cli.output import print_one
from fleet_server.cli.session import Session, pass_session
from fleet_server.cli.settings_disk import settings_file


def pinned_file() -> Path:
    """Where the pinned root lies: beside the settings."""
    return settings_file().parent / "pinned-root.json"


def pinned_root() -> bytes | None:
    """The pinned root, or None where none was pinned. What cannot be read is an error: it must not look like none."""
    try:
        from ota.plain_disk import read_plain

        return read_plain(pinned_file())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CliError(FAILURE, f"cannot read the pinned root {pinned_file()}: {error.strerror}") from None


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--replace", is_flag=True, help="Trust a root that the pinned one does not lead to: another fleet's.")
@pass_session
def pin(session: Session, file: Path, replace: bool) -> None:
    """Trust the root in FILE from now on ('rookery bundle verify' judges by it). Compare its fingerprint with its signers."""
    from ota.bundle.offline import ChainError, load_role, trust_root
    from ota.bundle.tuf_types import Root
    from ota.plain_disk import read_plain

    try:
        data = read_plain(file)
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None
    before = pinned_root()
    try:
        version = trust_root(data, {}).signed.version
        if before is not None and not replace:
            _check_follows(file, before, data, load_role(Root, before, "root").signed.version, version)
    except ChainError as error:
        raise CliError(CONFLICT, f"{file} is not trusted: {error.refusal.detail}") from None
    write_file(pinned_file(), data)
    from ota.bundle.offline_chain import root_fingerprint

    body = {"version": version, "fingerprint": root_fingerprint(data), "file": str(pinned_file())}
    print_one(body, list(body.items()), session.output, "fingerprint")


def _check_follows(file: Path, before: bytes, data: bytes, old: int, new: int) -> None:
    from ota.bundle.offline import trust_root
    from ota.trust.ceremony_disk import root_chain

    if new < old:
        raise CliError(CONFLICT, f"{file} is root {new}; root {old} is pinned already", "--replace takes it all the same")
    chain = {**root_chain(file.parent), new: data}
    reached = trust_root(before, {version: one for version, one in chain.items() if old < version <= new})
    if reached.signed.version < new or (new == old and reached.signed_bytes != trust_root(data, {}).signed_bytes):
        hint = "keep the N.root.json files between them beside it, or --replace if you mean to trust another fleet's root"
        raise CliError(CONFLICT, f"the pinned root (version {old}) does not lead to {file} (version {new})", hint)
