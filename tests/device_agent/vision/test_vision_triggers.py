"""Triggers: which scenes are worth a second look, how seldom they are told, and the frames around them."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.vision.burst import BurstRing, BurstSettings
from device_agent.vision.conditions import Limiter
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Answer
from device_agent.vision.motion import GateResult
from device_agent.vision.near_miss import NearMisses
from device_agent.vision.privacy import Privacy
from device_agent.vision.rules import Moment
from device_agent.vision.scene import Scene
from device_agent.vision.trigger_settings import LowConfidence, NearMiss, TriggerLimits, TriggerSettings
from device_agent.vision.triggers import Disagreement, Triggers
from device_agent.vision.types import Frame, Track
from models.card import load_card
from models.inference.types import Detections

BUSY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Tests share two cores with others: how long an example takes says nothing."""

CARD = load_card("""
name = "blob"
task = "detect"
licence = "Apache-2.0"
labels = ["person", "car", "forklift"]
[input]
width_px = 64
height_px = 64
[output]
decoder = "ssd_postprocess"
[thresholds]
score = 0.5
""")
PICTURE = np.random.default_rng(3).integers(0, 255, (240, 320, 3), np.uint8)
NOTHING = Detections.empty()
MIDNIGHT_S = 1_700_006_400.0


def track(number, at_s, box=(100.0, 60.0, 140.0, 160.0), *, label="person", confirmed=True, seen=True, score=0.8, first_s=0.0):
    return Track(number, box, score, 0, label, confirmed, seen, 5, 0, first_s, 0, at_s)


def scene(at_s, *tracks, wall_s=None, looked=True):
    index = round(at_s * 100)
    wall_s = MIDNIGHT_S + at_s if wall_s is None else wall_s
    frame = Frame("yard", index, at_s, wall_s, PICTURE)
    answer = Answer(NOTHING, CARD, 1.0) if looked else None
    gate, reported = GateResult(looked, "motion", looked, 0.1, 90.0), NOTHING if looked else None
    return Scene(frame, gate, answer, reported, tracks, Moment(index, at_s, wall_s, 320, 240), ())


def triggers(new_id, cutter=None, **which):
    return Triggers("yard", TriggerSettings(**which), cutter or Cutter(), new_id)


def play(engine, scenes):
    return [update for one in scenes for update in engine.saw(one)]


def starts(updates):
    return [update.event for update in updates if update.kind == "start"]


def every(step_s, until_s, from_s=0.0):
    return [from_s + n * step_s for n in range(round((until_s - from_s) / step_s))]


def test_the_first_of_each_class_of_a_day_is_told_once(new_id):
    """Person after person all day; one car: one event of each, with a picture. The next day begins at the camera's midnight."""
    engine = triggers(new_id, first_today=TriggerLimits(burst=False))
    told = play(engine, [scene(s, track(1 + int(s), s), track(900, s, label="car")) for s in every(10, 3000)])
    assert [(event.label, event.rule, event.rule_kind) for event in starts(told)] == [
        ("person", "first_today", "trigger"), ("car", "first_today", "trigger"),
    ]  # fmt: skip
    assert [update.kind for update in told] == ["start", "end", "start", "end"]
    assert all(event.crops[0].kind == "first" and event.threshold == 0.5 for event in starts(told))
    tomorrow = play(engine, [scene(s, track(5000, s), wall_s=MIDNIGHT_S + 86_400 + s) for s in every(10, 3200, 3000)])
    assert [event.label for event in starts(tomorrow)] == ["person"]


def test_midnight_is_the_cameras(new_id):
    """23:30 in UTC is tomorrow in Zurich: the person at 22:30 UTC was of yesterday."""
    engine = triggers(new_id, first_today=TriggerLimits(burst=False, cooldown_s=0), timezone="Europe/Zurich")
    told = play(engine, [scene(1, track(1, 1), wall_s=MIDNIGHT_S - 5400), scene(2, track(1, 2), wall_s=MIDNIGHT_S - 1800)])
    assert len(starts(told)) == 2


def test_a_clock_that_jumps_to_and_fro_makes_nobody_first_twice(new_id):
    """The time server disagrees with the battery clock: an hour back over midnight and forth again, three times."""
    engine = triggers(new_id, first_today=TriggerLimits(burst=False, cooldown_s=0, per_hour=1000))
    walls = [MIDNIGHT_S + 600, MIDNIGHT_S - 3000, MIDNIGHT_S + 700, MIDNIGHT_S - 2900, MIDNIGHT_S + 800]
    told = play(engine, [scene(n, track(1, n), wall_s=wall) for n, wall in enumerate(walls)])
    assert len(starts(told)) == 2


def test_unconfirmed_unseen_and_unwanted_ones_are_not_first(new_id):
    """Noise, a track that is only remembered, a class that nobody asked for."""
    engine = triggers(new_id, first_today=TriggerLimits(classes=frozenset({"car"})))
    told = play(engine, [scene(1, track(1, 1), track(2, 1, label="car", confirmed=False), track(3, 1, label="car", seen=False))])
    assert told == []


def test_new_triggers_take_over_what_the_old_ones_knew(new_id):
    """A configuration at noon: nobody is first a second time, the counts go on."""
    former = triggers(new_id, first_today=TriggerLimits(burst=False, cooldown_s=0))
    assert len(starts(play(former, [scene(1, track(1, 1))]))) == 1
    later = Triggers("yard", TriggerSettings(first_today=TriggerLimits(burst=False)), Cutter(), new_id, former=former)
    assert starts(play(later, [scene(2, track(2, 2))])) == []
    assert later.counts() == {"first_today": {"fired": 1, "held_back": 0}}


def test_a_track_that_stays_doubtful_is_told_once_and_one_that_becomes_sure_is_not(new_id):
    """Somebody in the shade scores 0.55 for ten seconds: told after five. Another begins at 0.5 and comes into the light."""
    def engine():
        return triggers(new_id, low_confidence=LowConfidence(burst=False, cooldown_s=0))

    told = starts(play(engine(), [scene(s, track(1, s, score=0.52 + 0.05 * (s % 1))) for s in every(0.5, 20)]))
    assert [(event.rule, event.track, event.start_s) for event in told] == [("low_confidence", 1, 5.0)]
    assert told[0].crops[0].score == told[0].score
    assert told[0].best_frame == told[0].crops[0].frame
    assert play(engine(), [scene(s, track(1, s, score=0.55 if s < 4 else 0.8)) for s in every(0.5, 20)]) == []
    assert play(engine(), [scene(s, track(1, s, score=0.55, confirmed=False)) for s in every(0.5, 20)]) == []


def test_a_doubtful_track_that_is_gone_is_told_with_its_own_picture(new_id):
    """He passes within two seconds and is out of the picture when he is judged: the crop is of when he was there."""
    engine = triggers(new_id, low_confidence=LowConfidence(burst=False))
    scenes = [scene(s, track(1, s, score=0.55)) for s in every(0.2, 2)] + [scene(s) for s in every(0.2, 5, 2)]
    scenes += [scene(s, track(1, s, score=0.55)) for s in every(0.2, 7, 5)] + [scene(s) for s in every(0.2, 90, 7)]
    (event,) = starts(play(engine, scenes))
    assert 2.2 < event.start_s < 2.8
    assert event.crops[0].at_s < 2


@pytest.mark.parametrize("fps", [2, 5, 15])
def test_two_who_nearly_meet_are_a_near_miss(fps, new_id):
    """A forklift drives towards a person, stops 30 px before him (his height is 100 px) and backs off."""
    engine = triggers(new_id, near_miss=NearMiss(burst=False, cooldown_s=0))

    def box(s):
        left = 140 + 30 + 160 * abs(s - 2)
        return (left, 100.0, left + 80, 160.0)

    man = (100.0, 60.0, 140.0, 160.0)
    frames = [scene(s, track(1, s, man), track(2, s, box(s), label="forklift")) for s in every(1 / fps, 6)]
    (event,) = starts(play(engine, frames))
    assert (event.rule, event.label, event.track) == ("near_miss", "person", 1)
    assert event.box[0] == 100.0
    assert event.box[2] == pytest.approx(250, abs=1), "the box around both when they were nearest"


def misses(frames):
    watch = NearMisses()
    return [miss for at_s, tracks in frames for miss in watch.step(tracks, at_s)]


def two(s, gap_px):
    return (s, [track(1, s, (100, 60, 140, 160)), track(2, s, (140 + gap_px, 60, 180 + gap_px, 160))])


def test_who_meets_who_walks_side_by_side_and_who_comes_slowly_do_not_miss_each_other():
    """They overlap in the end; they stay near all the time; they need ten seconds; one appears beside the other."""
    assert misses([two(s, 300 - 100 * s) for s in every(0.1, 5)]) == []
    assert misses([two(s, 30 + 20 * (s % 1)) for s in every(0.1, 20)]) == []
    assert misses([two(s, max(20, 300 - 28 * s)) for s in every(0.1, 20)]) == []
    assert misses([(s, two(s, 30)[1] if s > 1 else two(s, 30)[1][:1]) for s in every(0.1, 5)]) == []


def test_one_that_comes_fast_and_stays_near_is_one_near_miss():
    """It brakes and stands; a second later nothing has happened: one near-miss, also when it trembles on the spot after that."""
    assert len(misses([two(s, max(20, 300 - 150 * s) + 8 * (s % 0.3)) for s in every(0.1, 30)])) == 1


def test_only_the_pairs_that_were_asked_for_count():
    """People among themselves are none of the forklift's business."""
    watch = NearMisses([("forklift", "person")])
    found = [miss for s in every(0.1, 30) for miss in watch.step(two(s, max(20, 300 - 150 * s))[1], s)]
    assert found == []


@settings(BUSY, max_examples=60)
@given(st.lists(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 900), st.floats(10, 200)), max_size=5), max_size=40))
def test_a_near_miss_is_near_and_no_overlap_and_memory_is_bounded(plan):
    """Any boxes in any frames: what is told keeps to its definition, and nothing is kept of those who left."""
    watch = NearMisses()
    s = 0.0
    for row in plan:
        s += 0.2
        tracks = [track(n, s, (x, 100.0, x + w, 100.0 + w)) for n, x, w in {one[0]: one for one in row}.values()]
        for miss in watch.step(tracks, s):
            assert 0 < miss.gap_heights <= 0.5
            assert s - miss.at_s <= 3
    watch.step([], s + 10)
    assert not watch._pairs
    assert not watch._ways


def test_a_shadow_that_disagrees_is_told_with_the_next_scene(new_id):
    """From another thread, many times: the latest few are kept, one is told, the limits hold the others back."""
    engine = triggers(new_id, disagreement=TriggerLimits(burst=False))
    for number in range(100):
        engine.disagreed(Disagreement("car", (10.0, 10.0, 60.0, 60.0), 0.6, "missed" if number else "extra"))
    (event,) = starts(play(engine, [scene(1), scene(2)]))
    assert (event.rule, event.label, event.score, event.track) == ("disagreement.missed", "car", 0.6, 0)
    assert engine.counts() == {"disagreement": {"fired": 1, "held_back": 15}}
    off = triggers(new_id, first_today=TriggerLimits())
    off.disagreed(Disagreement("car", (0.0, 0.0, 9.0, 9.0), 0.6, "missed"))
    assert play(off, [scene(1)]) == []


def test_a_burst_shows_what_was_before_and_after(new_id):
    """Ten frames a second; a person appears at 5 s: pictures of 1.5 s before and after, three a second, small, in order."""
    engine = triggers(new_id, first_today=TriggerLimits())
    told = play(engine, [scene(s, *([track(1, s)] if s >= 5 else [])) for s in every(0.1, 10)])
    assert [update.kind for update in told] == ["start", "end"]
    start, end = (update.event for update in told)
    assert (start.open, end.open, end.revision) == (True, False, 1)
    assert [crop.kind for crop in start.crops] == ["first", *["burst"] * (len(start.crops) - 1)]
    times = [crop.at_s for update in told for crop in update.event.crops if crop.kind == "burst"]
    assert times == sorted(times)
    assert 7 <= len(times) <= 10
    assert 3.5 <= times[0] <= 4.0
    assert 6.0 <= times[-1] <= 6.5
    assert end.end_s == times[-1]
    picture = cv2.imdecode(np.frombuffer(end.crops[0].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 320, 3)


def test_a_source_that_ends_ends_the_burst_with_what_there_is(new_id):
    """The camera is unplugged half a second after: the event is closed, what comes next starts with an empty ring."""
    engine = triggers(new_id, first_today=TriggerLimits(cooldown_s=0))
    told = play(engine, [scene(s, *([track(1, s)] if s >= 5 else [])) for s in every(0.1, 5.5)])
    assert [update.kind for update in told] == ["start"]
    (end,) = engine.finish()
    assert (end.kind, end.event.open) == ("end", False)
    assert engine.finish() == []
    (start,) = starts(play(engine, [scene(100, track(2, 100, label="car"))]))
    assert [crop.at_s for crop in start.crops if crop.kind == "burst"] == [100]


def test_a_shut_gate_ends_a_burst_by_time(new_id):
    """Nothing moves any more and nobody looks: no pictures, but the event is not open for ever."""
    engine = triggers(new_id, first_today=TriggerLimits())
    play(engine, [scene(1, track(1, 1))])
    told = play(engine, [scene(s, looked=False) for s in every(0.1, 5, 1.1)])
    assert [(update.kind, update.event.crops) for update in told] == [("end", ())]


def test_where_privacy_cannot_be_kept_the_event_goes_without_pictures(new_id):
    """Faces must be blurred and nobody can find them: the event is told, no picture leaves, refusals are counted and not asked
    for on every frame."""
    refused = []
    cutter = Cutter(Privacy(blur=frozenset({"face"})))
    cutter.refused = refused.append
    engine = triggers(new_id, cutter, first_today=TriggerLimits())
    told = play(engine, [scene(s, *([track(1, s)] if s >= 5 else [])) for s in every(0.1, 10)])
    assert [update.event.crops for update in told] == [(), ()]
    assert 10 <= len(refused) <= 45, "a ring asks three times a second, not at each of 100 frames"


def test_no_pictures_are_made_where_no_trigger_wants_bursts(new_id):
    """Ten minutes of frames without a trigger that fires: not one picture is cut."""
    asked = []

    class Watching(Cutter):
        def picture(self, frame, cut, longest_side_px):
            asked.append(frame.index)
            return super().picture(frame, cut, longest_side_px)

    engine = triggers(new_id, Watching(), first_today=TriggerLimits(burst=False), near_miss=NearMiss(burst=False))
    play(engine, [scene(s) for s in every(0.5, 60)])
    assert asked == []


def test_the_ring_is_bounded_and_its_pictures_are_small():
    """A day at 30 frames a second of noise, which no JPEG makes small: a handful of pictures of at most 48 KB."""
    ring = BurstRing(Cutter(), BurstSettings())
    noise = np.random.default_rng(1).integers(0, 255, (960, 1280, 3), np.uint8)
    made = [ring.offer(Frame("c", n, n / 30, 0.0, noise)) for n in range(120)]
    kept = [crop for crop in made if crop is not None]
    assert 10 <= len(kept) <= 13
    assert all(len(crop.jpeg) <= 48 * 1024 and max(crop.width_px, crop.height_px) <= 640 for crop in kept)
    assert len(ring.before(119 / 30)) <= 6
    ring.clear()
    assert ring.before(119 / 30) == ()


def test_a_broken_camera_does_not_eat_the_upload_budget(new_id):
    """Doubtful tracks by the hundred for three hours: at most six events an hour, a minute between any two, all else counted."""
    engine = triggers(new_id, low_confidence=LowConfidence(burst=False, watch_s=0.5))
    told = starts(play(engine, [scene(s, track(int(s), s, score=0.55, first_s=s - 1)) for s in every(5, 3 * 3600)]))
    times = [event.start_s for event in told]
    assert 12 <= len(times) <= 18
    assert all(b - a >= 60 for a, b in itertools.pairwise(times))
    assert engine.counts()["low_confidence"]["held_back"] > 1000


@settings(BUSY, max_examples=100)
@given(
    st.lists(st.tuples(st.floats(0, 900), st.sampled_from("ab")), max_size=80),
    st.floats(0, 600), st.integers(1, 8), st.booleans(),
)  # fmt: skip
def test_limits_hold_for_any_pace(plan, cooldown_s, per_hour, per_class):
    """Never two within the cool-down (of a class), never more than so many in any hour."""
    limiter = Limiter(cooldown_s, per_hour, per_class=per_class)
    at_s, passed = 0.0, []
    for pause_s, label in plan:
        at_s += pause_s
        if limiter.lets(label, at_s):
            passed.append((at_s, label))
    for number, (when_s, label) in enumerate(passed):
        same = [t for t, other in passed[:number] if not per_class or other == label]
        assert not same or when_s - same[-1] >= cooldown_s
        assert sum(when_s - t < 3600 for t, _ in passed[:number]) < per_hour


def test_a_film_that_begins_again_begins_anew(new_id):
    """Time 0 comes twice: limits, ways and rings of the first run say nothing of the second; the day is the wall's."""
    engine = triggers(new_id, near_miss=NearMiss(cooldown_s=3600))
    frames = [scene(s, *two(s, 30 + 150 * abs(s - 2))[1]) for s in every(0.1, 5)]
    first = play(engine, frames)
    assert len(starts(first)) == 1
    assert len(starts(play(engine, frames))) == 1
