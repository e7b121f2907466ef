"""Which tracks are believed: a hand that looks like a person is none, a person who is seen badly for a moment is one."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.camera_rules import CameraRules
from device_agent.vision.rules import Moment, RuleSettings
from device_agent.vision.sureness import Sureness
from device_agent.vision.types import Track
from device_agent.vision.zones import Line, Zone

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""


def track(number, at_s, score, y=0.9, *, seen=True, label="person"):
    box = (225.0, y * 1000 - 100, 275.0, y * 1000)
    return Track(number, box, score, 0, label, True, seen, 5, 0, 0.0, 0, at_s)


def moment(at_s):
    return Moment(round(at_s * 10), at_s, 1.7e9 + at_s, 1000, 1000)


def rules(*zones, lines=(), **changes):
    counter = itertools.count(1)
    return CameraRules(zones, lines, lambda: f"v{next(counter)}", RuleSettings(**changes), None, lambda label: 0.5)


def told(engine, scores, y_of=lambda n: 0.9):
    """(frame, visits started, crossings) of a track with these scores, ten frames a second."""
    found = []
    for number, score in enumerate(scores):
        step = engine.step([track(1, number / 10, score, y_of(number))], moment(number / 10))
        found += [(number, visit.entered.frame) for visit in step.started] + [(number, one.direction) for one in step.crossings]
    return found


DOOR = Line("door", points=((0.0, 0.5), (1.0, 0.5)))


def test_hands_that_look_like_a_person_for_three_seconds_raise_nothing():
    """The scores of hands over a crate of bottles: 0.50 to 0.62, for a second or two on end; nothing is lost without a count."""
    hands = [0.5, 0.55, 0.62, 0.58, 0.61, 0.53] * 5
    shop, door = rules(Zone("shop")), rules(lines=[DOOR])
    assert told(shop, hands) == []
    assert told(door, hands, lambda n: 0.1 + n * 0.026) == []
    shop.finish()
    assert (shop.counts().unsure, door.counts().unsure) == ({"shop": 1}, {"door": 1})


@pytest.mark.parametrize("fps", [10.0, 5.0, 2.0, 1.0])
def test_a_person_in_full_view_who_is_seen_badly_all_the_while_is_told_of_after_four_seconds(fps):
    """26 s at 0.55 to 0.66, as in a film that was mirrored: one event, from his first frame on, at whatever rate."""
    shop = rules(Zone("shop"))
    scores = itertools.cycle([0.56, 0.66, 0.49, 0.6, 0.55, 0.58])
    found = []
    for number, score in zip(range(int(26 * fps)), scores, strict=False):
        at_s = number / fps
        found += [(at_s, visit.entered.at_s) for visit in shop.step([track(1, at_s, score)], moment(at_s)).started]
    assert len(found) == 1
    assert 4.0 <= found[0][0] <= 6.0, "its good looks took 4 s"
    assert found[0][1] == 0.0
    assert shop.counts().unsure == {}


def test_a_track_that_is_mostly_below_its_threshold_is_not_believed_however_long_it_lasts():
    """A coat on a hook, 0.4 with a look at 0.52 now and then: the median of its scores is below the threshold."""
    assert told(rules(Zone("shop")), [0.4, 0.45, 0.52, 0.4, 0.42] * 200) == []


def test_looks_far_apart_vouch_for_little():
    """Four looks in half a minute are no half minute of evidence."""
    shop = rules(Zone("shop"))
    assert [shop.step([track(1, at_s, 0.55)], moment(at_s)).started for at_s in (0.0, 9.0, 18.0, 27.0)] == [[], [], [], []]


def test_how_long_is_settable_and_none_at_all_believes_the_third_look():
    """`sure_after_s`: for a camera that sees everything badly."""
    assert told(rules(Zone("shop"), sure_after_s=0.0), [0.55] * 9) == [(2, 0)]
    assert told(rules(Zone("shop"), sure_after_s=1.0), [0.55] * 20) in ([(10, 0)], [(11, 0)])
    assert told(rules(Zone("shop"), sure_share=0.05), [0.55] * 9) == [(2, 0)]


def test_what_was_never_believed_is_counted_when_it_ends_and_outlives_a_new_configuration():
    """Visits that lacked nothing else: not those that were too short for the zone, not those that were told of."""
    shop = rules(Zone("shop"), Zone("till", dwell_s=2.0))
    for at in range(60):
        here = [track(1, at / 10, 0.55)] if at < 10 else []
        shop.step([*here, track(2, at / 10, 0.9)], moment(at / 10))
    assert shop.counts().unsure == {"shop": 1}
    later = CameraRules([Zone("shop")], [], lambda: "v", RuleSettings(), shop.counts(), lambda label: 0.5)
    told(later, [0.55] * 10)
    later.finish()
    assert later.counts().unsure == {"shop": 2}


def test_a_person_is_believed_with_the_third_good_look_and_his_visit_began_when_he_came():
    """He is seen badly at first: the event comes as soon as the median is high enough; its start is his first frame."""
    assert told(rules(Zone("shop")), [0.7, 0.72, 0.75, 0.8]) == [(2, 0)]
    assert told(rules(Zone("shop")), [0.52, 0.55, 0.6, 0.7, 0.8, 0.8, 0.8, 0.8]) == [(5, 0)]


def test_who_was_believed_once_stays_believed():
    """He turns away, is half hidden, scores 0.5 for a minute, and only then crosses the line."""
    scores = [0.8] * 5 + [0.5] * 600
    assert told(rules(lines=[DOOR]), scores, lambda n: 0.2 if n < 500 else 0.8) == [(500, "in")]
    assert told(rules(Zone("shop", dwell_s=30.0)), scores) == [(300, 0)]


def test_one_lucky_look_is_not_enough():
    """A single frame at 0.9 among many at 0.55: the median does not move."""
    assert told(rules(Zone("shop")), [0.55, 0.55, 0.9, 0.55, 0.55, 0.55, 0.9, 0.55]) == []


def test_the_demand_can_be_turned_off():
    """A share of 0: every confirmed track is believed, as it was before."""
    assert told(rules(Zone("shop"), sure_share=0.0), [0.5]) == [(0, 0)]


@pytest.mark.parametrize(("threshold", "bar"), [(0.3, 0.51), (0.4, 0.58), (0.5, 0.65), (0.6, 0.7), (0.8, 0.8)])
def test_the_bar_is_a_share_above_the_threshold_and_never_far_above_07(threshold, bar):
    """Whoever sets a high threshold gets what he asked for."""
    assert Sureness(0.3, 4.0, lambda label: threshold).bar("person") == pytest.approx(bar)


looks_of_a_frame = st.lists(st.tuples(st.integers(1, 6), st.floats(0.3, 1), st.booleans()), max_size=6)


@settings(BUSY)
@given(st.lists(st.tuples(st.floats(0.01, 4), looks_of_a_frame)))
def test_belief_needs_three_good_looks_and_is_never_taken_back(plan):
    """Any scores at any pace: nobody is believed before a third look, nor without two at the bar or 4 s; memory holds few."""
    believes = Sureness(0.3, 4.0, lambda label: 0.5)
    bar = believes.bar("person")
    at_s, looks, believed, last, first = 0.0, {}, set(), {}, {}
    for pause_s, row in plan:
        at_s += pause_s
        tracks = [track(n, at_s, score, seen=seen) for n, score, seen in {one[0]: one for one in row}.values()]
        for one in tracks:
            if at_s - last.get(one.id, at_s) > 10:
                looks.pop(one.id, None)
                first.pop(one.id, None)
                believed.discard(one.id)
            last[one.id] = at_s
            first.setdefault(one.id, at_s)
            if one.seen:
                looks.setdefault(one.id, []).append(one.score)
        sure = believes.step(tracks, at_s)
        for one in tracks:
            assert one.id in sure or one.id not in believed
            if one.id in sure:
                assert len(looks[one.id]) >= 3
                good = [score for score in looks[one.id] if score >= 0.5]
                lasted = at_s - first[one.id] >= 4 and 2 * len(good) >= len(looks[one.id])
                assert sum(score >= bar for score in looks[one.id]) >= 2 or lasted or one.id in believed
        believed |= sure
    assert len(believes._seen) <= 6
