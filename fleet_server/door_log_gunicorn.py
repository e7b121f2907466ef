"""gunicorn's own log lines, redacted as ours, and none of them a stranger's to fill a disk with."""

import logging
import time
from typing import Any

from gunicorn.glogging import Logger

from fleet_server.door_limits import Rarely
from ota.redaction import RedactingFormatter, redact

MOST_CHARS = 300
"""Of a line, its time included; what an exception's trace says comes behind it. What is cut off, a stranger sent."""
INVALID = "Invalid request"
"""How gunicorn begins to tell of what it cannot read, with all that was sent, before any limit of ours is asked."""
INVALID_EVERY_S = 60.0


class _ShortLines(RedactingFormatter):
    """Redacted, then cut: a secret that is cut in two would not be found any more."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line without its trace."""
        line = redact(super().formatMessage(record))
        return line if len(line) <= MOST_CHARS else f"{line[:MOST_CHARS]}…"


class DoorLog(Logger):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn writes past Python's root logger, by handlers of its own: each gets a formatter that redacts and cuts."""

    def setup(self, cfg: Any) -> None:
        """Make the handlers, then change how they write."""
        self._rarely = Rarely(INVALID_EVERY_S)
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            for handler in logger.handlers:
                handler.setFormatter(_ShortLines(self.error_fmt, self.datefmt))

    def warning(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """As gunicorn's; of requests that are none, one a minute, with how many they were."""
        if str(msg).startswith(INVALID):
            times = self._rarely.count(INVALID, time.monotonic())
            if not times:
                return
            # What a stranger sent stands in it already: it is no format.
            super().warning("%d invalid request(s), the latest: %s", times, msg)
            return
        super().warning(msg, *args, **kwargs)
