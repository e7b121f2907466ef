"""Crops for the verifier: true boxes with a margin, and places where nothing is. Pure; pictures in, crops out."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from models.rendered import scenes
from models.rendered.yard import HEIGHT_PX, WIDTH_PX

SIDE_PX = 64
MARGIN = 0.2
"""A crop shows the box and this share of its size on every side, as the agent's best crop does."""
LABELS = ("person", "cart", "animal", "nothing")
NOTHING = 3

Picture = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


def crop_px(box_px: Box, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """The region x1, y1, x2, y2 (whole px inside the picture) that a crop of this box shows."""
    mx, my = MARGIN * (box_px[2] - box_px[0]), MARGIN * (box_px[3] - box_px[1])
    x1, y1 = max(0, int(box_px[0] - mx)), max(0, int(box_px[1] - my))
    return x1, y1, min(width_px, max(x1 + 2, round(box_px[2] + mx))), min(height_px, max(y1 + 2, round(box_px[3] + my)))


def cut(picture: Picture, box_px: Box) -> Picture:
    """The crop of a box, stretched to 64x64 as the verifier's card says."""
    x1, y1, x2, y2 = crop_px(box_px, picture.shape[1], picture.shape[0])
    return np.asarray(cv2.resize(picture[y1:y2, x1:x2], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR), np.uint8)


def overlap(a: Box, b: Box) -> float:
    """The share of box `a` that box `b` covers."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, wide) * max(0.0, high) / max(1e-6, (a[2] - a[0]) * (a[3] - a[1]))


def _loose(box: Box, rng: np.random.Generator) -> Box:
    """The box as a detector might give it: each side off by up to a tenth of the size."""
    w, h = box[2] - box[0], box[3] - box[1]
    off = rng.uniform(-0.1, 0.1, 4) * (w, h, w, h)
    return box[0] + float(off[0]), box[1] + float(off[1]), box[2] + float(off[2]), box[3] + float(off[3])


def crops_of(rendered: scenes.Rendered, rng: np.random.Generator) -> list[tuple[Picture, int]]:
    """(crop BGR, class id): each true box, loosened; up to two pieces of clutter and one place at random that hold no object."""
    picture, truth = rendered.picture_bgr, [item.box_px for item in rendered.truth]
    found = [(cut(picture, _loose(item.box_px, rng)), LABELS.index(item.label)) for item in rendered.truth]
    clutter = [rendered.clutter_px[at] for at in rng.permutation(len(rendered.clutter_px))]
    for tries, most in ((clutter, 2), (_places(rng, 6), 1)):
        left = most
        for box in tries:
            inside = overlap(box, (0.0, 0.0, float(WIDTH_PX), float(HEIGHT_PX))) > 0.7
            if left and inside and all(overlap(box, own) < 0.1 and overlap(own, box) < 0.2 for own in truth):
                found.append((cut(picture, box), NOTHING))
                left -= 1
    return found


def _places(rng: np.random.Generator, count: int) -> list[Box]:
    """Boxes of an object's size anywhere on the ground."""
    boxes = []
    for _ in range(count):
        tall = float(rng.uniform(18, 70))
        wide = tall * float(rng.choice((0.35, 1.0, 1.6)))
        x, y = float(rng.uniform(0, WIDTH_PX - wide)), float(rng.uniform(60, max(61.0, HEIGHT_PX - tall)))
        boxes.append((x, y, x + wide, y + tall))
    return boxes
