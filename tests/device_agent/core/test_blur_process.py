"""The board's own model for blurring: in a child, on demand, and closed to every picture where it cannot be run."""

import itertools
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from device_agent.blur_process import RETRY_S, BlurDetector
from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.detector import Answer, DetectorError
from device_agent.vision.privacy import Privacy
from device_agent.vision.types import Frame
from models.card import load_card
from models.inference.errors import ModelError
from models.inference.types import Detections

ROOT = Path(__file__).parents[3]
YARD = ROOT / "models" / "rendered" / "releases" / "yard-2"


def frame(index: int) -> Frame:
    return Frame("yard", index, index / 10, 0.0, np.full((240, 320, 3), 90, np.uint8))


class Finder:
    """A detector that finds nobody."""

    def __init__(self) -> None:
        self.closed = 0
        self.card = load_card((ROOT / "models" / "cards" / "rpi_person_192.toml").read_text())

    def look(self, picture_bgr) -> Answer:
        return Answer(Detections.empty(), self.card, 1.0)

    def close(self) -> None:
        self.closed += 1


def test_a_model_that_does_not_load_refuses_every_picture_and_is_tried_again_later(caplog) -> None:
    """Somebody deleted the file. No picture leaves; a minute later it is back, and pictures leave again."""
    now, tries, finder = [0.0], itertools.count(1), Finder()

    def start():
        if next(tries) == 1:
            raise ModelError("missing", "no model /opt/faces.tflite")
        return finder

    blur = BlurDetector(start, lambda: now[0])
    refused: list[str] = []
    cutter = Cutter(Privacy(blur=frozenset({finder.card.labels[0]})), look=blur.look)
    cutter.refused = refused.append
    for index in range(3):
        assert cutter.cut(frame(index), whole(frame(index)), 320, 85) is None
    assert refused == ["privacy"] * 3
    assert caplog.text.count("does not load") == 1
    now[0] = RETRY_S + 1
    assert cutter.cut(frame(9), whole(frame(9)), 320, 85) is not None
    blur.close()
    blur.close()
    assert finder.closed == 1
    with pytest.raises(DetectorError):
        blur.look(frame(1).picture_bgr)


def test_a_real_model_in_a_child_is_asked_once_a_picture_and_its_death_costs_pictures_not_privacy() -> None:
    """The child is shot between two frames: it comes back, and in between no picture went without its look."""
    blur = BlurDetector.of_files(YARD / "model_int8.tflite", YARD / "card.toml")
    refused: list[str] = []
    cutter = Cutter(Privacy(blur=frozenset({"person"})), look=blur.look)
    cutter.refused = refused.append
    try:
        assert cutter.cut(frame(1), whole(frame(1)), 320, 85) is not None
        child = blur._opened()
        os.kill(child.pid, signal.SIGKILL)
        asked, deadline_s = 1, time.monotonic() + 60
        for asked in itertools.count(1):
            if cutter.cut(frame(1 + asked), whole(frame(1 + asked)), 320, 85) is not None:
                break
            assert time.monotonic() < deadline_s, "it never came back"
            time.sleep(0.05)
        assert refused == ["privacy"] * (asked - 1)
    finally:
        blur.close()
