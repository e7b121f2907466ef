"""Which lines go to the server, how fast, and in which batches. Pure: time comes in as an argument."""

from collections.abc import Iterable

from ota.wire.logs import LEVELS, LogBatch, LogLine

BATCH_LINES = 500
BATCH_BYTES = 400 * 1024
"""Far below the wire's limits, and little enough for one request on most links; a batch that breaks off is halved."""
LEAST_BATCH_BYTES = 8 * 1024


def rank(level: str) -> int:
    """Order of levels; an unknown one counts as info."""
    return LEVELS.index(level) if level in LEVELS else LEVELS.index("info")


def wanted(line: LogLine, upload_level: str) -> bool:
    """Whether a line goes to the server: all of a debug session, and otherwise from ``upload_level`` on."""
    return line.session is not None or rank(line.level) >= rank(upload_level)


class RateLimit:
    """A token bucket of ``per_s`` lines a second and a burst of ten seconds; warnings and worse may use it up below zero."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._burst = per_s * 10
        self._tokens = self._burst
        self._at_s: float | None = None

    def allows(self, level: str, monotonic_s: float) -> bool:
        """Whether one more line may pass now."""
        if self._at_s is not None:
            self._tokens = min(self._burst, self._tokens + (monotonic_s - self._at_s) * self._per_s)
        self._at_s = monotonic_s
        floor = -self._burst if rank(level) >= rank("warning") else 0.0
        if self._tokens - 1 < floor:
            return False
        self._tokens -= 1
        return True


def batch(lines: Iterable[LogLine], boot_id: str, dropped: int, max_bytes: int = BATCH_BYTES) -> LogBatch:
    """The first lines that fit into one batch, in order; one at least."""
    chosen: list[LogLine] = []
    size = 0
    for line in lines:
        size += len(line.text.encode()) + 200
        if len(chosen) >= BATCH_LINES or (chosen and size > max_bytes):
            break
        chosen.append(line)
    return LogBatch(boot_id=boot_id, lines=chosen, dropped=dropped)
