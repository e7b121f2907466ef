"""What a plain blob detector makes of the same scenes, so that the models' figures mean something. Pure.

It is given more than a camera could give it: the very same yard without objects (photographed at another moment, with another
shake and noise) and the light. It takes out the
shake, then the difference, a threshold, opens and closes it, and calls each contour by its shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.precision import LabelledBoxes
from models.rendered.yard import Picture


@dataclass(frozen=True)
class BlobSettings:
    """Threshold of the difference (shares of the brightness), smallest area (px), shapes (width / height) of the classes.

    The values are the best of a small grid on the validation seeds.
    """

    threshold: float = 0.15
    least_px: float = 40.0
    person_below: float = 0.9
    cart_above: float = 1.2


def detect_blobs(picture_bgr: Picture, plate_bgr: Picture, settings: BlobSettings) -> LabelledBoxes:
    """Blobs that the picture has and the empty yard has not: boxes in px, class by shape, score by contrast and area."""
    now, before = (cv2.GaussianBlur(item, (0, 0), 1.2).astype(np.float32) for item in (picture_bgr, plate_bgr))
    shift, _ = cv2.phaseCorrelate(cv2.cvtColor(before, cv2.COLOR_BGR2GRAY), cv2.cvtColor(now, cv2.COLOR_BGR2GRAY))
    if max(abs(shift[0]), abs(shift[1])) < 8:  # beyond any shake it has met an object, not the yard
        move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        size = (before.shape[1], before.shape[0])
        before = np.asarray(cv2.warpAffine(before, move, size, borderMode=cv2.BORDER_REPLICATE), np.float32)
    now *= before.mean() / max(1.0, float(now.mean()))
    difference = np.abs(now - before).max(axis=2) / max(8.0, float(before.mean()))
    mask = (difference > settings.threshold).astype(np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)), np.uint8)
    mask = np.asarray(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)), np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes, labels, scores = [], [], []
    for contour in contours:
        area = float(cv2.contourArea(contour))
        if area < settings.least_px:
            continue
        x, y, width, height = cv2.boundingRect(contour)
        shape = width / height
        labels.append("person" if shape < settings.person_below else ("cart" if shape > settings.cart_above else "animal"))
        boxes.append([float(x), float(y), float(width), float(height)])
        contrast = float(difference[y : y + height, x : x + width].mean())
        scores.append(min(1.0, contrast) * min(1.0, area / 600))
    return LabelledBoxes.of_xywh(boxes, labels, scores)
