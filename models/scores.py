"""The report of an evaluation: AP50 overall and for each class with bootstrap intervals, recall and precision. Pure."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.precision import ClassMatches, LabelledBoxes, average_precision, labels_of, match_class, recall_precision

CI90_PERCENT = (5.0, 95.0)


@dataclass(frozen=True)
class ClassScore:
    """One class: AP50 with its 90 % interval (None without a bootstrap), truths, (score, recall, precision) rows."""

    label: str
    ap50: float
    ci90: tuple[float, float] | None
    truths: int
    at: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Scores:
    """All classes, the mean of their AP50 with its interval, and the rows of all classes together."""

    ap50: float
    ci90: tuple[float, float] | None
    classes: tuple[ClassScore, ...]
    at: tuple[tuple[float, float, float], ...]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values; what is not a number (nothing to divide by) becomes null."""
        return {
            "ap50": _known(self.ap50),
            "ci90": self.ci90 and [_known(value) for value in self.ci90],
            "at": _rows(self.at),
            "classes": {
                one.label: {
                    "ap50": _known(one.ap50),
                    "ci90": one.ci90 and [_known(value) for value in one.ci90],
                    "truths": one.truths,
                    "at": _rows(one.at),
                }
                for one in self.classes
            },
        }


def score_results(
    truths: Sequence[LabelledBoxes],
    results: Sequence[LabelledBoxes],
    *,
    labels: Sequence[str] | None = None,
    thresholds: Sequence[float] = (0.3, 0.5, 0.6),
    bootstrap: int = 0,
    seed: int = 0,
) -> Scores:
    """Score results against truths of the same pictures; intervals come from drawing the *pictures* anew, `bootstrap` times.

    Classes: those given, else all with a truth.
    """
    matches = [match_class(truths, results, label) for label in (labels_of(truths) if labels is None else labels)]
    each = np.array([average_precision(match) for match in matches])
    draws = _bootstrap(matches, len(truths), bootstrap, seed) if bootstrap else None
    classes = tuple(
        ClassScore(
            match.label,
            float(each[at]),
            None if draws is None else _interval(draws[:, at]),
            int(match.positives.sum()),
            tuple((score, *recall_precision(match, score)) for score in thresholds),
        )
        for at, match in enumerate(matches)
    )
    overall = _interval(_mean(draws)) if draws is not None and matches else None
    return Scores(float(_mean(each[None])[0]) if matches else math.nan, overall, classes, _pooled(matches, thresholds))


def _bootstrap(matches: Sequence[ClassMatches], pictures: int, times: int, seed: int) -> Any:
    """AP of each class in each draw, (times, classes)."""
    random = np.random.default_rng(seed)
    draws = np.empty((times, len(matches)))
    for draw in range(times):
        weights = np.bincount(random.integers(0, pictures, pictures), minlength=pictures)
        draws[draw] = [average_precision(match, weights) for match in matches]
    return draws


def _mean(rows: Any) -> Any:
    """The mean over classes of each row, classes without a truth left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any truth has no mean: NaN says so
        return np.nanmean(rows, axis=1)


def _interval(values: Any) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    low, high = np.percentile(known, CI90_PERCENT) if len(known) else (math.nan, math.nan)
    return float(low), float(high)


def _pooled(matches: Sequence[ClassMatches], thresholds: Sequence[float]) -> tuple[tuple[float, float, float], ...]:
    """Recall and precision over the boxes of all classes together."""
    rows = []
    for score in thresholds:
        kept = sum(int((match.scores >= score).sum()) for match in matches)
        right = sum(int((match.hit & (match.scores >= score)).sum()) for match in matches)
        positives = sum(int(match.positives.sum()) for match in matches)
        rows.append((score, right / positives if positives else math.nan, right / kept if kept else math.nan))
    return tuple(rows)


def _rows(at: Sequence[tuple[float, float, float]]) -> list[dict[str, float | None]]:
    return [{"score": score, "recall": _known(recall), "precision": _known(precision)} for score, recall, precision in at]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
