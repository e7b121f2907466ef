"""Reads what a model file says of itself: the archive behind the model, and TensorFlow's metadata inside."""

import mmap
import zlib
from dataclasses import replace
from pathlib import Path

from models.inference.metadata import MAX_TEXT_BYTES, ULTRALYTICS_FILES, Metadata, labels_in, normalisation, ultralytics


def read_metadata(path: Path) -> Metadata:
    """The metadata of a model file that has been checked; empty where it has none, or broken ones."""
    found = Metadata()
    for name, text in _texts(path):
        own = ultralytics(text) if name in ULTRALYTICS_FILES else None
        if own is not None:
            return own
        if name.endswith(".txt") and name not in ULTRALYTICS_FILES and not found.labels:
            found = replace(found, labels=labels_in(text))
    scaled = _normalisation(path)
    return found if scaled is None else replace(found, mean=scaled[0], std=scaled[1])


def _texts(path: Path) -> list[tuple[str, str]]:
    """Names and contents of the text files in the archive behind a model, at most a few and none too large."""
    import zipfile  # half a megabyte; a model with a card is asked nothing

    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith((".txt", ".json"))][:8]
            small = [name for name in names if archive.getinfo(name).file_size <= MAX_TEXT_BYTES]
            return [(name, archive.read(name).decode("utf-8")) for name in small]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error):
        return []  # no archive, an encrypted, a broken or an unknown one: then labels must be given


def _normalisation(path: Path) -> tuple[float | tuple[float, float, float], float | tuple[float, float, float]] | None:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return normalisation(data)
    except (OSError, ValueError):
        return None
