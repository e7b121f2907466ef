"""``rookery key``: signing keys."""

import json
from pathlib import Path

import click

from fleet_server.cli.errors import CONFLICT, CliError
from fleet_server.cli.key_files import open_signer, passphrase, passphrase_option, write_file
from fleet_server.cli.output import print_one
from fleet_server.cli.session import Session, pass_session


@click.group()
def key() -> None:
    """Signing keys; they never leave the machine they are made on."""


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave the key in the clear: for tests only.")
@pass_session
def generate(session: Session, file: Path, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make an ECDSA P-256 key: FILE (0600, sealed with scrypt) and FILE.pub, which others may see."""
    from ota.trust.errors import KeyFileError
    from ota.trust.keys import key_to_dict
    from ota.trust.keys_disk import generate_key

    secret = None if no_passphrase else passphrase(session, passphrase_file, file.name)
    try:
        public = generate_key(file, secret)
    except KeyFileError as error:
        raise CliError(CONFLICT, str(error)) from None
    shown = key_to_dict(public)
    write_file(file.with_name(file.name + ".pub"), (json.dumps(shown, indent=1) + "\n").encode())
    body = {"keyid": public.keyid, "file": str(file), "public": f"{file}.pub"}
    print_one(body, list(body.items()), session.output, "keyid")


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@passphrase_option
@pass_session
def show(session: Session, file: Path, passphrase_file: Path | None) -> None:
    """Show a key's id and public half, after opening it."""
    from ota.trust.keys import key_to_dict

    public = open_signer(session, file, passphrase_file).public_key
    body = {"keyid": public.keyid, **key_to_dict(public)}
    print_one(
        body, [("keyid", public.keyid), ("type", body["keytype"]), ("public", body["keyval"]["public"])], session.output, "keyid"
    )
