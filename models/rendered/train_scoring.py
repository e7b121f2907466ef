"""A small AP50 for choices made while training; the published figures come from models/evaluate.py."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.rendered.train_pictures import COLUMNS, STRIDE_PX

Array = npt.NDArray[Any]


def boxes_from_points(distances: Array, scores: Array, lowest: float = 0.05) -> Array:
    """Detections (n, 6) x1, y1, x2, y2, score, class of one picture after suppression per class."""
    point, label = np.nonzero(scores >= lowest)
    x, y = (point % COLUMNS + 0.5) * STRIDE_PX, (point // COLUMNS + 0.5) * STRIDE_PX
    away = distances[point] * STRIDE_PX
    found = np.stack([x - away[:, 0], y - away[:, 1], x + away[:, 2], y + away[:, 3], scores[point, label], label], axis=1)
    kept = []
    for index in range(3):
        own = found[found[:, 5] == index]
        if len(own):
            corners = np.concatenate([own[:, :2], own[:, 2:4] - own[:, :2]], axis=1)
            kept.append(own[np.asarray(cv2.dnn.NMSBoxes(corners.tolist(), own[:, 4].tolist(), lowest, 0.5)).ravel()])
    return np.concatenate(kept) if kept else np.zeros((0, 6))


def _overlaps(box: Array, others: Array) -> Array:
    wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    high = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    inter = np.maximum(wide, 0) * np.maximum(high, 0)
    area = (box[2] - box[0]) * (box[3] - box[1]) + (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return np.asarray(inter / (area - inter + 1e-9))


def average_precision_50(found: list[Array], truth: Array) -> float:
    """Mean over classes of the area under the precision envelope at IoU 0.5."""
    values = []
    for label in range(3):
        total = int((truth[:, :, 4] == label).sum())
        marks = []
        for own, boxes in zip(found, truth, strict=True):
            real = boxes[boxes[:, 4] == label]
            taken = np.zeros(len(real), bool)
            own = own[own[:, 5] == label]
            for row in own[np.argsort(-own[:, 4])]:
                fits = np.where(taken, 0, _overlaps(row, real)) if len(real) else np.zeros(0)
                hit = len(fits) > 0 and fits.max() >= 0.5
                if hit:
                    taken[fits.argmax()] = True
                marks.append((row[4], hit))
        hits = np.array([hit for _, hit in sorted(marks, key=lambda mark: -mark[0])], float)
        if total == 0 or len(hits) == 0:
            values.append(0.0)
            continue
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        values.append(float((envelope * hits).sum() / total))
    return float(np.mean(values))
