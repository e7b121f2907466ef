"""The tracker against made motion: geometry by hypothesis, stories by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.vision import boxes
from device_agent.vision.tracker import Sighting, Tracker, TrackerSettings

LABELS = ["person", "cart"]


def sight(*found):
    """(box, score, class) of one frame as the tracker takes them; scores from 0.5 on are strong."""
    scores = np.array([score for _, score, _ in found], np.float32)
    return Sighting(
        np.array([box for box, _, _ in found], np.float32).reshape(-1, 4),
        scores,
        np.array([kind for _, _, kind in found], np.int32),
        scores >= 0.5,
    )


def run(tracker, frames, fps=10.0):
    """Play lists of detections; returns the step of each frame."""
    return [tracker.step(sight(*found), index, index / fps, LABELS) for index, found in enumerate(frames)]


def box(x, y, w=40.0, h=80.0):
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def ids(steps, *, confirmed=True):
    return {track.id for step in steps for track in step.tracks if track.confirmed or not confirmed}


coordinate = st.floats(-500, 1500, width=32)
side = st.floats(0, 600, width=32)
some_boxes = st.lists(st.tuples(coordinate, coordinate, side, side), min_size=1, max_size=8).map(
    lambda found: np.array([(x, y, x + w, y + h) for x, y, w, h in found], np.float32)
)


@given(some_boxes, some_boxes)
def test_overlap_is_symmetric_and_a_share(first, second):
    """IoU, containment, distance and size ratio of any boxes, empty ones too, are bounded and the same both ways round."""
    one, two = boxes.to_centres(first), boxes.to_centres(second)
    for measure, (a, b) in ((boxes.iou, (first, second)), (boxes.contained, (first, second)), (boxes.size_ratio, (one, two))):
        there, back = measure(a, b), measure(b, a)
        assert np.all((there >= 0) & (there <= 1.001))
        assert np.allclose(there, back.T, atol=1e-4)
    distance = boxes.centre_distance(one, two)
    assert np.all(np.isfinite(distance) & (distance >= 0))


@given(some_boxes)
def test_a_box_overlaps_itself_wholly_and_centres_are_reversible(found):
    """What lies on itself has IoU 1, unless it is empty."""
    overlap = np.diag(boxes.iou(found, found))
    area = boxes.areas(found)
    assert np.allclose(overlap[area > 1], 1.0, atol=1e-3)
    assert np.allclose(boxes.from_centres(boxes.to_centres(found)), found, atol=1e-2)


@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=5), st.floats(0.01, 1))
def test_pairs_take_each_row_and_column_once(matrix, least):
    """Whatever the scores: no track gets two detections, no detection two tracks, nothing below the limit, best first."""
    score = np.array(matrix, np.float32)
    pairs = boxes.greedy_pairs(score, least)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs)
    assert all(score[row, column] >= np.float32(least) - 1e-6 for row, column in pairs)
    if pairs:
        assert score[pairs[0]] == score.max()


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.0, 700.0),
    st.floats(100.0, 400.0),
    st.floats(-250.0, 250.0),
    st.floats(-60.0, 60.0),
    st.sampled_from([5.0, 10.0, 25.0]),
    st.integers(0, 2**31),
)
def test_one_walker_is_one_track(x, y, vx, vy, fps, seed):
    """Anybody who walks evenly, at any rate of frames from 5 a second on, with boxes that shake by 3 px, keeps one id."""
    noise = np.random.default_rng(seed)
    tracker = Tracker()
    frames = []
    for t in range(round(4 * fps)):
        centre = np.array([x + vx * t / fps, y + vy * t / fps]) + noise.normal(0, 3, 2)
        frames.append([(box(*centre), 0.8, 0)])
    steps = run(tracker, frames, fps)
    assert len(ids(steps)) == 1
    assert all(len(step.tracks) == 1 and step.tracks[0].seen for step in steps)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200), st.floats(0.31, 1), st.integers(0, 1)), max_size=6), max_size=25
    )
)
def test_ids_only_grow_and_are_never_used_twice(frames):
    """Random boxes in random frames: an id that was given up never comes back, new ones are larger than all before."""
    tracker = Tracker(TrackerSettings(lost_after_s=0.3, tentative_s=0.1))
    gone, highest = set(), 0
    for index, found in enumerate(frames):
        step = tracker.step(sight(*[(box(x, y), score, kind) for x, y, score, kind in found]), index, index / 10, LABELS)
        now = {track.id for track in step.tracks}
        assert len(now) == len(step.tracks)
        assert not now & gone
        new = {one for one in now if one > highest}
        assert all(one > highest for one in new)
        highest = max(now | {highest})
        gone |= set(range(1, highest + 1)) - now
        assert all(track.seen == (track.last_frame == index) for track in step.tracks)


def test_a_track_is_confirmed_after_enough_measurements():
    """Two flickers of noise are no object; the third measurement makes it one."""
    steps = run(Tracker(TrackerSettings(confirm_hits=3)), [[(box(100, 100), 0.6, 0)]] * 3)
    assert [step.tracks[0].confirmed for step in steps] == [False, False, True]


def test_two_people_who_pass_each_other_keep_their_ids():
    """They cross with 60 px between their feet; nobody is swapped, nobody is born."""
    frames = [[(box(60 + 12 * t, 150), 0.8, 0), (box(500 - 12 * t, 230), 0.8, 0)] for t in range(36)]
    steps = run(Tracker(), frames)
    assert len(ids(steps)) == 2
    first, last = steps[5].tracks, steps[-1].tracks
    left = next(track.id for track in first if track.xyxy[0] < 200)
    assert next(track.id for track in last if track.xyxy[0] > 300) == left


def test_a_weak_box_continues_a_track_and_starts_none():
    """Behind a bush the score drops to 0.35 for a second: the track goes on; the same weak box alone never becomes a track."""
    walk = [[(box(60 + 8 * t, 150), 0.35 if 10 <= t < 20 else 0.8, 0)] for t in range(30)]
    steps = run(Tracker(), walk)
    assert len(ids(steps)) == 1
    assert all(step.tracks[0].seen for step in steps)
    assert run(Tracker(), [[(box(100, 100), 0.35, 0)]] * 20)[-1].tracks == []


def test_at_two_frames_a_second_boxes_no_longer_overlap():
    """A slow board: the walker moves by 80 % of his size between two frames; the centre's distance holds the track."""
    frames = [[(box(60 + 48 * t, 150), 0.8, 0)] for t in range(10)]
    assert len(ids(run(Tracker(TrackerSettings(confirm_hits=2)), frames, fps=2.0))) == 1


def test_an_object_is_lost_after_its_time_and_told_once():
    """The walker leaves: the track waits two seconds, then it ends once."""
    frames = [[(box(100, 100), 0.8, 0)]] * 5 + [[]] * 40
    tracker = Tracker(TrackerSettings(lost_after_s=2.0))
    steps = run(tracker, frames)
    ended = [index for index, step in enumerate(steps) if step.ended]
    assert ended == [25]
    assert not tracker.active


def test_a_gap_shorter_than_that_is_bridged():
    """1.5 s behind a pillar, standing still: the same id."""
    frames = [[(box(100, 100), 0.8, 0)]] * 5 + [[]] * 15 + [[(box(104, 100), 0.8, 0)]] * 5
    assert len(ids(run(Tracker(), frames))) == 1


def test_half_a_body_in_the_whole_body_is_no_second_person():
    """The detector frames the walker twice, whole and from the waist up: one track."""
    frames = [[(box(100 + 5 * t, 100), 0.8, 0), (box(100 + 5 * t, 80, 38, 38), 0.6, 0)] for t in range(20)]
    assert len(ids(run(Tracker(), frames))) == 1


def test_a_cart_that_is_pushed_is_not_its_pusher():
    """Two classes in nearly the same place: two tracks, each with its class."""
    frames = [[(box(100 + 5 * t, 100), 0.8, 0), (box(115 + 5 * t, 120, 50, 40), 0.8, 1)] for t in range(20)]
    steps = run(Tracker(), frames)
    assert sorted(track.label for track in steps[-1].tracks) == ["cart", "person"]
    assert len(ids(steps)) == 2


@pytest.mark.parametrize("count", [0, 1, 50])
def test_any_number_of_objects(count):
    """An empty yard, one walker, a crowd of fifty that stands apart."""
    frames = [[(box(60 * (n % 10), 100 * (n // 10), 30, 60), 0.8, 0) for n in range(count)]] * 4
    tracker = Tracker()
    steps = run(tracker, frames)
    assert len(steps[-1].tracks) == count
    assert len(tracker.finish(LABELS)) == count


def test_a_clock_that_jumps_back_ends_what_was_followed():
    """The camera was opened anew and counts from 0: old tracks end at once, new ones get new ids, and nothing lingers."""
    tracker = Tracker()
    for index in range(5):
        step = tracker.step(sight((box(100, 100), 0.8, 0)), index, 5000 + index / 10, LABELS)
    old = step.tracks[0].id
    step = tracker.step(sight((box(100, 100), 0.8, 0)), 0, 0.0, LABELS)
    assert [track.id for track in step.ended] == [old]
    assert [track.id for track in step.tracks] == [old + 1]


def test_a_sure_detection_is_believed_at_its_second_sight_and_a_doubtful_one_at_its_third():
    """Scores that add up to 1.3 are enough; at two frames a second the second sight is half a second old and enough too."""
    assert [step.tracks[0].confirmed for step in run(Tracker(), [[(box(100, 100), 0.8, 0)]] * 2)] == [False, True]
    assert [step.tracks[0].confirmed for step in run(Tracker(), [[(box(100, 100), 0.55, 0)]] * 3)] == [False, False, True]
    assert [step.tracks[0].confirmed for step in run(Tracker(), [[(box(100, 100), 0.55, 0)]] * 2, fps=2.0)] == [False, True]
