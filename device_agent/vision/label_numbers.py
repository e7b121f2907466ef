"""One numbering of labels for whichever model answers, and the scores that labels are reported from. Pure."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from device_agent.vision.detector import Answer
from device_agent.vision.tracker_matching import Found
from models.card import UNUSED_LABELS, ModelCard
from models.inference.types import Detections


class LabelNumbers:
    """One numbering of labels for all models that ever answer: tracks live on when the model is switched."""

    def __init__(self, min_score: Mapping[str, float] | None = None) -> None:
        self.names: list[str] = []
        self._min_score = min_score or {}
        self._card: ModelCard | None = None
        self._numbers: list[int] = []
        self._least: list[float] = []

    def threshold(self, label: str) -> float:
        """The score that this label is reported from: the present model's card's, or the configuration's higher one."""
        if self._card is None:
            return 0.0
        return max(self._card.thresholds.per_class.get(label, self._card.thresholds.score), self._min_score.get(label, 0.0))

    def at_least(self, min_score: Mapping[str, float]) -> None:
        """Other least scores from the next answer on."""
        self._min_score = min_score
        if self._card is not None:
            self._learn(self._card)

    def sighting(self, answer: Answer) -> tuple[Found, Detections]:
        """An answer as the tracker takes it, and the detections that are reported. Boxes without area or label are left out."""
        if answer.card is not self._card:
            self._learn(answer.card)
        found = answer.detections
        if not self._usable(found):
            found = found[self._named(found)]
        ids, scores, least, numbers = found.class_id.tolist(), found.confidence.tolist(), self._least, self._numbers
        strong = [score >= least[number] for score, number in zip(scores, ids, strict=True)]
        boxes = [(box[0], box[1], box[2], box[3]) for box in found.xyxy.tolist()]
        # Answers come best first, so the strong ones nearly always lead: a slice of them is no copy.
        many = sum(strong)
        reported = found if many == len(strong) else found[:many] if all(strong[:many]) else found[np.array(strong)]
        return Found(boxes, scores, [numbers[number] for number in ids], strong), reported

    def _usable(self, found: Detections) -> bool:
        """Whether all detections have label and area, as nearly always: then nothing is picked out of them. False for NaN."""
        ids, boxes = found.class_id.tolist(), found.xyxy.tolist()
        numbers, known = self._numbers, len(self._numbers)
        return all(0 <= number < known and numbers[number] >= 0 for number in ids) and all(
            -math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf for left, top, right, bottom in boxes
        )

    def _named(self, found: Detections) -> npt.NDArray[np.bool_]:
        ids = found.class_id
        numbers = np.array(self._numbers, np.int32)
        named: npt.NDArray[np.bool_] = (ids >= 0) & (ids < len(numbers))
        named[named] = numbers[ids[named]] >= 0
        named &= (found.xyxy[:, 2:] > found.xyxy[:, :2]).all(axis=1) & np.isfinite(found.xyxy).all(axis=1)
        return named

    def _learn(self, card: ModelCard) -> None:
        self._card = card
        numbers = {name: number for number, name in enumerate(self.names)}
        ids = []
        for label in card.labels:
            if label in UNUSED_LABELS:
                ids.append(-1)
                continue
            if label not in numbers:
                numbers[label] = len(self.names)
                self.names.append(label)
            ids.append(numbers[label])
        self._numbers = ids
        # As float32, like the scores: one that is exactly at the threshold counts.
        self._least = np.array([self.threshold(label) for label in card.labels], np.float32).tolist()
