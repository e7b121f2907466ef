"""The best picture of one visit: chosen frame by frame, cut out and encoded at the moment it becomes best. No IO.

Nothing of a frame is kept but the JPEG: a cache of full frames loses pictures when it overflows (frigate issues 5040, 5066), and
encoding a small crop costs a twentieth of encoding a frame.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from device_agent.vision.types import Box, Crop, CropKind, Frame, Picture

SHARPNESS_SIDE_PX = 96
"""Sharpness is judged on at most this many pixels a side, so that near and far objects are judged alike."""
SHARPNESS_HALF = 120.0
"""Variance of the Laplacian that counts as half sharp."""
REFERENCE_SHARE = 0.06
"""Share of the picture from which a larger box is no longer a better one."""
EDGE_PX = 2.0


@dataclass(frozen=True, slots=True)
class CropSettings:
    """`margin` is a share of the box's side, added on each; `better_by` the share that a new crop must be better."""

    margin: float = 0.2
    longest_side_px: int = 640
    jpeg_quality: int = 85
    better_by: float = 0.05
    cut_factor: float = 0.4


class BestCrop:
    """The best crop of one visit so far; `best` is None until a box could be cut out."""

    def __init__(self, settings: CropSettings | None = None) -> None:
        self._settings = settings or CropSettings()
        self.best: Crop | None = None

    def offer(self, frame: Frame, box: Box, score: float, kind: CropKind) -> bool:
        """Look at one frame's box; True when it became the best. Sharpness is only measured where it can matter."""
        needed = 0.0 if self.best is None else self.best.quality * (1 + self._settings.better_by)
        inner = _clipped(box, frame.width_px, frame.height_px)
        if inner is None:
            return False
        promise = _promise(frame, box, score, self._settings)
        if promise <= needed and self.best is not None:
            return False
        quality = promise * sharpness(frame.picture_bgr[inner[1] : inner[3], inner[0] : inner[2]])
        if self.best is not None and quality <= needed:
            return False
        self.best = cut_out(frame, box, score, quality, kind, self._settings)
        return True


def _promise(frame: Frame, box: Box, score: float, settings: CropSettings) -> float:
    """The quality of a crop were it perfectly sharp: score × size × not cut off by the picture's edge, 0..1."""
    share = max(0.0, (box[2] - box[0]) * (box[3] - box[1])) / (frame.width_px * frame.height_px)
    size = math.sqrt(min(1.0, share / REFERENCE_SHARE))
    touches = (
        box[0] <= EDGE_PX or box[1] <= EDGE_PX or box[2] >= frame.width_px - EDGE_PX or box[3] >= frame.height_px - EDGE_PX
    )
    return score * size * (settings.cut_factor if touches else 1.0)


def sharpness(region_bgr: Picture) -> float:
    """How sharp a region is, 0..1, from the variance of its luma's Laplacian."""
    longest = max(region_bgr.shape[:2])
    if longest > SHARPNESS_SIDE_PX:
        # Linear, not area: averaging would hide the very blur that is looked for, at five times the cost.
        scale = SHARPNESS_SIDE_PX / longest
        size = (max(1, round(region_bgr.shape[1] * scale)), max(1, round(region_bgr.shape[0] * scale)))
        region_bgr = np.asarray(cv2.resize(region_bgr, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    grey = cv2.cvtColor(region_bgr, cv2.COLOR_BGR2GRAY)
    variance = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    return variance / (variance + SHARPNESS_HALF)


def cut_out(frame: Frame, box: Box, score: float, quality: float, kind: CropKind, settings: CropSettings) -> Crop | None:
    """The crop of a box with its margin, as JPEG without metadata; None for a box outside of the picture."""
    wide, high = (box[2] - box[0]) * settings.margin, (box[3] - box[1]) * settings.margin
    cut = _clipped((box[0] - wide, box[1] - high, box[2] + wide, box[3] + high), frame.width_px, frame.height_px)
    if cut is None:
        return None
    region = frame.picture_bgr[cut[1] : cut[3], cut[0] : cut[2]]
    longest = max(region.shape[:2])
    if longest > settings.longest_side_px:
        scale = settings.longest_side_px / longest
        size = (max(1, round(region.shape[1] * scale)), max(1, round(region.shape[0] * scale)))
        region = np.asarray(cv2.resize(region, size, interpolation=cv2.INTER_AREA), np.uint8)
    jpeg = encode_jpeg(region, settings.jpeg_quality)
    height, width = region.shape[:2]
    return Crop(kind, jpeg, width, height, score, quality, frame.index, frame.at_s, frame.wall_s, box, cut)


def encode_jpeg(picture_bgr: Picture, quality: int) -> bytes:
    """A picture as JPEG, without any metadata (OpenCV writes none)."""
    done, encoded = cv2.imencode(".jpg", picture_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any BGR picture"
    return encoded.tobytes()


def _clipped(box: Box, width_px: int, height_px: int) -> tuple[int, int, int, int] | None:
    """A box as whole pixels inside of the picture; None when less than 2 x 2 px are left."""
    if not all(math.isfinite(value) for value in box):
        return None
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(width_px, math.ceil(box[2])), min(height_px, math.ceil(box[3]))
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None
