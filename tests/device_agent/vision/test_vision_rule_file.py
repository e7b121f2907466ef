"""Rules from files and tables: all that can be said is taken, all that is wrong is told at once."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.rule_file import LINE_FIELDS, ZONE_FIELDS, load_rules, make_line, make_zone
from device_agent.vision.schedule import Schedule, Span
from device_agent.vision.trigger_settings import LowConfidence, NearMiss, TriggerLimits, make_triggers
from device_agent.vision.zones import ZoneError, unknown_classes

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

TRIANGLE = [[0, 0], [1, 0], [0.5, 1]]


def faults_of(top):
    with pytest.raises(ZoneError) as caught:
        load_rules(json.dumps(top))
    return list(caught.value.faults)


def test_everything_that_a_zone_and_a_line_can_say_is_taken():
    """A file in full, its schedules in the file's time zone."""
    times = [{"days": ["mon", "sun"], "from": "22:00", "to": "06:00"}]
    shared = {"classes": ["person"], "min_score": 0.6, "min_share": 0.01, "min_px": 40, "schedule": times, "cooldown_s": 30,
              "cooldown_per_class": True}  # fmt: skip
    zone = {"name": "till", "polygon": TRIANGLE, "inside": False, "dwell_s": 3, "inertia_s": 0.5, **shared}
    line = {"name": "door", "points": [[0, 0.5], [1, 0.5]], "right": "arrives", "left": "leaves", **shared}
    assert set(zone) == set(ZONE_FIELDS)
    assert set(line) == set(LINE_FIELDS)
    rules = load_rules(json.dumps({"timezone": "Europe/Zurich", "zones": [zone], "lines": [line]}))
    (got,), (crossed,) = rules.zones, rules.lines
    night = Schedule((Span(frozenset({0, 6}), 22 * 60, 6 * 60),), "Europe/Zurich")
    for one in (got, crossed):
        assert (one.classes, one.min_score, one.min_share, one.min_px) == (frozenset({"person"}), 0.6, 0.01, 40.0)
        assert (one.schedule, one.cooldown_s, one.cooldown_per_class) == (night, 30.0, True)
    assert (got.name, got.inside, got.dwell_s, got.inertia_s) == ("till", False, 3.0, 0.5)
    assert (crossed.points, crossed.right, crossed.left) == (((0.0, 0.5), (1.0, 0.5)), "arrives", "leaves")
    assert unknown_classes([*rules.zones, *rules.lines], ["cart"]) == ["person"]


def test_lines_alone_are_enough():
    """Who only counts at the door wants no event for everybody in the picture."""
    rules = load_rules(json.dumps({"lines": [{"points": [[0, 0.5], [1, 0.5]]}]}))
    assert rules.zones == ()
    assert (rules.lines[0].name, rules.lines[0].right, rules.lines[0].left) == ("line", "in", "out")


def test_all_faults_of_a_file_are_told_at_once():
    """A person writes a file by hand and errs in seven ways: he hears of all of them, each with its place."""
    faults = faults_of({
        "zones": [
            {"name": "a", "polygon": [[0.1, 0.1], [0.9, 0.9], [0.9, 0.1], [0.1, 0.9]], "dwell": 3},
            {"name": "a", "polygon": [[0, 0], [640, 0], [640, 480]], "min_score": 60},
        ],
        "lines": [{"points": [[0, 0]], "right": "in", "left": "in"}, {"name": "x", "points": [[0, 0], [1, 1]], "cooldown_s": -1}],
        "timezone": "Zurich",
        "colour": "red",
    })  # fmt: skip
    for part in (
        "the file has unknown fields: colour", "timezone: no time zone 'Zurich'", "zones[0] has unknown fields: dwell",
        "zones[0].polygon crosses or touches itself", "zones[1].polygon[1]", "zones[1].min_score must be",
        "lines[0].points must be a list of exactly 2", "lines[0]: right and left must be two words",
        "lines[1].cooldown_s must be",
    ):  # fmt: skip
        assert any(fault.startswith(part) for fault in faults), (part, faults)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"inside": 1}, "inside must be true or false"),
        ({"inertia_s": "2"}, "inertia_s must be a number of seconds"),
        ({"min_share": 2}, "min_share must be a number from 0 to 1"),
        ({"min_px": float("nan")}, "min_px must be a number of pixels"),
        ({"dwell_s": 10**400}, "dwell_s must be a number of seconds"),
        ({"cooldown_per_class": "yes"}, "cooldown_per_class must be true or false"),
        ({"schedule": [{"from": "1:00", "to": "02:00"}]}, r"zone.schedule[0].from must be a time"),
        ({"schedule": {"from": "01:00"}}, "schedule must be a list"),
        ({"classes": [1]}, "classes must be a list of labels"),
        ({"classes": ["x"] * 201}, "classes must be a list of labels"),
        ({"name": "x" * 101}, "name must be 1 to 100"),
        ({"polygon": [[10**400, 0], [1, 0], [1, 1]]}, "fractions"),
    ],
)
def test_a_zone_that_is_wrong_says_where(table, says):
    """One fault each; the others of the same zone would be told beside it."""
    faults = []
    assert make_zone({"polygon": TRIANGLE, **table}, "zone", faults) is None
    assert len(faults) == 1
    assert says in faults[0]


@pytest.mark.parametrize("word", ["", "In", "in side", "ein\n", "x" * 61, 7, None, "ä"])
def test_a_direction_is_a_word_that_the_wire_takes(word):
    """What the server would refuse is refused here, where somebody reads it."""
    faults = []
    assert make_line({"points": [[0, 0], [1, 1]], "right": word}, "line", faults) is None
    assert "line.right must be a word" in faults[0]


KEYS = st.sampled_from([*ZONE_FIELDS, *LINE_FIELDS, "from"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@settings(BUSY, max_examples=100)
@given(json_values, json_values, json_values)
def test_no_file_whatsoever_breaks_the_reader(zones, lines, timezone):
    """Any JSON at all: rules, or a list of sentences; never another error."""
    told: tuple = ()
    try:
        rules = load_rules(json.dumps({"zones": zones, "lines": lines, "timezone": timezone}))
        told = rules.zones + rules.lines
    except ZoneError as error:
        told = error.faults
    assert told
    for make in (make_zone, make_line, make_triggers):
        faults = []
        assert (make(zones, "x", faults) is None) == bool(faults)


def test_triggers_are_off_unless_they_are_named():
    """An empty table of a trigger takes the defaults; what is not named is off."""
    assert make_triggers({}, "t", []).on == {}
    made = make_triggers(
        {"first_today": {}, "near_miss": {"pairs": [["person", "forklift"]], "burst": False},
         "low_confidence": {"above": 0.2, "classes": ["person"], "per_hour": 2, "cooldown_s": 5}},
        "t", [], "Europe/Zurich",
    )  # fmt: skip
    assert made.first_today == TriggerLimits()
    assert made.near_miss == NearMiss(burst=False, pairs=(("person", "forklift"),))
    assert made.low_confidence == LowConfidence(5.0, 2, True, frozenset({"person"}), 0.1, 0.2)
    assert made.disagreement is None
    assert made.timezone == "Europe/Zurich"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"first_today": 1}, "t.first_today must be a table"),
        ({"fist_today": {}}, "t has unknown fields: fist_today"),
        ({"first_today": {"below": 0.1}}, "t.first_today has unknown fields: below"),
        ({"near_miss": {"pairs": [["person"]]}}, "pairs of labels"),
        ({"near_miss": {"pairs": "person"}}, "pairs of labels"),
        ({"low_confidence": {"above": 2}}, "above must be a number from 0 to 1"),
        ({"disagreement": {"per_hour": 0}}, "per_hour must be a whole number"),
        ({"disagreement": {"per_hour": 2.5}}, "per_hour must be a whole number"),
        ({"disagreement": {"cooldown_s": -1}}, "cooldown_s must be a number of seconds"),
        ([], "t must be a table"),
    ],
)
def test_triggers_that_are_wrong_are_refused_in_words(table, says):
    """Misspelt, out of bounds, of the wrong kind."""
    faults = []
    assert make_triggers(table, "t", faults) is None
    assert any(says in fault for fault in faults), faults
