"""Which side of a line is `right`: the picture shows it, and the rule counts it so."""

import numpy as np
import pytest

from device_agent.vision.annotate import Overlay, annotate
from device_agent.vision.cutter import Cutter, whole
from device_agent.vision.motion import GateResult
from device_agent.vision.rules import Moment
from device_agent.vision.scene import Scene
from device_agent.vision.types import Frame
from device_agent.vision.zones import Line

WIDTH, HEIGHT = 640, 480


def drawn(line):
    """Where something was drawn beside the middle third of the picture's lines: a mask (HEIGHT, WIDTH)."""
    frame = Frame("door", 0, 0.0, 0.0, np.full((HEIGHT, WIDTH, 3), 128, np.uint8))
    scene = Scene(frame, GateResult(True, "motion", True, 0.1, 90.0), None, None, [], Moment(0, 0.0, 0.0, WIDTH, HEIGHT), ())
    picture = annotate(Cutter().picture(frame, whole(frame), WIDTH), scene, Overlay(lines=(line,)))
    return (picture != 128).any(axis=2)


@pytest.mark.parametrize(
    ("points", "right_is"),
    [
        (((0.5, 0.0), (0.5, 1.0)), "left"),  # from the top down, as in docs/eye.md
        (((0.5, 1.0), (0.5, 0.0)), "right"),
        (((0.0, 0.5), (1.0, 0.5)), "bottom"),
        (((1.0, 0.5), (0.0, 0.5)), "top"),
    ],
)
def test_the_arrow_points_to_the_right_of_who_looks_along_the_line(points, right_is):
    """A line from the top down has its right on the left half of the picture: nobody guesses that."""
    marks = drawn(Line("door", points=points))[HEIGHT // 3 : 2 * HEIGHT // 3, WIDTH // 3 : 2 * WIDTH // 3]
    rows, columns = marks.shape
    sides = {
        "left": marks[:, : columns // 2 - 8], "right": marks[:, columns // 2 + 8 :],
        "top": marks[: rows // 2 - 8], "bottom": marks[rows // 2 + 8 :],
    }  # fmt: skip
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[right_is]
    across = ("left", "right") if right_is in ("left", "right") else ("top", "bottom")
    assert sides[right_is].sum() > 100, "arrow and word"
    assert sides[opposite].sum() == 0, f"nothing on the other side of {across}"


def test_a_line_on_a_tiny_picture_is_drawn_all_the_same():
    frame = Frame("door", 0, 0.0, 0.0, np.zeros((2, 2, 3), np.uint8))
    scene = Scene(frame, GateResult(True, "motion", True, 0.1, 90.0), None, None, [], Moment(0, 0.0, 0.0, 2, 2), ())
    made = Cutter().picture(frame, whole(frame), 2)
    assert annotate(made, scene, Overlay(lines=(Line("\u95e8" * 50, points=((0.5, 0.5), (0.51, 0.5))),))).shape == (2, 2, 3)
