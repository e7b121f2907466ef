"""The drawn yard with a detector that knows the truth but for its mistakes: every visit is counted, each of them once."""

import numpy as np
import pytest

from device_agent.vision.detector import Answer
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import Frame
from device_agent.vision.zones import Zone, contains
from models.card import load_card
from models.inference.types import Detections
from models.rendered.scenes import LABELS, ZONE, Scene

CARD = """
name = "truth"
task = "detect"
licence = "Apache-2.0"
labels = ["person", "cart", "animal"]
[input]
width_px = 64
height_px = 64
[output]
decoder = "ssd_postprocess"
"""


class Truth:
    """Answers with the truth of the frame it was told of: boxes shake by 1 px, one in ten is missed, one in ten is weak."""

    def __init__(self, seed):
        self.noise, self.card, self.truth = np.random.default_rng(seed), load_card(CARD), []

    def look(self, picture):
        kept = [item for item in self.truth if self.noise.random() > 0.1]
        boxes = [np.array(item.box_px) + self.noise.normal(0, 1, 4) for item in kept]
        scores = [0.4 if self.noise.random() < 0.1 else 0.8 for _ in kept]
        found = Detections.of(boxes, scores, [LABELS.index(item.label) for item in kept]) if kept else Detections.empty()
        return Answer(found, self.card, 0.0)


def true_visits(scene, frames, fps):
    """Persons whose box's lower middle stood in the zone in five frames or more: (track, first frame)."""
    inside = {}
    for t in range(frames):
        for item in scene.frame(t / fps).truth:
            x, y = (item.box_px[0] + item.box_px[2]) / 2 / 320, min(1.0, item.box_px[3] / 240)
            if item.label == "person" and contains(ZONE, x, y):
                inside.setdefault(item.track_id, []).append(t)
    return sorted(seen[0] for seen in inside.values() if len(seen) >= 5)


@pytest.mark.parametrize("seed", [4, 9])
def test_every_visit_of_the_yard_is_counted_once(seed, new_id):
    """Forty seconds: walkers stop in the zone, others cross, carts and animals pass; occlusion, misses and weak scores on top."""
    frames, fps = 400, 10.0
    scene, detector = Scene(seed), Truth(seed)
    zone = Zone("zone", ZONE, frozenset({"person"}))
    pipeline = Pipeline(PipelineSettings("yard", zones=(zone,)), detector, new_id)
    updates = []
    for t in range(frames):
        drawn = scene.frame(t / fps)
        detector.truth = drawn.truth
        updates += pipeline.step(Frame("yard", t, t / fps, t / fps, drawn.picture_bgr)).events
    updates += pipeline.finish()
    started = [update.event.start_frame for update in updates if update.kind == "start"]
    expected = true_visits(scene, frames, fps)
    assert len(started) == len(expected), (started, expected)
    assert all(abs(one - other) <= 8 for one, other in zip(sorted(started), expected, strict=True))
    assert all(update.event.crops for update in updates if update.kind == "start"), "an event has at least one crop"
