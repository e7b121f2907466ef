"""One numbering of labels for whichever model answers, and the scores that labels are reported from. Pure."""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from device_agent.vision.detector import Answer
from device_agent.vision.tracker import Sighting
from models.card import UNUSED_LABELS, ModelCard
from models.inference.types import Detections


class LabelNumbers:
    """One numbering of labels for all models that ever answer: tracks live on when the model is switched."""

    def __init__(self, min_score: Mapping[str, float] | None = None) -> None:
        self.names: list[str] = []
        self._min_score = min_score or {}
        self._card: ModelCard | None = None
        self._used: list[bool] = []
        self._ids: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self._thresholds: npt.NDArray[np.float32] = np.zeros(0, np.float32)

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

    def sighting(self, answer: Answer) -> tuple[Sighting, Detections]:
        """An answer as the tracker takes it, and the detections that are reported. Boxes without area or label are left out."""
        if answer.card is not self._card:
            self._learn(answer.card)
        found = answer.detections
        if not self._usable(found):
            found = found[self._named(found)]
        ids = found.class_id
        strong = found.confidence >= self._thresholds[ids]
        reported = found if all(strong.tolist()) else found[strong]
        return Sighting(found.xyxy, found.confidence, self._ids[ids], strong), reported

    def _usable(self, found: Detections) -> bool:
        """Whether all detections have label and area, as nearly always: then nothing is picked out of them. False for NaN."""
        ids, boxes = found.class_id.tolist(), found.xyxy.tolist()
        names, used = self._used, len(self._used)
        return all(0 <= number < used and names[number] for number in ids) and all(
            -math.inf < left < right < math.inf and -math.inf < top < bottom < math.inf for left, top, right, bottom in boxes
        )

    def _named(self, found: Detections) -> npt.NDArray[np.bool_]:
        ids = found.class_id
        named: npt.NDArray[np.bool_] = (ids >= 0) & (ids < len(self._ids))
        named[named] = self._ids[ids[named]] >= 0
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
        self._used = [number >= 0 for number in ids]
        self._ids = np.array(ids, np.int32)
        self._thresholds = np.array([self.threshold(label) for label in card.labels], np.float32)
