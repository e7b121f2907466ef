"""A clock that never runs before what is known to be past. A Pi has no clock: after a power cut it may wake in 1970."""

import threading
from collections.abc import Callable

KEEP_EVERY_S = 3600.0
"""The floor is written at most this often (SD card wear): after a power cut the clock is behind by no more."""


class TrustedClock:
    """Time as the later of the system clock and the floor, which runs on with the steady clock from the moment it was known.

    ``floor_s`` is what was read at start (or the build time); ``keep`` writes a new floor down; ``steady`` is never set.
    ``latest_s`` bounds the floor: it is never raised beyond the earliest expiry of trusted metadata, so that one wrong 2099
    from a server does not end a device for good.
    """

    def __init__(
        self,
        floor_s: float,
        *,
        now: Callable[[], float],
        steady: Callable[[], float],
        keep: Callable[[float], None],
        latest_s: Callable[[], float] | None = None,
    ) -> None:
        self._floor_s, self._kept_s = floor_s, floor_s
        self._now, self._steady, self._keep, self._latest_s = now, steady, keep, latest_s
        self._known_at_s = steady()
        self._heard: tuple[float, float] | None = None
        """The last verified time and when (steady) it was heard: unbounded, forgotten with the process."""
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Seconds since 1970, never before the floor."""
        return max(self._now(), self._floor())

    def bound_by(self, latest_s: Callable[[], float]) -> None:
        """Never raise the floor beyond this from now on: the earliest end of the metadata that is trusted here."""
        self._latest_s = latest_s

    def server_s(self) -> float:
        """Time to judge the server's certificate by where the system clock is behind: what the server last told, else the floor.

        Apart from the floor: metadata that ended last week bounds that, and the server's certificate may be younger. A wrong time
        told here is replaced by the next one and gone with the next start.
        """
        if not self.behind() or self._heard is None:
            return self.now_s()
        told_s, at_s = self._heard
        return told_s + self._steady() - at_s

    def steady_s(self) -> float:
        """Seconds of the clock that is never set."""
        return self._steady()

    def behind(self) -> bool:
        """Whether the system clock is before the floor: certificates cannot be judged by it."""
        return self._now() < self._floor()

    def verified(self, server_s: float) -> None:
        """A verified time from the server: the floor rises to it."""
        with self._lock:
            self._heard = server_s, self._steady()
            bound = self._latest_s() if self._latest_s else float("inf")
            floor_s = min(server_s, bound)
            if floor_s <= self._floor():
                return
            self._floor_s, self._known_at_s = floor_s, self._steady()
            if floor_s - self._kept_s >= KEEP_EVERY_S:
                self._kept_s = floor_s
                self._keep(floor_s)

    def _floor(self) -> float:
        return self._floor_s + self._steady() - self._known_at_s
