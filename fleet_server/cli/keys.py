"""``rookery key``: signing keys, who may sign what, and the ceremonies that change it."""

import json
from pathlib import Path

import click

from fleet_server.cli.errors import CONFLICT, CliError
from fleet_server.cli.key_ceremony import abandon, create, merge, sign
from fleet_server.cli.key_files import passphrase, passphrase_option, read_public, write_file
from fleet_server.cli.key_pin import pin
from fleet_server.cli.key_push import online, push
from fleet_server.cli.key_rotation import renew, resign, revoke, rotate
from fleet_server.cli.key_status import status
from fleet_server.cli.output import print_one
from fleet_server.cli.session import Session, pass_session


@click.group()
def key() -> None:
    """Keys and roles. Private keys never leave the machine or token they are made on.

    A key is named by a REFERENCE: a file, pkcs11:token=NAME;object=NAME (or hsm:ID?label=TOKEN) for a token, awskms:NAME for AWS
    KMS. A ceremony is a FOLDER that travels between its signers: create, sign, status, merge, push; later rotate, revoke, renew,
    resign make the drafts of next versions in it, signed and pushed the same way.
    """


@key.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Whose key it is; stands in FILE.pub and is shown wherever a signature is missing.")
@passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave the key in the clear: for tests only.")
@pass_session
def generate(session: Session, file: Path, name: str, passphrase_file: Path | None, no_passphrase: bool) -> None:
    """Make an ECDSA P-256 key: FILE (0600, sealed with scrypt) and FILE.pub, which others may see."""
    from ota.trust.errors import KeyFileError
    from ota.trust.keys import key_to_dict
    from ota.trust.keys_disk import generate_key

    secret = None if no_passphrase else passphrase(session, passphrase_file, file.name)
    try:
        public = generate_key(file, secret)
    except KeyFileError as error:
        raise CliError(CONFLICT, str(error)) from None
    shown = key_to_dict(public) | ({"name": name} if name else {})
    write_file(file.with_name(file.name + ".pub"), (json.dumps(shown, indent=1, ensure_ascii=False) + "\n").encode())
    body = {"keyid": public.keyid, "file": str(file), "public": f"{file}.pub"}
    print_one(body, list(body.items()), session.output, "keyid")


@key.command()
@click.argument("reference")
@passphrase_option
@pass_session
def show(session: Session, reference: str, passphrase_file: Path | None) -> None:
    """Show a key's id and public half, after opening it (of a token or KMS: after asking for it). A .pub file will do, too."""
    from ota.trust.keys import key_to_dict

    public = _public(session, reference, passphrase_file)
    body = {"keyid": public.keyid, **key_to_dict(public)}
    lines = [("keyid", public.keyid), ("type", body["keytype"]), ("public", body["keyval"]["public"])]
    print_one(body, lines, session.output, "keyid")


@key.command()
@click.argument("reference")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Whose key it is.")
@passphrase_option
@pass_session
def export(session: Session, reference: str, file: Path, name: str, passphrase_file: Path | None) -> None:
    """Write the public half of a key on a token or in KMS to FILE (a .pub file, which others may see)."""
    from ota.trust.keys import key_to_dict

    public = _public(session, reference, passphrase_file)
    shown = key_to_dict(public) | ({"name": name} if name else {})
    write_file(file, (json.dumps(shown, indent=1, ensure_ascii=False) + "\n").encode())
    body = {"keyid": public.keyid, "public": str(file)}
    print_one(body, list(body.items()), session.output, "keyid")


def _public(session: Session, reference: str, passphrase_file: Path | None):  # type: ignore[no-untyped-def]
    from fleet_server.cli.key_files import secret_asker
    from ota.trust.errors import KeyFileError
    from ota.trust.signers_disk import public_key_of

    if reference.endswith(".pub"):
        return read_public(reference)[0]
    try:
        return public_key_of(reference, secret_asker(session, passphrase_file))
    except KeyFileError as error:
        raise CliError(CONFLICT, str(error)) from None


for command in (create, sign, merge, status, push, online, rotate, revoke, renew, resign, abandon, pin):
    key.add_command(command)
