"""Models that end in TFLite_Detection_PostProcess: boxes, classes, scores and a count, in whichever order. Pure numpy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.card import ModelCard
from models.inference.head import class_thresholds, misfit, named
from models.inference.preprocess import Geometry
from models.inference.types import Detections, FloatArray, OutputTensor, TensorInfo, dequantise

FIELDS = ("boxes", "classes", "scores", "count")
_TF1_NAMES = tuple("TFLite_Detection_PostProcess" + tail for tail in ("", ":1", ":2", ":3"))
_TF2_NAMES = tuple(f"StatefulPartitionedCall:{at}" for at in (3, 2, 1, 0))
_SIGNATURE_NAMES = ("output_3", "output_2", "output_1", "output_0")
_TF1_ORDER = (0, 1, 2, 3)
_TF2_ORDER = (1, 3, 0, 2)  # the outputs stand as scores, boxes, count, classes


@dataclass(frozen=True, slots=True)
class SsdOutputs:
    """Positions of the four outputs among all (a model may have more of them).

    `sure` False: shapes do not tell classes from scores; the values do, as soon as something was found.
    """

    boxes: int
    classes: int
    scores: int
    count: int
    sure: bool = True


def find_ssd_outputs(outputs: Sequence[TensorInfo]) -> SsdOutputs | None:
    """The four outputs; None where they are not to be found.

    In order of trust: what the operation in the graph gives where, signature names, tensor names, the two known orders, shapes.
    """
    for names, of in ((FIELDS, "role"), (_SIGNATURE_NAMES, "signature_name"), (_TF1_NAMES, "name"), (_TF2_NAMES, "name")):
        at = {getattr(info, of): position for position, info in enumerate(outputs)}
        if all(name in at for name in names):
            found = _of(tuple(at[name] for name in names))
            if _fits(found, outputs):
                return found
    for order in (_TF1_ORDER, _TF2_ORDER):
        if len(outputs) >= 4 and _fits(SsdOutputs(*order), outputs):
            return SsdOutputs(*order)
    return _by_shape(outputs)


def _of(positions: tuple[int, ...]) -> SsdOutputs:
    boxes, classes, scores, count = positions
    return SsdOutputs(boxes, classes, scores, count)


def _by_shape(outputs: Sequence[TensorInfo]) -> SsdOutputs | None:
    """One (1, N, 4), two (1, N), one single number, in any order and among others."""
    boxes = [at for at, info in enumerate(outputs) if len(info.shape) == 3 and info.shape[0] == 1 and info.shape[2] == 4]
    counts = [at for at, info in enumerate(outputs) if int(np.prod(info.shape)) == 1]
    if len(boxes) != 1 or not counts:
        return None
    rows = [at for at, info in enumerate(outputs) if info.shape == outputs[boxes[0]].shape[:2] and at not in counts[:1]]
    if len(rows) != 2:
        return None
    found = SsdOutputs(boxes[0], rows[0], rows[1], counts[0], sure=False)
    return found if _fits(found, outputs) else None


def _fits(found: SsdOutputs, outputs: Sequence[TensorInfo]) -> bool:
    boxes, classes, scores, count = (outputs[getattr(found, field)].shape for field in FIELDS)
    many = boxes[1] if len(boxes) == 3 else -1
    return boxes == (1, many, 4) and classes == (1, many) and scores == (1, many) and int(np.prod(count)) == 1


def _scores_by_value(first: FloatArray, second: FloatArray) -> int | None:
    """Which of the two is the scores: 0 or 1, None where nothing tells. Class ids are whole numbers, scores lie within 0..1."""

    def whole(values: FloatArray) -> bool:
        return bool(np.isfinite(values).all() and (values == np.rint(values)).all())

    def share(values: FloatArray) -> bool:
        return bool(((values >= 0) & (values <= 1)).all())

    told = [share(one) and not whole(one) and whole(other) for one, other in ((first, second), (second, first))]
    return told.index(True) if any(told) else None


class SsdDecoder:
    """Decoder `ssd_postprocess`: boxes (1, N, 4) as top, left, bottom, right in fractions of the input; classes and scores (1, N)
    as floats; count: how many of N are real. Suppression has happened inside the model.
    """

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        self._card = card
        positions = [named(card, field, outputs) for field in FIELDS]
        if any(positions) and not all(positions):
            raise misfit(card, "name all of boxes, classes, scores and count, or none of them", outputs)
        found = _of(tuple(each[0] for each in positions)) if all(positions) else find_ssd_outputs(outputs)
        if found is None or not _fits(found, outputs):
            raise misfit(card, "there must be boxes (1, N, 4), classes (1, N), scores (1, N) and a count", outputs)
        self._found = found
        self._sure = found.sure
        self._limits: tuple[float | None, list[float]] | None = None

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels, best first; classes that the card does not name are dropped.

        Some ten boxes come out of the model: as plain numbers they cost a fifth of what forty calls of numpy do.
        """
        classes, scores = _numbers(outputs[self._found.classes])[0], _numbers(outputs[self._found.scores])[0]
        told = dequantise(outputs[self._found.count].values, outputs[self._found.count].info).item()
        many = min(max(int(told), 0), len(scores)) if math.isfinite(told) else 0
        if not self._sure:
            at = _scores_by_value(np.array(classes[:many], np.float32), np.array(scores[:many], np.float32))
            if at is None:
                return Detections.empty()
            if at == 0:
                self._found = replace(self._found, classes=self._found.scores, scores=self._found.classes)
                scores, classes = classes, scores
            self._sure = True
        if self._limits is None or self._limits[0] != threshold:
            self._limits = threshold, class_thresholds(self._card, threshold).tolist()
        limits, end = self._limits[1], len(self._card.labels) - 0.5
        passed: list[tuple[float, int, int]] = []
        for at, number in enumerate(classes[:many]):
            if -0.5 <= number < end and scores[at] >= limits[round(number)]:  # both false for NaN
                passed.append((min(max(scores[at], 0.0), 1.0), round(number), at))
        return self._placed(passed, outputs, geometry) if passed else Detections.empty()

    def _placed(
        self, passed: list[tuple[float, int, int]], outputs: Sequence[OutputTensor], geometry: Geometry
    ) -> Detections:
        """Scores, classes and positions as detections in source pixels, without broken and empty boxes."""
        boxes = _numbers(outputs[self._found.boxes])[0]
        width, height = self._card.input.width_px, self._card.input.height_px
        passed = [one for one in passed if all(map(math.isfinite, boxes[one[2]]))]
        passed.sort(key=_score, reverse=True)
        kept = []
        for score, class_id, at in passed[: self._card.thresholds.max_detections]:
            top, left, bottom, right = boxes[at]
            box = geometry.box_to_source(left * width, top * height, right * width, bottom * height)
            if box is not None:
                kept.append((box, score, class_id))
        return Detections.of([one[0] for one in kept], [one[1] for one in kept], [one[2] for one in kept])


def _score(one: tuple[float, int, int]) -> float:
    return one[0]


def _numbers(output: OutputTensor) -> Any:
    """An output's real values as nested lists."""
    return (dequantise(output.values, output.info) if output.info.quantised else output.values).tolist()
