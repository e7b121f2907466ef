"""Instants as a person gives them to ``rookery audit``: a date, a time, or so long ago."""

import re
import time
from datetime import UTC, datetime

from fleet_server.cli.errors import USAGE, CliError

WHEN_HELP = "From then on: 2026-11-23, 2026-11-23T14:30 (UTC), or so long ago: 90m, 12h, 7d."
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def instant(text: str | None, flag: str, now_s: float | None = None) -> float | None:
    """Seconds since 1970, or None where nothing was given; CliError for what is no time."""
    if text is None:
        return None
    ago = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if ago is not None:
        return max(0.0, (time.time() if now_s is None else now_s) - int(ago[1]) * _UNITS_S[ago[2]])
    try:
        found = datetime.fromisoformat(text)
        at_s = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        at_s = -1.0
    if at_s < 0:
        raise CliError(USAGE, f"{flag} {text!r} is no time", "for instance 2026-11-23, 2026-11-23T14:30 or 7d")
    return at_s
