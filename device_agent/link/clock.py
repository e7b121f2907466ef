"""A clock that never runs before what is known to be past. A Pi has no clock: after a power cut it may wake in 1970."""

import threading
from collections.abc import Callable

KEEP_EVERY_S = 3600.0
"""The floor is written at most this often (SD card wear): after a power cut the clock is behind by no more."""


class TrustedClock:
    """Time as max(system clock, floor). ``keep`` writes the floor down; ``floor_s`` is what was read at start.

    ``latest_s`` bounds the floor: it is never raised beyond the earliest expiry of trusted metadata, so that one wrong 2099 from
    a server does not end a device for good.
    """

    def __init__(
        self,
        floor_s: float,
        *,
        now: Callable[[], float],
        keep: Callable[[float], None],
        latest_s: Callable[[], float] | None = None,
    ) -> None:
        self._floor_s, self._kept_s = floor_s, floor_s
        self._now, self._keep, self._latest_s = now, keep, latest_s
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Seconds since 1970, never before the floor."""
        return max(self._now(), self._floor_s)

    def behind(self) -> bool:
        """Whether the system clock is before the floor: certificates cannot be judged by it."""
        return self._now() < self._floor_s

    def verified(self, server_s: float) -> None:
        """A verified time from the server: the floor rises to it."""
        with self._lock:
            bound = self._latest_s() if self._latest_s else float("inf")
            floor_s = min(server_s, bound)
            if floor_s <= self._floor_s:
                return
            self._floor_s = floor_s
            if floor_s - self._kept_s >= KEEP_EVERY_S:
                self._kept_s = floor_s
                self._keep(floor_s)
