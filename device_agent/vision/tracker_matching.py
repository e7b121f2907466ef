"""Which detection is which object: prices of all pairs, and who goes with whom. Pure numpy.

A pair's price is the negative logarithm of how likely that detection is that object: its distance from where the motion model
expects the object, measured in what the model itself believes possible after the time that has passed (at 15 frames a second a
fraction of a body, at 2 more than a body), the change of width and height, and the lack of overlap.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import FloatArray, assignment, from_centres, iou, to_centres
from device_agent.vision.tracker_state import Expected, Objects, blur

NEVER = np.float32(1e6)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a detection may be from where an object is expected: squared distance in standard deviations of what the model
    believes possible, distance in body sizes, and the least ratio of areas, 0..1."""

    deviations: float
    bodies: float
    size_ratio: float


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """Where detections are looked for, and prices. `likely`: strong ones first; `weak`: weak ones; `loose`: strong ones left.

    `apart` is the price of no overlap at all, `resize` the change of width or height (natural logarithm) that costs 1,
    `resize_most` the most that costs, `tentative` what an unconfirmed object costs, `doubt` how much vagueness does.
    """

    likely: Reach = Reach(5.6, 1.4, 0.45)
    weak: Reach = Reach(12.0, 0.5, 0.6)
    loose: Reach = Reach(16.0, 1.1, 0.3)
    apart: float = 3.0
    resize: float = 0.4
    resize_most: float = 6.0
    tentative: float = 1.5
    doubt: float = 0.3


@dataclass(frozen=True, slots=True)
class Prices:
    """For each pair (T, N): its price (`NEVER` where classes differ) and what `Reach` limits."""

    price: FloatArray
    deviations: FloatArray
    bodies: FloatArray
    stretch: FloatArray

    def alone(self, bodies: float, strong: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Pairs (T, N) of a strong detection and the only object within so many body sizes, if it is its only one too."""
        near = (self.bodies <= bodies) & (self.price < NEVER) & strong[None, :]
        result: npt.NDArray[np.bool_] = near & (near.sum(axis=1) == 1)[:, None] & (near.sum(axis=0) == 1)[None, :]
        return result

    def within(self, reach: Reach, allowed: npt.NDArray[np.bool_]) -> FloatArray:
        """Prices of the pairs within reach and `allowed` (T, N); `NEVER` for all others."""
        fit = (self.deviations <= reach.deviations) & (self.bodies <= reach.bodies) & allowed
        fit &= self.stretch <= -np.log(reach.size_ratio)
        return np.where(fit, self.price, NEVER)


def prices(objects: Objects, expected: Expected, boxes: FloatArray, scores: FloatArray, classes: npt.NDArray[np.int32],
           settings: MatchSettings) -> Prices:  # fmt: skip
    """What each pair of object and detection (boxes (N, 4) px, scores (N,), classes (N,)) costs."""
    found = to_centres(boxes)
    gap = expected.centre[:, None, :2] - found[None, :, :2]
    squared = gap[:, :, 0] * gap[:, :, 0] + gap[:, :, 1] * gap[:, :, 1]
    squared /= (expected.size * expected.size)[:, None]
    variance = expected.place[:, None] + blur(scores)[None, :]
    deviations = squared / variance
    own = np.log(np.maximum(expected.centre[:, 2:], np.float32(1)))
    other = np.log(np.maximum(found[:, 2:], np.float32(1)))
    stretch = own[:, None, :] - other[None, :, :]
    resized = (stretch * stretch).sum(axis=2) / np.float32(settings.resize**2)
    np.minimum(resized, np.float32(settings.resize_most), out=resized)
    price = deviations + resized + np.float32(settings.apart) * (np.float32(1) - iou(from_centres(expected.centre), boxes))
    price += np.float32(settings.doubt) * np.log(variance / np.float32(0.01))
    price += np.where(objects.confirmed, np.float32(0), np.float32(settings.tentative))[:, None]
    price[objects.class_id[:, None] != classes[None, :]] = NEVER
    return Prices(price, deviations, np.sqrt(squared), np.abs(stretch.sum(axis=2)))


def pairs_of(price: FloatArray) -> list[tuple[int, int]]:
    """Pairs (row, column) of least total price; `NEVER` or more is not allowed. Where nobody disputes, nothing is computed."""
    allowed = price < NEVER
    rows, columns = np.nonzero(allowed)
    if len(rows) == 0:
        return []
    per_row, per_column = allowed.sum(axis=1), allowed.sum(axis=0)
    alone = (per_row[rows] == 1) & (per_column[columns] == 1)
    pairs = list(zip(rows[alone].tolist(), columns[alone].tolist(), strict=True))
    if alone.all():
        return pairs
    rows, columns = np.unique(rows[~alone]), np.unique(columns[~alone])
    knot = price[np.ix_(rows, columns)]
    untied = _exact(knot)
    return pairs + [(int(rows[row]), int(columns[column])) for row, column in untied]


def _exact(knot: FloatArray) -> list[tuple[int, int]]:
    most = np.float32(knot[knot < NEVER].max() + 1)
    return assignment(np.where(knot < NEVER, knot - most * 3, np.float32(0)), 0.0)
