"""YOLOX heads as exported without their own decoding: one row for each cell of each grid. Pure numpy."""

from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.inference.decode_points import point_grid
from models.inference.head import activated, class_thresholds, finish, misfit, named, one_class_each, raw_thresholds, values_of
from models.inference.preprocess import Geometry
from models.inference.types import Detections, OutputTensor, TensorInfo, dequantise


class YoloxDecoder:
    """Decoder `yolox`: (1, N, 5 + C) with x, y (cells from the cell's corner), the logarithms of width and height in strides, an
    objectness and C class scores; a score is their product.
    """

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        self._card = card
        self._columns = 5 + len(card.labels)
        centres, sizes = point_grid(card.input.width_px, card.input.height_px, card.output.strides)
        self._stride = sizes[:, None]
        self._corner = centres - sizes[:, None] / 2
        wanted = (1, len(sizes), self._columns)
        fitting = named(card, "boxes", outputs) or [at for at, info in enumerate(outputs) if info.shape == wanted]
        if not fitting or outputs[fitting[0]].shape != wanted:
            raise misfit(card, f"there must be an output {wanted}", outputs)
        self._at = fitting[0]

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; only cells whose objectness alone could pass are decoded."""
        info, activation = outputs[self._at].info, self._card.output.score_activation
        values = values_of(outputs, self._at, self._columns)
        wanted = class_thresholds(self._card, threshold)
        cells = np.nonzero(values[:, 4] >= raw_thresholds(wanted.min(keepdims=True), activation, info)[0])[0]
        if len(cells) == 0:
            return Detections.empty()
        survivors = values[cells]
        product = activated(survivors[:, 4:5], info, activation) * activated(survivors[:, 5:], info, activation)
        rows, columns = np.nonzero(product >= wanted)
        if len(rows) == 0:
            return Detections.empty()
        scores = product[rows, columns]
        best = one_class_each(rows, columns, scores)
        rows, columns, scores = rows[best], columns[best], scores[best]
        real = dequantise(survivors[rows, :4], info)
        stride, corner = self._stride[cells[rows]], self._corner[cells[rows]]
        middle = real[:, :2] * stride + corner
        with np.errstate(over="ignore"):  # a wild size becomes infinite and is dropped with its box
            half = np.exp(real[:, 2:4]) * stride / 2
        xyxy = np.concatenate([middle - half, middle + half], axis=1)
        return finish(self._card, geometry, xyxy, scores, columns.astype(np.int32))
