"""The byte layout of a ``.rookery`` file that writer and reader agree on. See FORMAT.md."""

import re
import struct
from dataclasses import dataclass

from ota.bundle.errors import BundleError

SUFFIX = ".rookery"
MANIFEST = "manifest.json"
FILES = "files/"
METADATA = "metadata/"
MAX_ENTRIES = 4096
MAX_METADATA_BYTES = 6 * 1024 * 1024
"""One metadata file; above tuf's own limit for targets (5 MB)."""
MAX_METADATA_FILES = 300
"""Roots (tuf follows 256 rotations) and the two roles below them."""
MAX_ROOT_BYTES = 512 * 1024
"""One root in a bundle: keys of a few dozen people."""
MAX_ALL_METADATA_BYTES = 16 * 1024 * 1024
"""All metadata of a bundle together: it is held in memory before one signature is looked at."""
MAX_ARCHIVE_BYTES = 2**32 - 1
"""What zip can say without its 64-bit extension, which bundles do not use."""
CHUNK_BYTES = 256 * 1024

_CONTENT = re.compile(r"files/[0-9a-f]{64}")
_METADATA = re.compile(r"metadata/[A-Za-z0-9][A-Za-z0-9._-]{0,80}\.json")
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
LONGEST_NAME_BYTES = len("metadata/") + 81 + len(".json")
"""Of the names that belong in a bundle (see below)."""
LOCAL_BYTES = _LOCAL.size
END_BYTES = _END.size
_VERSION = 20
_MADE_BY_UNIX = 3 << 8 | _VERSION
_TIME, _DATE = 0, 0x21
"""1980-01-01 00:00:00, zip's own beginning of time: a bundle carries no clock."""
_ATTRIBUTES = 0o100644 << 16
_KIND_MASK, _KIND_PLAIN = 0o170000 << 16, 0o100000 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the archive: name, CRC-32 and length of its content, and where its local header begins."""

    name: str
    crc: int
    length_bytes: int
    offset_bytes: int

    @property
    def start_bytes(self) -> int:
        """Where the content begins."""
        return self.offset_bytes + LOCAL_BYTES + len(self.name)

    @property
    def end_bytes(self) -> int:
        """Where the content ends and the next entry begins."""
        return self.start_bytes + self.length_bytes


def is_content(name: str) -> bool:
    """Whether this entry is a content file."""
    return _CONTENT.fullmatch(name) is not None


def is_metadata(name: str) -> bool:
    """Whether this entry is a metadata file."""
    return _METADATA.fullmatch(name) is not None


def rank(name: str) -> tuple[int, str]:
    """Sorts entries as they stand in a bundle: the manifest, content, metadata, each by name."""
    return (0 if name == MANIFEST else 1 if is_content(name) else 2, name)


def local_header(entry: Entry) -> bytes:
    """The header before an entry's content."""
    sizes = (entry.crc, entry.length_bytes, entry.length_bytes)
    return _LOCAL.pack(b"PK\3\4", _VERSION, 0, 0, _TIME, _DATE, *sizes, len(entry.name), 0) + entry.name.encode("ascii")


def central_header(entry: Entry) -> bytes:
    """The entry's line in the directory at the end."""
    sizes = (entry.crc, entry.length_bytes, entry.length_bytes)
    return _CENTRAL.pack(
        b"PK\1\2", _MADE_BY_UNIX, _VERSION, 0, 0, _TIME, _DATE, *sizes, len(entry.name), 0, 0, 0, 0, _ATTRIBUTES,
        entry.offset_bytes,
    ) + entry.name.encode("ascii")  # fmt: skip


def end_record(count: int, directory_bytes: int, directory_offset: int) -> bytes:
    """The last bytes of the file."""
    return _END.pack(b"PK\5\6", 0, 0, count, count, directory_bytes, directory_offset, 0)


def parse_end(data: bytes, length_bytes: int) -> tuple[int, int]:
    """(count of entries, where the directory begins) of a file of ``length_bytes`` that ends in ``data``; BundleError else."""
    if len(data) != END_BYTES or data[:4] != b"PK\5\6":
        raise BundleError("$", "not a bundle: it does not end as one (cut off, added to, or something else)")
    _, _, _, _, count, directory_bytes, offset_bytes, _ = _END.unpack(data)
    if data != end_record(count, directory_bytes, offset_bytes):
        raise BundleError("$", "not a bundle: the end record is not in the one form that bundles have")
    if count > MAX_ENTRIES:
        raise BundleError("$", f"{count} entries, the limit is {MAX_ENTRIES}")
    if directory_bytes > count * (_CENTRAL.size + LONGEST_NAME_BYTES):  # it is read as a whole
        raise BundleError("$", f"not a bundle: {directory_bytes} bytes of directory for {count} entries")
    if offset_bytes + directory_bytes + END_BYTES != length_bytes:
        raise BundleError("$", "not a bundle: the directory is not where the end record says (cut off or added to)")
    return count, offset_bytes


def parse_directory(data: bytes, count: int, directory_offset: int) -> dict[str, Entry]:
    """The entries of a directory, in order; BundleError for anything that the format does not have."""
    entries: dict[str, Entry] = {}
    at, expected_offset = 0, 0
    for _ in range(count):
        entry, at = _parse_central(data, at)
        if entry.name in entries:
            raise BundleError(entry.name, "there twice")
        entries[entry.name] = entry
    for entry in entries.values():
        if entry.offset_bytes != expected_offset:
            raise BundleError(entry.name, "does not follow the entry before it")
        expected_offset = entry.end_bytes
    if at != len(data) or expected_offset != directory_offset:
        raise BundleError("$", "not a bundle: there are bytes that belong to no entry")
    return entries


def _parse_central(data: bytes, at: int) -> tuple[Entry, int]:
    if len(data) < at + _CENTRAL.size:
        raise BundleError("$", "not a bundle: the directory is cut off")
    fields = _CENTRAL.unpack_from(data, at)
    flags, method, crc, packed_bytes, length_bytes, name_bytes = fields[3], fields[4], *fields[7:11]
    attributes, offset_bytes = fields[15], fields[16]
    start = at + _CENTRAL.size
    raw = data[start : start + name_bytes]
    name = raw.decode("ascii", errors="replace")
    if name != MANIFEST and not is_content(name) and not is_metadata(name):
        raise BundleError(name[:120], "this name does not belong in a bundle")
    if attributes & _KIND_MASK not in (0, _KIND_PLAIN):
        raise BundleError(name, "not a plain file")
    if flags & 1:
        raise BundleError(name, "encrypted")
    if method != 0 or packed_bytes != length_bytes:
        raise BundleError(name, "compressed; entries of a bundle are stored as they are")
    entry = Entry(name, crc, length_bytes, offset_bytes)
    whole = central_header(entry)
    if data[at : at + len(whole)] != whole:
        raise BundleError(name, "its directory line is not in the one form that bundles have")
    return entry, at + len(whole)
