"""A bundle's container on disk: written in its one form, read only in that form."""

import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ota.bundle.archive import (
    CHUNK_BYTES,
    END_BYTES,
    MAX_ARCHIVE_BYTES,
    MAX_ENTRIES,
    Entry,
    central_header,
    end_record,
    local_header,
    parse_directory,
    parse_end,
    rank,
)
from ota.bundle.errors import BundleError
from ota.durable_disk import fsync_folder, make_folder
from ota.plain_disk import open_plain


def read_entries(path: Path) -> dict[str, Entry]:
    """All entries of a container, in order; BundleError unless every byte of its headers is as the format has it."""
    with opened(path) as file:
        length_bytes = os.fstat(file.fileno()).st_size
        if length_bytes < END_BYTES:
            raise BundleError("$", f"{path.name} is not a bundle: {length_bytes} bytes")
        file.seek(length_bytes - END_BYTES)
        count, offset_bytes = parse_end(file.read(END_BYTES), length_bytes)
        file.seek(offset_bytes)
        entries = parse_directory(file.read(length_bytes - END_BYTES - offset_bytes), count, offset_bytes)
        for entry in entries.values():
            file.seek(entry.offset_bytes)
            if file.read(entry.start_bytes - entry.offset_bytes) != local_header(entry):
                raise BundleError(entry.name, "its header is not in the one form that bundles have")
    if list(entries) != sorted(entries, key=rank):
        raise BundleError("$", "the entries are not in their order")
    return entries


def read_entry(path: Path, entry: Entry) -> Iterator[bytes]:
    """The content of an entry in pieces; BundleError at the end when its checksum differs."""
    crc, left_bytes = 0, entry.length_bytes
    with opened(path) as file:
        file.seek(entry.start_bytes)
        while left_bytes and (chunk := file.read(min(left_bytes, CHUNK_BYTES))):
            crc = zlib.crc32(chunk, crc)
            left_bytes -= len(chunk)
            yield chunk
    if left_bytes or crc != entry.crc:
        raise BundleError(entry.name, "the content is damaged: its checksum differs")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file for reading; BundleError when there is none, OSError when it is not a plain file."""
    try:
        with open_plain(path) as file:
            yield file
    except FileNotFoundError:
        raise BundleError("$", f"{path} is not there") from None


def write_entries(out: Path, entries: Iterable[tuple[str, Iterable[bytes]]]) -> None:
    """Replace ``out`` by a container of these entries, whatever their order; whole and durable, or as it was before.

    Each entry is its name and its content in pieces, taken once. Raises what taking them raises.
    """
    make_folder(out.parent)
    handle, name = tempfile.mkstemp(prefix=".part-", dir=out.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask is
            _write(file, sorted(entries, key=lambda one: rank(one[0])))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except BaseException:  # also Ctrl-C: nothing half-written may stay
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(out.parent)


def _write(file: IO[bytes], entries: list[tuple[str, Iterable[bytes]]]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise BundleError("$", f"{len(entries)} entries, the limit is {MAX_ENTRIES}")
    directory: list[bytes] = []
    at = 0
    for name, chunks in entries:
        blank = Entry(name, 0, 0, at)
        file.write(local_header(blank))
        crc, length_bytes = 0, 0
        for chunk in chunks:
            crc = zlib.crc32(chunk, crc)
            length_bytes += len(chunk)
            file.write(chunk)
            if at + length_bytes > MAX_ARCHIVE_BYTES:
                raise BundleError("$", f"more than {MAX_ARCHIVE_BYTES} bytes; a bundle cannot be larger")
        entry = Entry(name, crc, length_bytes, at)
        file.seek(at)  # length and checksum are known only now
        file.write(local_header(entry))
        at = entry.end_bytes
        file.seek(at)
        directory.append(central_header(entry))
    listed = b"".join(directory)
    if at + len(listed) + END_BYTES > MAX_ARCHIVE_BYTES:
        raise BundleError("$", f"more than {MAX_ARCHIVE_BYTES} bytes; a bundle cannot be larger")
    file.write(listed + end_record(len(entries), len(listed), at))
