"""Zones in depth: outside, inertia, size and score, schedule, cool-down, things that stand still, clocks that jump."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.rules import Moment, RuleSettings
from device_agent.vision.schedule import Schedule, Span
from device_agent.vision.types import Track
from device_agent.vision.zone_rules import ZoneRules
from device_agent.vision.zones import Zone

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
EVERY_DAY = frozenset(range(7))
MIDNIGHT_S = 1_700_006_400.0
"""A midnight in UTC."""


def moment(at_s, wall_s=None):
    return Moment(round(at_s * 100), at_s, MIDNIGHT_S + at_s if wall_s is None else wall_s, 1000, 1000)


def track(
    number, at_s, x=0.25, y=0.9, *, label="person", confirmed=True, seen=True, first_s=0.0, score=0.8, still=False, size=1.0
):
    """A track whose feet stand at (x, y); 50 x 100 px at size 1, in a picture of 1000 x 1000."""
    box = (x * 1000 - 25 * size, y * 1000 - 100 * size, x * 1000 + 25 * size, y * 1000)
    return Track(number, box, score, 0, label, confirmed, seen, 5, 0, first_s, 0, at_s, still)


def engine(*zones, **changes):
    counter = itertools.count(1)
    return ZoneRules(zones, lambda: f"v{next(counter)}", RuleSettings(**changes))


def play(rules, frames):
    """Steps for (at_s, tracks) or (at_s, wall_s, tracks); returns (at_s, "start" | "end", visit) for each thing told."""
    told = []
    for at_s, *wall_s, tracks in frames:
        step = rules.step(tracks, moment(at_s, *wall_s))
        told += [(at_s, "end", visit) for visit in step.ended] + [(at_s, "start", visit) for visit in step.started]
    return told


def starts(told):
    return [at_s for at_s, kind, _ in told if kind == "start"]


def every(step_s, until_s, from_s=0.0):
    """Times of frames."""
    return [from_s + n * step_s for n in range(round((until_s - from_s) / step_s))]


def test_not_in_here():
    """A museum: everywhere but on the path. Who leaves the path is an event, who stays on it is none."""
    path = Zone("off the path", LEFT, inside=False)
    assert starts(play(engine(path), [(s, [track(1, s, 0.3)]) for s in every(0.1, 5)])) == []
    assert starts(play(engine(path), [(s, [track(1, s, 0.3 if s < 2 else 0.7)]) for s in every(0.1, 5)])) == [2.0]


@pytest.mark.parametrize("step_s", [0.1, 0.5])
def test_inertia_wants_a_stay_without_a_way_out_in_seconds(step_s):
    """Somebody walks along the edge and is inside for half a second now and then: nothing. Then he stays: an event after 1 s."""
    zone = Zone("room", LEFT, inertia_s=1.0)
    frames = [(s, [track(1, s, 0.45 if s % 1 < 0.5 else 0.55)]) for s in every(step_s, 20)]
    frames += [(s, [track(1, s, 0.45)]) for s in every(step_s, 30, 20)]
    (at_s,) = starts(play(engine(zone), frames))
    assert at_s == pytest.approx(21.0, abs=0.01)


def test_dwell_bridges_what_inertia_does_not():
    """Three seconds in a queue with a step aside in between: enough for dwell, not for the same inertia."""
    frames = [(s, [track(1, s, 0.55 if 1.5 <= s < 2 else 0.45)]) for s in every(0.1, 4)]
    assert len(starts(play(engine(Zone("queue", LEFT, dwell_s=3.0)), frames))) == 1
    assert len(starts(play(engine(Zone("queue", LEFT, inertia_s=3.0)), frames))) == 0


def test_least_size_and_score_must_be_met_once():
    """A far and small one raises nothing until he is near; who turns away and is doubtful for a moment has not left."""
    zone = Zone("yard", LEFT, min_px=90, min_share=0.004, min_score=0.7)
    frames = [(s, [track(1, s, size=0.5 + s / 10)]) for s in every(0.1, 10)]
    (at_s,) = starts(play(engine(zone), frames))
    assert at_s == pytest.approx(4.0, abs=0.11)
    frames = [(s, [track(1, s, score=0.8 if s < 1 else 0.5)]) for s in every(0.1, 10)]
    told = play(engine(zone), frames)
    assert [kind for _, kind, _ in told] == ["start"]
    assert starts(play(engine(zone), [(s, [track(1, s, score=0.69)]) for s in every(0.1, 10)])) == []


def test_a_rule_that_sleeps_sees_nobody_and_wakes_to_those_who_are_there():
    """The shop closes at 20:00 with somebody inside: an event at 20:00, his dwell begins there; by day there is none."""
    night = Schedule((Span(EVERY_DAY, 20 * 60, 6 * 60),))
    zone = Zone("shop", LEFT, dwell_s=5.0, schedule=night)
    eight_s = MIDNIGHT_S + 20 * 3600
    frames = [(s, eight_s - 60 + s, [track(1, s)]) for s in every(0.5, 120)]
    (at_s,) = starts(play(engine(zone), frames))
    assert at_s == pytest.approx(65.0)


def test_a_visit_ends_when_its_rule_falls_asleep():
    """Six in the morning: whoever is there no longer counts."""
    night = Schedule((Span(EVERY_DAY, 20 * 60, 6 * 60),))
    frames = [(s, MIDNIGHT_S + 6 * 3600 - 10 + s, [track(1, s)]) for s in every(0.5, 60)]
    told = play(engine(Zone("shop", LEFT, schedule=night)), frames)
    assert [kind for _, kind, _ in told] == ["start", "end"]
    assert told[1][2].last.at_s == 9.5


def test_a_clock_that_jumps_back_an_hour_changes_no_dwell():
    """The board gets the right time in the middle of a visit: dwell is measured on the frames' clock, the wall's is only told."""
    zone = Zone("counter", LEFT, dwell_s=3.0, cooldown_s=10.0)
    frames = [(s, MIDNIGHT_S + s - (3600 if s >= 1 else 0), [track(1, s)]) for s in every(0.5, 30)]
    told = play(engine(zone), frames)
    assert [(at_s, kind) for at_s, kind, _ in told] == [(3.0, "start")]
    frames = [(s, MIDNIGHT_S + s + (36_000 if s >= 1 else 0), [track(1, s)]) for s in every(0.5, 30)]
    assert starts(play(engine(zone), frames)) == [3.0]


def test_the_cool_down_lets_the_next_one_wait_and_those_who_left_go():
    """Three people come at 0, 10 and 20 s; the second leaves at 15, the third stays. Cool-down 30 s: events at 0 and 30 s."""
    zone = Zone("door", LEFT, cooldown_s=30.0)
    frames = []
    for s in every(0.5, 60):
        tracks = [track(1, s, 0.1)] if s < 5 else []
        tracks += [track(2, s, 0.2, first_s=10)] if 10 <= s < 15 else []
        tracks += [track(3, s, 0.3, first_s=20)] if s >= 20 else []
        frames.append((s, tracks))
    rules = engine(zone)
    told = play(rules, frames)
    assert [(at_s, visit.track) for at_s, kind, visit in told if kind == "start"] == [(0.0, 1), (30.0, 3)]
    assert told[-1][2].entered.at_s == 20.0, "the visit began when he came, not when the rule was ready for it"
    assert rules.held_back == {"door": 2}


def test_the_cool_down_may_be_each_classes_own():
    """A van at the gate must not hide the person who gets out of it."""
    def told(**changes):
        zone = Zone("gate", LEFT, cooldown_s=100.0, **changes)
        return starts(play(engine(zone), [(s, [track(1, s, 0.1, label="van"), track(2, s, 0.4)]) for s in every(0.5, 20)]))

    assert len(told()) == 1
    assert len(told(cooldown_per_class=True)) == 2


@settings(BUSY, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0.05, 20), st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["a", "b"]), st.booleans()))),
             max_size=60),
    st.floats(0.1, 60), st.booleans(),
)  # fmt: skip
def test_a_cool_down_never_lets_two_through(plan, cooldown_s, per_class):
    """Any crowd at any pace: between two events of a rule (of a class, where that is asked for) lies the cool-down."""
    rules = engine(Zone("z", LEFT, cooldown_s=cooldown_s, cooldown_per_class=per_class))
    at_s, last = 0.0, {}
    labels = {}
    for pause_s, row in plan:
        at_s += pause_s
        tracks = []
        for number, label, inside in {entry[0]: entry for entry in row}.values():
            label = labels.setdefault(number, label)
            tracks.append(track(number, at_s, 0.1 * number if inside else 0.9, label=label))
        for visit in rules.step(tracks, moment(at_s)).started:
            key = visit.label if per_class else ""
            assert at_s - last.get(key, -1e9) >= cooldown_s
            last[key] = at_s


def test_a_car_that_is_parked_is_one_event_while_its_track_lives():
    """The detector misses it, somebody stands before it, the gate is shut for minutes: its track stays, and so does its visit."""
    rules = engine(Zone("lot"))
    frames = [(s, [track(1, s, label="car", still=s > 10)]) for s in every(0.5, 20)]
    frames += [(s, [track(1, 20, label="car", still=True, seen=False)]) for s in every(60, 620, 20)]
    frames += [(s, [track(1, s, label="car", still=True)]) for s in every(0.5, 700, 620)]
    told = play(rules, frames)
    assert [kind for _, kind, _ in told] == ["start"]
    assert rules.finish()[0][1] is True


@pytest.mark.parametrize("lives_s", [30, 6])
def test_a_parked_car_under_a_swinging_lamp_is_one_event(lives_s):
    """A lamp swings over a parked car all night: its track is lost all the time, once for minutes, and found under another id;
    some ids do not live long enough to be known to stand still."""
    rules = engine(Zone("lot"))
    frames, number, born = [], 0, 0.0
    for s in every(0.5, 3600):
        lit = s < 15 or (int(s) % (lives_s + 10) < lives_s and not 1000 < s < 1500)
        if lit and (not frames or not frames[-1][1]):
            number, born = number + 1, s
        wobble = 0.002 * ((int(s * 2) * 7) % 5)
        one = track(
            number, s, 0.25 + wobble, label="car", still=s - born > 10, first_s=born, confirmed=s - born >= 1, size=1 + wobble
        )
        frames.append((s, [one] if lit else []))
    told = play(rules, frames)
    assert number > 50
    assert len(starts(told)) == 1


def test_a_car_that_comes_to_the_place_of_one_that_left_is_a_new_event():
    """The first drives off (it moves, so it stands still no longer); half a minute later the next one parks there."""
    rules = engine(Zone("lot"))
    frames = [(s, [track(1, s, 0.25, label="car", still=10 < s < 50)]) for s in every(0.5, 50)]
    frames += [(s, [track(1, s, 0.25 + 0.1 * (s - 50), label="car")]) for s in every(0.5, 58, 50)]
    frames += [(s, []) for s in every(0.5, 80, 58)]
    frames += [(s, [track(2, s, max(0.25, 0.95 - 0.1 * (s - 80)), label="car", first_s=80)]) for s in every(0.5, 100, 80)]
    assert starts(play(rules, frames)) == [0.0, 80.0]


def test_somebody_who_walks_past_a_lost_car_and_another_thing_in_its_place_are_events():
    """The car's track is lost; a person stops just there; another car passes through the place: both are told."""
    rules = engine(Zone("lot"))
    frames = [(s, [track(1, s, label="car", still=s > 10)]) for s in every(0.5, 20)]
    frames += [(s, [track(2, s, label="person", first_s=20)]) for s in every(0.5, 25, 20)]
    frames += [(s, [track(3, s, 0.05 + 0.1 * (s - 25), label="car", first_s=25)]) for s in every(0.5, 30, 25)]
    assert [visit.track for _, kind, visit in play(rules, frames) if kind == "start"] == [1, 2, 3]


def test_a_camera_that_was_away_does_not_tell_of_the_parked_car_again():
    """The cable is pulled and plugged in again: the source ends and begins anew, with the frames' clock going on."""
    rules = engine(Zone("lot"))
    play(rules, [(s, [track(1, s, label="car", still=s > 10)]) for s in every(0.5, 20)])
    assert [still_open for _, still_open in rules.finish()] == [True]
    told = play(rules, [(s, [track(2, s, label="car", first_s=100, confirmed=s > 101)]) for s in every(0.5, 200, 100)])
    assert told == []
    assert rules.finish() == []


def test_a_film_that_begins_again_knows_nothing_of_before():
    """Time 0 comes twice: what stood there in the first run is told in the second as well, cool-down or not."""
    rules = engine(Zone("lot", cooldown_s=3600))
    for _ in range(2):
        assert len(starts(play(rules, [(s, [track(1, s, label="car", still=s > 10)]) for s in every(0.5, 20)]))) == 1
        assert len(rules.finish()) == 1


def test_a_clock_of_frames_that_jumps_back_ends_what_was_open():
    """A source that breaks its promise: the visit is over, not for ever open, and the next begins on the new clock."""
    rules = engine(Zone("lot"))
    told = play(rules, [(s, [track(1, s)]) for s in every(0.5, 20)] + [(s, [track(2, s)]) for s in every(0.5, 5)])
    assert [kind for _, kind, _ in told] == ["start", "end", "start"]


def test_a_very_slow_camera_still_sees_one_stay():
    """One frame in ten seconds: where nobody looked in between, nobody saw him leave."""
    told = play(engine(Zone("lot")), [(s, [track(1, s)]) for s in every(10, 100)])
    assert [kind for _, kind, _ in told] == ["start"]


tracks_of_a_frame = st.lists(
    st.tuples(st.integers(1, 4), st.booleans(), st.booleans(), st.floats(0, 1), st.booleans(), st.booleans()), max_size=4
)


@settings(BUSY, max_examples=100)
@given(st.lists(st.tuples(st.floats(0.05, 5), tracks_of_a_frame), max_size=50))
def test_visits_never_overlap_for_one_track_and_zone_and_ids_only_grow(plan):
    """Any tracks, still or not, seen or not, confirmed or not: at most one visit of a track in a zone at a time, each event
    starts once and ends once after it started, and every new visit has a new id."""
    numbers = itertools.count(1)
    zones = (Zone("left", LEFT), Zone("not left", LEFT, inside=False, inertia_s=0.3), Zone("all", dwell_s=1.0))
    rules = ZoneRules(zones, lambda: next(numbers))
    at_s, sure, begun, over, seen_ids = 0.0, set(), [], [], set()
    for pause_s, row in plan:
        at_s += pause_s
        tracks = []
        for number, seen, still, x, confirmed, _ in {entry[0]: entry for entry in row}.values():
            sure |= {number} if confirmed else set()
            tracks.append(track(number, at_s, x, seen=seen, still=still and number in sure, confirmed=number in sure))
        step = rules.step(tracks, moment(at_s))
        pairs = [(visit.zone.name, one.id) for visit, one in step.present]
        assert len(set(pairs)) == len(pairs)
        fresh = {visit.id for visit, _ in step.present} - seen_ids
        assert all(number not in over for number in fresh)
        seen_ids |= fresh
        begun += [visit.id for visit in step.started]
        over += [visit.id for visit in step.ended]
        assert set(over) <= set(begun)
    left = [visit.id for visit, _ in rules.finish()]
    assert len(set(begun)) == len(begun)
    assert sorted(over + left) == sorted(begun)
