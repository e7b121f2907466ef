"""Which picture of a visit is kept, and what is in it."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.vision.best_crop import BestCrop, CropSettings, exposure, inside_share, sharpness, within_bytes
from device_agent.vision.cutter import CutOut, Cutter, encode_jpeg
from device_agent.vision.types import Frame
from device_agent.vision.zones import WHOLE_PICTURE

MIDDLE = (200.0, 100.0, 300.0, 300.0)
NOISE = np.random.default_rng(3).integers(40, 216, (480, 640, 3), np.uint8)


def frame(index=0, blur=0.0, size=(480, 640), light=1.0):
    picture = NOISE if size == (480, 640) else np.random.default_rng(3).integers(40, 216, (*size, 3), np.uint8)
    if blur:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    if light != 1.0:
        picture = np.clip(picture * light, 0, 255).astype(np.uint8)
    return Frame("door", index, index / 10, 1e9 + index / 10, picture)


class LargePicture:
    """A large main picture that remembers what was read of it."""

    def __init__(self, picture):
        self.picture, self.read = picture, []
        self.height_px, self.width_px = picture.shape[:2]

    def region(self, cut):
        self.read.append(cut)
        return self.picture[cut[1] : cut[3], cut[0] : cut[2]]


class Stubborn(Cutter):
    """A cutter whose blur cannot answer on the frames that it is told."""

    def __init__(self, silent):
        super().__init__()
        self.silent, self.asked = silent, []

    def cut(self, frame, cut, longest_side_px, quality):
        self.asked.append(frame.index)
        return None if frame.index in self.silent else super().cut(frame, cut, longest_side_px, quality)


def test_the_sharper_the_larger_the_whole_the_lit_and_the_inside_one_wins():
    """Six frames of one visitor: smeared, small, cut off by the edge, burnt out, outside of the zone, good.

    The good one is kept, in whatever order they come.
    """
    offers = [
        (frame(0, blur=4.0), MIDDLE, 1.0),
        (frame(1), (200.0, 100.0, 230.0, 160.0), 1.0),
        (frame(2), (0.0, 100.0, 100.0, 300.0), 1.0),
        (frame(3, light=4.0), MIDDLE, 1.0),
        (frame(4), MIDDLE, 0.2),
        (frame(5), MIDDLE, 1.0),
    ]
    for order in itertools.permutations(range(6)):
        if order[0] > 2 and order[1] > 3:  # a third of all orders would only take longer
            continue
        crop = BestCrop(cutter=Cutter())
        for which in order:
            crop.offer(*offers[which][:2], 0.8, "first", inside=offers[which][2])
        assert crop.best.frame == 5


def test_a_little_better_is_not_better():
    """Scores that tremble by 3 % do not encode a picture each frame; 10 % better does."""
    crop = BestCrop(cutter=Cutter())
    assert crop.offer(frame(0), MIDDLE, 0.70, "first")
    assert not crop.offer(frame(1), MIDDLE, 0.72, "first")
    assert crop.offer(frame(2), MIDDLE, 0.78, "best")
    assert (crop.best.frame, crop.best.kind) == (2, "best")


def test_where_it_cannot_win_nothing_is_asked():
    """Fifty tracks in ten zones: how much of a box lies in its zone is asked only for what could become the best."""
    crop, asked = BestCrop(cutter=Cutter()), []

    def inside():
        asked.append(1)
        return 1.0

    crop.offer(frame(0), MIDDLE, 0.8, "first", inside=inside)
    for number in range(1, 20):
        crop.offer(frame(number), MIDDLE, 0.7, "first", inside=inside)
    assert len(asked) == 1


def test_hard_light_is_no_sharpness():
    """The sun behind a visitor: black and burnt-out pixels side by side are full of edges and show nothing of him."""
    patches = np.random.default_rng(3).integers(0, 2, (60, 80, 1), np.uint8) * 255
    two_tone = patches.repeat(8, axis=0).repeat(8, axis=1).repeat(3, axis=2).astype(np.uint8)
    hard = Frame("door", 0, 0.0, 1e9, two_tone)
    assert sharpness(hard.picture_bgr) > sharpness(frame(1).picture_bgr)
    for order in ((hard, frame(1)), (frame(1), hard)):
        crop = BestCrop(cutter=Cutter())
        for one in order:
            crop.offer(one, MIDDLE, 0.8, "first")
        assert crop.best.frame == 1


def test_first_and_best_are_two_moments():
    """The first crop went out; 0.4 s later comes a better one, 0.5 s later a slightly less good one: that is kept, not a twin."""
    crop = BestCrop(cutter=Cutter())
    crop.offer(frame(0), MIDDLE, 0.5, "first")
    crop.told(crop.best)
    assert not crop.offer(frame(4), MIDDLE, 0.9, "best")
    assert crop.offer(frame(5), MIDDLE, 0.8, "best")
    assert crop.best.at_s == 0.5


def test_a_long_wait_before_the_event_counts_as_time_apart():
    """In a dwell zone the first crop is ten seconds old when it is told: a better one in that very frame is another moment."""
    crop = BestCrop(cutter=Cutter())
    crop.offer(frame(0), MIDDLE, 0.5, "first")
    crop.told(crop.best)
    assert crop.offer(frame(100), MIDDLE, 0.8, "best")


def test_the_large_picture_is_touched_for_winners_alone():
    """A camera with a 4x larger main picture: 20 candidates are judged on the small one, the large is read once per winner."""
    large = LargePicture(np.random.default_rng(1).integers(0, 255, (960, 1280, 3), np.uint8))
    small = np.ascontiguousarray(large.picture[::4, ::4])
    crop = BestCrop(cutter=Cutter())
    winners = 0
    for index, score in enumerate([0.6] * 10 + [0.9] * 10):
        seen = Frame("door", index, index / 10, 0.0, small, main=large)
        winners += crop.offer(seen, (400.0, 200.0, 600.0, 600.0), score, "first")
    assert winners == len(large.read) == 2
    assert large.read[0] == (360, 120, 640, 680) == crop.best.cut
    assert (crop.best.width_px, crop.best.height_px) == (280, 560), "cut from the large picture, not the small one"


def test_no_blur_no_crop():
    """Privacy cannot be kept on the first frames: there is no crop, and the next try comes half a second later, not at once."""
    cutter = Stubborn(silent=set(range(7)))
    crop = BestCrop(cutter=cutter)
    for index in range(5):
        assert not crop.offer(frame(index), MIDDLE, 0.8, "first")
    assert crop.best is None
    assert cutter.asked == [0]
    assert not crop.offer(frame(6), MIDDLE, 0.8, "first")
    assert crop.offer(frame(11), MIDDLE, 0.8, "first")
    assert cutter.asked == [0, 6, 11]


def test_a_better_frame_that_privacy_refuses_leaves_the_old_crop():
    """A crop is there already; the better frame cannot be blurred: the old one stays."""
    crop = BestCrop(cutter=Stubborn(silent={1}))
    crop.offer(frame(0), MIDDLE, 0.5, "first")
    assert not crop.offer(frame(1), MIDDLE, 0.9, "first")
    assert crop.best.frame == 0


def markers(jpeg):
    """The marker bytes of a JPEG up to its picture data, in order."""
    assert jpeg[:2] == b"\xff\xd8"
    found, at = [], 2
    while at < len(jpeg):
        assert jpeg[at] == 0xFF
        found.append(jpeg[at + 1])
        if jpeg[at + 1] == 0xDA:
            return found
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    raise AssertionError("no picture in it")


@pytest.mark.parametrize("max_bytes", [96 * 1024, 6000])
def test_the_crop_has_its_margin_and_no_metadata(max_bytes):
    """A fifth of the box on each side; the file holds tables and picture data: no EXIF, no comment."""
    crop = BestCrop(CropSettings(max_bytes=max_bytes), cutter=Cutter())
    crop.offer(frame(), MIDDLE, 0.9, "first")
    assert crop.best.cut == (180, 60, 320, 340)
    # JFIF's 14 bytes (density), quantisation, frame, Huffman tables, scan: APP1..APP15 (E1-EF) and COM (FE) would be metadata.
    assert set(markers(crop.best.jpeg)) <= {0xE0, 0xDB, 0xC0, 0xC4, 0xDA}
    assert crop.best.jpeg.count(b"JFIF") == 1
    assert cv2.imdecode(np.frombuffer(crop.best.jpeg, np.uint8), 1).shape == (crop.best.height_px, crop.best.width_px, 3)


def test_a_large_crop_is_made_smaller():
    """Somebody right in front of a 4K camera: at most 640 px on the longer side."""
    crop = BestCrop(cutter=Cutter())
    crop.offer(frame(size=(2160, 3840)), (100.0, 100.0, 1500.0, 2000.0), 0.9, "first")
    assert max(crop.best.width_px, crop.best.height_px) <= 640
    assert len(crop.best.jpeg) <= CropSettings().max_bytes


@pytest.mark.parametrize("cap", [60_000, 20_000, 3_000])
def test_no_crop_is_larger_than_its_cap(cap):
    """A picture of leaves in the wind does not compress: it is encoded lower, then smaller, until it fits; its cut stays."""
    made = CutOut(encode_jpeg(NOISE, 90), 640, 480, (1, 2, 641, 482))
    assert len(made.jpeg) > 60_000
    kept = within_bytes(made, cap)
    assert len(kept.jpeg) <= cap
    assert kept.cut == made.cut
    assert cv2.imdecode(np.frombuffer(kept.jpeg, np.uint8), 1).shape == (kept.height_px, kept.width_px, 3)


def test_a_cap_that_nothing_fits_under_gives_no_crop():
    """A cap of 100 bytes: no crop rather than one that breaks it."""
    assert within_bytes(CutOut(encode_jpeg(NOISE, 90), 640, 480, (0, 0, 640, 480)), 100) is None
    crop = BestCrop(CropSettings(max_bytes=100), cutter=Cutter())
    assert not crop.offer(frame(), MIDDLE, 0.9, "first")
    assert crop.best is None


@settings(deadline=None)
@given(
    st.tuples(*[st.floats(-5000, 5000) | st.sampled_from([float("nan"), float("inf"), -float("inf")])] * 4),
    st.floats(0, 1),
    st.floats(-1, 2),
)
def test_no_box_breaks_it(box, score, inside):
    """Boxes outside of the picture, inside out, without area, or no numbers at all: a crop inside the picture, or none."""
    crop = BestCrop(cutter=Cutter())
    view = Frame("door", 0, 0.0, 0.0, np.zeros((60, 80, 3), np.uint8))
    assert 0 <= inside_share(WHOLE_PICTURE, box, 80, 60) <= 1
    if crop.offer(view, box, score, "first", inside=inside):
        left, top, right, bottom = crop.best.cut
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 60


def test_how_much_of_an_object_stands_in_a_zone():
    """The lower half counts: who leans in from outside does not stand there; the rim belongs to it."""
    left_half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    lower = ((0.0, 0.5), (1.0, 0.5), (1.0, 1.0), (0.0, 1.0))
    assert inside_share(left_half, (0.0, 0.0, 300.0, 400.0), 640, 480) == 1.0
    assert inside_share(left_half, (220.0, 0.0, 420.0, 400.0), 640, 480) == 0.5
    assert inside_share(left_half, (330.0, 0.0, 500.0, 400.0), 640, 480) == 0.0
    assert inside_share(lower, (0.0, 0.0, 100.0, 230.0), 640, 480) == 0.0
    assert inside_share(lower, (0.0, 100.0, 100.0, 479.0), 640, 480) == 1.0
    assert inside_share(WHOLE_PICTURE, (-50.0, 300.0, 700.0, 600.0), 640, 480) == 1.0


@pytest.mark.parametrize("blur", [1.0, 3.0])
def test_blur_lowers_sharpness(blur):
    """The measure that the choice rests on."""
    assert sharpness(frame(blur=blur).picture_bgr) < sharpness(frame().picture_bgr)


def test_exposure():
    """Black and white pixels say nothing: a picture of them is badly lit, dark clothes alone are not."""
    grey = np.full((50, 50, 3), 120, np.uint8)
    coat = grey.copy()
    coat[:12] = 3
    black, burnt = np.zeros_like(grey), np.full_like(grey, 255)
    assert exposure(grey) == exposure(coat) == 1.0
    assert exposure(black) == exposure(burnt) == pytest.approx(0.2)
