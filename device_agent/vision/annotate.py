"""What was seen, drawn into a picture: zones, lines, detections with scores, tracks with their numbers. No IO.

Draws on pictures that have been through the Cutter alone (masked, blurred): what is drawn shows numbers, never pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from device_agent.vision.cutter import PrivatePicture
from device_agent.vision.scene import Scene
from device_agent.vision.types import Box, Cut, Picture
from device_agent.vision.zones import Line
from ota.wire.polygons import Point

Colour = tuple[int, int, int]
ZONE_COLOUR: Colour = (200, 160, 0)
LINE_COLOUR: Colour = (0, 160, 255)
WEAK_COLOUR: Colour = (160, 160, 160)
TRACK_COLOURS: tuple[Colour, ...] = (
    (80, 220, 80), (60, 60, 240), (240, 120, 60), (40, 220, 240), (220, 60, 220), (230, 220, 60), (120, 120, 255), (90, 180, 120),
)  # fmt: skip
"""BGR; a track keeps one of them by its number."""
FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SHARE = 1 / 900
"""Scale of the font for each pixel of the picture's longer side."""
MAX_TEXT_CHARS = 60
ARROW_SHARE = 0.06
"""Length of the arrow across a line, as a share of the picture's longer side."""


@dataclass(frozen=True, slots=True)
class Overlay:
    """What is drawn besides what was seen: zones as (name, polygon), points in fractions; lines with an arrow to their right."""

    zones: tuple[tuple[str, tuple[Point, ...]], ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sheet:
    """The picture to draw on, and how source pixels lie in it."""

    picture: Picture
    cut: Cut
    size_px: tuple[int, int]
    scale: float

    def at(self, x: float, y: float) -> tuple[int, int]:
        """A point of the source picture on the sheet."""
        height, width = self.picture.shape[:2]
        across, down = width / (self.cut[2] - self.cut[0]), height / (self.cut[3] - self.cut[1])
        return round((x - self.cut[0]) * across), round((y - self.cut[1]) * down)

    def of(self, point: Point) -> tuple[int, int]:
        """A point in fractions of the source picture on the sheet."""
        return self.at(point[0] * self.size_px[0], point[1] * self.size_px[1])


def annotate(made: PrivatePicture, scene: Scene, overlay: Overlay | None = None) -> Picture:
    """Draw what a scene holds INTO the picture that the Cutter made of its frame; returns the same array."""
    frame = scene.frame
    picture = made.picture_bgr
    scale = max(0.35, max(picture.shape[:2]) * FONT_SHARE)
    sheet = _Sheet(picture, made.cut, (frame.width_px, frame.height_px), scale)
    overlay = overlay or Overlay()
    for name, polygon in overlay.zones:
        points = np.array([sheet.of(point) for point in polygon], np.int32)
        cv2.polylines(picture, [points], True, ZONE_COLOUR, 1, cv2.LINE_AA)
        _write(sheet, name, sheet.of(polygon[0]), ZONE_COLOUR)
    for line in overlay.lines:
        _line(sheet, line)
    _detections(sheet, scene)
    for track in scene.tracks:
        colour = TRACK_COLOURS[track.id % len(TRACK_COLOURS)] if track.confirmed else WEAK_COLOUR
        _box(sheet, track.xyxy, colour, 2 if track.seen else 1)
        _write(sheet, f"#{track.id} {track.label} {track.score:.2f}", sheet.at(track.xyxy[0], track.xyxy[1]), colour)
    gate = "moved" if scene.gate.moved else "open" if scene.gate.open else "still"
    seen = "not looked" if scene.reported is None else f"{len(scene.reported)} found"
    where = f"{frame.camera} frame {frame.index} {frame.at_s:.2f} s  {gate}, {seen}"
    _write(sheet, where, (4, picture.shape[0] - 6), (255, 255, 255))
    return picture


def _detections(sheet: _Sheet, scene: Scene) -> None:
    """Boxes that no track bears yet, thin: what was reported, with its label and score."""
    if scene.reported is None or scene.answer is None:
        return
    labels: Sequence[str] = scene.answer.card.labels
    tracked = [np.array(track.xyxy) for track in scene.tracks if track.seen]
    found = scene.reported
    rows = zip(found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), strict=True)
    for box, score, number in rows:
        if any(np.abs(known - box).max() < 1.0 for known in tracked):
            continue
        _box(sheet, (box[0], box[1], box[2], box[3]), WEAK_COLOUR, 1)
        name = labels[number] if 0 <= number < len(labels) else str(number)
        _write(sheet, f"{name} {score:.2f}", sheet.at(box[0], box[1]), WEAK_COLOUR)


def _line(sheet: _Sheet, line: Line) -> None:
    """The line, its name at its first point, and from its middle an arrow to the side that is called `right`, with that word."""
    start, end = (sheet.of(point) for point in line.points)
    cv2.line(sheet.picture, start, end, LINE_COLOUR, 2, cv2.LINE_AA)
    _write(sheet, line.name, start, LINE_COLOUR)
    along = (end[0] - start[0], end[1] - start[1])
    length = math.hypot(*along)
    if not length:
        return
    far = max(12.0, ARROW_SHARE * max(sheet.picture.shape[:2]))
    middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    # y grows downwards: right of somebody who looks down the picture is the picture's left.
    tip = (round(middle[0] - along[1] / length * far), round(middle[1] + along[0] / length * far))
    foot = (round(middle[0]), round(middle[1]))
    cv2.arrowedLine(sheet.picture, foot, tip, LINE_COLOUR, 2, cv2.LINE_AA, tipLength=0.35)
    (width, height), _ = cv2.getTextSize(line.right, FONT, sheet.scale, 1)
    beside = (tip[0] - width if tip[0] < foot[0] else tip[0], tip[1] + height if tip[1] > foot[1] else tip[1])
    _write(sheet, line.right, beside, LINE_COLOUR)


def _box(sheet: _Sheet, box: Box, colour: Colour, thickness: int) -> None:
    cv2.rectangle(sheet.picture, sheet.at(box[0], box[1]), sheet.at(box[2], box[3]), colour, thickness)


def _write(sheet: _Sheet, text: str, at: tuple[int, int], colour: Colour) -> None:
    """A line of text with a dark ground, inside of the picture wherever ``at`` (its lower left corner) lies."""
    shown = text[:MAX_TEXT_CHARS].encode("ascii", "replace").decode()
    (width, height), below = cv2.getTextSize(shown, FONT, sheet.scale, 1)
    rows, columns = sheet.picture.shape[:2]
    left = max(0, min(at[0], columns - width))
    base = max(height + 1, min(at[1] - 2, rows - below))
    cv2.rectangle(sheet.picture, (left, base - height - 1), (left + width, base + below), (0, 0, 0), cv2.FILLED)
    cv2.putText(sheet.picture, shown, (left, base), FONT, sheet.scale, colour, 1, cv2.LINE_AA)
