"""gunicorn's own log lines, redacted as ours."""

from typing import Any

from gunicorn.glogging import Logger

from ota.redaction import RedactingFormatter


class DoorLog(Logger):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn writes past Python's root logger, by handlers of its own: each gets a formatter that redacts."""

    def setup(self, cfg: Any) -> None:
        """Make the handlers, then change how they write."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            for handler in logger.handlers:
                handler.setFormatter(RedactingFormatter(self.error_fmt, self.datefmt))
