"""A captured server tries to see more than the owner allowed, by configuration alone: whole frames, what lies under a mask."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from device_agent.camera_place import CameraPlace, Parts
from device_agent.configuration.plan import CameraPlan, Plan
from device_agent.configuration.translate import judge
from device_agent.duties.whole_frames import MOST_PER_HOUR, WholeFrames
from device_agent.update.policy import load_policy, missing_policy
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Answer
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import Privacy
from device_agent.vision.recall import RecallSampler, RecallSettings
from device_agent.vision.types import Crop, EventUpdate, Frame, Picture
from models.card import InputSpec, ModelCard, OutputSpec
from models.inference.types import Detections

CARD = ModelCard("finder", "detect", InputSpec(64, 64), OutputSpec("ssd_postprocess"), ("person", "bottle"))
GREEDY: dict[str, Any] = {
    "every_camera": {
        "gate": {"enabled": False},
        "recall_per_day": 1000,
        "triggers": {
            "low_confidence": {"below": 1.0, "above": 1.0, "cooldown_s": 0, "per_hour": 3600, "burst": True},
            "first_today": {"cooldown_s": 0, "per_hour": 3600, "burst": True},
        },
    }
}
"""As much as a configuration can ask for."""


class Passers:
    """A detector: somebody passes every two seconds, each time elsewhere, and comes nearer; nobody in between."""

    restarts, runtime, accelerator, card = 0, "fake", "cpu", CARD

    def __init__(self, *, nobody: bool = False) -> None:
        self._looks, self._nobody = 0, nobody

    def look(self, picture_bgr: Picture) -> Answer:
        self._looks += 1
        left, top = 40 + 80 * ((self._looks // 12) % 6), 60 + (self._looks % 12) * 3
        there = not self._nobody and self._looks % 12 < 9
        near = 1 + 0.05 * (self._looks % 12)
        boxes = np.array([[left, top, left + 60 * near, top + 150 * near]] if there else [], np.float32).reshape(-1, 4)
        return Answer(Detections.of(boxes, np.full(len(boxes), 0.6), [0] * len(boxes)), CARD, 1.0)


class Caller(Passers):
    """A detector: somebody comes to the door, is nearest after eight seconds (five a second), and goes away backwards."""

    def look(self, picture_bgr: Picture) -> Answer:
        self._looks += 1
        near = 1 + 0.04 * (40 - abs(40 - self._looks))
        boxes = np.array([[300, 100, 300 + 50 * near, 100 + 120 * near]] if self._looks < 79 else [], np.float32).reshape(-1, 4)
        return Answer(Detections.of(boxes, np.full(len(boxes), 0.9), [0] * len(boxes)), CARD, 1.0)


class Silent:
    """What a place tells besides: nobody listens."""

    def places(self, *_: object) -> None: ...

    def use(self, **_: object) -> None: ...

    def watcher(self, *_: object) -> "Silent":
        return self

    name = "nobody"
    overlay: object = None

    def saw(self, scene: object) -> Sequence[EventUpdate]:
        return ()

    def finish(self) -> Sequence[EventUpdate]:
        return ()


class Board:
    """One camera of a board, with everything between a configuration and what reaches the outbox."""

    def __init__(
        self, classes: Sequence[str] = ("crop",), *, sees: Passers | None = None, draw: Callable[[], float] = lambda: 0.3
    ) -> None:
        ids = itertools.count()
        new_id = lambda: f"e{next(ids)}"  # noqa: E731
        self.cutter = Cutter()
        self.basis = Plan((CameraPlan("yard", PipelineSettings("yard")),))
        self.pipeline = Pipeline(self.basis.cameras[0].pipeline, sees or Passers(), new_id, cutter=self.cutter)
        sampler = RecallSampler("yard", RecallSettings(), self.cutter, new_id, draw=draw)
        silent: Any = Silent()
        parts = Parts(
            self.pipeline, self.cutter, Privacy(), sampler, silent, silent,
            recall="recall" in classes, burst="burst" in classes,
        )  # fmt: skip
        self.place = CameraPlace(parts, silent, silent, new_id)
        self.now_s = 0.0
        self.outbox: list[EventUpdate] = []
        self.unsent: list[str] = []
        self._keep = WholeFrames(lambda: self.now_s).before(self.outbox.append, self.unsent.append)
        self._frames = itertools.count()

    def configure(self, value: dict[str, Any]) -> None:
        self.place.use(judge(value, self.basis, CARD.labels).cameras[0])

    def see(self, picture: Picture, at_s: float) -> None:
        self.now_s = at_s
        for update in self.pipeline.step(Frame("yard", next(self._frames), at_s, 1e6 + at_s, picture)).events:
            self._keep(update)

    def crops(self) -> list[Crop]:
        return [crop for update in self.outbox for crop in update.event.crops]

    def whole(self) -> list[Crop]:
        """Pictures of the whole frame."""
        return [crop for crop in self.crops() if crop.cut == (0, 0, 640, 480)]


def yard(number: int) -> Picture:
    picture = np.full((480, 640, 3), 100, np.uint8)
    left = number * 7 % 500
    picture[100:200, left : left + 60] = 220
    return picture


def ten_minutes(board: Board) -> None:
    for number in range(2 * 600):
        board.see(yard(number), number / 2)


@pytest.mark.parametrize("policy", [missing_policy(), load_policy('channels = ["stable"]\n')], ids=["none", "silent"])
def test_a_configuration_alone_gets_no_whole_frame_of_a_board_whose_owner_said_nothing(policy: Any) -> None:
    """A captured server asks for bursts on every doubt and a thousand samples a day; it got half a frame a second."""
    board = Board(policy.upload_classes)
    board.configure(GREEDY)
    for number in range(300):
        board.see(yard(number), number / 2)
    assert board.whole() == []
    assert len(board.crops()) > 5, "the triggers fire, each with the crop of what it is about"


def test_where_the_owner_allows_bursts_and_samples_a_server_still_gets_no_film() -> None:
    """The policy lists them all; the configuration asks for as much as its types allow: the hour's budget is all there is."""
    board = Board(("crop", "burst", "recall"))
    board.configure(GREEDY)
    ten_minutes(board)
    assert len(board.whole()) == MOST_PER_HOUR
    assert "whole_frames" in board.unsent
    assert board.outbox[-1].event.started_wall_s > 1e6 + 500, "events go on, without their whole frames"
    before = len(board.whole())
    for number in range(60):
        board.see(yard(number), 4300 + number / 2)
    assert len(board.whole()) > before, "the next hour has its own"


EVERYTHING = {"masks": [{"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]}


def told_late(board: Board, changed: dict[str, Any], at_s: float) -> list[Crop]:
    """Pictures of before a change of configuration that are told after it."""
    number = 0
    while number / 5 < at_s:
        board.see(yard(number), number / 5)
        number += 1
    before = len(board.outbox)
    board.configure(changed)
    for later in range(number, number + 20):
        board.see(yard(later), later / 5)
    # The slice of a recall sample, the patience with a visit and with a burst are over.
    for later in range(20):
        board.see(yard(later), at_s + 100 + later / 5)
    return [crop for update in board.outbox[before:] for crop in update.event.crops if crop.at_s < at_s]


def test_a_mask_that_comes_later_holds_for_pictures_that_were_made_already() -> None:
    """The owner asks for a mask, his server sends it: the sample that was drawn and the half burst that wait on the board were
    made before it, and left after it. Without the mask they go."""
    asked = {"every_camera": {**GREEDY["every_camera"], "recall_per_day": 1000}}
    masked = {"every_camera": {**asked["every_camera"], **EVERYTHING}}
    slower = {"every_camera": {**asked["every_camera"], "fps": 200}}
    kinds = set()
    for at_s in (1.0, 3.0, 7.2):
        for late in (masked, slower):
            board = Board(("crop", "burst", "recall"), draw=lambda: 0.99)
            board.configure(asked)
            told = told_late(board, late, at_s)
            if late is masked:
                assert told == [], at_s
            kinds |= {(crop.kind, crop.cut == (0, 0, 640, 480)) for crop in told}
    assert kinds >= {("first", True), ("burst", True)}, "the change alone costs no picture"


@pytest.mark.parametrize("masked", [True, False])
def test_a_visit_that_goes_on_under_a_new_mask_ends_without_the_picture_of_before(masked: bool) -> None:
    """The best crop of a visit waits for the visit's end. A corner is masked in between: what is told then was made after it."""
    board = Board(sees=Caller())
    board.configure({"every_camera": {"gate": {"enabled": False}}})
    corner = {"masks": [{"polygon": [[0.6, 0], [1, 0], [1, 0.3], [0.6, 0.3]]}]} if masked else {"fps": 200}
    leaves = np.random.default_rng(5).integers(0, 255, (480, 640, 3), np.uint8)
    for number in range(100):
        if number == 45:
            board.configure({"every_camera": {"gate": {"enabled": False}, **corner}})
        board.see(leaves, number / 5)
    assert [update.kind for update in board.outbox] == ["start", "update", "end"]
    (crop,) = board.outbox[1].event.crops
    assert (crop.frame >= 45) is masked


def test_a_sample_goes_on_after_a_mask_with_what_comes() -> None:
    """Only the picture is lost, not the place in the slice: another frame may be drawn, with the mask on it."""
    board = Board(("recall",), sees=Passers(nobody=True), draw=lambda: 0.0)
    shown = {"every_camera": {"recall_per_day": 100}}
    board.configure(shown)
    for number in range(50):
        board.see(yard(number), number * 4)
    masked = {"masks": [{"polygon": [[0, 0], [1, 0], [1, 0.25], [0, 0.25]]}]}
    board.configure({"every_camera": {**shown["every_camera"], **masked}})
    for number in range(50, 240):
        board.see(yard(number), number * 4)
    (sample,) = board.whole()
    assert sample.at_s >= 200
    picture = cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture[:110].max() < 8, "masked"
    assert picture[140:].min() > 60
