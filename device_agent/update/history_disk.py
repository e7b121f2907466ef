"""The device's own history on the disk: written rarely (an SD card wears), and once more when the agent stops."""

from pathlib import Path

import msgspec

from device_agent.update.history import VERSION, History
from ota.durable_disk import write_whole

WRITE_EVERY_S = 600.0
HISTORY_FILE = "rates.json"


class HistoryFile:
    """The file in ``folder``. A lost or torn history costs only time: the next trial sees less of the past."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / HISTORY_FILE
        self._written_s: float | None = None

    def load(self) -> History:
        """What was kept; an empty history where there is none or it is unreadable."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=History)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return History()
        sound = found.v == VERSION and all(0 <= found <= gated < 1e12 for gated, found in found.light.values())
        return found if sound else History()

    def keep(self, history: History, steady_s: float, *, now: bool = False) -> None:
        """Write it down when the last time is long ago, or ``now``. A disk that refuses is no reason to stop seeing."""
        if self._written_s is None:
            self._written_s = steady_s
        if not now and steady_s - self._written_s < WRITE_EVERY_S:
            return
        self._written_s = steady_s
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._path, msgspec.json.encode(history))
        except OSError:
            return  # tried again after WRITE_EVERY_S; what is in memory goes on counting
