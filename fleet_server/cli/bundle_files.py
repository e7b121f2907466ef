"""Opening bundles and trusted roots for the verbs that read them: what is wrong is a sentence and exit code 5, never a trace."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, USAGE, CliError

if TYPE_CHECKING:
    from ota.bundle.reader_disk import Bundle

FILE = click.Path(path_type=Path, dir_okay=False)
LAST_INSTANT_S = 253_402_214_400
"""The last day of the year 9999: what calendars here can say."""


def open_file(file: Path) -> "Bundle":
    """A bundle whose table of contents is right; nothing of it is verified yet."""
    from ota.bundle.errors import BundleError
    from ota.bundle.reader_disk import open_bundle

    try:
        return open_bundle(demand_file(file))
    except BundleError as error:
        raise CliError(CONFLICT, f"{file.name}: {error}") from None
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None


def trusted_root(given: Path | None, beside: Path) -> tuple[bytes, str]:
    """The root that this side judges by, and where it is from: ``--root``, else the pinned one, else ``root.json`` beside.

    ``beside`` is the bundle, and must be there. Never a root inside of a bundle: who can make a bundle can put any root into it.
    """
    from fleet_server.cli.key_pin import pinned_file, pinned_root

    demand_file(beside)
    if given is not None:
        return _read(given), str(given)
    pinned = pinned_root()
    if pinned is not None:
        return pinned, f"pinned, {pinned_file()}"
    return _read(beside.parent / "root.json"), str(beside.parent / "root.json")


def demand_file(file: Path) -> Path:
    """``file`` when a plain one can be opened there; else CliError that says why not."""
    from ota.plain_disk import open_plain

    try:
        open_plain(file).close()
    except FileNotFoundError:
        raise CliError(FAILURE, f"there is no {file}") from None
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None
    return file


def _read(file: Path) -> bytes:
    hint = "give it with --root FILE, or pin it once: rookery key pin FILE"
    return read_file(file, what="the trusted root ", hint=hint)


def read_file(file: Path, limit_bytes: int | None = None, *, what: str = "", hint: str = "") -> bytes:
    """All bytes of a plain file that a person named; CliError for a device, a FIFO, or more than ``limit_bytes`` (a document)."""
    from ota.plain_disk import DOCUMENT_BYTES, read_plain

    try:
        return read_plain(file, DOCUMENT_BYTES if limit_bytes is None else limit_bytes)
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {what}{file}: {error.strerror}", hint) from None


def instant(text: str | None) -> float:
    """``--at`` as seconds since 1970: ISO 8601 (UTC where no offset is said), or seconds; now where none is given."""
    if text is None:
        return time.time()
    if len(text) == 4 and text.isdecimal():  # else "2028" would be half an hour after 1970 began, when nothing had expired
        raise CliError(USAGE, f"{text} is a year, no instant", f"write {text}-01-01, or {text}-01-01T18:00:00Z")
    try:
        at_s = float(text)
    except ValueError:
        at_s = _written(text)
    if not 0 <= at_s <= LAST_INSTANT_S:
        raise CliError(USAGE, f"{text!r} is not between 1970 and 9999")
    return at_s


def _written(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CliError(USAGE, f"{text!r} is no time", "write 2026-11-23, 2026-11-23T18:00:00Z, or seconds since 1970") from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()


def release_keys(bundle: "Bundle") -> list[bytes]:
    """The public keys (PEM) of the bundle's channel: who may sign the model. Call it for a verified bundle only."""
    from ota.bundle.tuf_types import Metadata

    targets = Metadata.from_bytes(bundle.metadata()["targets.json"]).signed
    role = targets.get_delegated_role(bundle.manifest.channel)
    return [str(targets.get_key(keyid).keyval["public"]).encode() for keyid in role.keyids]


def check_model_signature(bundle: "Bundle", keys: list[bytes]) -> bool:
    """Whether the release has a model signature; CliError when it has one that does not hold over exactly its files."""
    from ota.bundle.errors import BundleError
    from ota.bundle.model_signature import check_covers, read_model_signature

    path = bundle.manifest.model_signature
    if path is None:
        return False
    try:
        signed = read_model_signature(bundle.read(path), keys)
        check_covers(signed, {name: entry.sha256 for name, entry in bundle.manifest.files.items() if name != path})
    except BundleError as error:
        raise CliError(CONFLICT, f"{bundle.path.name} is refused (signature): {error}") from None
    return True
