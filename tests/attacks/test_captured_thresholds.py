"""A captured server turns the thresholds: down, to be sent pictures of everything; up, so that nobody is found and blurred."""

import dataclasses

import cv2
import numpy as np

from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.detector import Answer
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import Privacy
from device_agent.vision.types import Frame
from models.card import InputSpec, ModelCard, OutputSpec, Thresholds
from models.inference.types import Detections

CARD = ModelCard("finder", "detect", InputSpec(64, 64), OutputSpec("ssd_postprocess"), ("person", "bottle"),
                 thresholds=Thresholds(score=0.5))  # fmt: skip
PERSON, BOX = 0, (100.0, 60.0, 260.0, 420.0)


class Finder:
    """A detector that sees one person in each frame, as surely as it is told."""

    def __init__(self, score: float) -> None:
        self.score, self.card = score, CARD

    def look(self, picture_bgr: np.ndarray) -> Answer:
        return Answer(Detections.of(np.array([BOX], np.float32), [self.score], [PERSON]), CARD, 1.0)


def frames(count: int):
    """A checkered yard in which every detail is sharp, moving enough to open the gate."""
    rows, columns = np.mgrid[:480, :640]
    for number in range(count):
        picture = (((rows // 4 + (columns + 2 * number) // 4) % 2) * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
        yield Frame("yard", number, number / 10, 1000.0 + number, picture)


def seen(score: float, min_score: dict[str, float], cutter: Cutter | None = None) -> tuple[int, list[Frame]]:
    """How many detections were reported, and the frames that were looked at."""
    settings = dataclasses.replace(PipelineSettings("yard"), min_score=min_score)
    pipeline = Pipeline(settings, Finder(score), iter(map(str, range(999))).__next__, cutter=cutter)
    looked, reported = [], 0
    for frame in frames(8):
        result = pipeline.step(frame)
        if result.detections is not None:
            looked.append(frame)
            reported += len(result.detections)
    assert looked, "the gate never opened: nothing was shown"
    return reported, looked


def test_a_lower_threshold_than_the_signed_cards_changes_nothing() -> None:
    """``min_score`` 0 from the server: what the signed model card does not report is reported to nobody."""
    assert seen(0.3, {})[0] == 0
    assert seen(0.3, {"person": 0.0, "bottle": 0.0})[0] == 0
    assert seen(0.6, {"person": 0.0})[0] > 0


def test_a_threshold_that_nobody_reaches_unblurs_nobody() -> None:
    """``min_score`` 1 from the server: no event is told of any more, and in what leaves all the same (a burst, a still of a debug
    session that the policy allows) people are as unrecognisable as before."""
    cutter = Cutter(Privacy(blur=frozenset({"person"})))
    reported, looked = seen(0.6, {"person": 1.0}, cutter)
    assert reported == 0
    picture = cutter.picture(looked[-1], whole(looked[-1]), 640)
    assert picture is not None
    left, top, right, bottom = map(int, BOX)
    person = picture.picture_bgr[top:bottom, left:right]
    assert cv2.Laplacian(cv2.cvtColor(person, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var() < 1
