"""``rookery channel``: the signed lines that releases are published on."""

import hashlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, NOT_FOUND, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, write_file
from fleet_server.cli.output import print_items, talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fleet_server.cli.client_http import Client
    from ota.bundle.tuf_types import Metadata, Targets


@click.group()
def channel() -> None:
    """Signed lines that releases are published on."""


@channel.command("list")
@pass_session
def list_channels(session: Session) -> None:
    """List channels and the version of their signed metadata."""
    items = [{"name": name, "version": version} for name, version in session.client().get("/trust")["channels"].items()]
    columns = [("name", lambda item: item["name"]), ("version", lambda item: item["version"])]
    print_items(items, columns, session.output, "name")


@channel.command()
@click.argument("name")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@pass_session
def fetch(session: Session, name: str, out: Path) -> None:
    """Save a channel's present metadata, to carry it to the offline machine that signs the next version."""
    write_file(out, present_metadata(session.client(), name).to_bytes())
    talk(f"{name} saved as {out}")


@channel.command()
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--key", "key_file", required=True, type=click.Path(path_type=Path), help="A release key of the channel.")
@passphrase_option
@pass_session
def acceptance(session: Session, name: str, folder: Path, key_file: Path, passphrase_file: Path | None) -> None:
    """Publish a channel's acceptance set: FOLDER holds acceptance.json and the labelled pictures it names."""
    from ota.trust.roles import CHANNEL_LIFE_S, add_acceptance, sign

    data, pictures = read_acceptance(folder)
    client = session.client()
    path = f"{name}/acceptance/{json.loads(data)['name']}/acceptance.json"
    signer = open_signer(session, key_file, passphrase_file)
    metadata = add_acceptance(present_metadata(client, name), path, data, time.time() + CHANNEL_LIFE_S)
    sign(metadata, signer)
    for digest, picture in pictures.items():
        client.put_content(digest, picture)
    client.post(f"/channels/{name}/metadata", {"metadata": json.loads(metadata.to_bytes()), "manifests": [data.decode()]})
    talk(f"acceptance set {path} is published with {len(pictures)} pictures")


def read_acceptance(folder: Path) -> tuple[bytes, dict[str, bytes]]:
    """``acceptance.json`` and its pictures by sha256, each checked against what the set says."""
    from models.golden import parse_acceptance
    from models.golden_json import GoldenError

    try:
        data = (folder / "acceptance.json").read_bytes()
        found = parse_acceptance(data)
        pictures = {image.sha256: (folder / image.file).read_bytes() for image in found.images}
    except OSError as error:
        raise CliError(FAILURE, f"cannot read the acceptance set: {error}") from None
    except GoldenError as error:
        raise CliError(CONFLICT, str(error)) from None
    for digest, picture in pictures.items():
        if hashlib.sha256(picture).hexdigest() != digest:
            raise CliError(CONFLICT, f"a picture of {folder} is not what acceptance.json says ({digest[:12]}…)")
    return data, pictures


def present_metadata(client: "Client", name: str) -> "Metadata[Targets]":
    """The channel's signed metadata as it is now; an empty draft where nothing was published yet."""
    from ota.trust.roles import CHANNEL_LIFE_S, new_channel, parse_metadata

    try:
        raw = client.get(f"/channels/{name}/metadata")
    except CliError as error:
        if error.code != NOT_FOUND:
            raise
        return new_channel(time.time() + CHANNEL_LIFE_S)
    return parse_metadata(json.dumps(raw).encode(), name)
