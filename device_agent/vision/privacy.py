"""What of a camera's picture nobody may see: masked areas, and classes that are blurred. Pure arithmetic on pictures.

Polygons are fractions 0..1 of the source picture, x to the right, y down. Every rounding goes to the safe side: a mask is drawn
on source pixels, with a margin, before anything is resized or encoded.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.vision.motion import GATE_HEIGHT_PX, GATE_WIDTH_PX
from device_agent.vision.types import Box, Cut, Picture
from device_agent.vision.veil import Veil, veil_of
from ota.wire.polygons import Point, self_crossing, without_repeats

Polygon = tuple[Point, ...]
ANY_CAMERA = "*"
"""Masks under this name hold for every camera of the board."""
GRID = 512
"""A box's masked share is counted on a grid of so many cells a side."""
MARGIN_SHARE, MARGIN_PX = 0.003, 2
"""A mask grows by this share of the picture's longer side, and by no less than so many pixels: rounding never bares a row."""
HIDDEN_SHARE = 0.5
"""A detection of whose box more than this is masked was not seen."""
BLUR_CELLS = 6
"""The longer side of a blurred box keeps so many cells: of a standing person the head is one."""
BLUR_GROWTH, BLUR_GROWTH_PX = 0.15, 4
"""A blurred box grows by this share of its sides on each, and by no less than so many pixels: a box is no outline."""


@dataclass(frozen=True)
class Privacy:
    """What must not be seen on one camera.

    ``masks``: polygons that are black. ``blur``: labels whose boxes are made unrecognisable. ``blur_by``: names of the model
    cards that are trusted to find them; empty means any model that knows every label of ``blur``.
    """

    masks: tuple[Polygon, ...] = ()
    blur: frozenset[str] = frozenset()
    blur_by: frozenset[str] = frozenset()

    def joined(self, masks: Iterable[Polygon] = (), blur: Iterable[str] = ()) -> "Privacy":
        """With what the server asks for besides: masks and labels are added, none taken away, ``blur_by`` stays the board's."""
        more = tuple(mask for mask in masks if mask not in self.masks)
        return Privacy(self.masks + more, self.blur | frozenset(blur), self.blur_by)

    @property
    def nothing(self) -> bool:
        """Whether everything may be seen."""
        return not self.masks and not self.blur

    @cached_property
    def _safe(self) -> tuple[npt.NDArray[np.float64], ...]:
        return tuple(_filled(mask) for mask in self.masks)

    @cached_property
    def veil(self) -> Veil | None:
        """The masks for the motion gate's plane; None where there are none."""
        return veil_of(self._safe, GATE_WIDTH_PX, GATE_HEIGHT_PX) if self.masks else None

    @cached_property
    def _sums(self) -> npt.NDArray[np.int32]:
        """Masked cells above and to the left of each corner of the grid, int32 (GRID + 1, GRID + 1)."""
        cells = np.zeros((GRID, GRID), np.uint8)
        for mask in self._safe:
            cv2.fillPoly(cells, [np.round(mask * GRID - 0.5).astype(np.int32)], (1,))
        return np.asarray(cv2.integral(cells), np.int32)

    def masked_share(self, box: Box, width_px: int, height_px: int) -> float:
        """The share of a box (source pixels, as far as it lies in the picture) that masks cover, 0..1."""
        if not self.masks:
            return 0.0
        across, down = GRID / width_px, GRID / height_px
        left, right = (_clamped(value * across) for value in (box[0], box[2]))
        top, bottom = (_clamped(value * down) for value in (box[1], box[3]))
        # A box thinner than a cell still is somewhere: it takes the cell it lies in.
        left, top = min(math.floor(left), GRID - 1), min(math.floor(top), GRID - 1)
        right, bottom = max(math.ceil(right), left + 1), max(math.ceil(bottom), top + 1)
        sums = self._sums
        covered = int(sums[bottom, right]) - int(sums[top, right]) - int(sums[bottom, left]) + int(sums[top, left])
        return covered / ((right - left) * (bottom - top))

    def seen(self, xyxy: npt.NDArray[np.float32], width_px: int, height_px: int) -> npt.NDArray[np.bool_]:
        """Which boxes (N, 4) may be told of: bool (N,), False for those of which more than half is masked."""
        shares = [self.masked_share((b[0], b[1], b[2], b[3]), width_px, height_px) for b in xyxy.tolist()]
        return np.array([share <= HIDDEN_SHARE for share in shares], np.bool_)

    def black_out(self, region_bgr: Picture, cut: Cut, width_px: int, height_px: int) -> None:
        """Black the masks IN ``region_bgr``, the part ``cut`` of a source picture of this size at its full resolution."""
        margin_px = max(MARGIN_PX, math.ceil(MARGIN_SHARE * max(width_px, height_px)))
        for mask in self._safe:
            points = np.round(mask * (width_px, height_px) - (cut[0], cut[1])).astype(np.int32)
            cv2.fillPoly(region_bgr, [points], (0, 0, 0))
            cv2.polylines(region_bgr, [points], True, (0, 0, 0), thickness=2 * margin_px + 1)


def camera_privacy(
    masks: Mapping[str, Sequence[Polygon]], blur: Iterable[str], camera: str, blur_by: Iterable[str] = ()
) -> Privacy:
    """One camera's privacy out of the board's policy: its own masks and those for every camera."""
    return Privacy((*masks.get(ANY_CAMERA, ()), *masks.get(camera, ())), frozenset(blur), frozenset(blur_by))


def unrecognisable(region_bgr: Picture, boxes: Iterable[Box]) -> None:
    """Make boxes (pixels of ``region_bgr``) unrecognisable IN it: a few mean colours are kept of each, then smoothed.

    What is left are at most BLUR_CELLS cells along the longer side: there is nothing that sharpening could bring back.
    """
    height, width = region_bgr.shape[:2]
    for box in boxes:
        across = max(BLUR_GROWTH_PX, (box[2] - box[0]) * BLUR_GROWTH)
        down = max(BLUR_GROWTH_PX, (box[3] - box[1]) * BLUR_GROWTH)
        left, top = max(0, math.floor(box[0] - across)), max(0, math.floor(box[1] - down))
        right, bottom = min(width, math.ceil(box[2] + across)), min(height, math.ceil(box[3] + down))
        if right <= left or bottom <= top:
            continue
        part = region_bgr[top:bottom, left:right]
        # Cells are measured on the whole grown box: a crop that cuts it must not get finer ones.
        cell_px = max(box[2] - box[0] + 2 * across, box[3] - box[1] + 2 * down) / BLUR_CELLS
        columns, rows = (max(1, round(side / cell_px)) for side in (right - left, bottom - top))
        cells = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_NEAREST)
        part[:] = cv2.GaussianBlur(coarse, (0, 0), max(1.0, cell_px / 4))


def _filled(mask: Polygon) -> npt.NDArray[np.float64]:
    """A mask as an array (N, 2) that fills without holes: of one that crosses itself its convex hull, which hides more."""
    points = np.array(mask, np.float64)
    corners = without_repeats(mask)
    if len(corners) < 3 or self_crossing(corners) is not None:
        return np.asarray(cv2.convexHull(points.astype(np.float32)), np.float64).reshape(-1, 2)
    return points


def _clamped(value: float) -> float:
    return min(float(GRID), max(0.0, value)) if math.isfinite(value) else 0.0
