"""The zone rule: one visit of one confirmed track in a zone raises one event. Pure: all times come in with the frame.

A *visit* is one track's unbroken stay, gaps up to `bridge_s` bridged. The point that must lie in the zone is the middle of the
box's lower edge: where a thing stands, not how high it is. When a tracker loses an object and finds it again under a new id
(same label, near place, within `bridge_s`), the visit goes on: an id is the tracker's matter, a visit is the shop's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.vision.types import Box, RuleKind, Track
from device_agent.vision.zones import Zone


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """Times in seconds, distances in body sizes (mean of a box's width and height).

    `settle_s`: how much longer than the bridge a visit waits, so that a new track has time to be confirmed before it may be the
    continuation. `near` and `near_per_s`: how far a new track may be born from where the old one was last seen.
    """

    bridge_s: float = 2.0
    settle_s: float = 1.5
    near: float = 1.0
    near_per_s: float = 0.75


@dataclass(frozen=True, slots=True)
class Moment:
    """A frame as rules see it: its number, times, and size in pixels."""

    frame: int
    at_s: float
    wall_s: float
    width_px: int
    height_px: int


@dataclass(slots=True, eq=False)
class Visit:
    """One stay in one zone. `entered` and `last` are the first and the latest frame in which the object stood inside."""

    id: str
    zone: Zone
    track: int
    label: str
    entered: Moment
    last: Moment
    box: Box
    score: float
    born_s: float
    settled: bool = False
    raised: bool = False
    former: int | None = None
    resumed: Moment | None = None

    @property
    def rule_kind(self) -> RuleKind:
        """A zone with a dwell time is a dwell rule."""
        return "dwell" if self.zone.dwell_s > 0 else "zone"


@dataclass(frozen=True, slots=True)
class RuleStep:
    """What one frame brought: visits whose confirmed track is inside now, visits that became events, events that are over.

    `forgotten` are visits that ended before they became an event.
    """

    present: list[tuple[Visit, Track]] = field(default_factory=list)
    started: list[Visit] = field(default_factory=list)
    ended: list[Visit] = field(default_factory=list)
    forgotten: list[Visit] = field(default_factory=list)


class ZoneRules:
    """All zones of one camera. `new_id` gives each visit its id (the device makes it unique; tests count)."""

    def __init__(self, zones: Sequence[Zone], new_id: Callable[[], str], settings: RuleSettings | None = None) -> None:
        self.zones = tuple(zones) or (Zone(),)
        self._new_id = new_id
        self._settings = settings or RuleSettings()
        self._visits: list[dict[int, Visit]] = [{} for _ in self.zones]
        self._now_s = 0.0

    def step(self, tracks: Sequence[Track], now: Moment) -> RuleStep:
        """Judge one frame's tracks; frames must come in order of time."""
        result = RuleStep()
        self._now_s = now.at_s
        seen = {track.id: track for track in tracks if track.seen}
        for zone, visits in zip(self.zones, self._visits, strict=True):
            for track in seen.values():
                if zone.takes(track.label) and zone.holds(*_anchor(track.xyxy, now)):
                    self._inside(zone, visits, track, seen, now, result)
            self._close_old(visits, now, result)
        return result

    def finish(self) -> list[tuple[Visit, bool]]:
        """The source ended: the events that were not told to be over, oldest first, and whether each was really still open."""
        left = [visit for visits in self._visits for visit in _each(visits) if visit.raised]
        self._visits = [{} for _ in self.zones]
        left.sort(key=lambda visit: visit.entered.frame)
        return [(visit, self._now_s - visit.last.at_s <= self._settings.bridge_s) for visit in left]

    def _inside(
        self, zone: Zone, visits: dict[int, Visit], track: Track, seen: dict[int, Track], now: Moment, result: RuleStep
    ) -> None:
        visit = visits.get(track.id)
        if visit is not None and now.at_s - visit.last.at_s > self._settings.bridge_s:
            self._close(visits, visit, result)
            visit = None
        if visit is not None and visit.track != track.id:
            self._came_back(visits, visit, track, seen)
        if visit is None:
            visit = Visit(self._new_id(), zone, track.id, track.label, now, now, track.xyxy, track.score, track.first_at_s)
            visits[track.id] = visit
        if track.confirmed and not visit.settled:
            visit = self._settle(visits, visit, track, seen, now)
        visit.last, visit.box, visit.score = now, track.xyxy, track.score
        if not track.confirmed or visit.track != track.id:
            return
        result.present.append((visit, track))
        if not visit.raised and now.at_s - visit.entered.at_s >= zone.dwell_s:
            visit.raised = True
            result.started.append(visit)

    def _settle(self, visits: dict[int, Visit], visit: Visit, track: Track, seen: dict[int, Track], now: Moment) -> Visit:
        """A track was confirmed inside: it either continues a visit whose track vanished just before, or stays on its own."""
        visit.settled = True
        candidates = [other for other in _each(visits) if other is not visit and self._continues(other, visit, seen)]
        if not candidates:
            return visit
        older = min(candidates, key=lambda other: _distance(other.box, visit.box))
        older.former, older.resumed, older.track = older.track, visit.entered, track.id
        visits[track.id] = older
        return older

    def _continues(self, older: Visit, newer: Visit, seen: dict[int, Track]) -> bool:
        """Whether `newer` may be the same object as `older`, whose track is not seen any more."""
        gap_s = newer.born_s - older.last.at_s
        if not older.settled or older.track in seen or older.label != newer.label or not 0 < gap_s <= self._settings.bridge_s:
            return False
        return _distance(older.box, newer.box) <= self._settings.near + self._settings.near_per_s * gap_s

    def _came_back(self, visits: dict[int, Visit], visit: Visit, track: Track, seen: dict[int, Track]) -> None:
        """A track that was given up is seen again: it takes its visit back, and its supposed successor, if seen, gets its own."""
        successor = seen.get(visit.track)
        if successor is not None and visit.resumed is not None:
            own = Visit(
                self._new_id(), visit.zone, successor.id, successor.label, visit.resumed, visit.last, successor.xyxy,
                successor.score, successor.first_at_s, settled=True,
            )
            visits[successor.id] = own
        visit.track, visit.former, visit.resumed = track.id, None, None

    def _close_old(self, visits: dict[int, Visit], now: Moment, result: RuleStep) -> None:
        patience_s = self._settings.bridge_s + self._settings.settle_s
        for visit in _each(visits):
            if now.at_s - visit.last.at_s > patience_s:
                self._close(visits, visit, result)

    def _close(self, visits: dict[int, Visit], visit: Visit, result: RuleStep) -> None:
        for track in [track for track, known in visits.items() if known is visit]:
            del visits[track]
        (result.ended if visit.raised else result.forgotten).append(visit)


def _each(visits: dict[int, Visit]) -> list[Visit]:
    """Every visit once, though several track ids may lead to it."""
    return list({id(visit): visit for visit in visits.values()}.values())


def _anchor(box: Box, now: Moment) -> tuple[float, float]:
    """The middle of a box's lower edge as fractions of the picture, cut off at its rim."""
    x, y = (box[0] + box[2]) / 2 / now.width_px, box[3] / now.height_px
    return min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)


def _distance(first: Box, second: Box) -> float:
    """Distance of two boxes' centres in body sizes."""
    size = (first[2] - first[0] + first[3] - first[1] + second[2] - second[0] + second[3] - second[1]) / 4
    gap_x = (first[0] + first[2] - second[0] - second[2]) / 2
    gap_y = (first[1] + first[3] - second[1] - second[3]) / 2
    return math.hypot(gap_x, gap_y) / max(size, 1e-3)
