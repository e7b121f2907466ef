"""The few file operations that slots are made of, each one a step at which the power may go. A seam: tests cut it."""

import hashlib
import os
import shutil
from pathlib import Path

from ota.bundle.errors import Refusal
from ota.bundle.manifest import FileEntry
from ota.delta.unpack_disk import unpack_file

CHUNK_BYTES = 256 * 1024
COPY_BYTES = 1024 * 1024


class Files:
    """Plain file operations. Every method is one step; each raises OSError."""

    def make_folder(self, folder: Path) -> None:
        """Create a folder and its parents; being there is fine."""
        folder.mkdir(parents=True, exist_ok=True)

    def write_new(self, path: Path, data: bytes) -> None:
        """Write and fsync a file that nothing refers to yet, over whatever is there."""
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def copy_new(self, source: Path, path: Path) -> tuple[str, int]:
        """Copy a file to a name that nothing refers to yet, and fsync it; returns sha256 and length of what was copied.

        No hard link: whoever opens the source for writing later must not reach into an installed release.
        """
        digest = hashlib.sha256()
        with source.open("rb") as reading, path.open("wb") as writing:
            while chunk := reading.read(CHUNK_BYTES):
                digest.update(chunk)
                writing.write(chunk)
            writing.flush()
            os.fsync(writing.fileno())
            return digest.hexdigest(), writing.tell()

    def copy_known(self, source: Path, path: Path) -> int:
        """Copy a file whose hash is known to a name that nothing refers to yet, and fsync it; returns its length in bytes."""
        with source.open("rb") as reading, path.open("wb") as writing:
            shutil.copyfileobj(reading, writing, COPY_BYTES)
            writing.flush()
            os.fsync(writing.fileno())
            return writing.tell()

    def unpack_new(self, source: Path, entry: FileEntry, path: Path, *, hashed: bool = False) -> Refusal | None:
        """Make the file that ``entry`` lists of the packed ``source``, whole and synced; refused with hash, format or disk.

        ``hashed``: what travelled is known to be what was signed, and is not read for that.
        """
        return unpack_file(source, entry, path, hashed=hashed)

    def replace(self, source: Path, target: Path) -> None:
        """Atomic rename over whatever is there."""
        source.replace(target)

    def rename_folder(self, source: Path, target: Path) -> None:
        """Atomic rename of a folder to a free name."""
        source.rename(target)

    def fsync_folder(self, folder: Path) -> None:
        """Make names in a folder durable."""
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def remove_tree(self, folder: Path) -> None:
        """Remove a folder with all that is in it; being gone is fine."""
        if folder.exists():
            shutil.rmtree(folder)
