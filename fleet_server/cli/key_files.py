"""Opening key files for the verbs that sign: a passphrase comes from a file, the environment or the keyboard, never from argv."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, CliError
from fleet_server.cli.session import Session

if TYPE_CHECKING:
    from ota.trust.key_types import Key, Signer
    from ota.trust.signers import AskSecret

F = TypeVar("F", bound=Callable[..., Any])
PASSPHRASE_VARIABLE = "ROOKERY_PASSPHRASE"  # noqa: S105  # the name of a variable, not a secret


def passphrase_option(command: F) -> F:
    """``--passphrase-file`` for a verb that opens or makes a key."""
    return click.option(
        "--passphrase-file",
        type=click.Path(path_type=Path),
        help=f"File whose first line is the passphrase, or a token's PIN (else {PASSPHRASE_VARIABLE}, else asked).",
    )(command)


def trust_option(command: F) -> F:
    """``--trust`` for a verb that signs on a channel: what is built upon must be signed by the keys that it names."""
    folder = click.Path(path_type=Path, file_okay=False)
    text = "Folder of the signed root.json and targets.json."
    return click.option("--trust", default=Path("trust"), show_default=True, type=folder, help=text)(command)


def passphrase(session: Session, file: Path | None, what: str) -> bytes:
    """The passphrase of a key file."""
    if file is not None:
        try:
            from ota.plain_disk import read_first_line

            return read_first_line(file)
        except OSError as error:
            raise CliError(FAILURE, f"cannot read a passphrase from {file}: {error.strerror}") from None
    given = os.environ.get(PASSPHRASE_VARIABLE)
    return (given if given is not None else session.secret("--passphrase-file", f"passphrase of {what}")).encode()


def secret_asker(session: Session, file: Path | None) -> "AskSecret":
    """How a key's passphrase or a token's PIN is asked for: file, environment, keyboard."""
    return lambda what: passphrase(session, file, what.removeprefix("passphrase of "))


def open_signer(session: Session, reference: str | Path, file: Path | None) -> "Signer":
    """The signer of a key reference (FILE, ``pkcs11:…``, ``hsm:…``, ``awskms:…``); a key in the clear needs no passphrase."""
    from ota.trust.errors import KeyFileError
    from ota.trust.signers import parse_reference
    from ota.trust.signers_disk import open_signer as open_reference

    try:
        where = parse_reference(str(reference))
        return open_reference(where.text, secret_asker(session, file))
    except KeyFileError as error:
        # A file that is not there is another matter than one that is the wrong key.
        code = FAILURE if ": no such key file" in str(error) else CONFLICT
        raise CliError(code, str(error)) from None


def read_public_key(where: str | Path, session: Session | None = None, file: Path | None = None) -> "Key":
    """The public half of a key: from a ``.pub`` file, a token or KMS."""
    return read_public(where, session, file)[0]


def read_public(where: str | Path, session: Session | None = None, file: Path | None = None) -> "tuple[Key, str]":
    """The same, with the name of the person that stands beside it in a ``.pub`` file (else empty)."""
    from ota.plain_disk import read_plain
    from ota.trust.errors import TrustError
    from ota.trust.keys import key_from_dict
    from ota.trust.signers import parse_reference
    from ota.trust.signers_disk import public_key_of

    try:
        if parse_reference(str(where)).kind != "file":
            asker = secret_asker(session or Session(None, None, "table", False), file)
            return public_key_of(str(where), asker), ""
        raw = json.loads(read_plain(Path(where)))
        # Who gave no name is called as his file is.
        name = (raw.pop("name", "") if isinstance(raw, dict) else "") or Path(where).name.partition(".")[0]
        return key_from_dict(raw), " ".join(str(name).split())[:80]
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {where}: {error.strerror}", "give the .pub file") from None
    except (ValueError, TrustError) as error:
        raise CliError(CONFLICT, f"{where} is not a public key of ours: {error}", "give the .pub file") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears only when whole."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CliError(FAILURE, f"cannot write {path}: {error.strerror}") from None
