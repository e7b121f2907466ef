"""Non-maximum suppression and the arithmetic of boxes, in numpy without a loop over boxes. Pure."""

from typing import Any

import numpy as np
import numpy.typing as npt

from models.inference.types import FloatArray, IntArray

MAX_CANDIDATES = 1000
"""Boxes that enter suppression: its matrix grows with the square, and a noise picture must not stall the pipeline."""


def pairwise_iou(first: npt.NDArray[np.floating[Any]], second: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Intersection over union of every box (N, 4) xyxy with every box (M, 4): (N, M); boxes without area have 0."""
    left_top = np.maximum(first[:, None, :2], second[None, :, :2])
    right_bottom = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.maximum(right_bottom - left_top, 0)
    shared = sides[..., 0] * sides[..., 1]
    union = area(first)[:, None] + area(second)[None, :] - shared
    iou: npt.NDArray[np.floating[Any]] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return iou


def area(xyxy: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Areas (N,) of boxes (N, 4); 0 for boxes turned inside out."""
    sides: npt.NDArray[np.floating[Any]] = np.maximum(xyxy[:, 2:] - xyxy[:, :2], 0)
    product: npt.NDArray[np.floating[Any]] = sides[:, 0] * sides[:, 1]
    return product


def keep_best(
    xyxy: FloatArray, scores: FloatArray, class_id: IntArray, *, nms_iou: float, max_detections: int
) -> npt.NDArray[np.intp]:
    """Positions of the boxes that survive class-wise greedy suppression, best score first, at most `max_detections`.

    Greedy suppression is the fixed point of: a box falls if a better one that stands overlaps it. Iterating that over the whole
    matrix reaches it in as many rounds as the longest chain of overlaps, usually two or three.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    if len(order) > 1 and nms_iou < 1.0:
        boxes, classes = xyxy[order], class_id[order]
        overlaps = (pairwise_iou(boxes, boxes) > nms_iou) & (classes[:, None] == classes[None, :])
        overlaps = np.triu(overlaps, 1)  # [better, worse]
        stands = np.ones(len(order), bool)
        while True:
            again = ~np.any(overlaps & stands[:, None], axis=0)
            if np.array_equal(again, stands):
                break
            stands = again
        order = order[stands]
    return order[:max_detections]
