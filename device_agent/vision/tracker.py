"""From boxes in frames to objects followed through time. Pure: frames' times come in, nothing is read from a clock.

Every object is expected by a motion model; strong detections go to the objects for which they are most likely, all of them
weighed at once; objects that found nothing may take a weak detection (a score below what is reported) in the same place. What is
left and strong becomes a new object, believed only when it was measured often enough. Only one class goes with one track. All
patience is in seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import FloatArray, contained
from device_agent.vision.motion import LumaView
from device_agent.vision.stationary import StandingStill, StillSettings
from device_agent.vision.tracker_matching import MatchSettings, pairs_of, prices
from device_agent.vision.tracker_state import Expected, Objects, as_tracks, born, expect, measure
from device_agent.vision.types import Track


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Shares 0..1, times in seconds.

    A track is confirmed at its `confirm_hits`th measurement, or at its second if the scores' sum reaches `confirm_score` or the
    second came `confirm_s` after the first (few frames a second). A tentative track that is not measured for `tentative_s` is
    forgotten; a confirmed one is lost after `lost_after_s`. A weak detection continues a track that was seen within
    `weak_within_s`; a strong one that is further away than is likely, or of another size (people come in at the rim bit by bit),
    continues one that was seen within `loose_within_s`.
    """

    confirm_hits: int = 3
    confirm_s: float = 0.15
    confirm_score: float = 1.3
    lost_after_s: float = 2.0
    tentative_s: float = 1.0
    weak_within_s: float = 1.0
    loose_within_s: float = 0.6
    duplicate_share: float = 0.8
    match: MatchSettings = field(default_factory=MatchSettings)
    still: StillSettings = field(default_factory=StillSettings)


@dataclass(frozen=True, slots=True)
class Sighting:
    """Detections of one frame as the tracker takes them: boxes (N, 4) px, scores (N,), class ids (N,), `strong` bool (N,).

    Strong are those whose score is at least what their class is reported from; the others may only continue a track.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: npt.NDArray[np.int32]
    strong: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TrackerStep:
    """Tracks alive after a frame (tentative ones too), and those confirmed ones that were given up with it."""

    tracks: list[Track]
    ended: list[Track]


class Tracker:
    """The tracks of one camera. Ids grow from 1 and are never used again."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self._settings = settings or TrackerSettings()
        self._still = StandingStill(self._settings.still)
        self._next_id = 1
        self._last_s = float("-inf")
        self._objects = _none()

    @property
    def active(self) -> bool:
        """Whether there is anything to follow: the detector must then keep looking. What stands undisputed needs no looking."""
        known = self._objects
        return bool(np.any(~known.stationary | (known.missed_s > 0) | np.isfinite(known.strayed_s)))

    def step(self, seen: Sighting, frame: int, at_s: float, labels: Sequence[str], view: LumaView | None = None) -> TrackerStep:
        """Take in one frame's detections. Frames must come in order of time; `labels[i]` names class id i.

        `view` is the frame's luma, by which stationary objects are known where the detector misses them. Time that runs backwards
        is a new start: nothing that was followed is believed to be where it was.
        """
        before = self.finish(labels) if at_s < self._last_s else []
        self._last_s = at_s
        known = self._objects
        expected = expect(known, at_s)
        pairs, free = self._match(known, expected, seen, at_s)
        rows = np.array([row for row, _ in pairs], np.int64)
        taken = np.array([detection for _, detection in pairs], np.int64)
        missing = np.ones(len(known), np.bool_)
        if len(rows):
            before_s = known.last_at_s[rows]
            measure(known, expected, rows, seen.boxes[taken], seen.scores[taken], frame, at_s)
            self._confirm(known, rows, at_s)
            self._still.measured(known, rows, at_s, before_s)
            self._still.settle(known, rows, view)
            missing[rows] = False
        self._still.unseen(known, missing, at_s, view)
        lost = self._lost(known, at_s)
        ended = before + (as_tracks(known.only(lost & known.confirmed), labels, frame) if lost.any() else [])
        if lost.any():
            known = known.only(~lost)
        newer = self._newcomers(seen, free, taken)
        if newer:
            ids = range(self._next_id, self._next_id + len(newer))
            self._next_id += len(newer)
            fresh = born(ids, seen.boxes[newer], seen.scores[newer], seen.classes[newer], frame, at_s)
            fresh.confirmed[:] = self._settings.confirm_hits <= 1
            known = known.and_new(fresh)
        self._objects = known
        self._still.forget(known)
        return TrackerStep(as_tracks(known, labels, frame), ended)

    def resting(self, frame: int, labels: Sequence[str]) -> list[Track]:
        """What stands still, for a frame that nobody looked at: those tracks, not seen in it."""
        return as_tracks(self._objects.only(self._objects.stationary), labels, frame) if len(self._objects) else []

    def finish(self, labels: Sequence[str]) -> list[Track]:
        """The source ended: give up all tracks; returns the confirmed ones."""
        ended = as_tracks(self._objects.only(self._objects.confirmed), labels, -1)
        self._objects, self._last_s = _none(), float("-inf")
        self._still.forget(self._objects)
        return ended

    def _match(self, known: Objects, expected: Expected, seen: Sighting, at_s: float) -> tuple[list[tuple[int, int]], list[int]]:
        """Pairs (row, detection), and the strong detections that no track took, best first."""
        strong = np.flatnonzero(seen.strong)
        strong = strong[np.argsort(-seen.scores[strong], kind="stable")]
        if not len(known) or not len(seen.scores):
            return [], strong.tolist()
        settings = self._settings.match
        table = prices(known, expected, seen.boxes, seen.scores, seen.classes, settings)
        open_rows, open_found = np.ones((len(known), 1), np.bool_), seen.strong.copy()
        pairs = _taken(pairs_of(table.within(settings.likely, open_rows & open_found)), open_rows, open_found)
        fresh = known.stationary | (at_s - known.last_at_s <= self._settings.weak_within_s)
        fit = open_rows & (known.confirmed & fresh)[:, None]
        if fit.any() and not seen.strong.all():
            pairs += _taken(pairs_of(table.within(settings.weak, fit & ~seen.strong)), open_rows, open_found)
        lately = open_rows & (at_s - known.last_at_s <= self._settings.loose_within_s)[:, None]
        if lately.any() and open_found.any():
            # In a crowd whatever is near would do. A new object's velocity is not known yet: it alone may go far there.
            sure = table.alone(settings.loose.bodies * 1.5, seen.strong) | (known.hits <= 1)[:, None]
            pairs += _taken(pairs_of(table.within(settings.loose, lately & open_found & sure)), open_rows, open_found)
        return pairs, [index for index in strong.tolist() if open_found[index]]

    def _confirm(self, known: Objects, rows: npt.NDArray[np.int64], at_s: float) -> None:
        """Believe what was measured often enough."""
        hits = known.hits[rows]
        least = min(2, self._settings.confirm_hits)
        sure = known.belief[rows] >= self._settings.confirm_score
        sure |= at_s - known.first_at_s[rows] >= self._settings.confirm_s
        known.confirmed[rows] |= (hits >= self._settings.confirm_hits) | ((hits >= least) & sure)

    def _lost(self, known: Objects, at_s: float) -> npt.NDArray[np.bool_]:
        """Which rows are to be given up."""
        patience_s = np.where(known.confirmed, self._settings.lost_after_s, self._settings.tentative_s)
        result: npt.NDArray[np.bool_] = ~known.stationary & (at_s - known.last_at_s > patience_s)
        return result | self._still.is_over(known, at_s)

    def _newcomers(self, seen: Sighting, free: list[int], taken: npt.NDArray[np.int64]) -> list[int]:
        """Detections that become tracks. What lies within one of its class that is held already is half of that body."""
        held, newer = taken.tolist(), []
        for detection in free:
            if held:
                share = contained(seen.boxes[held], seen.boxes[detection : detection + 1])[:, 0]
                if np.any((share > self._settings.duplicate_share) & (seen.classes[held] == seen.classes[detection])):
                    continue
            newer.append(detection)
            held.append(detection)
        return newer


def _taken(pairs: list[tuple[int, int]], open_rows: npt.NDArray[np.bool_],
           open_found: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:  # fmt: skip
    """Take pairs out of what is still open; returns them."""
    for row, detection in pairs:
        open_rows[row] = open_found[detection] = False
    return pairs


def _none() -> Objects:
    return born([], np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), 0, 0.0)
