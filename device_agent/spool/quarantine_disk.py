"""What was put aside for a person to look at, within a share of the budget: the oldest goes first."""

import os
from collections.abc import Callable
from pathlib import Path

from ota.durable_disk import fsync_folder, make_folder

SHARE = 0.1
"""Of the outbox's budget: damaged entries are rare, and a card that damages many must not fill itself with them."""
MAX_FILES = 200


class Quarantine:
    """``folder`` with entries that can never be sent. ``dropped`` is called once for each that had to go."""

    def __init__(self, folder: Path, max_bytes: int, dropped: Callable[[], None]) -> None:
        make_folder(folder)
        self._folder, self._max_bytes, self._dropped = folder, int(max_bytes * SHARE), dropped
        self.trim()

    def take(self, path: Path, name: str) -> None:
        """Move a file in under this name; older ones go where there is no room for it."""
        # Its own time is that of being put aside: the order in which they go.
        os.utime(path)
        path.replace(self._folder / name)
        self.trim()
        fsync_folder(self._folder)

    def trim(self) -> None:
        """Down to the share and the number of files, oldest first."""
        found = sorted((path.stat().st_mtime_ns, path.name, path.stat().st_size, path) for path in self._folder.iterdir())
        used_bytes = sum(size for _, _, size, _ in found)
        files = len(found)
        for _, _, size, path in found:
            if used_bytes <= self._max_bytes and files <= MAX_FILES:
                return
            path.unlink(missing_ok=True)
            used_bytes, files = used_bytes - size, files - 1
            self._dropped()

    def count(self, suffix: str) -> int:
        """How many files with this suffix lie here."""
        return sum(1 for _ in self._folder.glob(f"*{suffix}"))
