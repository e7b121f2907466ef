"""The file of ``--events``: one whole line as each event ends, so that it can be followed while a source without an end runs."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from device_agent.vision.types import CameraError


def check_writable(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Whether a result can be written there, before the work; touches nothing.

    `inputs` are the files that are read: none of them may be written over. Raises CameraError `missing` with what is wrong.
    """
    if not path.parent.is_dir():
        raise CameraError("missing", f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise CameraError("missing", f"{path} cannot be written: it is a folder")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CameraError("missing", f"{path} cannot be written: this user may not, or the disk is read-only")
    with contextlib.suppress(OSError):
        if any(one.exists() and path.exists() and path.samefile(one) for one in inputs):
            raise CameraError("missing", f"{path} is also what is read: write to another file")


class EventsFile:
    """Replaces what stands under its name when it is opened, then grows by whole lines.

    Raises CameraError `missing` where it cannot be written; the lines of before stand then, and no part of the one that failed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size_bytes = 0
        try:
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CameraError("missing", f"{path} cannot be written: {error.strerror}") from error

    def add(self, line: str) -> None:
        """One line, without its end; whoever follows the file sees all of it at once."""
        data = memoryview(line.encode() + b"\n")
        whole_bytes = self._size_bytes + len(data)
        try:
            while data:
                data = data[os.write(self._handle, data) :]
        except BaseException as error:
            with contextlib.suppress(OSError):  # a pipe or a terminal cannot be cut
                os.ftruncate(self._handle, self._size_bytes)
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
                raise CameraError("missing", f"{self._path} cannot be written: {error.strerror}") from error
            raise
        self._size_bytes = whole_bytes

    def close(self) -> None:
        """What was added is on the disk."""
        with contextlib.suppress(OSError):  # a pipe has no disk
            os.fsync(self._handle)
        os.close(self._handle)
