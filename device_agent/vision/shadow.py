"""Two models on the same frames: where they agree, where they do not, and when the second may look. Pure.

The *current* model decides what is reported; the *candidate* runs beside it on some frames and decides nothing. Each frame is a
pair: a box of one model without a partner in the other is a disagreement, counted by label and size. Comparing on the same frames
takes the scene out of the comparison, so few frames say much.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import greedy_pairs, iou
from device_agent.vision.triggers import Disagreement
from device_agent.vision.types import Box
from models.card import UNUSED_LABELS, ModelCard
from models.inference.types import Detections

SAME_IOU = 0.5
"""From this overlap on, two boxes of one label are the same object (the usual threshold of AP50)."""
MOVED_IOU = 0.2
"""Below `SAME_IOU` but above this, two boxes of one label are told as one object that the models place differently."""
SMALL_BELOW, MEDIUM_BELOW = 1 / 8, 1 / 3
"""Size is the larger of a box's width and height as shares of the picture's."""
MAX_KEYS = 600
"""Pairs of label and size that are counted apart: a model with more than 200 labels has the rest under `other`."""
OTHER = "other"

Size = Literal["small", "medium", "large"]
Detail = Literal["missed", "extra", "class", "moved"]
"""Of the current model: it missed what the candidate saw, saw something extra, or both saw it, of another class or elsewhere."""
Seen = Callable[[npt.NDArray[np.float32], int, int], npt.NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Found:
    """What one model reports on a frame: boxes (N, 4) in px of the source picture, a label and a score for each."""

    xyxy: npt.NDArray[np.float32]
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """One frame: (label, size) of what both found and what only one of them found."""

    both: list[tuple[str, Size]]
    only_current: list[tuple[str, Size]]
    only_candidate: list[tuple[str, Size]]
    disagreements: list[Disagreement]


def reported(detections: Detections, card: ModelCard) -> Found:
    """The detections that a card's thresholds report, by name. Boxes without area, numbers or a label are left out."""
    labels = card.labels
    boxes = detections.xyxy
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    keep = []
    for position in np.flatnonzero(usable).tolist():
        number = int(detections.class_id[position])
        label = labels[number] if 0 <= number < len(labels) else ""
        least = card.thresholds.per_class.get(label, card.thresholds.score)
        if label and label not in UNUSED_LABELS and float(detections.confidence[position]) >= least:
            keep.append((position, label))
    positions = [position for position, _ in keep]
    return Found(boxes[positions], tuple(label for _, label in keep), tuple(detections.confidence[positions].tolist()))


def scaled(detections: Detections, across: float, down: float) -> Detections:
    """From pixels of the picture that was looked at to those of the source picture."""
    if across == down == 1.0:
        return detections
    return Detections.of(detections.xyxy * np.array([across, down, across, down]), detections.confidence, detections.class_id)


def compare(current: Found, candidate: Found, width_px: int, height_px: int) -> Compared:
    """Pair the boxes of two models on one frame: best overlap first, same label, at least `SAME_IOU`."""
    overlap = iou(current.xyxy, candidate.xyxy)
    same = np.array([[one == other for other in candidate.labels] for one in current.labels], bool).reshape(overlap.shape)
    pairs = greedy_pairs(np.where(same, overlap, 0.0).astype(np.float32), SAME_IOU)
    left = [i for i in range(len(current.labels)) if i not in {i for i, _ in pairs}]
    right = [j for j in range(len(candidate.labels)) if j not in {j for _, j in pairs}]
    near = overlap[np.ix_(left, right)]
    alike = same[np.ix_(left, right)]
    close = np.where(alike, (near >= MOVED_IOU) * near, (near >= SAME_IOU) * near)
    told = greedy_pairs(close.astype(np.float32), MOVED_IOU)
    disagreements = [
        _disagreement(candidate, right[j], "moved" if alike[i, j] else "class") for i, j in told
    ]
    disagreements += [
        _disagreement(current, number, "extra") for i, number in enumerate(left) if i not in {i for i, _ in told}
    ]
    disagreements += [
        _disagreement(candidate, number, "missed") for j, number in enumerate(right) if j not in {j for _, j in told}
    ]
    return Compared(
        [_key(current, i, width_px, height_px) for i, _ in pairs],
        [_key(current, i, width_px, height_px) for i in left],
        [_key(candidate, j, width_px, height_px) for j in right],
        disagreements,
    )


def size_of(box: Box, width_px: int, height_px: int) -> Size:
    """Small, medium or large, by the larger of its shares of the picture's width and height."""
    share = max((box[2] - box[0]) / width_px, (box[3] - box[1]) / height_px)
    return "small" if share < SMALL_BELOW else "medium" if share < MEDIUM_BELOW else "large"


def _box(found: Found, number: int) -> Box:
    left, top, right, bottom = found.xyxy[number].tolist()
    return (left, top, right, bottom)


def _key(found: Found, number: int, width_px: int, height_px: int) -> tuple[str, Size]:
    return (found.labels[number], size_of(_box(found, number), width_px, height_px))


def _disagreement(found: Found, number: int, detail: Detail) -> Disagreement:
    return Disagreement(found.labels[number], _box(found, number), found.scores[number], detail)


@dataclass(frozen=True, slots=True)
class PairCount:
    """One label at one size, since the candidate began."""

    label: str
    size: str
    both: int
    only_current: int
    only_candidate: int


class ShadowTally:
    """Counts of all frames that both models looked at."""

    def __init__(self) -> None:
        self.frames = 0
        self._counts: dict[str, Counter[tuple[str, str]]] = {"both": Counter(), "current": Counter(), "candidate": Counter()}
        self._keys: set[tuple[str, str]] = set()

    def add(self, compared: Compared) -> None:
        """One frame more."""
        self.frames += 1
        named = (("both", compared.both), ("current", compared.only_current), ("candidate", compared.only_candidate))
        for name, keys in named:
            self._counts[name].update(map(self._known, keys))

    def pairs(self) -> list[PairCount]:
        """All counts, the most frequent first."""
        both, current, candidate = (self._counts[name] for name in ("both", "current", "candidate"))
        keys = sorted(self._keys, key=lambda key: (-(both[key] + current[key] + candidate[key]), key))
        return [PairCount(*key, both[key], current[key], candidate[key]) for key in keys]

    def _known(self, key: tuple[str, str]) -> tuple[str, str]:
        if key not in self._keys and len(self._keys) >= MAX_KEYS:
            key = (OTHER, key[1])
        self._keys.add(key)
        return key


class DutyCycle:
    """Lets a second model look as long as its own cost stays below a share of one core. Not for two threads.

    Credit grows with time at ``max_core_share`` seconds of computing per second, and a look is due once there is credit for what
    a look has cost of late: over any time, the cost is at most the share of it and one look more.
    """

    WINDOW_S = 2.0
    """Credit for no longer than this is kept: after a pause there is no burst."""

    def __init__(self, max_core_share: float, now_s: float) -> None:
        self.share = max_core_share
        self._credit_s = 0.0
        self._looked_s = self._began_s = now_s
        self._typical_s = 0.0
        self._spent_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether a look may begin now."""
        self._earn(now_s)
        return self.share > 0 and self._credit_s >= self._typical_s

    def spent(self, cost_s: float, now_s: float) -> None:
        """A look took so many seconds of computing."""
        self._earn(now_s)
        cost_s = max(0.0, cost_s)
        self._typical_s = cost_s if not self._spent_s else 0.7 * self._typical_s + 0.3 * cost_s
        self._spent_s += cost_s
        self._credit_s -= cost_s

    def core_share(self, now_s: float) -> float:
        """What it has cost of one core since it began."""
        return self._spent_s / max(1e-3, now_s - self._began_s)

    def _earn(self, now_s: float) -> None:
        passed_s, self._looked_s = max(0.0, now_s - self._looked_s), max(now_s, self._looked_s)
        most_s = max(self._typical_s, self.share * self.WINDOW_S)
        self._credit_s = min(most_s, self._credit_s + passed_s * self.share)


@dataclass(frozen=True, slots=True)
class BoardLimits:
    """When the board has nothing to spare: degrees Celsius of the processor, bytes of available memory."""

    max_temp_c: float = 75.0
    min_memory_bytes: int = 128 * 1024 * 1024
    cooler_by_c: float = 3.0
    """So much cooler it must be before it goes on."""


THROTTLED_NOW = 0b1110
"""Raspberry Pi firmware bits: 1 frequency capped, 2 throttled, 3 soft temperature limit, each now."""


def hold_back(
    limits: BoardLimits, *, temp_c: float | None, memory_bytes: int | None, throttled: int | None, held: bool = False
) -> tuple[str, str]:
    """(code, sentence) of what forbids a second model now; two empty texts where nothing does. None is not known: no reason."""
    warmest_c = limits.max_temp_c - (limits.cooler_by_c if held else 0.0)
    if temp_c is not None and temp_c >= warmest_c:
        return "hot", f"hot: {temp_c:.0f} °C, the shadow runs below {warmest_c:.0f} °C"
    if throttled is not None and throttled & THROTTLED_NOW:
        return "throttled", "throttled: the firmware slows the processor now"
    if memory_bytes is not None and memory_bytes < limits.min_memory_bytes:
        free, least = memory_bytes // 2**20, limits.min_memory_bytes // 2**20
        return "memory", f"memory: {free} MiB available, the shadow runs with {least} MiB and more"
    return "", ""
