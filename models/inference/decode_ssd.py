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


@dataclass(frozen=True, slots=True)
class SsdNumbers:
    """What came out of one run, as plain numbers: four for each box one after the other (top, left, bottom, right in fractions of
    the input), classes and scores for each, and how many of them are said to be real. Any number may be nonsense."""

    boxes: Sequence[float]
    classes: Sequence[float]
    scores: Sequence[float]
    told: float

    @property
    def many(self) -> int:
        """How many there can be."""
        return min(max(int(self.told), 0), len(self.scores)) if math.isfinite(self.told) else 0


SsdBox = tuple[float, float, float, float, float, int]
"""Left, top, right, bottom in px of the input (not cut off at its edges yet), score 0..1, class id."""


class SsdReader:
    """Boxes out of the numbers of one run, by a card. The numbers may come from another process: nothing in them is believed."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._limits: tuple[float | None, list[float]] | None = None

    def boxes(self, numbers: SsdNumbers, threshold: float | None) -> list[SsdBox]:
        """Best first; without classes that the card does not name, and without broken boxes.

        Some ten boxes come out of the model: as plain numbers they cost a fifth of what forty calls of numpy do.
        """
        card = self._card
        if self._limits is None or self._limits[0] != threshold:
            self._limits = threshold, class_thresholds(card, threshold).tolist()
        limits, end, scores, boxes = self._limits[1], len(card.labels) - 0.5, numbers.scores, numbers.boxes
        width, height = card.input.width_px, card.input.height_px
        passed: list[SsdBox] = []
        for at, number in enumerate(numbers.classes[: numbers.many]):
            if -0.5 <= number < end and scores[at] >= limits[round(number)]:  # both false for NaN
                top, left, bottom, right = boxes[4 * at : 4 * at + 4]
                if math.isfinite(top + left + bottom + right):  # no sum of fractions grows too large: then one is broken
                    score = min(max(scores[at], 0.0), 1.0)
                    passed.append((left * width, top * height, right * width, bottom * height, score, round(number)))
        passed.sort(key=_score, reverse=True)
        return passed[: card.thresholds.max_detections]


class SsdDecoder:
    """Decoder `ssd_postprocess`: boxes (1, N, 4) as top, left, bottom, right in fractions of the input; classes and scores (1, N)
    as floats; count: how many of N are real. Suppression has happened inside the model.
    """

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        positions = [named(card, field, outputs) for field in FIELDS]
        if any(positions) and not all(positions):
            raise misfit(card, "name all of boxes, classes, scores and count, or none of them", outputs)
        found = _of(tuple(each[0] for each in positions)) if all(positions) else find_ssd_outputs(outputs)
        if found is None or not _fits(found, outputs):
            raise misfit(card, "there must be boxes (1, N, 4), classes (1, N), scores (1, N) and a count", outputs)
        self._found = found
        self._sure = found.sure
        self._reader = SsdReader(card)

    def plain_outputs(self, outputs: Sequence[TensorInfo]) -> tuple[int, int, int, int] | None:
        """Positions of boxes, classes, scores and count where `SsdReader` can read them as they come: known apart by more than
        their values, and floats; else None."""
        found = self._found
        at = (found.boxes, found.classes, found.scores, found.count)
        return at if self._sure and all(outputs[each].dtype == np.float32 for each in at) else None

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels, best first; classes that the card does not name are dropped."""
        found = self._found
        numbers = SsdNumbers(
            _numbers(outputs[found.boxes]), _numbers(outputs[found.classes]), _numbers(outputs[found.scores]),
            _numbers(outputs[found.count])[0],
        )  # fmt: skip
        if not self._sure:
            many, classes, scores = numbers.many, numbers.classes, numbers.scores
            at = _scores_by_value(np.array(classes[:many], np.float32), np.array(scores[:many], np.float32))
            if at is None:
                return Detections.empty()
            if at == 0:
                self._found = replace(found, classes=found.scores, scores=found.classes)
                numbers = replace(numbers, classes=scores, scores=classes)
            self._sure = True
        return placed(self._reader.boxes(numbers, threshold), geometry)


def placed(boxes: Sequence[SsdBox], geometry: Geometry) -> Detections:
    """Boxes in input px as detections in source px; those of which nothing lies in the picture are gone."""
    places, scores, ids = [], [], []
    for left, top, right, bottom, score, class_id in boxes:
        place = geometry.box_to_source(left, top, right, bottom)
        if place is not None:
            places.append(place)
            scores.append(score)
            ids.append(class_id)
    return Detections.of(places, scores, ids) if places else Detections.empty()


def _score(one: SsdBox) -> float:
    return one[4]


def _numbers(output: OutputTensor) -> Any:
    """An output's real values as a list."""
    return (dequantise(output.values, output.info) if output.info.quantised else output.values).ravel().tolist()
