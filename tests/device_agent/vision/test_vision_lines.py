"""Lines: who crosses is counted once, in his direction, at any frame rate; who dithers on one is not."""

import itertools
import math
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.camera_rules import CameraRules, RuleCounts
from device_agent.vision.lines import LineRules
from device_agent.vision.rules import Moment, RuleSettings
from device_agent.vision.schedule import Schedule, Span
from device_agent.vision.types import Track
from device_agent.vision.zones import Line

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

ACROSS = Line(name="door", points=((0.1, 0.5), (0.9, 0.5)))
"""From left to right through the middle: right of it (who looks along it) is below, the side called `in`."""
BODY_PX = 75.0
"""Mean of width and height of everybody here: 50 x 100 px in a picture of 1000 x 1000."""


def moment(at_s, wall_s=None):
    return Moment(round(at_s * 100), at_s, 1.7e9 + at_s if wall_s is None else wall_s, 1000, 1000)


def track(number, x, y, at_s, *, label="person", confirmed=True, seen=True, first_s=0.0, score=0.8, size=1.0):
    """A track whose feet stand at (x, y), fractions of the picture."""
    box = (x * 1000 - 25 * size, y * 1000 - 100 * size, x * 1000 + 25 * size, y * 1000)
    return Track(number, box, score, 0, label, confirmed, seen, 5, 0, first_s, 0, at_s)


def engine(*lines, counted=None, **changes):
    counter = itertools.count(1)
    return LineRules(lines or (ACROSS,), lambda: f"c{next(counter)}", RuleSettings(**changes), counted)


def walk(rules, path, fps, *, number=1, start_s=0.0, confirm_after=3, label="person"):
    """A track along a path (s -> (x, y)) of 10 s at a frame rate; the crossings that were told."""
    told = []
    for frame in range(int(10 * fps) + 1):
        at_s = start_s + frame / fps
        x, y = path(frame / fps)
        one = track(number, x, y, at_s, confirmed=frame + 1 >= confirm_after, first_s=start_s, label=label)
        told += rules.step([one], moment(at_s))
    return told


def flat(rules, name="door"):
    """Counts of one line as {(label, direction): n}."""
    return {(label, word): n for label, words in rules.counts()[name].items() for word, n in words.items()}


@pytest.mark.parametrize("fps", [2, 5, 15, 30])
def test_a_walker_is_counted_once_in_his_direction_at_any_frame_rate(fps):
    """Down through the door at body height a second; at two frames a second he is never near the line."""
    rules = engine()
    told = walk(rules, lambda s: (0.5, 0.1 + 0.08 * s), fps)
    assert [(crossing.direction, crossing.track.id) for crossing in told] == [("in", 1)]
    assert told[0].crossed.at_s == pytest.approx(5.0, abs=0.51)
    assert flat(rules) == {("person", "in"): 1}
    walk(rules, lambda s: (0.5, 0.9 - 0.08 * s), fps, number=2, start_s=60)
    assert flat(rules) == {("person", "in"): 1, ("person", "out"): 1}


def test_the_words_of_the_configuration_are_said():
    """A gate in a yard: `arrives` and `leaves`; the line is drawn upwards, so its right is to the right."""
    gate = Line(name="gate", points=((0.5, 0.9), (0.5, 0.1)), right="arrives", left="leaves")
    rules = engine(gate)
    told = walk(rules, lambda s: (0.1 + 0.08 * s, 0.5), 10)
    told += walk(rules, lambda s: (0.9 - 0.08 * s, 0.5), 10, number=2, start_s=60)
    assert [crossing.direction for crossing in told] == ["arrives", "leaves"]


@pytest.mark.parametrize("fps", [2, 10])
def test_a_person_who_paces_on_the_line_is_counted_once(fps):
    """He comes in, stands on the threshold and shifts from one foot to the other for ten minutes, then goes on."""
    rules = engine()

    def y_of(s):
        if s < 4:
            return 0.3 + 0.05 * s
        if s < 600:
            return 0.5 + 0.008 * math.sin(s * 5)
        return 0.5 + 0.05 * (s - 600)

    told = []
    for frame in range(604 * fps):
        at_s = frame / fps
        told += rules.step([track(1, 0.5, y_of(at_s), at_s)], moment(at_s))
    assert [crossing.direction for crossing in told] == ["in"]
    assert flat(rules) == {("person", "in"): 1}


@pytest.mark.parametrize("fps", [5, 15])
def test_a_person_who_walks_to_and_fro_is_counted_each_time_and_the_sum_stays_right(fps):
    """A guard paces through the door five times: in, out, in, out, in; the cool-down keeps events rare, never counts."""
    calm = Line(name="door", points=ACROSS.points, cooldown_s=3600)
    rules = engine(calm)
    told = []
    for frame in range(50 * fps):
        at_s = frame / fps
        told += rules.step([track(1, 0.5, 0.5 - 0.3 * math.cos(at_s / 10 * math.pi), at_s)], moment(at_s))
    assert flat(rules) == {("person", "in"): 3, ("person", "out"): 2}
    assert [crossing.direction for crossing in told] == ["in"]
    assert rules.held_back == {"door": 4}


@pytest.mark.parametrize("past", [0.8, 0.2])
def test_who_walks_around_the_end_of_a_line_has_not_crossed_it(past):
    """A line is as long as it was drawn: past either end somebody gets to the other side without crossing."""
    short = Line(name="door", points=((0.4, 0.5), (0.6, 0.5)))
    rules = engine(short)
    assert walk(rules, lambda s: (past, 0.1 + 0.08 * s), 10) == []
    assert len(walk(rules, lambda s: (past + (0.5 - past) * s / 5, 0.9 - 0.08 * s), 10, number=2, start_s=60)) == 1
    assert flat(rules) == {("person", "out"): 1}


def test_unconfirmed_tracks_are_not_counted_and_confirmed_ones_bring_their_way_along():
    """Noise flickers over the line all night; a walker who is confirmed only beyond the line was on the other side before."""
    rules = engine()
    assert walk(rules, lambda s: (0.5, 0.1 + 0.08 * s), 10, confirm_after=10**6) == []
    assert flat(rules) == {}
    told = walk(rules, lambda s: (0.5, 0.4 + 0.25 * s if s < 2 else 0.9), 2, number=2, start_s=60)
    assert [crossing.direction for crossing in told] == ["in"]


def test_an_id_that_changes_in_the_doorway_loses_nobody_and_counts_nobody_twice():
    """The tracker drops a walker just before the line and finds him behind it, under a new id, after 0.8 s; and one before it."""
    for lost_at, found_at in ((4.6, 5.4), (3.0, 3.8), (6.0, 6.8)):
        rules = engine()
        told = []
        for frame in range(100):
            s = frame / 10
            if lost_at < s < found_at:
                told += rules.step([], moment(s))
                continue
            number, born, sure = (2, found_at, s >= found_at + 0.2) if s >= found_at else (1, 0.0, True)
            one = track(number, 0.5, 0.1 + 0.08 * s, s, confirmed=sure, first_s=born)
            told += rules.step([one], moment(s))
        assert [crossing.direction for crossing in told] == ["in"], (lost_at, found_at)
        assert flat(rules) == {("person", "in"): 1}


def test_somebody_else_who_appears_beyond_the_line_has_not_crossed_it():
    """One leaves the picture before the line; later, or elsewhere, or of another class, another appears behind it."""
    for changes in ({"start": 8.0}, {"x": 0.8}, {"label": "cart"}):
        rules = engine()
        walk_end = 3.0
        for frame in range(31):
            rules.step([track(1, 0.5, 0.2 + 0.08 * frame / 10, frame / 10)], moment(frame / 10))
        born = changes.get("start", walk_end + 0.5)
        for frame in range(30):
            s = born + frame / 10
            x, label = changes.get("x", 0.5), changes.get("label", "person")
            one = track(2, x, 0.56 + 0.01 * frame, s, confirmed=frame > 2, first_s=born, label=label)
            assert rules.step([one], moment(s)) == [], changes


def test_two_people_who_swap_sides_are_both_counted():
    """At the same time, in opposite directions, side by side."""
    rules = engine()
    for frame in range(101):
        s = frame / 10
        rules.step([track(1, 0.4, 0.1 + 0.08 * s, s), track(2, 0.5, 0.9 - 0.08 * s, s)], moment(s))
    assert flat(rules) == {("person", "in"): 1, ("person", "out"): 1}


def test_classes_scores_sizes_and_hours_are_kept_to():
    """A line for carts alone; one for the sure; one for the large; one that sleeps."""
    night = Schedule((Span(frozenset(range(7)), 0, 1),))
    lines = [
        Line(name="carts", points=ACROSS.points, classes=frozenset({"cart"})),
        Line(name="sure", points=ACROSS.points, min_score=0.9),
        Line(name="large", points=ACROSS.points, min_px=101),
        Line(name="share", points=ACROSS.points, min_share=0.0051),
        Line(name="asleep", points=ACROSS.points, schedule=night),
        Line(name="fits", points=ACROSS.points, classes=frozenset({"person"}), min_score=0.8, min_px=100, min_share=0.005),
    ]
    rules = engine(*lines)
    noon_s = 1_700_000_000 - 1_700_000_000 % 86_400 + 43_200
    for frame in range(101):
        s = frame / 10
        rules.step([track(1, 0.5, 0.1 + 0.08 * s, s)], moment(s, noon_s + s))
    assert {name: dict(labels) for name, labels in rules.counts().items() if labels} == {"fits": {"person": {"in": 1}}}


def test_counts_go_on_after_a_new_configuration_and_after_the_source_ended():
    """A line is moved while the shop is open; a camera is plugged in again: nobody's count begins at nought."""
    first = CameraRules((), (ACROSS,), lambda: "x")
    for frame in range(101):
        first.step([track(1, 0.5, 0.1 + 0.008 * frame, frame / 10)], moment(frame / 10))
    assert first.finish() == []
    moved = Line(name="door", points=((0.1, 0.4), (0.9, 0.4)))
    second = CameraRules((), (moved, Line(name="new")), lambda: "x", counted=first.counts())
    assert second.counts() == RuleCounts({"door": {"person": {"in": 1}}, "new": {}}, {})
    assert second.step([track(9, 0.5, 0.9, 0.0)], moment(0.0)).present == [], "lines alone: the picture is no zone"


def test_a_source_that_begins_again_forgets_who_was_on_his_way():
    """A film ends with somebody before the line; the next one begins with the same id behind it, and with time 0."""
    rules = engine()
    for frame in range(50):
        rules.step([track(1, 0.5, 0.2, frame / 10)], moment(frame / 10))
    assert rules.step([track(1, 0.5, 0.8, 0.0)], moment(0.0)) == []
    assert rules.step([track(1, 0.5, 0.8, 0.1)], moment(0.1)) == []


legs = st.lists(st.tuples(st.floats(0.15, 0.85), st.sampled_from([0.2, 0.8, 0.35, 0.65])), min_size=2, max_size=6)


@settings(BUSY, max_examples=100)
@given(legs, st.sampled_from([4, 8, 16]), st.floats(0, 0.009), st.integers(0, 100))
def test_counts_do_not_depend_on_the_frame_rate_nor_on_dithering(stops, fps, dither, seed):
    """Anybody who walks from stop to stop, two seconds each: as many crossings as legs that change sides, whatever the frame rate
    and however his box trembles (less than the line's band)."""
    chance = random.Random(seed)
    rules = engine()
    for frame in range(2 * fps * (len(stops) - 1) + 1):
        leg, share = divmod(frame / fps / 2, 1)
        a = stops[int(leg)]
        b = stops[min(int(leg) + 1, len(stops) - 1)]
        x, y = a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share
        tremble = (2 * chance.random() - 1) * dither
        rules.step([track(1, x, y + tremble, frame / fps)], moment(frame / fps))
    sides = [y > 0.5 for _, y in stops]
    expected = {"in": 0, "out": 0}
    for before, after in itertools.pairwise(sides):
        if before != after:
            expected["in" if after else "out"] += 1
    assert flat(rules) == {("person", word): n for word, n in expected.items() if n}


@settings(BUSY, max_examples=100)
@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=4), max_size=50))
def test_counts_only_grow_and_nobody_crosses_the_same_way_twice_running(plan):
    """Any tracks anywhere, a line that nobody can walk around: counts never fall, and one id goes in and out by turns."""
    rules = engine(Line(name="door", points=((0.0, 0.5), (1.0, 0.5))))
    last, sides, sure = 0, {}, set()
    for number, row in enumerate(plan):
        s = number * 0.2
        tracks = []
        for one, x, y, confirmed in {entry[0]: entry for entry in row}.values():
            sure |= {one} if confirmed else set()
            tracks.append(track(one, x, y, s, confirmed=one in sure, first_s=s))
        for crossing in rules.step(tracks, moment(s)):
            assert sides.get(crossing.track.id) != crossing.direction
            sides[crossing.track.id] = crossing.direction
        total = sum(flat(rules).values())
        assert total >= last
        last = total
