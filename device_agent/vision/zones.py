"""Zones and lines: shapes in fractions of the picture, and what must be true of an object that they act on. Pure."""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from device_agent.vision.conditions import Conditions
from ota.wire.polygons import Point

WHOLE_PICTURE: tuple[Point, ...] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
Bounds = tuple[float, float, float, float]

__all__ = ["WHOLE_PICTURE", "Line", "Point", "Zone", "ZoneError", "bounds_of", "contains", "unknown_classes"]


class ZoneError(ValueError):
    """Zones or lines that cannot be used; `faults` holds one sentence for each thing that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("these zones cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Zone(Conditions):
    """A part of the picture: `polygon` in (x, y) fractions 0..1, no `classes` means all.

    An event needs `dwell_s` since the object came in (short ways out bridged) and `inertia_s` without a way out. Where `inside`
    is false the zone is all that lies outside of the polygon: "not in here".
    """

    name: str = "picture"
    polygon: tuple[Point, ...] = WHOLE_PICTURE
    classes: frozenset[str] = frozenset()
    dwell_s: float = 0.0
    inside: bool = True
    inertia_s: float = 0.0

    def takes(self, label: str) -> bool:
        """Whether objects of this label count here."""
        return not self.classes or label in self.classes

    def holds(self, x: float, y: float) -> bool:
        """Whether a point (fractions) lies in the zone; the polygon's edge belongs to the polygon."""
        left, top, right, bottom = bounds_of(self.polygon)
        within = left <= x <= right and top <= y <= bottom and contains(self.polygon, x, y)
        return within == self.inside


@dataclass(frozen=True, slots=True)
class Line(Conditions):
    """A line to be crossed, from the first of `points` (fractions 0..1) to the second.

    `right` and `left` are the words for the side that is entered, right and left of somebody who stands at the first point and
    looks to the second.
    """

    name: str = "line"
    points: tuple[Point, Point] = ((0.0, 0.5), (1.0, 0.5))
    classes: frozenset[str] = frozenset()
    right: str = "in"
    left: str = "out"

    def takes(self, label: str) -> bool:
        """Whether objects of this label count here."""
        return not self.classes or label in self.classes


@functools.lru_cache(maxsize=512)
def bounds_of(polygon: tuple[Point, ...]) -> Bounds:
    """The smallest upright rectangle around a polygon, a hair wider: most points are judged by it alone."""
    across, down = [point[0] for point in polygon], [point[1] for point in polygon]
    return min(across) - 1e-9, min(down) - 1e-9, max(across) + 1e-9, max(down) + 1e-9


def contains(polygon: tuple[Point, ...], x: float, y: float) -> bool:
    """Even-odd rule; points on an edge are inside: neighbouring zones leave no gap, the picture's rim belongs to it."""
    inside = False
    previous = polygon[-1]
    for point in polygon:
        (x1, y1), (x2, y2) = previous, point
        if _on_edge(x, y, x1, y1, x2, y2):
            return True
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
        previous = point
    return inside


def unknown_classes(rules: Iterable[Zone | Line], labels: Iterable[str]) -> list[str]:
    """Classes that zones and lines ask for and a model does not know: such a rule would stay silent for ever."""
    known = set(labels)
    return sorted({label for rule in rules for label in rule.classes if label not in known})


def _on_edge(x: float, y: float, x1: float, y1: float, x2: float, y2: float) -> bool:
    cross = (x - x1) * (y2 - y1) - (y - y1) * (x2 - x1)
    if math.fabs(cross) > 1e-9:
        return False
    return min(x1, x2) - 1e-9 <= x <= max(x1, x2) + 1e-9 and min(y1, y2) - 1e-9 <= y <= max(y1, y2) + 1e-9
