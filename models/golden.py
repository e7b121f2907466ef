"""Golden samples: what a model must still say after it was converted, shipped and installed. Pure.

*Parity* compares a release with its own reference, box by box: conversion, delegate and the picture path of this board did not
change what it sees. *Acceptance* scores it on labelled pictures of the channel: it is a good model at all. A release whose scores
stay plausible while its boxes are wrong fails acceptance, and parity with any reference but itself.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from models.golden_json import GoldenError, ObjectReader, dump, read_object
from models.inference.nms import pairwise_iou
from models.precision import LabelledBoxes, MeanPrecision, ap50, average_precision, match_class

__all__ = [
    "ACCEPTANCE_THRESHOLD",
    "AcceptanceImage",
    "AcceptanceSet",
    "GoldenError",
    "LabelledBoxes",
    "MeanPrecision",
    "Outcome",
    "ParitySample",
    "ParitySet",
    "Tolerance",
    "ap50",
    "average_precision",
    "check_acceptance",
    "check_parity",
    "make_acceptance",
    "make_parity",
    "match_class",
    "parse_acceptance",
    "parse_parity",
]

ACCEPTANCE_THRESHOLD = 0.05
"""The score from which detections enter an acceptance run: AP needs the whole curve, not what a product would show."""


@dataclass(frozen=True)
class Outcome:
    """Whether a check passed, why not in one sentence (or a summary of the pass), and its figures."""

    ok: bool
    reason: str
    figures: dict[str, float] = field(default_factory=dict)


ENOUGH_PAIRS = 5
"""From so many pairs on the middle one says something about all."""
MIDDLE_SHARE_SCORE, MIDDLE_SHARE_IOU = 1 / 2, 2 / 3
"""How much of a tolerance the pair in the middle may use up: one pair may be as far off as the tolerance says, half of them never
are by chance. (Measured between int8 and float, and between runtimes: scores 0.004 and IoU 0.98 in the middle.)"""


@dataclass(frozen=True)
class Tolerance:
    """What two runs of one model may differ by: IoU of a pair at least, its scores' gap at most, share of boxes that pair.

    All pairs together may not lean to one side: see ``MIDDLE_SHARE_SCORE``.
    """

    iou: float = 0.7
    score: float = 0.15
    min_pairs: float = 0.9


@dataclass(frozen=True)
class ParitySample:
    """One picture (by name and sha256 of its file) and what the reference found in it."""

    file: str
    sha256: str
    expected: LabelledBoxes


@dataclass(frozen=True)
class ParitySet:
    """A release's parity samples; run the model at `threshold` (for all classes) and compare within `tolerance`."""

    reference: Literal["float32", "self"]
    tolerance: Tolerance
    threshold: float
    samples: tuple[ParitySample, ...]


@dataclass(frozen=True)
class AcceptanceImage:
    """One labelled picture, by name and sha256 of its file."""

    file: str
    sha256: str
    truth: LabelledBoxes


@dataclass(frozen=True)
class AcceptanceSet:
    """The channel's labelled pictures and the mean AP50 that a release must reach on them at `ACCEPTANCE_THRESHOLD`."""

    name: str
    min_ap50: float
    images: tuple[AcceptanceImage, ...]


def check_parity(
    expected: Sequence[LabelledBoxes], got: Sequence[LabelledBoxes], tolerance: Tolerance, *, threshold: float = 0.0
) -> Outcome:
    """Whether two runs over the same pictures found the same.

    A box that one run alone found counts against it only if its score clears `threshold` by more than the tolerance: at the edge
    a small change of score makes a box appear or vanish. At least half of all expected boxes must pair even so.
    """
    if len(expected) != len(got):
        return Outcome(False, f"results for {len(got)} of {len(expected)} pictures")
    pairs: list[tuple[float, float]] = []  # IoU, score found less score expected
    missing = extra = total = 0
    clear = threshold + tolerance.score
    for wanted, found in zip(expected, got, strict=True):
        paired, alone_wanted, alone_found = _pair(wanted, found, tolerance)
        pairs += paired
        missing += int((wanted.scores[alone_wanted] >= clear).sum())
        extra += int((found.scores[alone_found] >= clear).sum())
        total += len(wanted)
    kept = len(pairs) / (len(pairs) + missing) if pairs else 0.0
    wanted_share = len(pairs) / (len(pairs) + extra) if pairs else 0.0
    figures = {
        "pairs": float(len(pairs)),
        "missing": float(missing),
        "extra": float(extra),
        "expected": float(total),
        "iou_median": float(np.median([iou for iou, _ in pairs])) if pairs else 0.0,
        "score_gap_p95": float(np.percentile([abs(gap) for _, gap in pairs], 95)) if pairs else 0.0,
        "score_shift": float(np.median([gap for _, gap in pairs])) if pairs else 0.0,
    }
    if total == 0:
        return Outcome(False, "the reference found nothing in any picture: nothing to compare", figures)
    if kept < tolerance.min_pairs:
        return Outcome(False, f"{missing} boxes of the reference were not found again ({len(pairs)} were)", figures)
    if wanted_share < tolerance.min_pairs:
        return Outcome(False, f"{extra} boxes were found that the reference does not have ({len(pairs)} pair)", figures)
    if len(pairs) * 2 < total:
        return Outcome(False, f"only {len(pairs)} of {total} boxes of the reference were found again", figures)
    if len(pairs) >= ENOUGH_PAIRS and abs(figures["score_shift"]) > tolerance.score * MIDDLE_SHARE_SCORE:
        return Outcome(False, f"all scores moved: by {figures['score_shift']:+.3f} in the middle of {len(pairs)} pairs", figures)
    if len(pairs) >= ENOUGH_PAIRS and 1 - figures["iou_median"] > (1 - tolerance.iou) * MIDDLE_SHARE_IOU:
        return Outcome(False, f"all boxes moved: median IoU {figures['iou_median']:.3f} of {len(pairs)} pairs", figures)
    return Outcome(True, f"{len(pairs)} of {total} boxes pair, median IoU {figures['iou_median']:.3f}", figures)


def _pair(
    wanted: LabelledBoxes, found: LabelledBoxes, tolerance: Tolerance
) -> tuple[list[tuple[float, float]], list[int], list[int]]:
    """(IoU, score found less expected) of each pair, best scores first, and the positions that stay alone on either side."""
    overlap = np.array(pairwise_iou(wanted.xyxy, found.xyxy))
    gap = found.scores[None, :] - wanted.scores[:, None]
    alike = np.array([[one == other for other in found.labels] for one in wanted.labels], bool).reshape(overlap.shape)
    overlap[~alike | (np.abs(gap) > tolerance.score) | (overlap < tolerance.iou)] = -1.0
    pairs, alone, free = [], [], set(range(len(found)))
    for at in np.argsort(-wanted.scores, kind="stable").tolist():
        best = int(np.argmax(overlap[at])) if len(found) else -1
        if best >= 0 and overlap[at, best] > 0:
            pairs.append((float(overlap[at, best]), float(gap[at, best])))
            free.discard(best)
            overlap[:, best] = -1.0
        else:
            alone.append(at)
    return pairs, alone, sorted(free)


def check_acceptance(accepted: AcceptanceSet, results: Mapping[str, LabelledBoxes]) -> Outcome:
    """Whether the mean AP50 over the set's classes reaches its minimum; `results` by file, a picture without one is a failure."""
    absent = [image.file for image in accepted.images if image.file not in results]
    if absent:
        return Outcome(False, f"no result for {len(absent)} of {len(accepted.images)} pictures, {absent[0]} among them")
    score = ap50([image.truth for image in accepted.images], [results[image.file] for image in accepted.images])
    figures = {"ap50": score.mean, "min_ap50": accepted.min_ap50}
    figures.update({f"ap50.{label}": value for label, value in score.per_class.items()})
    if math.isnan(score.mean):
        return Outcome(False, f"the acceptance set {accepted.name} has no labelled object", {"min_ap50": accepted.min_ap50})
    ok = score.mean >= accepted.min_ap50
    verb = "reaches" if ok else "stays below"
    return Outcome(ok, f"AP50 {score.mean:.3f} {verb} {accepted.min_ap50:.3f} on {accepted.name}", figures)


def make_parity(
    samples: Sequence[tuple[str, str]],
    detections: Sequence[LabelledBoxes],
    *,
    threshold: float,
    reference: Literal["float32", "self"] = "float32",
    tolerance: Tolerance | None = None,
) -> bytes:
    """`parity.json`: what the reference found at `threshold` in each (file, sha256); the same input gives the same bytes."""
    tolerance = tolerance or Tolerance()
    if not any((found.scores >= threshold + tolerance.score).any() for found in detections):
        raise ValueError("no detection clears the threshold by the tolerance: such samples would prove nothing")
    rows = [
        {"file": file, "sha256": sha256, "detections": _rows(found, with_scores=True)}
        for (file, sha256), found in zip(samples, detections, strict=True)
    ]
    return dump({"v": 1, "reference": reference, "threshold": threshold, "tolerance": vars(tolerance), "samples": rows})


def make_acceptance(name: str, min_ap50: float, images: Sequence[AcceptanceImage]) -> bytes:
    """An acceptance set as JSON; the same input gives the same bytes."""
    rows = [{"file": image.file, "sha256": image.sha256, "objects": _rows(image.truth)} for image in images]
    return dump({"v": 1, "name": name, "min_ap50": min_ap50, "images": rows})


def parse_parity(data: bytes) -> ParitySet:
    """The parity samples of a `parity.json`; raises GoldenError with all its faults."""
    top = read_object(data, "parity.json")
    limits = top.object("tolerance")
    tolerance = Tolerance(limits.fraction("iou"), limits.fraction("score"), limits.fraction("min_pairs"))
    samples = tuple(
        ParitySample(sample.file(), sample.sha256(), _boxes(sample.objects("detections"), with_scores=True))
        for sample in top.objects("samples")
    )
    lowest = min((float(sample.expected.scores.min()) for sample in samples if len(sample.expected)), default=0.0)
    threshold = top.fraction("threshold", lowest)
    reference: Literal["float32", "self"] = "self" if top.choice("reference", ("float32", "self")) == "self" else "float32"
    top.finish(not samples and "samples must not be empty")
    return ParitySet(reference, tolerance, threshold, samples)


def parse_acceptance(data: bytes) -> AcceptanceSet:
    """An acceptance set from its JSON; raises GoldenError with all its faults."""
    top = read_object(data, "acceptance set")
    images = tuple(
        AcceptanceImage(image.file(), image.sha256(), _boxes(image.objects("objects"))) for image in top.objects("images")
    )
    found = AcceptanceSet(top.text("name"), top.fraction("min_ap50"), images)
    twice = len({image.file for image in images}) != len(images)
    top.finish(twice and "a file stands twice in images", not any(len(image.truth) for image in images) and "no object at all")
    return found


def _rows(boxes: LabelledBoxes, *, with_scores: bool = False) -> list[dict[str, Any]]:
    rows = []
    for (left, top, right, bottom), label, score in zip(boxes.xyxy.tolist(), boxes.labels, boxes.scores.tolist(), strict=True):
        bbox = [round(value, 2) for value in (left, top, right - left, bottom - top)]
        rows.append({"label": label, "bbox": bbox, **({"score": round(score, 4)} if with_scores else {})})
    return rows


def _boxes(rows: Sequence[ObjectReader], *, with_scores: bool = False) -> LabelledBoxes:
    xywh = [row.bbox() for row in rows]
    scores = [row.fraction("score") for row in rows] if with_scores else None
    return LabelledBoxes.of_xywh(xywh, [row.text("label") for row in rows], scores)
