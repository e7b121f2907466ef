"""When a rule is awake: by the clock on the camera's wall, over midnight and over both changes of the hour."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.schedule import DAYS, Schedule, Span, day_of, make_schedule, timezone_faults

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

ZURICH = "Europe/Zurich"
ALL_DAYS = frozenset(range(7))


def at(text, timezone=ZURICH, fold=0):
    """Wall seconds of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone), fold=fold).timestamp()


def schedule(*entries, timezone=ZURICH):
    faults = []
    made = make_schedule(list(entries), "schedule", timezone, faults)
    assert faults == []
    return made


def test_a_night_shift_over_midnight_belongs_to_the_day_it_begins():
    """Fridays 22:00 to 06:00: Saturday 05:59 is in it, Friday 05:59 is not."""
    night = schedule({"days": ["fri"], "from": "22:00", "to": "06:00"})
    told = {text: night.is_open(at(text)) for text in (
        "2026-11-20T21:59", "2026-11-20T22:00", "2026-11-21T00:00", "2026-11-21T05:59", "2026-11-21T06:00",
        "2026-11-20T05:59", "2026-11-21T22:00",
    )}  # fmt: skip
    assert list(told.values()) == [False, True, True, True, False, False, False]


def test_sunday_night_reaches_into_monday():
    """The week turns over in the middle of a shift."""
    night = schedule({"days": ["sun"], "from": "23:00", "to": "01:00"})
    assert night.is_open(at("2026-11-23T00:59"))
    assert not night.is_open(at("2026-11-22T00:59"))


def test_the_times_are_those_of_the_cameras_wall():
    """09:00 in Tokyo is midnight in UTC; the board itself runs in UTC."""
    shop = schedule({"from": "09:00", "to": "17:00"}, timezone="Asia/Tokyo")
    assert shop.is_open(datetime(2026, 11, 23, 0, 0, tzinfo=UTC).timestamp())
    assert not shop.is_open(datetime(2026, 11, 23, 9, 0, tzinfo=UTC).timestamp())


def test_the_hour_that_comes_twice_is_awake_twice():
    """25 October 2026, 03:00 back to 02:00: a span of 02:00 to 03:00 lasts two hours."""
    early = schedule({"from": "02:00", "to": "03:00"})
    start_s = at("2026-10-25T02:00")
    awake = [minute for minute in range(-60, 240) if early.is_open(start_s + 60 * minute)]
    assert awake == list(range(120))


def test_the_hour_that_does_not_come_does_not_happen():
    """29 March 2026, 02:00 forward to 03:00: a span within is skipped that day, one around it is an hour shorter."""
    within, around = schedule({"from": "02:10", "to": "02:50"}), schedule({"from": "01:30", "to": "03:30"})
    start_s = at("2026-03-29T01:00")
    assert not any(within.is_open(start_s + 60 * minute) for minute in range(300))
    assert sum(around.is_open(start_s + 60 * minute) for minute in range(300)) == 60


@settings(BUSY)
@given(st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1440), st.integers(0, 7 * 1440 - 1))
def test_a_span_is_awake_for_exactly_its_length_each_week(day, start, length, shift):
    """In a week without a change of the hour, whatever the span: as many minutes as it is long, in one piece, on its day."""
    end = (start + length) if start + length <= 1440 else (start + length) % 1440
    if end == start or (length == 1440 and start):
        return
    one = Schedule((Span(frozenset([day]), start, end),))
    monday_s = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    minutes = {(minute + shift) % (7 * 1440) for minute in range(0, 7 * 1440, 7)}
    begin = day * 1440 + start
    told = {minute for minute in minutes if one.is_open(monday_s + 60 * minute)}
    assert told == {minute for minute in minutes if (minute - begin) % (7 * 1440) < length}


@settings(BUSY)
@given(st.integers(1_577_836_800, 2_051_222_400), st.sampled_from([ZURICH, "America/New_York", "Asia/Kathmandu"]))
def test_a_span_and_the_rest_of_the_day_are_never_awake_together(wall_s, timezone):
    """Two halves of each day, in any zone, on any day of change: exactly one of them is awake at any moment."""
    day, night = Schedule((Span(ALL_DAYS, 450, 1170),), timezone), Schedule((Span(ALL_DAYS, 1170, 450),), timezone)
    assert day.is_open(wall_s) != night.is_open(wall_s)


@pytest.mark.parametrize("wall_s", [float("nan"), float("inf"), -1.0, 1e18])
def test_a_clock_that_says_nothing_closes_no_rule(wall_s):
    """A board without any time: better one event too many than a night without any; and no day, so nothing is first on it."""
    assert schedule({"from": "00:00", "to": "00:01"}).is_open(wall_s)
    assert day_of(wall_s, ZURICH) is None


def test_the_day_is_the_cameras_day():
    """Half past midnight in Zurich is still yesterday in UTC."""
    wall_s = at("2026-11-23T00:30")
    assert day_of(wall_s, ZURICH).isoformat() == "2026-11-23"
    assert day_of(wall_s, "UTC").isoformat() == "2026-11-22"
    assert day_of(wall_s + timedelta(days=1).total_seconds(), ZURICH).isoformat() == "2026-11-24"


def test_no_times_are_no_schedule_and_a_whole_day_can_be_said():
    """Left out: always awake. 00:00 to 24:00 on Mondays: Monday, all of it, and nothing of Tuesday."""
    assert make_schedule([], "s", "UTC", []) is None
    monday = schedule({"days": ["mon"], "from": "00:00", "to": "24:00"}, timezone="UTC")
    start_s = datetime(2026, 11, 23, tzinfo=UTC).timestamp()
    assert [monday.is_open(start_s + s) for s in (-1, 0, 86_399, 86_400)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"from": "7:00", "to": "08:00"}, "from must be a time"),
        ({"from": "07:00", "to": "24:01"}, "to must be a time"),
        ({"from": "07:60", "to": "08:00"}, "from must be a time"),
        ({"from": "07:00\n", "to": "08:00"}, "from must be a time"),
        ({"from": "24:00", "to": "08:00"}, "before 24:00"),
        ({"from": "08:00", "to": "08:00"}, "begins when it ends"),
        ({"to": "08:00"}, "from must be a time"),
        ({"from": 7, "to": "08:00"}, "from must be a time"),
        ({"from": "07:00", "to": "08:00", "days": ["monday"]}, "days must be a list"),
        ({"from": "07:00", "to": "08:00", "days": []}, "days must be a list"),
        ({"from": "07:00", "to": "08:00", "days": [[]]}, "days must be a list"),
        ({"from": "07:00", "to": "08:00", "day": "mon"}, "unknown fields: day"),
        ("always", "must be a table"),
    ],
)
def test_times_that_nobody_can_keep_are_refused_in_words(entry, says):
    """Each with its place; a span that begins when it ends could be none or all."""
    faults = []
    assert make_schedule([entry], "zone.schedule", "UTC", faults) is None
    assert any(says in fault and fault.startswith("zone.schedule[0]") for fault in faults), faults


def test_a_schedule_that_is_no_list_or_too_long_is_refused():
    """A table in place of a list; a thousand times."""
    for entries in ({"from": "07:00"}, "nights", 7, [{"from": "07:00", "to": "08:00"}] * 51):
        faults = []
        assert make_schedule(entries, "s", "UTC", faults) is None
        assert len(faults) == 1


@pytest.mark.parametrize("name", ["Mars/Olympus", "", "../../etc/passwd", "/etc/passwd", 7, None, "Europe", "x" * 61, "a\x00b"])
def test_a_time_zone_that_is_none_is_refused_in_words(name):
    """A slip, a path, a folder of the database, a number."""
    (fault,) = timezone_faults(name, "timezone")
    assert fault.startswith("timezone")
    assert timezone_faults(ZURICH, "timezone") == timezone_faults("UTC", "timezone") == []


def test_days_are_named_from_monday():
    """As the calendar module counts them."""
    assert [DAYS[datetime(2026, 11, 23 + n, tzinfo=UTC).weekday()] for n in range(7)] == list(DAYS)
