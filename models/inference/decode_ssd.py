"""Models that end in TFLite_Detection_PostProcess: boxes, classes, scores and a count, in whichever order. Pure numpy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.card import ModelCard
from models.inference.head import class_thresholds, finish, misfit, named
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
        self._limits: tuple[float | None, FloatArray] | None = None
        self._input_px = np.array([card.input.width_px, card.input.height_px] * 2, np.float32)

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; classes that the card does not name are dropped."""
        boxes, classes, scores, count = (
            dequantise(outputs[at].values, outputs[at].info)
            for at in (self._found.boxes, self._found.classes, self._found.scores, self._found.count)
        )
        told = count.reshape(-1)[0]
        many = int(np.clip(told, 0, scores.size)) if np.isfinite(told) else 0
        scores, numbers = scores.reshape(-1)[:many], classes.reshape(-1)[:many]
        if not self._sure:
            at = _scores_by_value(numbers, scores)
            if at is None:
                return Detections.empty()
            if at == 0:
                self._found = replace(self._found, classes=self._found.scores, scores=self._found.classes)
                scores, numbers = numbers, scores
            self._sure = True
        known = (numbers >= -0.5) & (numbers < len(self._card.labels) - 0.5)  # false for NaN too
        class_id = np.rint(np.where(known, numbers, 0)).astype(np.int32)
        if self._limits is None or self._limits[0] != threshold:
            self._limits = threshold, class_thresholds(self._card, threshold)
        passed = known & (scores >= self._limits[1][class_id])
        yxyx = boxes.reshape(-1, 4)[:many][passed]
        xyxy = yxyx[:, [1, 0, 3, 2]] * self._input_px
        return finish(self._card, geometry, xyxy, np.clip(scores[passed], 0, 1), class_id[passed], suppress=False)
