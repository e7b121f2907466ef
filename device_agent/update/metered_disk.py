"""What updates fetched over a line that costs money, by month, across restarts."""

import contextlib
import logging
from pathlib import Path

import msgspec

from device_agent.update.conditions import month_of
from ota.durable_disk import write_whole

FILE = "metered.json"
log = logging.getLogger("rookery.update")


class _Month(msgspec.Struct):
    v: int = 1
    month: str = ""
    bytes: int = 0


class MeteredFile:
    """The account in one small file. A board whose account cannot be kept goes on fetching: it says so in its log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._month = _Month()
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._month = msgspec.json.decode(path.read_bytes(), type=_Month)

    def spent_bytes(self, now_s: float) -> int:
        """Fetched in the month of ``now_s``."""
        return self._month.bytes if self._month.month == month_of(now_s) else 0

    def add(self, fetched_bytes: int, now_s: float) -> None:
        """Count what was fetched, and write it down."""
        if fetched_bytes <= 0:
            return
        self._month = _Month(month=month_of(now_s), bytes=self.spent_bytes(now_s) + fetched_bytes)
        try:
            write_whole(self._path, msgspec.json.encode(self._month))
        except OSError as error:
            log.error("what was fetched over the metered line cannot be written down: %s", error)
