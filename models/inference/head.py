"""What every decoder needs: finding its tensors by the card, thresholds in the tensor's own numbers, activations. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.card import UNUSED_LABELS, ModelCard, tensor_names
from models.inference.errors import ModelError
from models.inference.kinds import labels_fault, looks_like, said
from models.inference.nms import keep_best
from models.inference.preprocess import Geometry
from models.inference.types import AnyArray, Detections, FloatArray, IntArray, OutputTensor, TensorInfo, dequantise


def misfit(card: ModelCard, what: str, outputs: Sequence[TensorInfo]) -> ModelError:
    """The refusal of a model whose outputs do not fit its card: what is wanted, what there is, and what that looks like."""
    there = ", ".join(f"{said(info)} {info.shape}" for info in outputs)
    guess = looks_like(outputs)
    return ModelError(
        "wrong_shape",
        f"{card.name} does not fit its card ({card.output.decoder} decoder): {what}; outputs: {there}{guess and '. ' + guess}",
    )


def label_misfit(card: ModelCard, classes: int) -> ModelError:
    """The refusal of labels that are not one for each class of the model."""
    return ModelError("wrong_shape", f"{card.name}: {labels_fault(card.labels, classes)}")


def named(card: ModelCard, field: str, outputs: Sequence[TensorInfo]) -> list[int]:
    """Positions of the outputs that a field of the card names (tensor or signature names), empty where it names none."""
    positions = []
    for name in tensor_names(getattr(card.output, field)):
        found = [at for at, info in enumerate(outputs) if name in (info.name, info.signature_name)]
        if not found:
            raise misfit(card, f"no output is called {name!r} (output.{field})", outputs)
        positions.append(found[0])
    return positions


def class_thresholds(card: ModelCard, threshold: float | None) -> FloatArray:
    """The score from which each class counts, float32 (C,); a given threshold stands for all. Unused classes never count."""
    limits = card.thresholds
    scores = [limits.per_class.get(label, limits.score) if threshold is None else threshold for label in card.labels]
    used = [label not in UNUSED_LABELS for label in card.labels]
    return np.where(used, scores, np.inf).astype(np.float32)


def before_activation(score: float, activation: str) -> float:
    """The number in front of the activation that yields this score: minus or plus infinity at its ends."""
    if activation != "sigmoid":
        return score
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))


@dataclass(frozen=True, slots=True)
class Limits:
    """From where each class counts, in the numbers that stand in one tensor.

    `low` (C,) has the tensor's own type, so that comparing does not widen the whole tensor; `never` (C,) marks the classes that
    no number reaches, None where there is none such.
    """

    low: AnyArray
    never: npt.NDArray[np.bool_] | None

    def passed(self, values: AnyArray, class_axis: int = -1) -> npt.NDArray[np.bool_]:
        """Which of the raw values (N, C), or (C, N) with `class_axis` 0, are worth dequantising. False for NaN."""
        found: npt.NDArray[np.bool_] = values >= (self.low if class_axis else self.low[:, None])
        if self.never is not None:
            found[(slice(None), self.never) if class_axis else self.never] = False
        return found


def limits_of(scores: FloatArray, activation: str, info: TensorInfo) -> Limits:
    """CardLimits (C,) of real scores as `Limits` of a tensor, so that nothing below them need be dequantised."""
    real = np.array([before_activation(float(score), activation) for score in scores], np.float64)
    never = np.isinf(scores)
    if info.quantised:
        bounds = np.iinfo(info.dtype)
        real = np.ceil(real / info.scale + info.zero_point - 1e-6)
        never |= real > bounds.max
        low: AnyArray = np.clip(real, bounds.min, bounds.max).astype(info.dtype)
    else:
        low = real.astype(np.float32)
    return Limits(low, never if never.any() else None)


class CardLimits:
    """The limits of a card's classes in its tensors, worked out once for each tensor and each threshold that is asked for."""

    def __init__(self, card: ModelCard) -> None:
        self._card = card
        self._known: dict[tuple[float | None, int], tuple[FloatArray, Limits]] = {}

    def of(self, threshold: float | None, position: int, info: TensorInfo) -> tuple[FloatArray, Limits]:
        """Real thresholds (C,) and what they are in the output at this position."""
        key = (threshold, position)
        if key not in self._known:
            if len(self._known) > 64:  # a caller that sweeps thresholds must not fill the memory
                self._known.clear()
            wanted = class_thresholds(self._card, threshold)
            self._known[key] = wanted, limits_of(wanted, self._card.output.score_activation, info)
        return self._known[key]


def activated(values: AnyArray, info: TensorInfo, activation: str) -> FloatArray:
    """Scores 0..1 of raw values."""
    real = dequantise(values, info)
    if activation == "sigmoid":
        with np.errstate(over="ignore"):  # exp of a very low logit is infinite and the score 0, as it should be
            real = np.float32(1) / (np.float32(1) + np.exp(-real))
    return np.clip(real, np.float32(0), np.float32(1))


def finish(
    card: ModelCard,
    geometry: Geometry,
    xyxy_input_px: FloatArray,
    scores: FloatArray,
    class_id: IntArray,
    *,
    suppress: bool = True,
) -> Detections:
    """Detections from candidates: broken and empty boxes dropped, suppressed class by class, in source pixels, best first."""
    whole = np.isfinite(xyxy_input_px).all(axis=1)
    if not whole.all():
        xyxy_input_px, scores, class_id = xyxy_input_px[whole], scores[whole], class_id[whole]
    limits = card.thresholds
    kept = keep_best(
        xyxy_input_px, scores, class_id, nms_iou=limits.nms_iou if suppress else 1.0, max_detections=limits.max_detections
    )
    xyxy = geometry.to_source(xyxy_input_px[kept])
    scores, class_id = scores[kept], class_id[kept]
    seen = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    if not seen.all():
        xyxy, scores, class_id = xyxy[seen], scores[seen], class_id[seen]
    return Detections(xyxy, scores, class_id)


def one_class_each(rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], scores: FloatArray) -> npt.NDArray[np.intp]:
    """Positions of the best-scored class of each point, where several classes of one point passed (`rows` ascending)."""
    if len(rows) < 2 or (rows[1:] != rows[:-1]).all():
        return np.arange(len(rows))
    order = np.lexsort((columns, -scores, rows))
    first = np.ones(len(order), bool)
    first[1:] = rows[order][1:] != rows[order][:-1]
    best: npt.NDArray[np.intp] = order[first]
    return best


def positions_of(passed: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of what is true in (N, C), row by row: `nonzero`, several times faster where next to nothing is."""
    flat = np.flatnonzero(passed)
    rows, columns = np.divmod(flat, passed.shape[1])
    return rows, columns


def points_of(width_px: int, height_px: int, strides: Sequence[int]) -> list[tuple[int, int]]:
    """Grid (columns, rows) of each stride; a side that a stride does not divide counts its last, partial cell."""
    return [(-(-width_px // stride), -(-height_px // stride)) for stride in strides]


def values_of(outputs: Sequence[OutputTensor], position: int, last: int) -> AnyArray:
    """An output's raw values as (N, last)."""
    return outputs[position].values.reshape(-1, last)
