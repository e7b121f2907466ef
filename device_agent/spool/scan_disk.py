"""What lies in a stream's folder at the start: each entry's size and header, or why it is torn."""

from collections.abc import Iterator
from pathlib import Path

from device_agent.spool.entry import Header, TornEntryError, frame_of, header_of
from ota.durable_disk import remove_leftovers

SUFFIX = ".entry"
BEGINNING_BYTES = 64 * 1024
"""Enough for every header; the blobs behind it are not read at the start."""


def scan(folder: Path) -> Iterator[tuple[int, Path, int, Header | str]]:
    """Number (0 where the name has none), path, size in bytes, and the header or what is wrong, in order of names."""
    remove_leftovers(folder)
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        number = int(path.stem) if path.stem.isdigit() else 0
        size = 0
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                beginning = file.read(BEGINNING_BYTES)
            frame = frame_of(beginning)
            if frame.total_bytes != size or number == 0:
                raise TornEntryError(f"{size} bytes instead of {frame.total_bytes}")
            yield number, path, size, header_of(beginning)
        except (TornEntryError, OSError) as error:
            yield number, path, size, str(error)
