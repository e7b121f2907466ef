"""Anchor-free heads: for every point of every grid, four distances and a score for each class. Pure numpy."""

from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.inference.head import (
    CardLimits,
    activated,
    finish,
    label_misfit,
    misfit,
    named,
    one_class_each,
    points_of,
    positions_of,
    values_of,
)
from models.inference.preprocess import Geometry
from models.inference.types import Detections, FloatArray, OutputTensor, TensorInfo, dequantise


def point_grid(width_px: int, height_px: int, strides: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Centres (N, 2) as x, y in input pixels, (i + 0.5) * stride, row by row, stride after stride; each point's stride (N,)."""
    centres, sizes = [], []
    for stride, (columns, rows) in zip(strides, points_of(width_px, height_px, strides), strict=True):
        x, y = np.meshgrid(np.arange(columns), np.arange(rows))
        centres.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
        sizes.append(np.full(columns * rows, stride))
    return np.concatenate(centres).astype(np.float32), np.concatenate(sizes).astype(np.float32)


class PointsDecoder:
    """Decoder `points`: boxes (1, N, 4) are left, top, right, bottom distances from the point's centre in units of its stride;
    scores (1, N, C). Either one pair of tensors with all strides one after the other, or one pair for each stride.

    With `distance_bins` K, boxes are (1, N, 4 K): for each distance logits over 0..K-1 strides, whose mean under softmax is the
    distance (the distribution focal loss of YOLOv8 and 11; their heads split off for an Edge TPU are of this kind).
    """

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        self._card = card
        self._bins = card.output.distance_bins
        self._classes, self._last = len(card.labels), 4 * max(1, self._bins)
        self._pairs = _pairs(card, outputs, self._last)
        centres, sizes = point_grid(card.input.width_px, card.input.height_px, card.output.strides)
        self._sizes = sizes[:, None]
        self._origin = np.concatenate([centres, centres], axis=1)
        self._sign = np.array([-1, -1, 1, 1], np.float32)
        self._steps = np.arange(self._bins, dtype=np.float32)
        self._thresholds = CardLimits(card)

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; only points whose score passes, in the tensor's own numbers, are decoded."""
        found = []
        for boxes_at, scores_at, first_point in self._pairs:
            info = outputs[scores_at].info
            scores = values_of(outputs, scores_at, self._classes)
            rows, columns = positions_of(self._thresholds.of(threshold, scores_at, info)[1].passed(scores))
            if len(rows) == 0:
                continue
            passed = activated(scores[rows, columns], info, self._card.output.score_activation)
            best = one_class_each(rows, columns, passed)
            rows, columns, passed = rows[best], columns[best], passed[best]
            distances = self._distances(dequantise(values_of(outputs, boxes_at, self._last)[rows], outputs[boxes_at].info))
            points = rows + first_point
            with np.errstate(over="ignore", invalid="ignore"):  # a wild distance becomes infinite and is dropped with its box
                xyxy = self._origin[points] + self._sign * distances * self._sizes[points]
            found.append((xyxy, passed, columns.astype(np.int32)))
        if not found:
            return Detections.empty()
        joined = found[0] if len(found) == 1 else tuple(np.concatenate(part) for part in zip(*found, strict=True))
        return finish(self._card, geometry, *joined)

    def _distances(self, real: FloatArray) -> FloatArray:
        """Distances (M, 4) in strides."""
        if not self._bins:
            return real
        bins = real.reshape(-1, 4, self._bins)
        with np.errstate(invalid="ignore"):  # infinite logits give NaN, whose boxes are dropped
            grown = np.exp(bins - bins.max(axis=2, keepdims=True))
            mean: FloatArray = (grown @ self._steps) / grown.sum(axis=2)
        return mean


def _pairs(card: ModelCard, outputs: Sequence[TensorInfo], box_numbers: int) -> list[tuple[int, int, int]]:
    """(position of the boxes, position of the scores, index of the first point) for each pair of tensors."""
    grids = points_of(card.input.width_px, card.input.height_px, card.output.strides)
    counts = [columns * rows for columns, rows in grids]
    boxes, scores = named(card, "boxes", outputs), named(card, "scores", outputs)
    if not (boxes and scores) and len(card.labels) == box_numbers:
        classes = _classes_there(outputs, _by_points(outputs, box_numbers, counts), counts)
        if classes not in (0, box_numbers):
            raise label_misfit(card, classes)
        raise misfit(card, f"with {box_numbers} classes boxes and scores look alike: name both in the card", outputs)
    boxes = boxes or _by_points(outputs, box_numbers, counts)
    scores = scores or _by_points(outputs, len(card.labels), counts)
    classes = _classes_there(outputs, boxes, counts)
    if not scores and boxes and classes:
        raise label_misfit(card, classes)
    for field, positions, last in (("boxes", boxes, box_numbers), ("scores", scores, len(card.labels))):
        wanted = [sum(counts)] if len(positions) == 1 else counts
        if [_points(outputs[at]) for at in positions] != wanted or any(outputs[at].shape[-1] != last for at in positions):
            raise misfit(card, f"{field} must be (1, {sum(counts)}, {last}), or one such tensor per stride", outputs)
    if len(boxes) != len(scores):
        raise misfit(card, "boxes and scores must be split alike", outputs)
    starts = np.cumsum([0, *counts])[: len(boxes)].tolist()
    return list(zip(boxes, scores, starts, strict=True))


def _classes_there(outputs: Sequence[TensorInfo], boxes: Sequence[int], counts: Sequence[int]) -> int:
    """How many classes the outputs beside the boxes score; 0 where there are none, or several kinds of them."""
    beside = [info for at, info in enumerate(outputs) if at not in boxes and _points(info) in (sum(counts), *counts)]
    found = {info.shape[-1] for info in beside}
    return found.pop() if len(found) == 1 else 0


def _points(info: TensorInfo) -> int:
    """How many points a tensor (1, N, last) or (1, H, W, last) holds; -1 for any other shape."""
    return int(np.prod(info.shape[1:-1])) if len(info.shape) >= 3 and info.shape[0] == 1 else -1


def _by_points(outputs: Sequence[TensorInfo], last: int, counts: Sequence[int]) -> list[int]:
    """Positions of the tensors of this last side: the one that holds all points, else one for each stride, in their order."""
    fitting = [at for at, info in enumerate(outputs) if info.shape and info.shape[-1] == last]
    whole = [at for at in fitting if _points(outputs[at]) == sum(counts)]
    if whole:
        return whole[:1]
    each = [[at for at in fitting if _points(outputs[at]) == count][:1] for count in counts]
    return [at for found in each for at in found]
