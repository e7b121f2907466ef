"""YOLO heads of one column for each candidate and no objectness: YOLOv8 and YOLO11 as Ultralytics exports them. Pure numpy."""

from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.inference.decode_rows import Middles
from models.inference.head import CardLimits, activated, finish, misfit, named, one_class_each, positions_of
from models.inference.preprocess import Geometry
from models.inference.types import AnyArray, Detections, OutputTensor, TensorInfo, dequantise


class ColumnsDecoder:
    """Decoder `yolov8`: (1, 4 + C, N), or turned as (1, N, 4 + C): x, y of the middle, width, height in `box_units`, C scores."""

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        self._card = card
        self._channels = 4 + len(card.labels)
        given = named(card, "boxes", outputs)
        fitting = [at for at in (given or range(len(outputs))) if self._fits(outputs[at].shape)]
        if len(fitting) != 1:
            wanted = f"there must be one output (1, {self._channels}, N): 4 numbers and {len(card.labels)} classes"
            raise misfit(card, wanted, outputs)
        self._at = fitting[0]
        self._turned = outputs[self._at].shape[1] != self._channels
        self._boxes = Middles(card)
        self._thresholds = CardLimits(card)

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; only what passes in the tensor's own numbers is dequantised."""
        info = outputs[self._at].info
        values: AnyArray = outputs[self._at].values.reshape(info.shape[1:])
        limits = self._thresholds.of(threshold, self._at, info)[1]
        if self._turned:
            rows, columns = positions_of(limits.passed(values[:, 4:]))
            raw, scores = values[rows, :4], values[rows, columns + 4]
        else:
            columns, rows = positions_of(limits.passed(values[4:], class_axis=0))
            order = np.argsort(rows, kind="stable")
            rows, columns = rows[order], columns[order]
            raw, scores = values[:4, rows].T, values[columns + 4, rows]
        if len(rows) == 0:
            return Detections.empty()
        passed = activated(scores, info, self._card.output.score_activation)
        best = one_class_each(rows, columns, passed)
        xyxy = self._boxes(dequantise(raw[best], info), rows[best])
        return finish(self._card, geometry, xyxy, passed[best], columns[best].astype(np.int32))

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == 3 and shape[0] == 1 and self._channels in shape[1:]
