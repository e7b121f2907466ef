"""How fast a download may go, and whether it goes fast enough: two counts over a clock that is never set. Pure."""

from dataclasses import dataclass, field

BURST_S = 0.25
"""A limited line may run ahead of its limit by so many seconds of it: pieces come whole."""


@dataclass(slots=True)
class Pace:
    """A token bucket. ``rate_bytes_s`` None is no limit. One for all files of an update: they share the line."""

    rate_bytes_s: float | None
    _free_at_s: float | None = None

    def wait_s(self, received_bytes: int, now_s: float) -> float:
        """How long to pause after this piece, so that the mean stays at the limit."""
        if self.rate_bytes_s is None:
            return 0.0
        free_at_s = now_s if self._free_at_s is None else max(self._free_at_s, now_s - BURST_S)
        self._free_at_s = free_at_s + received_bytes / self.rate_bytes_s
        return max(0.0, self._free_at_s - now_s)


@dataclass(slots=True)
class LeastRate:
    """Whether a sender keeps to a least rate, judged over whole windows. Our own pauses are not its fault."""

    least_bytes_s: float
    window_s: float
    began_s: float
    _bytes: int = field(default=0, init=False)
    _paused_s: float = field(default=0.0, init=False)

    def paused(self, seconds: float) -> None:
        """We did not read for so long."""
        self._paused_s += seconds

    def too_slow(self, received_bytes: int, now_s: float) -> float | None:
        """The rate in bytes a second if a window ended and it was below the least; None while all is well."""
        self._bytes += received_bytes
        elapsed_s = now_s - self.began_s - self._paused_s
        if elapsed_s < self.window_s:
            return None
        rate = self._bytes / elapsed_s
        self.began_s, self._bytes, self._paused_s = now_s, 0, 0.0
        return rate if rate < self.least_bytes_s else None
