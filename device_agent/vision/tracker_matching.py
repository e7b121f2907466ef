"""Which detection is which object: prices of pairs that are near enough, and who goes with whom. Pure.

A pair's price is the negative logarithm of how likely that detection is that object: its distance from where the motion model
expects the object, measured in what the model itself believes possible after the time that has passed (at 15 frames a second a
fraction of a body, at 2 more than a body), the change of width and height, and the lack of overlap.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from device_agent.vision.boxes import assignment
from device_agent.vision.tracker_state import Body, Expected, blur
from device_agent.vision.types import Box

Pair = tuple[int, int]
"""Position of an object and of a detection."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Price:
    """What one pair costs, and what `Reach` limits."""

    price: float
    deviations: float
    bodies: float
    stretch: float

    def within(self, reach: Reach) -> bool:
        """Whether the detection is near and alike enough."""
        near = self.deviations <= reach.deviations and self.bodies <= reach.bodies
        return near and self.stretch <= -math.log(reach.size_ratio)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """One frame's detections: boxes in px, scores, class ids, and which of them are strong."""

    boxes: Sequence[Box]
    scores: Sequence[float]
    classes: Sequence[int]
    strong: Sequence[bool]


def prices(bodies: Sequence[Body], expected: Sequence[Expected], rows: Sequence[int], found: Found, columns: Sequence[int],
           most_bodies: float, settings: MatchSettings) -> dict[Pair, Price]:  # fmt: skip
    """What those pairs of `rows` and `columns` cost that are of one class and no more than `most_bodies` apart."""
    boxes, classes = found.boxes, found.classes
    seen = [(column, classes[column], (box := boxes[column])[0] + box[2], box[1] + box[3]) for column in columns]
    result: dict[Pair, Price] = {}
    for row in rows:
        body, place = bodies[row], expected[row]
        twice_x, twice_y, kind, limit = 2 * place.x, 2 * place.y, body.class_id, 2 * most_bodies * place.size
        for column, class_id, sum_x, sum_y in seen:
            gap_x = sum_x - twice_x
            if class_id != kind or gap_x > limit or gap_x < -limit:
                continue
            gap_y = sum_y - twice_y
            apart = math.hypot(gap_x, gap_y) / (2 * place.size)
            if apart <= most_bodies:
                result[row, column] = _price(body, place, boxes[column], found.scores[column], apart, settings)
    return result


def _price(body: Body, place: Expected, box: Box, score: float, apart: float, settings: MatchSettings) -> Price:
    """The price of one pair, `apart` body sizes from each other."""
    variance = place.place + blur(score)
    deviations = apart * apart / variance
    wider = math.log(max(place.width, 1.0) / max(box[2] - box[0], 1.0))
    higher = math.log(max(place.height, 1.0) / max(box[3] - box[1], 1.0))
    resized = min((wider * wider + higher * higher) / settings.resize**2, settings.resize_most)
    half_x, half_y = place.width * 0.5, place.height * 0.5
    there = (place.x - half_x, place.y - half_y, place.x + half_x, place.y + half_y)
    price = deviations + resized + settings.apart * (1.0 - overlap(there, box)) + settings.doubt * math.log(variance / 0.01)
    return Price(price + (0.0 if body.confirmed else settings.tentative), deviations, apart, abs(wider + higher))


def within(table: Mapping[Pair, Price], reach: Reach, allowed: Callable[[int, int], bool]) -> dict[Pair, float]:
    """Prices of the pairs within reach and allowed."""
    return {pair: price.price for pair, price in table.items() if price.within(reach) and allowed(*pair)}


def alone(table: Mapping[Pair, Price], bodies: float) -> set[Pair]:
    """Pairs of a detection and the only object within so many body sizes, if it is its only one too."""
    near = [pair for pair, price in table.items() if price.bodies <= bodies]
    rows, columns = Counter(row for row, _ in near), Counter(column for _, column in near)
    return {(row, column) for row, column in near if rows[row] == columns[column] == 1}


def pairs_of(price: Mapping[Pair, float]) -> list[Pair]:
    """Pairs of least total price out of those that have one. Where nobody disputes, nothing is computed."""
    if len(price) < 2:
        return list(price)
    per_row, per_column = Counter(row for row, _ in price), Counter(column for _, column in price)
    pairs = [(row, column) for row, column in price if per_row[row] == per_column[column] == 1]
    if len(pairs) == len(price):
        return pairs
    settled = set(pairs)
    return pairs + _exact({pair: value for pair, value in price.items() if pair not in settled})


def _exact(knot: Mapping[Pair, float]) -> list[Pair]:
    """As many pairs as there can be, and of those the cheapest."""
    rows, columns = sorted({row for row, _ in knot}), sorted({column for _, column in knot})
    row_of, column_of = {row: at for at, row in enumerate(rows)}, {column: at for at, column in enumerate(columns)}
    most = max(knot.values()) + 1
    cost = np.zeros((len(rows), len(columns)))
    for (row, column), value in knot.items():
        cost[row_of[row], column_of[column]] = value - most * 3
    return [(rows[row], columns[column]) for row, column in assignment(cost, 0.0)]


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes; 0 where they do not touch or are empty."""
    shared = intersection(first, second)
    return shared / (area(first) + area(second) - shared) if shared > 0 else 0.0


def intersection(first: Box, second: Box) -> float:
    """Area that two boxes share, px²."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return width * height if width > 0 and height > 0 else 0.0


def area(box: Box) -> float:
    """Area of a box in px², 0 for one turned inside out."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
