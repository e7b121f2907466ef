"""Zones: polygons in fractions of the picture, and the file that holds them. Pure.

File (JSON): `{"zones": [{"name", "polygon": [[x, y], ...], "classes", "dwell_s"}]}`; `classes` and `dwell_s` may be left out.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

Point = tuple[float, float]
WHOLE_PICTURE: tuple[Point, ...] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
MAX_ZONES = 50
MAX_POINTS = 200
MAX_TEXT_CHARS = 1_000_000


class ZoneError(ValueError):
    """A zone that cannot be used; `faults` holds one sentence for each thing that is wrong."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("these zones cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Zone:
    """A part of the picture: `polygon` in (x, y) fractions 0..1, no `classes` means all, an event needs `dwell_s` inside."""

    name: str = "picture"
    polygon: tuple[Point, ...] = WHOLE_PICTURE
    classes: frozenset[str] = frozenset()
    dwell_s: float = 0.0

    def takes(self, label: str) -> bool:
        """Whether objects of this label count here."""
        return not self.classes or label in self.classes

    def holds(self, x: float, y: float) -> bool:
        """Whether a point (fractions) lies inside; a point on an edge does."""
        return contains(self.polygon, x, y)


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


def unknown_classes(zones: Iterable[Zone], labels: Iterable[str]) -> list[str]:
    """Classes that zones ask for and a model does not know: such a zone would stay silent for ever."""
    known = set(labels)
    return sorted({label for zone in zones for label in zone.classes if label not in known})


def load_zones(text: str) -> tuple[Zone, ...]:
    """The zones of a file's text; raises ZoneError with all faults at once."""
    if len(text) > MAX_TEXT_CHARS:
        raise ZoneError([f"the text is longer than {MAX_TEXT_CHARS} characters"])
    try:
        top = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ZoneError([f"not JSON: {error}"]) from error
    listed = top.get("zones") if isinstance(top, dict) else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_ZONES:
        raise ZoneError([f'the file must be {{"zones": [...]}} with 1 to {MAX_ZONES} zones'])
    faults: list[str] = []
    made = [make_zone(entry, f"zones[{number}]", faults) for number, entry in enumerate(listed)]
    zones = tuple(zone for zone in made if zone is not None)
    names = [zone.name for zone in zones]
    faults += [f"two zones are called {name!r}" for name in sorted({name for name in names if names.count(name) > 1})]
    if faults:
        raise ZoneError(faults)
    return zones


def make_zone(entry: object, where: str, faults: list[str]) -> Zone | None:
    """A zone from an untyped table (a file's or the settings'); None after adding to `faults` what is wrong with it."""
    if not isinstance(entry, dict):
        faults.append(f"{where} must be a table")
        return None
    before = len(faults)
    unknown = sorted(str(key) for key in entry if key not in ("name", "polygon", "classes", "dwell_s", "camera"))
    if unknown:
        faults.append(f"{where} has unknown fields: {', '.join(unknown)}")
    name, classes, dwell_s = entry.get("name", "zone"), entry.get("classes") or [], entry.get("dwell_s", 0.0)
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        faults.append(f"{where}.name must be 1 to 100 characters")
    if not isinstance(classes, list) or not all(isinstance(label, str) for label in classes):
        faults.append(f"{where}.classes must be a list of labels")
    if not _number(dwell_s) or not 0 <= dwell_s <= 86_400:
        faults.append(f"{where}.dwell_s must be a number of seconds from 0 to 86400")
    polygon = _polygon(entry.get("polygon", [list(point) for point in WHOLE_PICTURE]), f"{where}.polygon", faults)
    if len(faults) > before:
        return None
    return Zone(name, polygon, frozenset(classes), float(dwell_s))


def _polygon(points: object, where: str, faults: list[str]) -> tuple[Point, ...]:
    if not isinstance(points, list | tuple) or not 3 <= len(points) <= MAX_POINTS:
        faults.append(f"{where} must be a list of 3 to {MAX_POINTS} points")
        return ()
    found: list[Point] = []
    for point in points:
        pair = list(point) if isinstance(point, list | tuple) else []
        if len(pair) != 2 or not all(_number(value) and 0 <= value <= 1 for value in pair):
            faults.append(f"{where} must hold points [x, y] as fractions 0 to 1 of the picture, not {point!r}"[:200])
            return ()
        found.append((float(pair[0]), float(pair[1])))
    if abs(_area(found)) < 1e-6:
        faults.append(f"{where} encloses nothing")
    return tuple(found)


def _area(points: list[Point]) -> float:
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, points[1:] + points[:1], strict=True)) / 2


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _on_edge(x: float, y: float, x1: float, y1: float, x2: float, y2: float) -> bool:
    cross = (x - x1) * (y2 - y1) - (y - y1) * (x2 - x1)
    if abs(cross) > 1e-9:
        return False
    return min(x1, x2) - 1e-9 <= x <= max(x1, x2) + 1e-9 and min(y1, y2) - 1e-9 <= y <= max(y1, y2) + 1e-9
