"""Who leaves has left: ends are told at once, an empty bay is nobody's, who stood still and walks off is still himself."""

import itertools

import cv2
import numpy as np
import pytest

from device_agent.vision.detector import Answer
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import Frame
from device_agent.vision.zones import Zone
from models.card import load_card
from models.inference.types import Detections

WIDTH_PX, HEIGHT_PX = 640, 480
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
CAR, PERSON = 0, 1


class Told:
    """A detector that is told what there is."""

    def __init__(self):
        self.card, self.truth = load_card(CARD), []

    def look(self, picture):
        if not self.truth:
            return Answer(Detections.empty(), self.card, 0.0)
        boxes, scores, kinds = zip(*self.truth, strict=True)
        return Answer(Detections.of(list(boxes), list(scores), list(kinds)), self.card, 0.0)


def patches(seed, cell_px):
    """A picture of large patches, which the gate's small plane still tells apart."""
    grey = np.random.default_rng(seed).integers(20, 235, (HEIGHT_PX // cell_px, WIDTH_PX // cell_px), np.uint8)
    return cv2.resize(grey, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_LINEAR)


GROUND, COAT = patches(1, 40), patches(5, 20)


def drawn(boxes, paint):
    picture = GROUND.copy()
    for left, top, right, bottom in ([round(value) for value in box] for box in boxes):
        x1, x2 = max(0, left), min(WIDTH_PX, right)
        picture[top:bottom, x1:x2] = paint[: bottom - top, x1 - left : x2 - left]
    return cv2.merge([picture] * 3)


def clipped(box):
    left, top, right, bottom = box
    x1, x2 = max(0.0, left), min(float(WIDTH_PX), right)
    return (x1, top, x2, bottom) if x2 - x1 > 8 else None


def play(scene, until_s, fps, kind=PERSON, zones=(), paint=COAT):
    """Events of a scene as (start told at, starts, end told at, ends), s; ends told with the source's end are None."""
    detector, numbers = Told(), itertools.count(1)
    pipeline = Pipeline(PipelineSettings("yard", zones=tuple(zones)), detector, lambda: f"v{next(numbers)}")
    found = {}
    for index in range(round(until_s * fps)):
        at_s = index / fps
        boxes = scene(at_s)
        detector.truth = [(box, 0.85, kind) for box in map(clipped, boxes) if box is not None]
        for update in pipeline.step(Frame("yard", index, at_s, at_s, drawn(boxes, paint))).events:
            if update.kind == "start":
                found[update.event.id] = [at_s, update.event.start_s, None, None]
            elif update.kind == "end":
                found[update.event.id][2:] = [at_s, update.event.end_s]
    pipeline.finish()
    return [tuple(one) for one in found.values()]


BAY = Zone("bay", ((0.2, 0.5), (0.45, 0.5), (0.45, 0.8), (0.2, 0.8)))


def bay(at_s):
    """A car stands in a bay, drives off at 40 s; another parks in the same place at 73 s."""
    if at_s < 40 or at_s >= 73:
        x = 100.0
    elif at_s < 43:
        x = 100 + 130 * (at_s - 40)
    elif at_s >= 70:
        x = 490 - 130 * (at_s - 70)
    else:
        return []
    return [(x, 200.0, x + 200, 330.0)]


@pytest.mark.parametrize("fps", [10.0, 5.0, 2.0, 1.0])
def test_another_car_in_the_same_bay_half_a_minute_later_is_another_event(fps):
    """The picture showed the bay empty in between: its place is not remembered, at whatever rate."""
    events = play(bay, 130, fps, CAR, [BAY])
    assert len(events) == 2
    (_, _, told_s, ended_s), (_, second_s, _, _) = events
    assert 39 <= ended_s <= 43.5
    assert told_s <= 46.5
    assert 70 <= second_s <= 74


def till(hold_s, speed_px_s):
    """Somebody walks in to the till, stands there without a stir, and walks off to the left."""

    def scene(at_s):
        if at_s < 2:
            return []
        x = 560 - 87 * (at_s - 2) if at_s < 5 else 299.0 if at_s < 5 + hold_s else 299 - speed_px_s * (at_s - 5 - hold_s)
        return [(x, 150.0, x + 80, 400.0)] if x > -75 else []

    return scene


@pytest.mark.parametrize("fps", [10.0, 5.0, 2.0, 1.0])
def test_the_end_of_a_visit_is_told_within_seconds_of_it(fps):
    """Somebody stood at the till for 40 s and left: its end is not kept back for a minute."""
    till_zone = Zone("till", ((0.45, 0.6), (0.62, 0.6), (0.62, 1.0), (0.45, 1.0)))
    events = play(till(40, 100), 75, fps, zones=[till_zone])
    assert len(events) == 1
    _, _, told_s, ended_s = events[0]
    assert 44 <= ended_s <= 47
    assert told_s <= 47 + 3.6


@pytest.mark.parametrize("fps", [10.0, 5.0, 2.0, 1.0])
@pytest.mark.parametrize("speed_px_s", [60, 200, 300])
def test_who_stood_still_and_walks_off_is_still_himself(fps, speed_px_s):
    """Nobody looked while he stood; at the next look he is a step or two away. One visit, in the whole picture."""
    events = play(till(15, speed_px_s), 36, fps)
    assert [round(began_s) for _, began_s, _, _ in events] == [2]
    assert events[0][3] >= 20 + 220 / speed_px_s - 1.1, "it lasted until he was out of the picture"


def test_a_faint_box_that_lags_behind_takes_nobodys_track():
    """He walks off; where he stood the detector still sees a faint second box of him: the strong one is he."""
    detector, fps = Told(), 5.0
    pipeline, scene = Pipeline(PipelineSettings("yard"), detector, itertools.count(1).__next__), till(15, 600)
    tracks = set()
    for index in range(round(24 * fps)):
        at_s = index / fps
        boxes = scene(at_s)
        detector.truth = [(box, 0.85, PERSON) for box in map(clipped, boxes) if box is not None]
        if 20.1 < at_s < 20.5:
            detector.truth.append(((299.0, 150.0, 379.0, 400.0), 0.35, PERSON))
        step = pipeline.step(Frame("yard", index, at_s, at_s, drawn(boxes, COAT)))
        tracks |= {track.id for track in step.tracks if track.confirmed}
    assert tracks == {1}


def test_who_comes_to_the_side_of_somebody_who_still_stands_there_is_somebody_else():
    """The detector misses the one who stands there just when another appears a step beside him: two visits."""
    stands, comes = (300.0, 150.0, 380.0, 400.0), (460.0, 150.0, 540.0, 400.0)
    detector = Told()
    pipeline = Pipeline(PipelineSettings("yard"), detector, itertools.count(1).__next__)
    found = []
    for index in range(100):
        at_s = index / 5
        boxes = [stands] if at_s < 15 else [stands, comes]
        seen = [comes] if 15 <= at_s < 17 else boxes
        detector.truth = [(box, 0.85, PERSON) for box in seen]
        updates = pipeline.step(Frame("yard", index, at_s, at_s, drawn(boxes, COAT))).events
        found += [round(update.event.start_s) for update in updates if update.kind == "start"]
    assert found == [0, 15]


def test_what_is_hidden_has_not_left():
    """A van stands before a parked car for 20 s: its visit goes on."""

    def scene(at_s):
        van = [(60.0, 180.0, 340.0, 420.0)] if 30 <= at_s < 50 else []
        return van or [(100.0, 200.0, 300.0, 330.0)]

    events = play(scene, 80, 5.0, CAR)
    first = min(events, key=lambda one: one[1])
    assert first[2:] == (None, None), "it was never told to be over"
