"""What stands still: a parked car is one event through misses, passers-by and light, and does not hold the gate open."""

import cv2
import numpy as np
import pytest

from device_agent.vision.detector import Answer
from device_agent.vision.motion import GATE_HEIGHT_PX, GATE_WIDTH_PX, LumaView, MotionGate
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.stationary import correlation
from device_agent.vision.tracker import Sighting, Tracker
from device_agent.vision.types import Frame
from models.card import load_card
from models.inference.types import Detections

LABELS = ["car", "person"]
WIDTH_PX, HEIGHT_PX = 640, 360
CAR = (220.0, 180.0, 420.0, 300.0)
CARD = """
name = "truth"
task = "detect"
licence = "Apache-2.0"
labels = ["car", "person"]
[input]
width_px = 64
height_px = 64
[output]
decoder = "ssd_postprocess"
"""


def street(*boxes, gain=1.0, seed=0):
    """A street with a textured car (or a person) in each box, at some light, with a sensor's noise."""
    picture = np.random.default_rng(7).integers(70, 100, (36, 64), np.uint8).astype(np.float32)
    picture = cv2.resize(picture, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)
    for left, top, right, bottom in ([round(value) for value in box] for box in boxes):
        tall = max(1, bottom - top)
        picture[max(0, top) : bottom, max(0, left) : max(0, right)] = 160.0
        picture[max(0, top + tall // 5) : top + tall // 2, max(0, left + 10) : max(0, right - 10)] = 20.0
    noise = np.random.default_rng(seed).normal(0, 3, picture.shape)
    return np.clip(picture * gain + noise, 0, 255).astype(np.uint8)


def view(picture):
    plane = cv2.blur(cv2.resize(picture, (GATE_WIDTH_PX, GATE_HEIGHT_PX)), (3, 3)).astype(np.float32)
    return LumaView(plane, GATE_WIDTH_PX / WIDTH_PX, GATE_HEIGHT_PX / HEIGHT_PX)


def sight(*found):
    scores = np.array([score for _, score, _ in found], np.float32)
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    return Sighting(boxes, scores, np.array([kind for _, _, kind in found], np.int32), scores >= 0.5)


def parked(tracker, until_s=12.0, fps=5.0, picture=None):
    """A car that is seen in one place for so long; returns the last step and the time after it."""
    seen = view(street(CAR) if picture is None else picture)
    noise = np.random.default_rng(3)
    for index in range(round(until_s * fps)):
        box = tuple(np.array(CAR) + noise.normal(0, 2, 4))
        step = tracker.step(sight((box, 0.8, 0)), index, index / fps, LABELS, seen)
    return step, until_s


def test_a_car_that_parks_becomes_stationary_after_ten_seconds_and_no_longer_needs_looking():
    """Boxes shake by two pixels; nine seconds are not enough, eleven are, whatever the rate of frames."""
    for fps in (2.0, 15.0):
        tracker = Tracker()
        assert not parked(tracker, 9.0, fps)[0].tracks[0].stationary
        tracker = Tracker()
        step, _ = parked(tracker, 11.5, fps)
        assert step.tracks[0].stationary
        assert step.tracks[0].seen
        assert not tracker.active
        (resting,) = tracker.resting(999, LABELS)
        assert (resting.id, resting.stationary, resting.seen) == (step.tracks[0].id, True, False)


def test_a_walker_never_is():
    """Somebody who crosses the picture slowly for twenty seconds."""
    tracker = Tracker()
    for index in range(100):
        left = 20.0 + 4.0 * index
        step = tracker.step(sight(((left, 100.0, left + 50, 230.0), 0.8, 1)), index, index / 5, LABELS)
        assert not any(track.stationary for track in step.tracks)
    assert tracker.active


@pytest.mark.parametrize("gain", [1.0, 0.6, 1.4])
def test_the_detector_misses_a_parked_car_for_two_minutes_in_changed_light(gain):
    """Looked at every two seconds, found never: its place looks as it did, in whatever light: the track stays, and calm."""
    tracker = Tracker()
    step, at_s = parked(tracker)
    car = step.tracks[0].id
    for look in range(60):
        picture = view(street(CAR, gain=gain, seed=look))
        step = tracker.step(sight(), 1000 + look, at_s + 2.0 * (look + 1), LABELS, picture)
        assert [(track.id, track.stationary, track.seen) for track in step.tracks] == [(car, True, False)]
    assert not tracker.active
    step = tracker.step(sight((CAR, 0.8, 0)), 2000, at_s + 130.0, LABELS, view(street(CAR)))
    assert [track.id for track in step.tracks] == [car]


def test_people_stand_before_the_car_for_half_a_minute():
    """Two passers-by stop in front of it and hide it: the car is still the same car when they have gone."""
    tracker = Tracker()
    step, at_s = parked(tracker)
    car = step.tracks[0].id
    hiders = [((200.0, 150.0, 300.0, 340.0), 0.8, 1), ((310.0, 150.0, 420.0, 340.0), 0.8, 1)]
    hidden = view(street(CAR, *(box for box, _, _ in hiders)))
    for index in range(150):
        at_s += 0.2
        step = tracker.step(sight(*hiders), 1000 + index, at_s, LABELS, hidden)
        assert car in {track.id for track in step.tracks}
    step = tracker.step(sight((CAR, 0.8, 0)), 2000, at_s + 0.2, LABELS, view(street(CAR)))
    assert next(track.id for track in step.tracks if track.label == "car") == car


@pytest.mark.parametrize("looks", [True, False])
def test_a_car_that_is_gone_is_given_up_within_seconds(looks):
    """It was towed between two frames: the place looks different (or nothing can be looked at), and the track ends, once."""
    tracker = Tracker()
    step, at_s = parked(tracker)
    ended = []
    for index in range(30):
        at_s += 0.2
        ended += tracker.step(sight(), 1000 + index, at_s, LABELS, view(street(seed=index)) if looks else None).ended
    assert [track.id for track in ended] == [step.tracks[0].id]
    assert not tracker.active


def test_a_car_that_drives_off_keeps_its_id_and_is_no_longer_stationary():
    """It starts slowly, then crosses the picture: one track to the end, moving after half a second."""
    tracker = Tracker()
    step, at_s = parked(tracker)
    car, moved = step.tracks[0].id, 0.0
    for index in range(25):
        moved += min(40.0, 8.0 * (index + 1))
        at_s += 0.2
        box = (CAR[0] + moved, CAR[1], CAR[2] + moved, CAR[3])
        step = tracker.step(sight((box, 0.8, 0)), 1000 + index, at_s, LABELS, view(street(box)))
        assert [track.id for track in step.tracks] == [car]
    assert not step.tracks[0].stationary
    assert tracker.active


def test_correlation_is_blind_to_light_and_not_to_shape():
    """The same patch brighter and with more contrast is the same; another is not; without contrast nothing can be said."""
    patch = np.random.default_rng(1).normal(100, 20, (12, 15)).astype(np.float32)
    assert correlation(patch, patch * 1.4 + 12) == pytest.approx(1.0, abs=1e-4)
    assert abs(correlation(patch, np.random.default_rng(2).normal(100, 20, (12, 15)).astype(np.float32))) < 0.4
    assert correlation(np.full((12, 15), 80, np.float32), patch) is None


class Sees:
    """A detector that is told what there is; counts how often it was asked."""

    def __init__(self):
        self.card, self.truth, self.asked = load_card(CARD), [], 0

    def look(self, picture):
        self.asked += 1
        if not self.truth:
            return Answer(Detections.empty(), self.card, 0.0)
        boxes, scores, kinds = zip(*self.truth, strict=True)
        return Answer(Detections.of(list(boxes), list(scores), list(kinds)), self.card, 0.0)


def test_a_parked_car_raises_one_event_and_lets_the_detector_sleep(new_id):
    """Two minutes: a car comes, parks, is missed half of the time, clouds pass, it leaves. One event; the gate mostly shut."""
    detector, dice = Sees(), np.random.default_rng(5)
    pipeline = Pipeline(PipelineSettings("street"), detector, new_id)
    updates, asked_before, fps = [], 0, 2.0
    for index in range(240):
        at_s = index / fps
        shift = 40.0 * max(0.0, 8.0 - at_s) if at_s < 60 else 40.0 * max(0.0, at_s - 110.0)
        sign = -1.0 if at_s < 60 else 1.0
        box = (CAR[0] + sign * shift, CAR[1], CAR[2] + sign * shift, CAR[3])
        there = box[2] > 10 and box[0] < WIDTH_PX - 10
        clipped = (max(0.0, box[0]), box[1], min(float(WIDTH_PX), box[2]), box[3])
        found = there and (not 20 < at_s < 105 or dice.random() < 0.5)
        detector.truth = [(clipped, 0.8, 0)] if found else []
        gain = 1.0 + 0.25 * np.sin(at_s / 20)
        picture = street(*([clipped] if there else []), gain=gain, seed=index)
        updates += pipeline.step(Frame("street", index, at_s, at_s, cv2.merge([picture] * 3))).events
        if at_s == 30.0:
            asked_before = detector.asked
        if at_s == 100.0:
            assert detector.asked - asked_before <= 0.35 * 70 * fps, "the keep-alive alone looks at one frame in four"
    updates += pipeline.finish()
    started = [update.event for update in updates if update.kind == "start"]
    assert [event.label for event in started] == ["car"]
    ended = [update.event for update in updates if update.kind == "end"]
    assert ended[0].end_s > 105.0


def test_the_gate_hands_its_plane_on():
    """The tracker is given the gate's small plane with its scale."""
    picture = cv2.merge([street(CAR)] * 3)
    result = MotionGate().step(Frame("street", 0, 0.0, 0.0, picture), active_track=False)
    assert result.view is not None
    assert result.view.plane.shape == (GATE_HEIGHT_PX, GATE_WIDTH_PX)
    assert result.view.across == pytest.approx(GATE_WIDTH_PX / WIDTH_PX)


def test_what_stands_still_asks_for_no_plane_of_its_own_but_is_held_by_its_first_picture():
    """While somebody else holds the gate open most frames have no small plane: a parked car has one made for it once, not each
    time that it is seen, and is known by that picture when the detector misses it later."""
    tracker, made = Tracker(), []

    def lazy(index):
        def plane():
            made.append(index)
            return view(street(CAR, seed=index)).plane

        return LumaView(plane, GATE_WIDTH_PX / WIDTH_PX, GATE_HEIGHT_PX / HEIGHT_PX)

    for index in range(100):
        step = tracker.step(sight((CAR, 0.8, 0)), index, index / 5, LABELS, lazy(index))
    assert step.tracks[0].stationary
    assert len(made) == 1
    for index in range(100, 160):  # twelve seconds unseen: six times what is given without a picture
        step = tracker.step(sight(), index, index / 5, LABELS, lazy(index))
    assert [track.id for track in step.tracks] == [1]
    assert not step.tracks[0].missing
