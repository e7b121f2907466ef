"""The best picture of one visit: chosen frame by frame, cut out and encoded at the moment it becomes best. No IO.

Nothing of a frame is kept but the JPEG: a cache of full frames loses pictures when it overflows (frigate issues 5040, 5066), and
encoding a small crop costs a twentieth of encoding a frame. A candidate is judged on the detector's own picture; the large main
picture, where the camera has one, is read for winners alone.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from device_agent.vision.cutter import CutOut, Cutter, cut_around, encode_jpeg, shrunk
from device_agent.vision.types import Box, Crop, CropKind, Cut, Frame, Picture
from device_agent.vision.zones import WHOLE_PICTURE, Point, contains

JUDGED_SIDE_PX = 96
"""Sharpness and exposure are judged on at most this many pixels a side, so that near and far objects are judged alike."""
SHARPNESS_HALF = 120.0
"""Variance of the Laplacian that counts as half sharp."""
REFERENCE_SHARE = 0.06
"""Share of the picture from which a larger box is no longer a better one."""
EDGE_PX = 2.0
DARK_LUMA, BURNT_LUMA = 12, 245
"""Grey levels at which a pixel shows nothing any more."""
CLIPPED_BORNE = 0.25
"""Share of such pixels that costs nothing: dark clothes and white shirts are no faults of exposure."""
WORST_EXPOSURE = 0.2
OUTSIDE_FACTOR = 0.15
"""What is left of a crop's quality when nothing of the object's lower half lies in the visit's zone."""
GRID = 6
"""The lower half of a box is judged on GRID x GRID points."""
AGAIN_AFTER_S = 0.5
"""After a crop that privacy refused, the next try on this visit: a blur that cannot answer is not asked on every frame."""
MEASURED_AGAIN_S, CLEARER_AT_MOST = 0.25, 1.06
"""For so long a candidate is taken to be as clear as the last one that was measured, but for a twentieth: where that would not
do to be the best, it is not measured."""
SMALLEST_SIDE_PX = 64


@dataclass(frozen=True, slots=True)
class CropSettings:
    """`margin` is a share of the box's side, added on each; `better_by` the share that a new crop must be better.

    `apart_s`: a crop that follows one that was told is of another moment, at least so much later. `max_bytes`: no crop is larger.
    `most_px`, `most_bytes`: beyond these no configuration goes on this board; `open_bytes`: of the crops of one camera's visits
    that wait to be told, all together.
    """

    margin: float = 0.2
    longest_side_px: int = 640
    jpeg_quality: int = 85
    better_by: float = 0.05
    cut_factor: float = 0.4
    apart_s: float = 0.5
    max_bytes: int = 96 * 1024
    most_px: int = 1920
    most_bytes: int = 512 * 1024
    open_bytes: int = 4 * 1024 * 1024


SMALL_BOARD = CropSettings(most_px=1280, most_bytes=192 * 1024, open_bytes=1536 * 1024)
"""For boards with little memory."""
Make = Callable[[Frame, Cut], CutOut | None]


class BestCrop:
    """The best crop of one visit so far; `best` is None until a box could be cut out."""

    def __init__(self, settings: CropSettings | None = None, *, cutter: Cutter, make: Make | None = None) -> None:
        """`make` cuts out and encodes in place of the cutter: where several visits share a frame's pictures."""
        self._settings = settings or CropSettings()
        self._make = make or functools.partial(made_crop, cutter, self._settings, self._settings.max_bytes)
        self._told_at_s = -math.inf
        self._told: Crop | None = None
        self._not_before_s = -math.inf
        self._measured_s, self._clear = -math.inf, 1.0
        self.best: Crop | None = None
        cutter.kept_by(self)

    def offer(
        self, frame: Frame, box: Box, score: float, kind: CropKind, *, inside: float | Callable[[], float] = 1.0
    ) -> bool:
        """Look at one frame's box (px of the source picture); True when it became the best.

        `inside` is the share 0..1 of the object that lies in the visit's zone (`inside_share`); as a callable it is asked only
        where it can matter. Nothing is measured or encoded where it cannot.
        """
        if abs(frame.at_s - self._told_at_s) < self._settings.apart_s or frame.at_s < self._not_before_s:
            return False
        needed = 0.0 if self.best is None else self.best.quality * (1 + self._settings.better_by)
        shown = cut_around(box, 0.0, frame.width_px, frame.height_px)
        if shown is None:
            return False
        promise = _promise(frame, box, score, self._settings)
        if self.best is not None and promise <= needed:
            return False
        promise *= OUTSIDE_FACTOR + (1 - OUTSIDE_FACTOR) * _unit(inside() if callable(inside) else inside)
        if self.best is not None and promise <= needed:
            return False
        if 0 <= frame.at_s - self._measured_s < MEASURED_AGAIN_S and promise * self._clear * CLEARER_AT_MOST <= needed:
            return False
        self._measured_s, self._clear = frame.at_s, clearness(_judged(frame, shown))
        quality = promise * self._clear
        if self.best is not None and quality <= needed:
            return False
        crop = self._cut_out(frame, box, score, quality, kind)
        if crop is None:
            self._not_before_s = frame.at_s + AGAIN_AFTER_S
            return False
        self.best = crop
        return True

    def told(self, crop: Crop) -> None:
        """This crop went out: the next one that is kept was taken at least `apart_s` from it."""
        self._told_at_s, self._told = crop.at_s, crop

    def forget_pictures(self) -> None:
        """The best one so far goes, unless it is out already: the next frame is measured against nothing."""
        if self.best is not self._told:
            self.best = None

    def _cut_out(self, frame: Frame, box: Box, score: float, quality: float, kind: CropKind) -> Crop | None:
        settings = self._settings
        cut = cut_around(box, settings.margin, frame.width_px, frame.height_px)
        kept = None if cut is None else self._make(frame, cut)
        if kept is None:
            return None
        return Crop(
            kind, kept.jpeg, kept.width_px, kept.height_px, score, quality, frame.index, frame.at_s, frame.wall_s, box, kept.cut
        )


def made_crop(cutter: Cutter, settings: CropSettings, max_bytes: int, frame: Frame, cut: Cut) -> CutOut | None:
    """A crop as the settings want it, of at most `max_bytes`; None where privacy or size cannot be kept."""
    made = cutter.cut(frame, cut, settings.longest_side_px, settings.jpeg_quality)
    return None if made is None else within_bytes(made, max_bytes)


def inside_share(polygon: tuple[Point, ...], box: Box, width_px: int, height_px: int) -> float:
    """Share 0..1 of the box's lower half (where a thing stands) that lies in a polygon of fractions 0..1.

    The picture's rim belongs to a zone that reaches it, so what a box sticks out of the picture is judged at the rim.
    """
    left, right = box[0] / width_px, box[2] / width_px
    top, bottom = (box[1] + box[3]) / 2 / height_px, box[3] / height_px
    if not all(map(math.isfinite, (left, right, top, bottom))):
        return 0.0
    if polygon == WHOLE_PICTURE:
        return 1.0
    steps = [(step + 0.5) / GRID for step in range(GRID)]
    points = [(_unit(left + (right - left) * u), _unit(top + (bottom - top) * v)) for u in steps for v in steps]
    return sum(contains(polygon, x, y) for x, y in points) / len(points)


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _promise(frame: Frame, box: Box, score: float, settings: CropSettings) -> float:
    """The quality of a crop were it perfectly sharp and lit: score × size × not cut off by the picture's edge, 0..1."""
    share = max(0.0, (box[2] - box[0]) * (box[3] - box[1])) / (frame.width_px * frame.height_px)
    size = math.sqrt(min(1.0, share / REFERENCE_SHARE))
    touches = (
        box[0] <= EDGE_PX or box[1] <= EDGE_PX or box[2] >= frame.width_px - EDGE_PX or box[3] >= frame.height_px - EDGE_PX
    )
    return score * size * (settings.cut_factor if touches else 1.0)


def _judged(frame: Frame, shown: Cut) -> Picture:
    """The region as the detector's picture has it: the large picture is not touched for candidates."""
    height_px, width_px = frame.picture_bgr.shape[:2]
    across, down = width_px / frame.width_px, height_px / frame.height_px
    left, top = min(width_px - 1, int(shown[0] * across)), min(height_px - 1, int(shown[1] * down))
    right, bottom = max(left + 1, math.ceil(shown[2] * across)), max(top + 1, math.ceil(shown[3] * down))
    return frame.picture_bgr[top:bottom, left:right]


def clearness(region_bgr: Picture) -> float:
    """How much a region shows, 0..1: its sharpness times its exposure, both from one small grey copy."""
    grey = _grey(region_bgr)
    return _sharpness(grey) * _exposure(grey)


def sharpness(region_bgr: Picture) -> float:
    """How sharp a region is, 0..1, from the variance of its luma's Laplacian."""
    return _sharpness(_grey(region_bgr))


def exposure(region_bgr: Picture) -> float:
    """How well a region is lit, 0..1: 1 where at most a quarter of it is black or burnt out."""
    return _exposure(_grey(region_bgr))


def _grey(region_bgr: Picture) -> Picture:
    longest = max(region_bgr.shape[:2])
    if longest > JUDGED_SIDE_PX:
        # Linear, not area: averaging would hide the very blur that is looked for, at five times the cost.
        scale = JUDGED_SIDE_PX / longest
        size = (max(1, round(region_bgr.shape[1] * scale)), max(1, round(region_bgr.shape[0] * scale)))
        region_bgr = np.asarray(cv2.resize(region_bgr, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.cvtColor(region_bgr, cv2.COLOR_BGR2GRAY), np.uint8)


def _sharpness(grey: Picture) -> float:
    # Sums of whole numbers: exact in 16 bits, in a third of the time that float planes take.
    variance = float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0]) ** 2
    return variance / (variance + SHARPNESS_HALF)


def _exposure(grey: Picture) -> float:
    shown = cv2.countNonZero(cv2.inRange(grey, DARK_LUMA + 1, BURNT_LUMA - 1))  # type: ignore[call-overload]
    clipped_share = 1.0 - shown / grey.size
    lost = max(0.0, clipped_share - CLIPPED_BORNE) / (1 - CLIPPED_BORNE)
    return 1.0 - (1.0 - WORST_EXPOSURE) * lost


def within_bytes(made: CutOut, max_bytes: int) -> CutOut | None:
    """A made picture, encoded lower and then smaller until it is at most `max_bytes`; None where even the smallest is not.

    It begins from the finished JPEG, not from the frame: masks and blur are in it and are not asked for again.
    """
    if len(made.jpeg) <= max_bytes:
        return made
    picture = np.asarray(cv2.imdecode(np.frombuffer(made.jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    quality = 75
    while True:
        jpeg = encode_jpeg(picture, quality)
        height_px, width_px = picture.shape[:2]
        if len(jpeg) <= max_bytes:
            return CutOut(jpeg, width_px, height_px, made.cut)
        if quality > 45:
            quality -= 15
        elif max(height_px, width_px) <= SMALLEST_SIDE_PX:
            return None
        else:
            picture = shrunk(picture, round(max(height_px, width_px) * 0.7))
