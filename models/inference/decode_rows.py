"""YOLO heads of one row for each candidate, with an objectness: YOLOX as trained, and YOLOv5 (or YOLOX) decoded. Pure numpy."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from models.card import ModelCard
from models.inference.decode_points import point_grid
from models.inference.head import (
    activated,
    class_thresholds,
    finish,
    label_misfit,
    limits_of,
    misfit,
    named,
    one_class_each,
    positions_of,
    values_of,
)
from models.inference.preprocess import Geometry
from models.inference.types import Detections, FloatArray, OutputTensor, TensorInfo, dequantise

BEFORE_CLASSES = 5
"""x, y, width, height, objectness."""


class _Boxes(Protocol):
    """How four real numbers of some rows become boxes (M, 4) xyxy in input pixels."""

    def __call__(self, real: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray: ...


class RowsDecoder:
    """(1, N, 5 + C): four numbers of a box, an objectness and C class scores; a score is their product.

    Decoder `yolox`: x, y in cells from the cell's corner, logarithms of width and height in strides; rows are the cells of the
    grids of `strides`. Decoder `yolov5`: x, y of the middle, width and height, in `box_units`; rows in any order. A YOLOX that
    was exported with its own decoding is `yolov5` in pixels.
    """

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        self._card = card
        self._columns = BEFORE_CLASSES + len(card.labels)
        rows: int | None = None
        self._boxes: _Boxes = Middles(card)
        if card.output.decoder == "yolox":
            grid = _Grid(card)
            self._boxes, rows = grid, grid.cells
        self._at = _find(card, outputs, rows, self._columns)

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; only rows whose objectness alone could pass are decoded."""
        info, activation = outputs[self._at].info, self._card.output.score_activation
        values = values_of(outputs, self._at, self._columns)
        wanted = class_thresholds(self._card, threshold)
        lowest = limits_of(wanted.min(keepdims=True), activation, info)
        candidates = np.flatnonzero(lowest.passed(values[:, 4:5]))
        if len(candidates) == 0:
            return Detections.empty()
        survivors = values[candidates]
        product = activated(survivors[:, 4:5], info, activation) * activated(survivors[:, 5:], info, activation)
        rows, columns = positions_of(product >= wanted)
        if len(rows) == 0:
            return Detections.empty()
        scores = product[rows, columns]
        best = one_class_each(rows, columns, scores)
        rows, columns, scores = rows[best], columns[best], scores[best]
        xyxy = self._boxes(dequantise(survivors[rows, :4], info), candidates[rows])
        return finish(self._card, geometry, xyxy, scores, columns.astype(np.int32))


class _Grid:
    """YOLOX's cells."""

    def __init__(self, card: ModelCard) -> None:
        centres, sizes = point_grid(card.input.width_px, card.input.height_px, card.output.strides)
        self.cells = len(sizes)
        self._stride = sizes[:, None]
        self._corner = centres - sizes[:, None] / 2

    def __call__(self, real: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
        stride, corner = self._stride[rows], self._corner[rows]
        with np.errstate(over="ignore", invalid="ignore"):  # a wild size becomes infinite and is dropped with its box
            middle = real[:, :2] * stride + corner
            half = np.exp(real[:, 2:4]) * stride / 2
            return np.concatenate([middle - half, middle + half], axis=1)


class Middles:
    """Boxes given as middle and size, in pixels of the input or in shares of it."""

    def __init__(self, card: ModelCard) -> None:
        size = [card.input.width_px, card.input.height_px] * 2 if card.output.box_units == "normalised" else [1, 1, 1, 1]
        self._size = np.array(size, np.float32)

    def __call__(self, real: FloatArray, rows: npt.NDArray[np.intp]) -> FloatArray:
        """Boxes (M, 4) xyxy of x, y, width, height (M, 4)."""
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = real * self._size
            half = scaled[:, 2:] / 2
            return np.concatenate([scaled[:, :2] - half, scaled[:, :2] + half], axis=1)


def _find(card: ModelCard, outputs: Sequence[TensorInfo], rows: int | None, columns: int) -> int:
    """The position of the one output; raises ModelError `wrong_shape`."""

    def fits(info: TensorInfo, last: int) -> bool:
        return len(info.shape) == 3 and info.shape[0] == 1 and info.shape[2] == last and rows in (None, info.shape[1])

    given = named(card, "boxes", outputs)
    fitting = given or [at for at, info in enumerate(outputs) if fits(info, columns)]
    if len(fitting) == 1 and fits(outputs[fitting[0]], columns):
        return fitting[0]
    shapes = [info.shape for info in outputs if len(info.shape) == 3 and info.shape[0] == 1]
    if rows is not None and len(shapes) == 1 and shapes[0][1] == rows and shapes[0][2] > BEFORE_CLASSES:
        raise label_misfit(card, shapes[0][2] - BEFORE_CLASSES)
    raise misfit(card, f"there must be one output (1, {rows or 'N'}, {columns}): 5 numbers and {columns - 5} classes", outputs)
