"""``rookery channel``: the signed lines that releases are published on."""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, NOT_FOUND, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, trust_option, write_file
from fleet_server.cli.output import print_items, talk
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client
    from ota.bundle.tuf_types import Metadata, Targets
    from ota.trust.key_types import Signer


@click.group()
def channel() -> None:
    """Signed lines that releases are published on."""


@channel.command("list")
@pass_session
def list_channels(session: Session) -> None:
    """List channels and the version of their signed metadata; what ends soon, and what a restored server lacks, is said."""
    trust = session.client().get("/trust")
    ends = trust.get("expires_s", {})
    items = [{"name": name, "version": version, "expires_s": ends.get(name)} for name, version in trust["channels"].items()]
    columns = [("name", lambda item: item["name"]), ("version", lambda item: item["version"]), ("until", _until)]
    print_items(items, columns, session.output, "name")
    for text in [*trust.get("warnings", []), *trust.get("reconcile", {}).get("texts", [])]:
        talk(text)


def _until(item: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(item["expires_s"])) if item["expires_s"] else "?"


@channel.command()
@click.argument("name")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@pass_session
def fetch(session: Session, name: str, out: Path) -> None:
    """Save a channel's present metadata, to carry it to the offline machine that signs the next version."""
    data = published(session.client(), name)
    if data is None:
        raise CliError(NOT_FOUND, f"nothing was published on channel {name} yet", "sign the first release without --metadata")
    write_file(out, data)
    talk(f"{name} saved as {out}")


@channel.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="A release key of the channel.")
@trust_option
@passphrase_option
@pass_session
def acceptance(session: Session, name: str, folder: Path, key_file: Path, trust: Path, passphrase_file: Path | None) -> None:
    """Publish a channel's acceptance set: FOLDER holds acceptance.json and the labelled pictures it names."""
    from ota.trust.errors import TrustError
    from ota.trust.roles import CHANNEL_LIFE_S, add_acceptance

    data, pictures = read_acceptance(folder)
    client = session.client()
    path = f"{name}/acceptance/{json.loads(data)['name']}/acceptance.json"
    _, targets = read_trust(trust)
    signer = open_signer(session, key_file, passphrase_file)
    present = present_metadata(published(client, name), targets, name, least_version(client, name))
    try:
        metadata = add_acceptance(present, path, data, time.time() + CHANNEL_LIFE_S)
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None
    sign_channel(metadata, targets, name, signer, key_file)
    for digest, picture in pictures.items():
        client.put_content(digest, picture)
    body = {"metadata": json.loads(metadata.to_bytes()), "manifests": [data.decode()]}
    client.publish(f"/channels/{segment(name)}/metadata", body)
    talk(f"acceptance set {path} is published with {len(pictures)} pictures")


def read_acceptance(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """``acceptance.json`` and its pictures by sha256, each checked against what the set says."""
    from models.golden import GoldenError, parse_acceptance
    from ota.bundle.manifest import MAX_FILE_BYTES
    from ota.plain_disk import read_plain

    try:
        data = read_plain(folder / "acceptance.json")
        found = parse_acceptance(data)
        pictures = {image.sha256: read_plain(folder / image.file, MAX_FILE_BYTES) for image in found.images}
    except OSError as error:
        raise CliError(FAILURE, f"cannot read the acceptance set: {error}") from None
    except GoldenError as error:
        raise CliError(CONFLICT, str(error)) from None
    for digest, picture in pictures.items():
        if hashlib.sha256(picture).hexdigest() != digest:
            raise CliError(CONFLICT, f"a picture of {folder} is not what acceptance.json says ({digest[:12]}…)")
    return data, pictures


def read_trust(folder: Path) -> tuple[bytes, "Metadata[Targets]"]:
    """The signed root (bytes) and top-level targets of a trust folder."""
    from ota.plain_disk import read_plain
    from ota.trust.errors import TrustError
    from ota.trust.roles import parse_metadata

    try:
        root = read_plain(folder / "root.json")
        return root, parse_metadata(read_plain(folder / "targets.json"), "targets")
    except OSError as error:
        hint = "give the folder of the signed root.json and targets.json with --trust FOLDER"
        raise CliError(FAILURE, f"cannot read {error.filename}: {error.strerror}", hint) from None
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None


def published(client: "Client", name: str) -> bytes | None:
    """A channel's metadata as the server hands it out; None where nothing was published yet."""
    try:
        return json.dumps(client.get(f"/channels/{segment(name)}/metadata")).encode()
    except CliError as error:
        if error.code != NOT_FOUND:
            raise
        return None


def least_version(client: "Client", name: str) -> int:
    """The version of a channel that devices have seen when the server has only an older one (it was restored); else 0.

    A next version below it would be refused by every device that has it, and one of the same number would not be fetched.
    """
    behind = client.get("/trust").get("reconcile", {}).get("behind", [])
    return next((int(one["seen"]) for one in behind if one["role"] == name), 0)


def present_metadata(
    data: bytes | None, targets: "Metadata[Targets]", name: str, least: int = 0
) -> "Metadata[Targets]":
    """What the next version is built upon: only what the channel's own keys have signed. ``least``: see ``least_version``."""
    from ota.trust.errors import TrustError
    from ota.trust.roles import CHANNEL_LIFE_S, present_channel

    try:
        present = present_channel(data, targets, name, time.time() + CHANNEL_LIFE_S)
    except TrustError as error:
        hint = f"was the key revoked that signed it? Then have another sign it first: rookery key resign {name} FOLDER"
        raise CliError(CONFLICT, str(error), hint) from None
    if present.signed.version < least:
        talk(f"devices have seen version {least} of {name}, the server has {present.signed.version}: signing version {least + 1}")
        present.signed.version = least
        if not present.signatures:  # nothing was published here at all: a draft keeps its number
            present.signed.version += 1
    return present


def sign_channel(metadata: "Metadata[Targets]", targets: "Metadata[Targets]", name: str, signer: "Signer", key_file: Path) -> str:
    """Sign a channel's next version with one of its own keys; answers how far the signing has come."""
    from ota.trust.errors import TrustError
    from ota.trust.roles import sign, signature_status

    delegated = targets.signed.delegations.roles if targets.signed.delegations else None
    if not delegated or name not in delegated:
        raise CliError(CONFLICT, f"the root of trust knows no channel {name}")
    if signer.public_key.keyid not in delegated[name].keyids:
        raise CliError(CONFLICT, f"{key_file} is not a release key of channel {name}")
    try:
        sign(metadata, signer)
        return str(signature_status(metadata, targets, name))
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None
