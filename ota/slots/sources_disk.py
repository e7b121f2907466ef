"""What install places are filled from, and how it is told whether a file there is whole."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ota.bundle.manifest import FileEntry, Manifest, travelling
from ota.slots.errors import SlotError
from ota.slots.files_disk import Files
from ota.slots.hashed_disk import Hashed


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the files of a release come from: manifest path -> file; ``packed`` paths are unpacked on the way."""

    manifest: Manifest
    files: Mapping[str, Path]
    packed: frozenset[str] = frozenset()

    def bring(self, path: str, target: Path, files: Files, hashed: Hashed) -> None:
        """One file to a name that nothing refers to yet; raises SlotError (hash, format, disk) or OSError."""
        entry, source = self.manifest.files[path], self.files[path]
        if path in self.packed:
            refused = files.unpack_new(source, entry, target, hashed=hashed.known(source) == travelling(entry)[0])
            if refused is not None:
                raise SlotError(refused.code, f"{path} of {self.manifest.release}: {refused.detail}")
        elif hashed.known(source) == entry.sha256:
            # The same bytes were hashed moments ago: copied as they are, their length says whether all came.
            if files.copy_known(source, target) != entry.length_bytes:
                raise SlotError("hash", f"{path} of {self.manifest.release} changed while it was copied")
        elif files.copy_new(source, target) != (entry.sha256, entry.length_bytes):
            raise SlotError("hash", f"{path} is not what the manifest of {self.manifest.release} says")


def folders(root: Path, paths: Mapping[str, Path]) -> Iterator[Path]:
    """All folders that hold these paths below ``root``, the deepest first, ``root`` last."""
    found = {root}
    for path in paths:
        parent = (root / path).parent
        while parent != root:
            found.add(parent)
            parent = parent.parent
    yield from sorted(found, key=lambda folder: len(folder.parts), reverse=True)


def is_whole(path: Path, entry: FileEntry) -> bool:
    """Whether a file is there and is what its entry says, to the byte."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256 and file.tell() == entry.length_bytes
    except OSError:
        return False


def read_or_none(path: Path) -> bytes | None:
    """A small file's bytes; None where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return None
