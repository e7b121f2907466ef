"""A camera's whole way: film, gate, detector, tracker, zone rule, crops."""

import cv2
import numpy as np
import pytest
from blob_model import open_model

from device_agent.vision.camera_disk import FilmCamera
from device_agent.vision.detector import Answer, DetectorError
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.motion import GateSettings
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import Frame
from device_agent.vision.zones import Zone


@pytest.fixture
def detector(blob):
    found = InProcessDetector(read_spec(*blob, 1, None), open_model)
    yield found
    found.close()


def play(pipeline, frames):
    results = [pipeline.step(frame) for frame in frames]
    return results, [update for result in results for update in result.events] + pipeline.finish()


def test_two_people_walk_through_a_film_and_raise_two_events_with_crops(tmp_path, draw, detector, new_id):
    """Two people cross the picture one after the other: two events, each with a picture of who it was, nobody else."""
    film = draw.two_visits(tmp_path / "film.avi")
    pipeline = Pipeline(PipelineSettings("door"), detector, new_id)
    results, updates = play(pipeline, FilmCamera("door", film).frames())

    started = [update.event for update in updates if update.kind == "start"]
    ended = [update.event for update in updates if update.kind == "end"]
    assert [event.label for event in started] == ["person", "person"]
    assert [event.id for event in ended] == [event.id for event in started]
    assert abs(started[0].start_frame - 13) <= 2
    assert abs(started[1].start_frame - 103) <= 2
    for event in started:
        (first,) = event.crops
        assert first.kind == "first"
        picture = cv2.imdecode(np.frombuffer(first.jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (first.height_px, first.width_px, 3)
        assert (picture[:, :, 2].astype(int) - picture[:, :, 0] > 80).mean() > 0.2, "the crop shows the red walker"
    assert all(not event.open for event in ended[:1])
    last_crops = [[u.event.crops[-1] for u in updates if u.event.id == e.id and u.event.crops][-1] for e in started]
    assert all(crop.box[0] > 2 and crop.box[2] < 318 for crop in last_crops), "a whole body, not one cut off by the edge"
    counts = pipeline.counts()
    assert counts.frames == 150
    assert counts.events == 2
    assert 40 <= counts.gated_frames <= 130
    assert counts.frames_with_detection <= counts.gated_frames
    assert counts.baseline_gated_jpeg_bytes > 100 * counts.gated_frames
    assert {"gate", "detect", "track", "rules", "invoke"} <= set().union(*(result.timings_ms for result in results))
    assert any(result.gate.reason == "still" for result in results), "an empty yard does not cost a detector run each frame"


def test_a_zone_counts_only_who_stands_in_it(tmp_path, draw, detector, new_id):
    """A zone on the right half: the event begins when the walker's feet are there, not when he is first seen."""
    film = draw.two_visits(tmp_path / "film.avi")
    zone = Zone("right", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)), frozenset({"person"}))
    pipeline = Pipeline(PipelineSettings("door", zones=(zone,)), detector, new_id)
    _, updates = play(pipeline, FilmCamera("door", film).frames())
    started = [update.event for update in updates if update.kind == "start"]
    assert len(started) == 2
    # x0 -30, 12 px a frame, the middle of the box crosses 160 px about 14.6 frames after the start.
    assert abs(started[0].start_frame - (10 + 15)) <= 1
    assert started[0].zone == "right"


class Failing:
    """A detector that gives no answer for some frames."""

    def __init__(self, inner, fails):
        self.inner, self.fails, self.asked = inner, fails, 0

    def look(self, picture):
        self.asked += 1
        if self.asked in self.fails:
            raise DetectorError("hung", "no reply within 1 s")
        return self.inner.look(picture)


def test_frames_that_the_detector_never_answered_are_counted_and_hurt_no_visit(tmp_path, draw, detector, new_id):
    """The inference child hangs for five frames in the middle of a visit: five frames lost, still one event for the person."""
    film = draw.two_visits(tmp_path / "film.avi")
    failing = Failing(detector, set(range(14, 19)))
    pipeline = Pipeline(PipelineSettings("door"), failing, new_id)
    _, updates = play(pipeline, FilmCamera("door", film).frames())
    assert sum(update.kind == "start" for update in updates) == 2
    assert pipeline.counts().dropped == {"hung": 5}


def test_events_survive_a_change_of_labels_between_two_models(draw, detector, new_id):
    """A release numbers its classes otherwise: the track goes on, the event stays one."""
    first = detector.card
    import dataclasses

    second = dataclasses.replace(first, labels=("cart", "person"))

    class Switching:
        asked = 0

        def look(self, picture):
            self.asked += 1
            answer = detector.look(picture)
            if self.asked <= 12:
                return answer
            found = dataclasses.replace(answer.detections, class_id=answer.detections.class_id + 1)
            return Answer(found, second, 0.0)

    pipeline = Pipeline(PipelineSettings("door", gate=GateSettings(enabled=False)), Switching(), new_id)
    frames = (Frame("door", t, t / 10, t / 10, draw.picture((20 + 6 * t, 100, 50 + 6 * t, 170))) for t in range(30))
    _, updates = play(pipeline, frames)
    assert [(update.kind, update.event.label) for update in updates if update.kind == "start"] == [("start", "person")]


def test_a_window_of_counts_is_the_difference_of_two_readings(tmp_path, draw, detector, new_id):
    """The heartbeat sends what happened since the one before; the trial reads dark and bright frames apart."""
    pipeline = Pipeline(PipelineSettings("door"), detector, new_id)
    frames = list(FilmCamera("door", draw.two_visits(tmp_path / "film.avi")).frames())
    for frame in frames[:60]:
        pipeline.step(frame)
    before = pipeline.counts()
    for frame in frames[60:]:
        pipeline.step(frame)
    window = pipeline.counts().since(before)
    assert window.frames == 90
    assert window.events == 1
    assert sum(light.gated_frames for light in window.light.values()) == window.gated_frames
    assert 80 < window.mean_brightness < 130
