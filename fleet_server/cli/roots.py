"""``rookery root``: the root of trust, made and signed offline, in as many sittings as its threshold needs."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, read_public_key, write_file
from fleet_server.cli.output import print_one, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from ota.trust.key_types import Key

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path)


@click.group()
def root() -> None:
    """The root of trust: create, sign, show, push."""


@root.command()
@click.argument("folder", type=FOLDER)
@click.option("--root-key", "root_keys", multiple=True, required=True, type=FILE, help="Public key of a root signer (repeat).")
@click.option("--threshold", default=2, show_default=True, type=click.IntRange(1, 16), help="How many of them must sign.")
@click.option(
    "--channel", "channels", multiple=True, required=True, metavar="NAME=PUBFILE", help="Release key of a channel (repeat)."
)
@click.option(
    "--online", type=FILE, help="The server's online keys as 'rookery root online-keys' saved them (else asked of the server)."
)
@pass_session
def create(session: Session, folder: Path, root_keys: tuple[Path, ...], threshold: int, channels: tuple[str, ...],
           online: Path | None) -> None:  # fmt: skip
    """Write FOLDER/root.json and FOLDER/targets.json, version 1, unsigned."""
    from ota.trust.errors import TrustError
    from ota.trust.roles import ROOT_LIFE_S, TARGETS_LIFE_S, ChannelKeys, new_root, new_targets

    if (folder / "root.json").exists():
        raise CliError(CONFLICT, f"{folder / 'root.json'} is there already", "a root is never overwritten: choose another folder")
    signers = [read_public_key(path) for path in root_keys]
    keys = _online_keys(session, online)
    lines: dict[str, list[Key]] = {}
    for text in channels:
        name, _, file = text.partition("=")
        if not file:
            raise click.UsageError(f"--channel {text!r} is not NAME=PUBFILE")
        lines.setdefault(name, []).append(read_public_key(Path(file)))
    now_s = time.time()
    try:
        roles = {"root": signers, "targets": signers, "snapshot": [keys["snapshot"]], "timestamp": [keys["timestamp"]]}
        made = new_root(roles, {"root": threshold, "targets": threshold}, now_s + ROOT_LIFE_S)
        delegated = {name: ChannelKeys(found) for name, found in lines.items()}
        top = new_targets(delegated, [keys["assignment"]], now_s + TARGETS_LIFE_S)
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None
    write_file(folder / "root.json", made.to_bytes())
    write_file(folder / "targets.json", top.to_bytes())
    talk(f"{folder}: unsigned; {threshold} of {len(signers)} root keys must sign: rookery root sign {folder} --key FILE")


def _online_keys(session: Session, file: Path | None) -> "dict[str, Key]":
    from ota.trust.errors import TrustError
    from ota.trust.keys import key_from_dict

    try:
        raw: Any = json.loads(file.read_text(encoding="utf-8")) if file else session.client().get("/trust")["online_keys"]
        return {role: key_from_dict(raw[role]) for role in ("snapshot", "timestamp", "assignment")}
    except (OSError, ValueError, KeyError, TypeError, TrustError) as error:
        raise CliError(
            CONFLICT, f"these are not a server's online keys: {error}", "save them with: rookery root online-keys FILE"
        ) from None


@root.command("online-keys")
@click.argument("file", type=FILE)
@pass_session
def online_keys(session: Session, file: Path) -> None:
    """Save the server's public online keys, to carry them to the offline machine."""
    write_file(file, (json.dumps(session.client().get("/trust")["online_keys"], indent=1) + "\n").encode())
    talk(f"online keys saved as {file}")


@root.command()
@click.argument("folder", type=FOLDER)
@click.option("--key", "key_file", required=True, type=FILE, help="A root signer's key file.")
@passphrase_option
@pass_session
def sign(session: Session, folder: Path, key_file: Path, passphrase_file: Path | None) -> None:
    """Add one signature to root and targets; others sign later, elsewhere."""
    from ota.trust.roles import sign as sign_metadata
    from ota.trust.roles import signature_status

    signer = open_signer(session, key_file, passphrase_file)
    made, top = _read(folder, "root"), _read(folder, "targets")
    if signer.public_key.keyid not in made.signed.roles["root"].keyids:
        raise CliError(CONFLICT, f"{key_file} is not one of this root's signers")
    for name, metadata in (("root", made), ("targets", top)):
        sign_metadata(metadata, signer)
        write_file(folder / f"{name}.json", metadata.to_bytes())
        talk(f"{name}: {signature_status(metadata, made)}")


@root.command()
@click.argument("folder", type=FOLDER)
@pass_session
def show(session: Session, folder: Path) -> None:
    """Show how far the signing has come."""
    from ota.trust.roles import signature_status

    made, top = _read(folder, "root"), _read(folder, "targets")
    statuses = {name: signature_status(metadata, made) for name, metadata in (("root", made), ("targets", top))}
    body = {"folder": str(folder), **{name: str(status) for name, status in statuses.items()}}
    print_one(body, list(body.items()), session.output, "folder")


@root.command()
@click.argument("folder", type=FOLDER)
@pass_session
def push(session: Session, folder: Path) -> None:
    """Give the server its root of trust; it takes only what enough of the right keys signed."""
    body = {name: json.loads(_read(folder, name).to_bytes()) for name in ("root", "targets")}
    answer = session.client().publish("/trust/root", body)
    talk(f"root version {answer['root_version']} is in force; devices are given {folder / 'root.json'}")


def _read(folder: Path, role: str) -> Any:
    from ota.trust.errors import TrustError
    from ota.trust.roles import parse_metadata

    try:
        return parse_metadata((folder / f"{role}.json").read_bytes(), role)
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {folder / role}.json: {error.strerror}") from None
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None
