"""Unpacks a wheel by rules, without running anything of it: what its RECORD lists, nothing else, nowhere else.

A wheel is a zip (PEP 427). Every path is relative and plain, nothing is a link, sizes are bounded before and while they are read,
every file is hashed against RECORD. Of the schemes of a ``.data`` folder purelib, platlib and scripts are known; entry points are
not made and nothing is executed: the agent is started as a module.
"""

import base64
import csv
import errno
import hashlib
import io
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ota.bundle.agent_release import LockedWheel

MAX_FILES = 20_000
MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_TOTAL_BYTES = 1024 * 1024 * 1024
"""Of one wheel, unpacked. The largest that the agent needs (opencv) has about 120 MB."""
MAX_RATIO = 200
"""Unpacked to packed, of one file above a MiB: deflate cannot do much better, text of ours never comes near."""
MAX_RECORD_BYTES = 8 * 1024 * 1024
MAX_PATH_CHARS = 300
CHUNK_BYTES = 256 * 1024
BROKEN_ZIP = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError, LookupError,
    OverflowError, TypeError,
)  # fmt: skip
"""What the standard library raises for bytes that are no zip: names that are no text, offsets that lead nowhere."""
UNHASHED = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""Files that RECORD cannot or need not hash."""
SCRIPT_LINE = re.compile(rb"#!pythonw?[^\n]*\n")

_PART = re.compile(r"[^/\\:]{1,150}")


class WheelError(ValueError):
    """A wheel is broken, or not what its lock says; the text names the wheel and what is wrong."""


@dataclass(frozen=True, slots=True)
class Where:
    """Folders of the environment that is being built: packages, scripts; and the interpreter as it will be called."""

    packages: Path
    scripts: Path
    interpreter: str


def unpack_wheel(file: Path, locked: LockedWheel, where: Where) -> list[Path]:
    """Unpack one wheel; returns the files that were written. Raises WheelError, and OSError where the disk says no."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _unpack(archive, locked, where)
    except WheelError as error:
        raise WheelError(f"{locked.file}: {error}") from None
    except BROKEN_ZIP as error:
        raise WheelError(f"{locked.file} is no whole zip: {error}") from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # an offset before the beginning: the zip's own word, not the disk's
            raise WheelError(f"{locked.file} is no whole zip: {error.strerror or error}") from None
        raise


def _unpack(archive: zipfile.ZipFile, locked: LockedWheel, where: Where) -> list[Path]:
    entries = _entries(archive)
    info_folder = _info_folder(entries, locked)
    _check_metadata(archive, info_folder, locked)
    record = _record(_small(archive, f"{info_folder}/RECORD"))
    unlisted = set(entries) - set(record) - {f"{info_folder}/{name}" for name in UNHASHED}
    if unlisted:
        raise WheelError(f"{min(unlisted)} is not in RECORD")
    missing = {path for path in record if path not in entries}
    if missing:
        raise WheelError(f"{min(missing)} is in RECORD and not in the wheel")
    data_folder = info_folder.removesuffix(".dist-info") + ".data"
    written, left_bytes = [], MAX_TOTAL_BYTES
    for path, entry in entries.items():
        target, is_script = _target(path, data_folder, where)
        left_bytes -= _write(archive, entry, target, record.get(path), left_bytes, where.interpreter if is_script else "")
        written.append(target)
    return written


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Path -> entry of every file; raises for names and kinds that are not allowed, before anything is written."""
    found: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    if len(infos) > MAX_FILES:
        raise WheelError(f"{len(infos)} entries, {MAX_FILES} are allowed")
    total_bytes = 0
    for info in infos:
        _check_name(info)
        if info.is_dir():
            continue
        if info.filename in found:
            raise WheelError(f"{info.filename} is there twice")
        found[info.filename] = info
        total_bytes += info.file_size
        if info.file_size > MAX_FILE_BYTES or total_bytes > MAX_TOTAL_BYTES:
            raise WheelError(f"it would be larger than {MAX_TOTAL_BYTES} bytes")
        if info.file_size > 2**20 and info.file_size > MAX_RATIO * max(1, info.compress_size):
            raise WheelError(f"{info.filename} is a bomb: {info.compress_size} bytes would become {info.file_size}")
    for path in found:
        if any(parent in found for parent in _parents(path)):
            raise WheelError(f"{path} lies below a file")
    return found


def _check_name(info: zipfile.ZipInfo) -> None:
    path = info.filename.removesuffix("/") if info.is_dir() else info.filename
    parts = path.split("/")
    plain = path.isprintable() and all(part not in ("", ".", "..") and _PART.fullmatch(part) for part in parts)
    if len(path) > MAX_PATH_CHARS or not plain:
        raise WheelError(f"{path[:100]!r} is not a plain relative path")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise WheelError(f"{path} is neither file nor folder (a link, say)")
    if info.flag_bits & 0x1:
        raise WheelError(f"{path} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise WheelError(f"{path} is packed by a method that is not allowed ({info.compress_type})")


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _info_folder(entries: dict[str, zipfile.ZipInfo], locked: LockedWheel) -> str:
    found = {path.partition("/")[0] for path in entries if path.partition("/")[0].endswith(".dist-info")}
    if len(found) != 1:
        raise WheelError(f"{len(found)} dist-info folders, it must be one")
    folder = found.pop()
    name = re.sub(r"[-_.]+", "-", folder.removesuffix(".dist-info").rpartition("-")[0]).lower()
    if name != locked.name:
        raise WheelError(f"its folder {folder} is not that of {locked.name}")
    return folder


def _check_metadata(archive: zipfile.ZipFile, folder: str, locked: LockedWheel) -> None:
    said = _headers(_small(archive, f"{folder}/METADATA"))
    name = re.sub(r"[-_.]+", "-", said.get("Name", "")).lower()
    if (name, said.get("Version", "")) != (locked.name, locked.version):
        raise WheelError(f"it is {name} {said.get('Version', '')}, locked is {locked.name} {locked.version}")
    version = _headers(_small(archive, f"{folder}/WHEEL")).get("Wheel-Version", "")
    if version.partition(".")[0] != "1":
        raise WheelError(f"wheel format {version or 'unknown'} is not known here, 1.x is")


def _headers(data: bytes) -> dict[str, str]:
    """Name -> value of the lines before the first empty one; the first of a name counts, long values are of no interest here."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        if not line.strip():
            break
        name, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            found.setdefault(name, value.strip())
    return found


def _record(data: bytes) -> dict[str, tuple[bytes, int | None]]:
    """Path -> sha256 and length, of all lines with a hash. Raises for a hash that is not sha256."""
    found: dict[str, tuple[bytes, int | None]] = {}
    try:
        for row in csv.reader(io.StringIO(data.decode())):
            if not row:
                continue
            path, said, length = row
            if path.rpartition("/")[2] in UNHASHED and path.count("/") == 1 and not said:
                continue
            algorithm, _, digest = said.partition("=")
            if algorithm != "sha256":
                raise WheelError(f"RECORD gives no sha256 for {path}")
            found[path] = (base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)), int(length) if length else None)
    except (ValueError, csv.Error) as error:
        if isinstance(error, WheelError):
            raise
        raise WheelError(f"RECORD cannot be read: {error}") from None
    return found


def _target(path: str, data_folder: str, where: Where) -> tuple[Path, bool]:
    """Where a file goes, and whether it is a script."""
    first, _, rest = path.partition("/")
    if not first.endswith(".data"):
        return where.packages / path, False
    scheme, _, inside = rest.partition("/")
    if first != data_folder or not inside:
        raise WheelError(f"{path} is in a data folder that is not this wheel's")
    if scheme in ("purelib", "platlib"):
        return where.packages / inside, False
    if scheme == "scripts" and "/" not in inside and not inside.startswith("python"):
        return where.scripts / inside, True
    raise WheelError(f"{path}: the scheme {scheme} is not installed here")


def _write(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, said: tuple[bytes, int | None] | None, left_bytes: int,
    interpreter: str,
) -> int:  # fmt: skip
    """Write one file, durably; returns its length. What is not as RECORD says raises, whatever was written until then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, length = hashlib.sha256(), 0
    mode = 0o755 if interpreter or (entry.external_attr >> 16) & 0o111 else 0o644
    try:
        handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise WheelError(f"{entry.filename} is in another wheel, too") from None
    with os.fdopen(handle, "wb") as out, archive.open(entry) as into:
        os.fchmod(out.fileno(), mode)
        first = True
        while chunk := into.read(CHUNK_BYTES):
            length += len(chunk)
            if length > min(MAX_FILE_BYTES, left_bytes):
                raise WheelError(f"it is larger than {MAX_TOTAL_BYTES} bytes")
            digest.update(chunk)
            out.write(SCRIPT_LINE.sub(f"#!{interpreter}\n".encode(), chunk, 1) if first and interpreter else chunk)
            first = False
        out.flush()
        os.fsync(out.fileno())
    if said is not None and (digest.digest() != said[0] or said[1] not in (None, length)):
        raise WheelError(f"{entry.filename} is not what RECORD says")
    return length


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except KeyError:
        raise WheelError(f"{name} is missing") from None
    if len(data) > MAX_RECORD_BYTES:
        raise WheelError(f"{name} is too large")
    return data
