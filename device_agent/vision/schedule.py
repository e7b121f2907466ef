"""When a rule is awake: weekdays and times in a camera's named time zone. Pure: what time it is comes in as wall time.

Times are what the clock on the wall shows. A span over midnight belongs to the day on which it begins. Where clocks are put back,
an hour of the night comes twice and counts both times; where they are put forward, times that no clock shows do not happen.
"""

import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES_A_DAY = 24 * 60
MAX_SPANS = 50
LAST_WALL_S = 2.0**34
"""Year 2514: a clock that says more says nothing (the wire's own bound)."""
_TIME = re.compile(r"([01][0-9]|2[0-4]):([0-5][0-9])")


@dataclass(frozen=True, slots=True)
class Span:
    """From `start_min` (minutes after midnight, included) to `end_min` (excluded) on `days` (0 is Monday).

    `end_min` at or before `start_min` lies on the next day.
    """

    days: frozenset[int]
    start_min: int
    end_min: int

    def holds(self, weekday: int, minute: int) -> bool:
        """Whether this minute of this weekday lies in the span."""
        if self.start_min < self.end_min:
            return weekday in self.days and self.start_min <= minute < self.end_min
        begun_today = weekday in self.days and minute >= self.start_min
        return begun_today or ((weekday - 1) % 7 in self.days and minute < self.end_min)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Spans in one time zone (an IANA name, or UTC)."""

    spans: tuple[Span, ...]
    timezone: str = "UTC"

    def is_open(self, wall_s: float) -> bool:
        """Whether a rule is awake at this wall time (s since 1970). A clock that says nothing closes no rule: better one event
        too many than a night without any."""
        if not is_a_time(wall_s):
            return True
        local = datetime.fromtimestamp(wall_s, zone_of(self.timezone))
        weekday, minute = local.weekday(), local.hour * 60 + local.minute
        return any(span.holds(weekday, minute) for span in self.spans)


def is_a_time(wall_s: float) -> bool:
    """Whether a wall time can be turned into a date at all."""
    return math.isfinite(wall_s) and 0 <= wall_s < LAST_WALL_S


def day_of(wall_s: float, timezone: str) -> date | None:
    """The camera's day; None when the clock says nothing."""
    return datetime.fromtimestamp(wall_s, zone_of(timezone)).date() if is_a_time(wall_s) else None


def zone_of(timezone: str) -> tzinfo:
    """A time zone by its name; raises KeyError or ValueError where this machine does not know it (`timezone_faults` says so)."""
    if timezone == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # half a megabyte that a board in UTC does without

    return ZoneInfo(timezone)


def timezone_faults(timezone: object, where: str) -> list[str]:
    """What is wrong with the name of a time zone."""
    if not isinstance(timezone, str) or not 1 <= len(timezone) <= 60:
        return [f'{where} must be the name of a time zone, like "Europe/Zurich" or "UTC"']
    try:
        zone_of(timezone)
    except (KeyError, ValueError, OSError):
        return [f'{where}: no time zone {timezone!r} is known here; use a name like "Europe/Zurich", or "UTC" (package tzdata)']
    return []


def make_schedule(entries: object, where: str, timezone: str, faults: list[str]) -> Schedule | None:
    """A schedule from an untyped list of `{"days", "from", "to"}`; an empty one is no schedule: None (always awake).

    `timezone` must be one without faults. What is wrong is added to `faults`.
    """
    if not isinstance(entries, list | tuple) or len(entries) > MAX_SPANS:
        faults.append(f'{where} must be a list of at most {MAX_SPANS} times {{"days", "from", "to"}}')
        return None
    spans = [_span(entry, f"{where}[{number}]", faults) for number, entry in enumerate(entries)]
    made = tuple(span for span in spans if span is not None)
    return Schedule(made, timezone) if made else None


def _span(entry: object, where: str, faults: list[str]) -> Span | None:
    if not isinstance(entry, dict):
        faults.append(f'{where} must be a table {{"days", "from", "to"}}')
        return None
    before = len(faults)
    unknown = sorted(str(key) for key in entry if key not in ("days", "from", "to"))
    if unknown:
        faults.append(f"{where} has unknown fields: {', '.join(unknown)}"[:200])
    days = entry.get("days", list(DAYS))
    if not isinstance(days, list | tuple) or not days or not all(isinstance(day, str) and day in DAYS for day in days):
        faults.append(f"{where}.days must be a list of {', '.join(DAYS)}; leave it out for every day")
        days = []
    start_min = _minute(entry.get("from"), f"{where}.from", faults)
    end_min = _minute(entry.get("to"), f"{where}.to", faults)
    if start_min == MINUTES_A_DAY:
        faults.append(f"{where}.from must be before 24:00")
    elif start_min is not None and start_min == end_min:
        faults.append(f"{where} begins when it ends; the whole day is 00:00 to 24:00")
    if len(faults) > before or start_min is None or end_min is None:
        return None
    return Span(frozenset(DAYS.index(day) for day in days), start_min, end_min)


def _minute(value: object, where: str, faults: list[str]) -> int | None:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    minute = int(found[1]) * 60 + int(found[2]) if found else MINUTES_A_DAY + 1
    if minute > MINUTES_A_DAY:
        faults.append(f'{where} must be a time like "07:30", at most "24:00"')
        return None
    return minute
