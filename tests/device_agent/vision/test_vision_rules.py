"""Visits: who stood in a zone, from when to when, and how often that is an event."""

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.rule_file import load_rules
from device_agent.vision.rules import Moment, RuleSettings
from device_agent.vision.types import Track
from device_agent.vision.zone_rules import ZoneRules
from device_agent.vision.zones import WHOLE_PICTURE, Zone, ZoneError, contains, unknown_classes

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

FPS = 10.0
RIGHT = Zone("right", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))


def track(number, frame, x=0.5, y=0.9, *, label="person", confirmed=True, seen=True, first=0):
    """A track whose feet stand at (x, y), fractions of a 1000 x 1000 picture, in a frame."""
    box = (x * 1000 - 25, y * 1000 - 100, x * 1000 + 25, y * 1000)
    return Track(number, box, 0.8, 0, label, confirmed, seen, 5, first, first / FPS, frame, frame / FPS)


def rules(*zones, **changes):
    counter = itertools.count(1)
    return ZoneRules(zones, lambda: f"v{next(counter)}", RuleSettings(**changes))


def play(engine, frames):
    """Steps for a list of lists of tracks; returns (frame, "start" | "end", visit) for each thing told."""
    told = []
    for index, tracks in enumerate(frames):
        step = engine.step(tracks, Moment(index, index / FPS, 1e9 + index / FPS, 1000, 1000))
        told += [(index, "end", visit) for visit in step.ended] + [(index, "start", visit) for visit in step.started]
    return told


def starts(told):
    return [visit for _, kind, visit in told if kind == "start"]


def test_one_stay_is_one_event_with_its_first_and_last_frame():
    """Somebody is in the picture from frame 5 to 30: one event, which is over two seconds (and a little) later."""
    frames = [[track(1, t, first=5)] if 5 <= t <= 30 else [] for t in range(80)]
    told = play(rules(), frames)
    assert [kind for _, kind, _ in told] == ["start", "end"]
    visit = told[0][2]
    assert (visit.entered.frame, visit.last.frame, told[0][0]) == (5, 30, 5)
    assert 50 <= told[1][0] <= 70


def test_the_start_is_where_the_object_was_first_seen_not_where_it_was_believed():
    """Tentative frames raise nothing, but they count for when the visit began."""
    frames = [[track(1, t, confirmed=t >= 8, first=5)] if t >= 5 else [] for t in range(20)]
    told = play(rules(), frames)
    assert [(index, visit.entered.frame) for index, _, visit in told] == [(8, 5)]


def test_a_track_that_was_never_confirmed_raises_nothing():
    """Noise that flickers in the zone for ever."""
    assert play(rules(), [[track(1, t, confirmed=False)] for t in range(100)]) == []


def test_dwell_is_counted_in_seconds_not_in_frames():
    """Three seconds in the zone: the event comes at 3 s at 10 frames a second as at 2."""
    zone = Zone("counter", dwell_s=3.0)
    for step in (1, 5):
        engine = rules(zone)
        told = []
        for t in range(0, 60, step):
            told += engine.step([track(1, t)], Moment(t, t / FPS, 0.0, 1000, 1000)).started
            if told:
                break
        assert t == 30
        assert told[0].rule_kind == "dwell"


def test_a_short_way_out_does_not_end_the_visit_and_a_long_one_does():
    """Out for 1.9 s: the same visit. Out for 2.5 s: a second one, as for anyone who comes back."""
    def stay(gap):
        frames = [[track(1, t, 0.8)] for t in range(10)] + [[track(1, t, 0.2)] for t in range(10, 10 + gap)]
        return frames + [[track(1, t, 0.8)] for t in range(10 + gap, 40 + gap)]

    assert len(starts(play(rules(RIGHT), stay(18)))) == 1
    assert len(starts(play(rules(RIGHT), stay(25)))) == 2


@pytest.mark.parametrize("gap", [1, 8, 18])
def test_a_track_that_gets_a_new_id_does_not_visit_twice(gap):
    """The tracker loses somebody for up to 1.8 s and finds him again under another number: one event, one visit."""
    born = 20 + gap
    frames = [[track(1, t)] for t in range(20)] + [[]] * gap
    frames += [[track(2, t, 0.53, confirmed=t >= born + 2, first=born)] for t in range(born, born + 30)] + [[]] * 60
    told = play(rules(), frames)
    assert [kind for _, kind, _ in told] == ["start", "end"]
    assert told[1][2].last.frame == born + 29
    assert told[1][2].track == 2


def test_somebody_else_elsewhere_or_later_or_of_another_kind_is_a_visit_of_his_own():
    """The bridge holds only for the same label, near by, within two seconds."""
    def second(frame, **other):
        return [[track(1, t)] for t in range(20)] + [[]] * (frame - 20) + [
            [track(2, t, first=frame, **other)] for t in range(frame, frame + 20)
        ]

    assert len(starts(play(rules(), second(25, x=0.8)))) == 2
    assert len(starts(play(rules(), second(25, label="cart")))) == 2
    assert len(starts(play(rules(), second(45)))) == 2
    assert len(starts(play(rules(), second(25)))) == 1


def test_two_people_at_the_same_time_are_two_visits():
    """Side by side from the same moment on, close enough to be taken for one."""
    frames = [[track(1, t, 0.5), track(2, t, 0.53)] for t in range(30)]
    assert len(starts(play(rules(), frames))) == 2


def test_a_hidden_person_who_comes_back_gets_his_visit_back():
    """Two people: the second appears just as the first is hidden and is taken for him; the first is seen again: both count."""
    frames = [[track(1, t)] for t in range(20)]
    frames += [[track(2, t, 0.53, first=24)] if t >= 24 else [] for t in range(20, 30)]
    frames += [[track(1, t), track(2, t, 0.53, first=24)] for t in range(30, 50)]
    visits = starts(play(rules(), frames))
    assert [visit.track for visit in visits] == [1, 2]
    assert visits[1].entered.frame == 24


def test_the_feet_decide_where_somebody_stands():
    """A tall box whose head is in the zone but whose feet are below it is not inside."""
    upper = Zone("upper", ((0.0, 0.0), (1.0, 0.0), (1.0, 0.85), (0.0, 0.85)))
    assert starts(play(rules(upper), [[track(1, t, y=0.9)] for t in range(20)])) == []
    assert len(starts(play(rules(upper), [[track(1, t, y=0.8)] for t in range(20)]))) == 1


def test_zones_stand_side_by_side_and_choose_their_classes():
    """Two zones over the same place, one for carts alone: each raises its own."""
    zones = (Zone("all"), Zone("carts", classes=frozenset({"cart"})))
    frames = [[track(1, t, 0.3), track(2, t, 0.7, label="cart")] for t in range(20)]
    assert sorted(visit.zone.name for visit in starts(play(rules(*zones), frames))) == ["all", "all", "carts"]


def test_the_end_of_the_source_ends_what_is_left():
    """The film ends: who is still there is marked as open, who left a second and a half before the bridge ran out is not."""
    engine = rules()
    frames = [[track(1, t, 0.2)] if t < 10 else [track(2, t, 0.8, first=12)] if t >= 12 else [] for t in range(40)]
    play(engine, frames)
    assert [(visit.track, still) for visit, still in engine.finish()] == [(1, False), (2, True)]
    assert engine.finish() == []


@settings(BUSY, max_examples=60)
@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.floats(0, 1), st.booleans()), max_size=4), max_size=60))
def test_every_event_starts_once_and_ends_once(plan):
    """Any tracks in any frames: no event ends before it starts, none starts or ends twice, times are in order."""
    engine = rules(RIGHT, Zone("all"))
    confirmed = set()
    frames = []
    for t, row in enumerate(plan):
        tracks = []
        for number, seen, x, sure in {entry[0]: entry for entry in row}.values():
            confirmed |= {number} if sure else set()
            tracks.append(track(number, t, x, seen=seen, confirmed=number in confirmed))
        frames.append(tracks)
    told = play(engine, frames)
    begun, over = [v.id for _, k, v in told if k == "start"], [v.id for _, k, v in told if k == "end"]
    rest = [visit.id for visit, _ in engine.finish()]
    assert len(set(begun)) == len(begun)
    assert sorted(over + rest) == sorted(begun)
    assert all(visit.entered.frame <= visit.last.frame for _, _, visit in told)


point = st.tuples(st.floats(0, 1), st.floats(0, 1))


@settings(BUSY)
@given(point)
def test_the_whole_picture_holds_every_point(at):
    """Without a zone nobody is missed, not on the rim either."""
    assert contains(WHOLE_PICTURE, *at)


@settings(BUSY)
@given(st.lists(point, min_size=3, max_size=8), point, st.floats(-2, 2), st.floats(-2, 2))
def test_inside_does_not_depend_on_where_the_polygon_begins_or_turns(polygon, at, dx, dy):
    """The same polygon, begun at another corner or drawn the other way round, holds the same points."""
    told = contains(tuple(polygon), *at)
    assert contains(tuple(polygon[1:] + polygon[:1]), *at) == told
    assert contains(tuple(reversed(polygon)), *at) == told
    assert not contains(tuple(polygon), 3.0 + dx, 4.0 + dy)


def test_a_concave_zone_has_its_bay_outside():
    """An L-shaped shop."""
    shape = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0))
    assert contains(shape, 0.25, 0.75)
    assert not contains(shape, 0.75, 0.75)


def test_a_zone_file_is_read():
    """The form of contracts section 8."""
    text = json.dumps({"zones": [{"name": "door", "polygon": [[0, 0], [1, 0], [0.5, 1]], "classes": ["person"], "dwell_s": 2}]})
    (zone,) = load_rules(text).zones
    assert (zone.name, zone.dwell_s, zone.classes) == ("door", 2.0, frozenset({"person"}))
    assert unknown_classes([zone], ["cart"]) == ["person"]
    assert unknown_classes([zone], ["person"]) == []
    told = load_rules('{"zones": [{}], "sureness": 0.1, "sure_after_s": 8}')
    assert (told.sureness, told.sure_after_s) == (0.1, 8.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "zones"),
        ('{"zones": []}', "no zone and no line"),
        ('{"zones": [3]}', "must be a table"),
        ('{"zones": [{"polygon": [[0, 0], [640, 0], [640, 480]]}]}', "fractions"),
        ('{"zones": [{"polygon": [[0, 0], [1, 0]]}]}', "3 to 200 points"),
        ('{"zones": [{"polygon": [[0, 0], [0.5, 0.5], [1, 1]]}]}', "encloses nothing|crosses or touches"),
        ('{"zones": [{"polygon": [[0, 0], [1, 0], [NaN, 1]]}]}', "fractions"),
        ('{"zones": [{"dwell_s": -1}]}', "dwell_s"),
        ('{"zones": [{"dwell_s": true}]}', "dwell_s"),
        ('{"zones": [{"classes": "person"}]}', "classes"),
        ('{"zones": [{"name": ""}]}', "name"),
        ('{"zones": [{}], "sureness": 1.5, "sure_after_s": -1}', "sureness.*sure_after_s"),
        ('{"zones": [{"colour": "red"}]}', "unknown fields: colour"),
        ('{"zones": [{"name": "a"}, {"name": "a"}]}', "two zones or lines"),
        ('{"zones": [{"dwell_s": -1, "name": 3}]}', "name.*dwell_s"),
    ],
)
def test_a_zone_file_that_is_wrong_is_refused_with_all_its_faults(text, says):
    """Pixels in place of fractions are the usual mistake; each fault is named with its place."""
    with pytest.raises(ZoneError, match=says):
        load_rules(text)
