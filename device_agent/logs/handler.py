"""Joins Python's logging with the ring: levels, redaction, rate limit, and the debug session in which a line was written."""

import logging
from collections.abc import Callable

from device_agent.logs.batches import RateLimit
from device_agent.logs.debug_session import Effective
from device_agent.logs.ring_disk import LogRing
from ota.redaction import redact

_LEVEL_NAMES = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}


class RingHandler(logging.Handler):
    """Writes records into the ring. ``now_s`` is the trusted clock, ``steady_s`` the one that is never set. Never raises."""

    def __init__(
        self, ring: LogRing, now_s: Callable[[], float], steady_s: Callable[[], float], max_lines_per_s: float
    ) -> None:
        super().__init__()
        self._ring, self._now_s, self._steady_s = ring, now_s, steady_s
        self._limit = RateLimit(max_lines_per_s)
        self._session: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """One record, as one line: an exception adds its kind and words, never a stack of the whole program."""
        level = _LEVEL_NAMES.get(record.levelno // 10 * 10, "info")
        if not self._limit.allows(level, self._steady_s()):
            self._ring.count_dropped()
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        self._ring.append(self._now_s(), level, record.name, redact(text), self._session)

    def follow(self, effective: Effective) -> None:
        """The level in force has changed."""
        self._session = effective.session


def set_level(name: str) -> None:
    """Set the level of the agent's own loggers; libraries stay at warning (they would say secrets at debug)."""
    level = logging.getLevelNamesMapping()[name.upper()]
    for package in ("device_agent", "rookery", "ota", "models", "hardware"):
        logging.getLogger(package).setLevel(level)
