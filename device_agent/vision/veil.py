"""Masks on the small plane of the motion gate, so that nothing measured of a frame tells what happens behind one. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

GROWTH_PX = 3
"""Pixels of the small plane by which a mask grows in it: shrinking and blurring carry what is behind its rim by up to two."""


@dataclass(frozen=True, slots=True, eq=False)
class Veil:
    """Which pixels of a small plane lie behind masks: ``hidden`` bool, ``seen`` its opposite as uint8 0 or 255, both (H, W).

    ``share`` of the plane is seen, 0..1.
    """

    hidden: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.uint8]
    share: float


def veil_of(masks: Sequence[npt.NDArray[np.float64]], width_px: int, height_px: int) -> Veil:
    """Masks (N, 2 each, fractions 0..1 of the picture) as a veil for a plane of this size; every rounding hides more."""
    cells = np.zeros((height_px, width_px), np.uint8)
    for mask in masks:
        points = [np.round(mask * (width_px, height_px) - 0.5).astype(np.int32)]
        cv2.fillPoly(cells, points, (1,))
        cv2.polylines(cells, points, True, (1,), thickness=2 * GROWTH_PX + 1)
    hidden = cells.astype(np.bool_)
    return Veil(hidden, np.where(hidden, 0, 255).astype(np.uint8), float(1.0 - hidden.mean()))
