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
EXACT_UP_TO = 12
"""Knots of more objects than this are untied greedily: the exact way costs the square."""


@dataclass(frozen=True, slots=True)
class MatchSettings:
    """Prices. `far` is the largest squared distance in standard deviations, `near` the largest in body sizes."""

    far: float = 12.0
    near: float = 1.6
    weak_far: float = 6.0
    weak_near: float = 0.6
    apart: float = 3.0
    resize: float = 0.3
    resize_most: float = 6.0
    size_ratio: float = 0.3
    tentative: float = 3.0
    doubt: float = 1.0


def prices(objects: Objects, expected: Expected, boxes: FloatArray, scores: FloatArray, classes: npt.NDArray[np.int32],
           settings: MatchSettings) -> tuple[FloatArray, FloatArray, FloatArray]:  # fmt: skip
    """Price of each pair (T, N), its squared distance in standard deviations, and its distance in body sizes."""
    found = to_centres(boxes)
    gap = expected.centre[:, None, :2] - found[None, :, :2]
    squared = gap[:, :, 0] * gap[:, :, 0] + gap[:, :, 1] * gap[:, :, 1]
    size = expected.size
    squared /= (size * size)[:, None]
    variance = expected.place[:, None] + blur(scores)[None, :]
    far = squared / variance
    own = np.log(np.maximum(expected.centre[:, 2:], np.float32(1)))
    other = np.log(np.maximum(found[:, 2:], np.float32(1)))
    stretch = own[:, None, :] - other[None, :, :]
    resized = (stretch * stretch).sum(axis=2) / np.float32(settings.resize**2)
    np.minimum(resized, np.float32(settings.resize_most), out=resized)
    overlap = iou(from_centres(expected.centre), boxes)
    price = far + resized + np.float32(settings.apart) * (np.float32(1) - overlap)
    price += np.float32(settings.doubt) * np.log(variance / np.float32(0.01))
    price += np.where(objects.confirmed, np.float32(0), np.float32(settings.tentative))[:, None]
    wrong = (objects.class_id[:, None] != classes[None, :]) | (np.abs(stretch.sum(axis=2)) > -np.log(settings.size_ratio))
    price[wrong] = NEVER
    return price, far, np.sqrt(squared)


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
