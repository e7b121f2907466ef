"""Average precision as COCO defines it, at one IoU. Pure: numpy and the standard library.

Per picture and class, detections claim the best free box from the highest score down; a detection that only meets a crowd region
counts neither way; precision is made monotone and read at 101 recalls (pycocotools, `COCOeval`, area all, 100 boxes a picture).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.inference.nms import area, pairwise_iou
from models.inference.types import Detections

MAX_PER_PICTURE = 100
RECALLS = np.linspace(0.0, 1.0, 101)
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LabelledBoxes:
    """Boxes of one picture with class *names*, truth or result: `xyxy` (N, 4) pixels, `scores` (N,) (ones for truth), `crowd`."""

    xyxy: Numbers
    labels: tuple[str, ...]
    scores: Numbers
    crowd: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, xyxy: Any, labels: Iterable[str], scores: Any = None, crowd: Any = None) -> "LabelledBoxes":
        """Labelled boxes from anything array-like; raises ValueError where the lengths differ."""
        names = tuple(labels)
        count = len(names)
        return cls(
            np.asarray(xyxy, np.float64).reshape(count, 4),
            names,
            np.ones(count) if scores is None else np.asarray(scores, np.float64).reshape(count),
            np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool).reshape(count),
        )

    @classmethod
    def of_xywh(cls, xywh: Any, labels: Iterable[str], scores: Any = None, crowd: Any = None) -> "LabelledBoxes":
        """The same from COCO's left, top, width, height."""
        boxes = np.array(xywh, np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return cls.of(boxes, labels, scores, crowd)

    @classmethod
    def found(cls, detections: Detections, labels: Sequence[str]) -> "LabelledBoxes":
        """A detector's result, its class ids named by the card's labels."""
        return cls.of(detections.xyxy, [labels[at] for at in detections.class_id.tolist()], detections.confidence)

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, label: str) -> "LabelledBoxes":
        """Those of one class."""
        at = [position for position, name in enumerate(self.labels) if name == label]
        return LabelledBoxes(self.xyxy[at], (label,) * len(at), self.scores[at], self.crowd[at])


@dataclass(frozen=True)
class ClassMatches:
    """All detections of one class over P pictures, best first: right or wrong (`hit`), in which `picture`; truths of each."""

    label: str
    scores: Numbers
    hit: npt.NDArray[np.bool_]
    picture: npt.NDArray[np.intp]
    positives: npt.NDArray[np.int64]


@dataclass(frozen=True)
class MeanPrecision:
    """AP50 of each class that has truths, and their mean (NaN where there are none)."""

    mean: float
    per_class: dict[str, float]


def match_class(
    truths: Sequence[LabelledBoxes], results: Sequence[LabelledBoxes], label: str, iou: float = 0.5
) -> ClassMatches:
    """Claim the truths of one class, picture by picture; `truths[i]` and `results[i]` belong to the same picture."""
    scores, hits, pictures = [np.zeros(0)], [np.zeros(0, bool)], [np.zeros(0, np.intp)]
    positives = np.zeros(len(truths), np.int64)
    for at, (truth, result) in enumerate(zip(truths, results, strict=True)):
        wanted, got = truth.only(label), result.only(label)
        positives[at] = int((~wanted.crowd).sum())
        order = np.argsort(-got.scores, kind="stable")[:MAX_PER_PICTURE]
        hit, counted = _claim(wanted, got.xyxy[order], iou)
        scores.append(got.scores[order][counted])
        hits.append(hit[counted])
        pictures.append(np.full(int(counted.sum()), at))
    joined = np.concatenate(scores)
    best_first = np.argsort(-joined, kind="stable")
    hit, picture = np.concatenate(hits)[best_first], np.concatenate(pictures)[best_first]
    return ClassMatches(label, joined[best_first], hit, picture, positives)


def _claim(wanted: LabelledBoxes, xyxy: Numbers, iou: float) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which boxes (best first) claim a truth, and which count at all."""
    hit, counted = np.zeros(len(xyxy), bool), np.ones(len(xyxy), bool)
    if len(wanted) == 0 or len(xyxy) == 0:
        return hit, counted
    overlap = np.array(pairwise_iou(xyxy, wanted.xyxy))
    free = ~wanted.crowd
    in_crowd = _share_inside(xyxy, wanted.xyxy[wanted.crowd])
    for at in range(len(xyxy)):
        reachable = np.where(free, overlap[at], -1.0)
        best = int(np.argmax(reachable))
        if reachable[best] >= iou:
            hit[at], free[best] = True, False
        elif in_crowd[at] >= iou:
            counted[at] = False
    return hit, counted


def _share_inside(xyxy: Numbers, crowds: Numbers) -> Numbers:
    """The largest share of each box (N,) that lies inside one crowd region."""
    if len(crowds) == 0:
        return np.zeros(len(xyxy))
    sides = np.minimum(xyxy[:, None, 2:], crowds[None, :, 2:]) - np.maximum(xyxy[:, None, :2], crowds[None, :, :2])
    shared = np.prod(np.maximum(sides, 0), axis=2)
    share: Numbers = (shared / np.maximum(area(xyxy), 1e-12)[:, None]).max(axis=1)
    return share


def average_precision(matches: ClassMatches, weights: npt.NDArray[np.int64] | None = None) -> float:
    """AP of one class, NaN without truths; `weights` (P,) says how often each picture counts (a bootstrap draw)."""
    positives = matches.positives.sum() if weights is None else (matches.positives * weights).sum()
    if positives == 0:
        return math.nan
    counts = np.ones(len(matches.hit)) if weights is None else weights[matches.picture].astype(np.float64)
    right = np.cumsum(counts * matches.hit)
    seen = np.cumsum(counts)
    recall = right / positives
    precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(envelope, 0.0)[np.minimum(at, len(envelope))].mean())


def recall_precision(matches: ClassMatches, score: float) -> tuple[float, float]:
    """Recall and precision of one class among detections of at least this score; NaN where nothing is there to divide by."""
    kept = matches.scores >= score
    right, positives = int((matches.hit & kept).sum()), int(matches.positives.sum())
    return (right / positives if positives else math.nan, right / int(kept.sum()) if kept.any() else math.nan)


def labels_of(truths: Iterable[LabelledBoxes]) -> list[str]:
    """The classes that have at least one truth outside crowds, sorted."""
    return sorted({name for truth in truths for name, crowd in zip(truth.labels, truth.crowd, strict=True) if not crowd})


def ap50(
    truths: Sequence[LabelledBoxes], results: Sequence[LabelledBoxes], labels: Iterable[str] | None = None
) -> MeanPrecision:
    """AP at IoU 0.5 of each class with truths (or of the given ones) and the mean over those with truths."""
    wanted = labels_of(truths) if labels is None else list(labels)
    per_class = {label: average_precision(match_class(truths, results, label)) for label in wanted}
    known = [value for value in per_class.values() if not math.isnan(value)]
    return MeanPrecision(sum(known) / len(known) if known else math.nan, per_class)
