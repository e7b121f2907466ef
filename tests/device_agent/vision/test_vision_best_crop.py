"""Which picture of a visit is kept, and what is in it."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.vision.best_crop import BestCrop, CropSettings, sharpness
from device_agent.vision.types import Frame


def frame(index=0, blur=0.0, size=(480, 640)):
    picture = np.random.default_rng(3).integers(0, 255, (*size, 3), np.uint8)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return Frame("door", index, index / 10, 1e9 + index / 10, picture)


MIDDLE = (200.0, 100.0, 300.0, 300.0)


def test_the_sharper_the_larger_and_the_whole_one_wins():
    """Four frames of one visitor: smeared, small, cut off by the edge, good. The good one is kept, wherever it comes."""
    offers = [
        (frame(0, blur=4.0), MIDDLE, 0.8),
        (frame(1), (200.0, 100.0, 230.0, 160.0), 0.8),
        (frame(2), (0.0, 100.0, 100.0, 300.0), 0.8),
        (frame(3), MIDDLE, 0.8),
    ]
    for order in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)):
        crop = BestCrop()
        for which in order:
            crop.offer(*offers[which], "first")
        assert crop.best.frame == 3


def test_a_little_better_is_not_better():
    """Scores that tremble by 3 % do not encode a picture each frame; 10 % better does."""
    crop = BestCrop()
    assert crop.offer(frame(0), MIDDLE, 0.70, "first")
    assert not crop.offer(frame(1), MIDDLE, 0.72, "first")
    assert crop.offer(frame(2), MIDDLE, 0.78, "best")
    assert (crop.best.frame, crop.best.kind) == (2, "best")


def test_the_crop_has_its_margin_and_no_metadata():
    """A fifth of the box on each side, as JPEG without EXIF: no place, no time, no maker in the file."""
    crop = BestCrop()
    crop.offer(frame(), MIDDLE, 0.9, "first")
    assert crop.best.cut == (180, 60, 320, 340)
    assert (crop.best.width_px, crop.best.height_px) == (140, 280)
    assert crop.best.jpeg[:2] == b"\xff\xd8"
    assert b"Exif" not in crop.best.jpeg
    assert b"http" not in crop.best.jpeg
    assert cv2.imdecode(np.frombuffer(crop.best.jpeg, np.uint8), 1).shape == (280, 140, 3)


def test_a_large_crop_is_made_smaller():
    """Somebody right in front of a 4K camera: at most 640 px on the longer side."""
    crop = BestCrop()
    crop.offer(frame(size=(2160, 3840)), (100.0, 100.0, 1500.0, 2000.0), 0.9, "first")
    assert max(crop.best.width_px, crop.best.height_px) == 640


@given(
    st.tuples(*[st.floats(-5000, 5000) | st.sampled_from([float("nan"), float("inf"), -float("inf")])] * 4),
    st.floats(0, 1),
)
def test_no_box_breaks_it(box, score):
    """Boxes outside of the picture, inside out, without area, or no numbers at all: a crop inside the picture, or none."""
    crop = BestCrop(CropSettings())
    if crop.offer(Frame("door", 0, 0.0, 0.0, np.zeros((60, 80, 3), np.uint8)), box, score, "first") and crop.best:
        left, top, right, bottom = crop.best.cut
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 60


@pytest.mark.parametrize("blur", [1.0, 3.0])
def test_blur_lowers_sharpness(blur):
    """The measure that the choice rests on."""
    assert sharpness(frame(blur=blur).picture_bgr) < sharpness(frame().picture_bgr)
