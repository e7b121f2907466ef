"""The one place that judges the polygons and lines that people draw: zones, masks, lines. Pure.

Points are (x, y) as fractions 0 to 1 of the picture's width and height. A fault is one sentence that begins with its place and
says what to do; no fault means that the shape can be used.
"""

import math
from collections.abc import Sequence

Point = tuple[float, float]
MAX_POINTS = 200
"""More points than anybody draws; the check for crossings grows with the square of it (some 10 ms at this bound)."""
LEAST_AREA = 1e-6
"""Share of the picture: a square of one pixel in a picture of 1000 x 1000."""
LEAST_LENGTH = 1e-3
"""A line shorter than a thousandth of the picture is a double click, not a line."""
SAME = 1e-9
"""Points that are nearer than this are one point."""
MAX_FAULTS = 5
"""Of one kind in one shape: a polygon in pixels would otherwise be refused with two hundred sentences."""


def polygon_faults(points: object, where: str) -> list[str]:
    """What is wrong with a polygon of 3 to 200 points.

    `points` is as it came (JSON, TOML or typed), `where` is its place in words.
    A point that repeats its neighbour (a double click, or the first point given again at the end) is no fault.
    """
    found, faults = _points(points, where, 3, MAX_POINTS)
    if faults:
        return faults
    corners = without_repeats(found)
    if len(corners) < 3:
        return [f"{where} encloses nothing: it needs 3 points that differ"]
    crossing = self_crossing(corners)
    if crossing is not None:
        first, second = crossing
        sides = f"its side from {_shown(corners, first)} meets its side from {_shown(corners, second)}"
        return [f"{where} crosses or touches itself: {sides}; give the points in order around the zone"]
    if abs(area(corners)) < LEAST_AREA:
        return [f"{where} encloses nothing: its points lie on one line"]
    return []


def line_faults(points: object, where: str) -> list[str]:
    """What is wrong with a line of exactly two points."""
    found, faults = _points(points, where, 2, 2)
    if not faults and math.dist(found[0], found[1]) < LEAST_LENGTH:
        faults.append(f"{where} has no length: its two points are one")
    return faults


def points_of(points: object) -> tuple[Point, ...]:
    """The points of a shape without faults, as floats; raises ValueError with the faults of its points otherwise."""
    found, faults = _points(points, "the shape", 2, MAX_POINTS)
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(found)


def without_repeats(points: Sequence[Point]) -> list[Point]:
    """The corners: points that repeat the one before them (the last one counts as before the first) left out."""
    corners: list[Point] = []
    for point in points:
        if not corners or math.dist(point, corners[-1]) > SAME:
            corners.append(point)
    while len(corners) > 1 and math.dist(corners[0], corners[-1]) <= SAME:
        corners.pop()
    return corners


def area(points: Sequence[Point]) -> float:
    """Signed area of a polygon without crossings, as a share of the picture; positive when drawn clockwise on a screen."""
    following = [*points[1:], *points[:1]]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(points, following, strict=True)) / 2


def self_crossing(corners: Sequence[Point]) -> tuple[int, int] | None:
    """The first two sides that cross, touch or fold back on each other, by their first corners' numbers; None: a simple shape.

    `corners` must be without repeats.
    """
    count = len(corners)
    for first in range(count):
        a, b = corners[first], corners[(first + 1) % count]
        for second in range(first + 1, count):
            c, d = corners[second], corners[(second + 1) % count]
            if second == first + 1:
                meets = _folds(a, b, d)
            elif (second + 1) % count == first:
                meets = _folds(c, a, b)
            else:
                meets = segments_meet(a, b, c, d)
            if meets:
                return first, second
    return None


def segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the segments a-b and c-d have a point in common, their ends included."""
    if max(a[0], b[0]) < min(c[0], d[0]) - SAME or max(c[0], d[0]) < min(a[0], b[0]) - SAME:
        return False
    if max(a[1], b[1]) < min(c[1], d[1]) - SAME or max(c[1], d[1]) < min(a[1], b[1]) - SAME:
        return False
    return side_of(a, b, c) * side_of(a, b, d) <= 0 and side_of(c, d, a) * side_of(c, d, b) <= 0


def side_of(a: Point, b: Point, point: Point) -> int:
    """On which side of the line through a and b a point lies: 1 right, -1 left (on a screen, looking from a to b), 0 on it."""
    turn = (b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0])
    if abs(turn) <= SAME * math.dist(a, b):
        return 0
    return 1 if turn > 0 else -1


def _folds(start: Point, corner: Point, end: Point) -> bool:
    """Whether two sides that share `corner` lie on each other: a spike without width (only then do neighbours meet twice)."""
    if side_of(start, corner, end) != 0:
        return False
    return (start[0] - corner[0]) * (end[0] - corner[0]) + (start[1] - corner[1]) * (end[1] - corner[1]) > 0


def _points(points: object, where: str, least: int, most: int) -> tuple[list[Point], list[str]]:
    if not isinstance(points, list | tuple) or not least <= len(points) <= most:
        wanted = f"exactly {least}" if least == most else f"{least} to {most}"
        given = f", not {len(points)}" if isinstance(points, list | tuple) else ""
        return [], [f"{where} must be a list of {wanted} points{given}"]
    found: list[Point] = []
    faults: list[str] = []
    for number, point in enumerate(points):
        pair = point if isinstance(point, list | tuple) else ()
        if len(pair) == 2 and all(_is_share(value) for value in pair):
            found.append((float(pair[0]), float(pair[1])))
        elif len(faults) < MAX_FAULTS:
            shown = repr(point)[:60]
            faults.append(f"{where}[{number}] must be a point [x, y] as fractions 0 to 1 of the picture, not {shown}")
    return found, faults


def _is_share(value: object) -> bool:
    # No number that is not one (nan) lies between two others, and a whole number of a thousand digits compares without trouble.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _shown(corners: Sequence[Point], number: int) -> str:
    a, b = corners[number], corners[(number + 1) % len(corners)]
    return f"({a[0]:.3f}, {a[1]:.3f}) to ({b[0]:.3f}, {b[1]:.3f})"
