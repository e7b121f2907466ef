"""Zones, lines and masks of a configuration as shapes that a page draws. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ota.wire.configuration import laid_over

WIDTH, HEIGHT = 320, 180
"""The drawing's own units: a picture of 16:9, whatever the camera's is; points are fractions of it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: ``kind`` is zones, lines or masks; ``points`` as SVG writes them; the name stands at ``x``, ``y``."""

    kind: str
    name: str
    points: str
    x: float
    y: float


def drawn(content: Mapping[str, Any]) -> dict[str, list[Shape]]:
    """Camera -> its shapes, for a content without faults. ``every_camera`` stands for those that are not named."""
    shared = content.get("every_camera", {})
    cameras = {name: laid_over(shared, camera) for name, camera in content.get("cameras", {}).items()}
    found = {name: _shapes(camera) for name, camera in {"every camera": shared, **cameras}.items()}
    return {name: shapes for name, shapes in found.items() if shapes}


def _shapes(camera: Mapping[str, Any]) -> list[Shape]:
    made = []
    for kind, key in (("masks", "polygon"), ("zones", "polygon"), ("lines", "points")):
        for entry in camera.get(kind, []):
            points = [(round(x * WIDTH, 1), round(y * HEIGHT, 1)) for x, y in entry[key]]
            x, y = min(points, key=lambda point: (point[1], point[0]))
            written = " ".join(f"{across:g},{down:g}" for across, down in points)
            made.append(Shape(kind, entry.get("name", "mask"), written, min(x, WIDTH - 60), min(max(y - 3, 10), HEIGHT - 4)))
    return made
