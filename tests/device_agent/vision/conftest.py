"""Films that are drawn where they are needed, and the blob model that sees what is drawn in them."""

import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

FAKES = Path(__file__).resolve().parents[2] / "fakes"
sys.path.insert(0, str(FAKES)) if str(FAKES) not in sys.path else None

CARD = """
name = "blob"
task = "detect"
licence = "Apache-2.0"
labels = ["person"]
[input]
width_px = 320
height_px = 240
colour = "bgr"
[output]
decoder = "ssd_postprocess"
"""


def write_film(path, pictures, fps=10.0, fourcc="MJPG"):
    """A film of these pictures."""
    writer = None
    for picture in pictures:
        if writer is None:
            size = (picture.shape[1], picture.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), fps, size)
        writer.write(picture)
    writer.release()
    return path


def yard(*boxes, size=(240, 320), colour=(20, 20, 220)):
    """A grey, textured picture with filled boxes (x1, y1, x2, y2)."""
    picture = np.random.default_rng(5).integers(90, 130, (*size, 1), np.uint8).repeat(3, axis=2)
    for box in boxes:
        x1, y1, x2, y2 = (round(value) for value in box)
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, -1)
        cv2.line(picture, (x1, y1), (x2 - 1, y2 - 1), (60, 60, 255), 1)
    return picture


def walker(t, start, x0=-30.0, speed=12.0, y=100.0):
    """The box of somebody who walks to the right from frame `start` on; None before and after."""
    x = x0 + speed * (t - start)
    return None if t < start or x > 320 else (max(0.0, x), y, min(320.0, x + 30), y + 70)


@pytest.fixture
def draw():
    """The drawing functions, so that tests need not import this file."""

    class Draw:
        film = staticmethod(write_film)
        picture = staticmethod(yard)
        walk = staticmethod(walker)

        @staticmethod
        def two_visits(path, fps=10.0):
            """Two people one after the other, 6 s apart."""
            seen = ([b for b in (walker(t, 10), walker(t, 100)) if b and b[2] - b[0] > 4] for t in range(150))
            return write_film(path, (yard(*boxes) for boxes in seen), fps)

    return Draw


@pytest.fixture
def blob(tmp_path):
    """A folder with a model that finds red things, and its card; returns (model path, card path)."""
    (tmp_path / "red.blob").write_text("BLOB red")
    (tmp_path / "card.toml").write_text(CARD)
    return tmp_path / "red.blob", tmp_path / "card.toml"


@pytest.fixture
def new_id():
    """Ids v1, v2, …"""
    counter = itertools.count(1)
    return lambda: f"v{next(counter)}"
