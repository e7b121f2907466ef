"""How well a tracker followed: MOTA (CLEAR MOT) and IDF1 (identity F1), computed from true and found boxes. Pure.

Bernardin and Stiefelhagen 2008; Ristani and others 2016. A found box belongs to a true one from IoU 0.5 on. True boxes that do
not count (hardly anything of the body is visible) are owed by nobody, and found boxes that belong to them are left out
beforehand.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import assignment, iou

BELONGS_FROM_IOU = 0.5


@dataclass(frozen=True)
class Labelled:
    """One frame's boxes (N, 4) px with ids (N,); `counts` (N,) says which of the true ones are owed, None for all."""

    ids: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    counts: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class MotScore:
    """Counts over all frames of one film, and the two scores that follow from them."""

    objects: int
    found: int
    misses: int
    false_positives: int
    switches: int
    identity_hits: int

    @property
    def mota(self) -> float:
        """1 - (misses + false positives + switches) / objects; at most 1, may be negative."""
        return 1.0 - (self.misses + self.false_positives + self.switches) / max(1, self.objects)

    @property
    def idf1(self) -> float:
        """Share of boxes under the right identity, 0 to 1, for the best pairing of whole tracks."""
        return 2.0 * self.identity_hits / max(1, self.objects + self.found)


def score(truth: Sequence[Labelled], found: Sequence[Labelled]) -> MotScore:
    """Compare two films frame by frame; both have the same number of frames."""
    misses = false_positives = switches = objects = total = 0
    last: dict[int, int] = {}
    together: Counter[tuple[int, int]] = Counter()
    for owed, said in ((_owed(true, there), there) for true, there in zip(truth, found, strict=True)):
        true, there = owed
        overlap = _overlap(true.boxes, there.boxes)
        for row, column in zip(*np.nonzero(overlap >= BELONGS_FROM_IOU), strict=True):
            together[int(true.ids[row]), int(there.ids[column])] += 1
        pairs = _frame_pairs(true, there, overlap, last)
        for row, column in pairs:
            person, track = int(true.ids[row]), int(there.ids[column])
            switches += last.get(person, track) != track
            last[person] = track
        objects, total = objects + len(true.ids), total + len(there.ids)
        misses, false_positives = misses + len(true.ids) - len(pairs), false_positives + len(there.ids) - len(pairs)
        assert len(said.ids) == len(set(said.ids.tolist())), "a track is in two places at once"
    return MotScore(objects, total, misses, false_positives, switches, _identity_hits(together))


def _owed(true: Labelled, there: Labelled) -> tuple[Labelled, Labelled]:
    """Leave out what does not count, and found boxes that belong to it."""
    if true.counts is None or true.counts.all():
        return true, there
    overlap = _overlap(true.boxes, there.boxes)
    pairs = assignment(1.0 - overlap, 1.0 - BELONGS_FROM_IOU + 1e-9)
    left_out = [column for row, column in pairs if not true.counts[row]]
    kept = np.setdiff1d(np.arange(len(there.ids)), left_out)
    return Labelled(true.ids[true.counts], true.boxes[true.counts]), Labelled(there.ids[kept], there.boxes[kept])


def _frame_pairs(true: Labelled, there: Labelled, overlap: npt.NDArray[np.float64],
                 last: dict[int, int]) -> list[tuple[int, int]]:  # fmt: skip
    """Who is who in one frame: pairs of the frame before stay while they hold, the rest are matched for most overlap."""
    columns = {int(track): column for column, track in enumerate(there.ids)}
    kept = []
    for row, person in enumerate(true.ids):
        column = columns.get(last.get(int(person), -1))
        if column is not None and overlap[row, column] >= BELONGS_FROM_IOU and column not in {taken for _, taken in kept}:
            kept.append((row, column))
    cost = 1.0 - overlap
    for row, column in kept:
        cost[row, :] = cost[:, column] = 1.0
    return kept + assignment(cost, 1.0 - BELONGS_FROM_IOU + 1e-9)


def _identity_hits(together: Counter[tuple[int, int]]) -> int:
    """Boxes under the right identity when every person is given one track at most, and that as well as can be."""
    people, tracks = sorted({person for person, _ in together}), sorted({track for _, track in together})
    hits = np.zeros((len(people), len(tracks)))
    for (person, track), count in together.items():
        hits[people.index(person), tracks.index(track)] = count
    return int(sum(hits[row, column] for row, column in assignment(-hits, -0.5)))


def _overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(iou(first.astype(np.float32).reshape(-1, 4), second.astype(np.float32).reshape(-1, 4)), np.float64)
