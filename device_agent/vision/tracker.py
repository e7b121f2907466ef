"""From boxes in frames to objects followed through time. Pure: frames' times come in, nothing is read from a clock.

Every object is expected by a motion model; strong detections go to the objects for which they are most likely, all of them
weighed at once; objects that found nothing may take a weak detection (a score below what is reported) in the same place. What is
left and strong becomes a new object, believed only when it was measured often enough. Only one class goes with one track. All
patience is in seconds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import FloatArray
from device_agent.vision.motion import LumaView
from device_agent.vision.stationary import StandingStill, StillSettings
from device_agent.vision.tracker_matching import (
    Found,
    MatchSettings,
    Pair,
    Reach,
    alone,
    area,
    intersection,
    pairs_of,
    prices,
    within,
)
from device_agent.vision.tracker_state import Body, Expected, as_tracks, born, expect, measure, stepped
from device_agent.vision.types import Box, Track


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """Shares 0..1, times in seconds.

    A track is confirmed at its `confirm_hits`th measurement, or at its second if the scores' sum reaches `confirm_score` or the
    second came `confirm_s` after the first (few frames a second). A tentative track that is not measured for `tentative_s` is
    forgotten; a confirmed one is lost after `lost_after_s`. A weak detection continues a track that was seen within
    `weak_within_s`; a strong one that is further away than is likely, or of another size (people come in at the rim bit by bit),
    continues one that was seen within `loose_within_s`. What stood still may walk off while nobody looks, or between two looks: a
    strong detection that nobody else claims within `step_bodies` (least ratio of areas: `step_ratio`) continues it if its place
    looks different now, and did not for longer than `step_within_s`.
    """

    confirm_hits: int = 3
    confirm_s: float = 0.15
    confirm_score: float = 1.3
    lost_after_s: float = 2.0
    tentative_s: float = 1.0
    weak_within_s: float = 1.0
    loose_within_s: float = 0.6
    step_within_s: float = 1.0
    step_bodies: float = 2.0
    step_ratio: float = 0.5
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
    """Tracks alive after a frame (tentative ones too), and those confirmed ones that were given up with it.

    `left`: the ids of those among them that stood still and whose place was seen to be empty: they are not hidden, they are gone.
    """

    tracks: list[Track]
    ended: list[Track]
    left: frozenset[int] = frozenset()


class Tracker:
    """The tracks of one camera. Ids grow from 1 and are never used again."""

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self._settings = settings or TrackerSettings()
        self._still = StandingStill(self._settings.still)
        self._next_id = 1
        self._last_s = float("-inf")
        self._bodies: list[Body] = []

    @property
    def active(self) -> bool:
        """Whether there is anything to follow: the detector must then keep looking. What stands undisputed needs no looking."""
        return any(not body.stationary or body.missed_s > 0 or body.strayed_s < math.inf for body in self._bodies)

    def step(
        self, seen: Sighting | Found, frame: int, at_s: float, labels: Sequence[str], view: LumaView | None = None
    ) -> TrackerStep:
        """Take in one frame's detections. Frames must come in order of time; `labels[i]` names class id i.

        `view` is the frame's luma, by which stationary objects are known where the detector misses them. Time that runs backwards
        is a new start: nothing that was followed is believed to be where it was.
        """
        before = self.finish(labels) if at_s < self._last_s else []
        self._last_s = at_s
        bodies, found = self._bodies, seen if isinstance(seen, Found) else _found(seen)
        expected = [expect(body, at_s) for body in bodies]
        pairs, free = self._match(expected, found, at_s, view)
        for row, column in pairs:
            body, before_s = bodies[row], bodies[row].last_at_s
            measure(body, expected[row], found.boxes[column], found.scores[column], frame, at_s)
            self._confirm(body, at_s)
            self._still.measured(body, at_s, before_s)
            self._still.settle(body, view)
        measured = {row for row, _ in pairs}
        self._still.unseen(bodies, measured, at_s, view)
        lost = {body.id for body in bodies if self._is_lost(body, at_s)}
        ended = as_tracks([body for body in bodies if body.id in lost and body.confirmed], labels, frame)
        left = frozenset(body.id for body in bodies if body.id in lost and body.stationary and body.left)
        known = [body for body in bodies if body.id not in lost] if lost else bodies
        for column in self._newcomers(found, free, [column for _, column in pairs]):
            fresh = born(self._next_id, found.boxes[column], found.scores[column], found.classes[column], frame, at_s)
            fresh.confirmed = self._settings.confirm_hits <= 1
            self._next_id += 1
            known.append(fresh)
        self._bodies = known
        self._still.forget(known)
        return TrackerStep(as_tracks(known, labels, frame), before + ended, left)

    def resting(self, frame: int, labels: Sequence[str]) -> list[Track]:
        """What stands still, for a frame that nobody looked at: those tracks, not seen in it."""
        return as_tracks([body for body in self._bodies if body.stationary], labels, frame)

    def finish(self, labels: Sequence[str]) -> list[Track]:
        """The source ended: give up all tracks; returns the confirmed ones."""
        ended = as_tracks([body for body in self._bodies if body.confirmed], labels, -1)
        self._bodies, self._last_s = [], float("-inf")
        self._still.forget(self._bodies)
        return ended

    def _match(
        self, expected: list[Expected], found: Found, at_s: float, view: LumaView | None
    ) -> tuple[list[Pair], list[int]]:
        """Pairs (object, detection), and the strong detections that no object took, best first."""
        bodies, settings = self._bodies, self._settings.match
        strong = [column for column, is_strong in enumerate(found.strong) if is_strong]
        strong.sort(key=lambda column: -found.scores[column])
        if not bodies or not found.scores:
            return [], strong
        open_rows, open_found = set(range(len(bodies))), set(strong)
        pairs: list[Pair] = []

        def take(price: dict[Pair, float]) -> None:
            taken = pairs_of(price)
            pairs.extend(taken)
            open_rows.difference_update(row for row, _ in taken)
            open_found.difference_update(column for _, column in taken)

        alone_bodies = settings.loose.bodies * 1.5
        most = max(settings.likely.bodies, settings.loose.bodies, alone_bodies)
        table = prices(bodies, expected, range(len(bodies)), found, strong, most, settings) if strong else {}
        take(within(table, settings.likely, lambda row, column: True))
        if view is not None and open_rows and open_found:
            # Before the weak ones: a second, faint box of the same body may lag behind at the place that it leaves.
            stepping = self._steps_off(expected, found, open_rows, open_found, view)
            take(dict.fromkeys(stepping, 0.0))
        weak_s, loose_s = self._settings.weak_within_s, self._settings.loose_within_s
        fit = [row for row in sorted(open_rows) if self._fresh(bodies[row], at_s, weak_s)] if open_rows else []
        if fit and len(strong) < len(found.scores):
            weak = [column for column, is_strong in enumerate(found.strong) if not is_strong]
            faint = prices(bodies, expected, fit, found, weak, settings.weak.bodies, settings)
            take(within(faint, settings.weak, lambda row, column: True))
        lately = {row for row in open_rows if at_s - bodies[row].last_at_s <= loose_s}
        if lately and open_found:
            # In a crowd whatever is near would do. A new object's velocity is not known yet: it alone may go far there.
            sure = alone(table, alone_bodies)
            take(within(table, settings.loose, lambda row, column: row in lately and column in open_found
                        and ((row, column) in sure or bodies[row].hits <= 1)))  # fmt: skip
        return pairs, [column for column in strong if column in open_found]

    def _steps_off(
        self, expected: list[Expected], found: Found, open_rows: set[int], open_found: set[int], view: LumaView
    ) -> list[Pair]:
        """Pairs of what stood still, has just left its place, and a detection a step from it; its velocity is new then."""
        settings, bodies = self._settings, self._bodies
        rows = [row for row in sorted(open_rows) if bodies[row].stationary and bodies[row].missed_s <= settings.step_within_s]
        if not rows:
            return []
        table = prices(bodies, expected, rows, found, sorted(open_found), settings.step_bodies, settings.match)
        reach = Reach(math.inf, settings.step_bodies, settings.step_ratio)
        near = alone({pair: price for pair, price in table.items() if price.within(reach)}, settings.step_bodies)
        pairs = [(row, column) for row, column in sorted(near) if self._still.vacant(bodies[row], view)]
        for row, column in pairs:
            expected[row] = stepped(expected[row], found.boxes[column])
        return pairs

    @staticmethod
    def _fresh(body: Body, at_s: float, within_s: float) -> bool:
        """Whether a weak detection may continue an object."""
        return body.confirmed and (body.stationary or at_s - body.last_at_s <= within_s)

    def _confirm(self, body: Body, at_s: float) -> None:
        """Believe what was measured often enough."""
        settings = self._settings
        if body.confirmed or body.hits < min(2, settings.confirm_hits):
            return
        sure = body.belief >= settings.confirm_score or at_s - body.first_at_s >= settings.confirm_s
        body.confirmed = sure or body.hits >= settings.confirm_hits

    def _is_lost(self, body: Body, at_s: float) -> bool:
        """Whether an object is to be given up."""
        if body.stationary:
            return self._still.is_over(body, at_s)
        return at_s - body.last_at_s > (self._settings.lost_after_s if body.confirmed else self._settings.tentative_s)

    def _newcomers(self, found: Found, free: list[int], taken: list[int]) -> list[int]:
        """Detections that become tracks. What lies within one of its class that is held already is half of that body."""
        newer: list[int] = []
        for column in free:
            box, kind = found.boxes[column], found.classes[column]
            if not any(
                found.classes[other] == kind and _contained(found.boxes[other], box) > self._settings.duplicate_share
                for other in taken + newer
            ):
                newer.append(column)
        return newer


def _found(seen: Sighting) -> Found:
    """Arrays as lists: numbers are taken one by one from here on."""
    boxes: list[Box] = [(box[0], box[1], box[2], box[3]) for box in seen.boxes.tolist()]
    return Found(boxes, seen.scores.tolist(), seen.classes.tolist(), seen.strong.tolist())


def _contained(first: Box, second: Box) -> float:
    """How much of the smaller of two boxes lies in the larger one, 0..1."""
    smaller = min(area(first), area(second))
    return intersection(first, second) / smaller if smaller > 0 else 0.0
