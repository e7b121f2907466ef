"""The zone rule: one visit of one confirmed track in a zone raises one event. Pure: all times come in with the frame.

A *visit* is one track's unbroken stay, gaps up to `bridge_s` bridged. The point that must lie in the zone is the middle of the
box's lower edge: where a thing stands, not how high it is. When a tracker loses an object and finds it again under a new id
(same label, near place, within `bridge_s`), the visit goes on: an id is the tracker's matter, a visit is the shop's. What stands
still is known by its place: for much longer, however often its id changes.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from device_agent.vision.conditions import CoolDown
from device_agent.vision.rules import Moment, RuleSettings, RuleStep, Visit, anchor_of, body_distance, drifted, way_leads
from device_agent.vision.types import Box, Track
from device_agent.vision.zones import Zone

MOST_PLACES = 100
"""Places of one zone that are remembered; a car park has fewer cars that one camera can tell apart."""


@dataclass(slots=True, eq=False)
class _Room:
    """One zone with those who are in it, by track id, and places (label, box, at_s) of what stood still and had its event."""

    zone: Zone
    cool: CoolDown
    visits: dict[int, Visit] = field(default_factory=dict)
    places: list[tuple[str, Box, float]] = field(default_factory=list)


class ZoneRules:
    """Zones of one camera; none given means the whole picture. `new_id` gives each visit its id (the device makes it unique)."""

    def __init__(self, zones: Sequence[Zone], new_id: Callable[[], str], settings: RuleSettings | None = None) -> None:
        self.zones = tuple(zones) or (Zone(),)
        self.held_back: dict[str, int] = {zone.name: 0 for zone in self.zones}
        """Visits of each zone whose event had to wait for a cool-down, or never came because of it."""
        self.unsure: dict[str, int] = {zone.name: 0 for zone in self.zones}
        """Visits of each zone that lacked nothing for an event but a track that is believed; counted when they end."""
        self._new_id = new_id
        self._settings = settings or RuleSettings()
        self._rooms = [_Room(zone, CoolDown(zone.cooldown_s, per_class=zone.cooldown_per_class)) for zone in self.zones]
        self._sure: Collection[int] | None = None
        self._now_s = -math.inf
        self._previous_s = -math.inf

    def step(
        self, tracks: Sequence[Track], now: Moment, sure: Collection[int] | None = None, left: Collection[int] = ()
    ) -> RuleStep:
        """Judge one frame's tracks. Frames must come in order of time; where it jumps back, all that was begun is over.

        `sure` holds the ids of tracks that are believed enough for an event; None: all are. `left` are tracks that stood still
        and were given up because their place was seen to be empty.
        """
        result = RuleStep()
        self._sure = sure
        if now.at_s < self._now_s:
            self._restart(result)
        self._previous_s, self._now_s = self._now_s, now.at_s
        here = {track.id: track for track in tracks if track.seen or track.stationary}
        placed = [(track, *anchor_of(track.xyxy, now)) for track in here.values()]
        for room in self._rooms:
            zone, visits = room.zone, room.visits
            for number in left:
                self._gone(room, number)
            if placed and zone.awake(now.wall_s):
                for track, x, y in placed:
                    if not zone.takes(track.label):
                        continue
                    if zone.holds(x, y):
                        self._inside(room, track, here, now, result)
                    else:
                        self._outside(visits, track)
            if visits:
                self._close_old(room, now, result)
        return result

    def finish(self) -> list[tuple[Visit, bool]]:
        """The source ended: the events that were not told to be over, oldest first, and whether each was really still open."""
        left = [visit for room in self._rooms for visit in _each(room.visits) if visit.raised and not visit.muted]
        for room in self._rooms:
            for visit in _each(room.visits):
                self._count_unsure(visit)
                self._remember(room, visit)
            room.visits = {}
        left.sort(key=lambda visit: visit.entered.frame)
        return [(visit, self._now_s - visit.last.at_s <= self._settings.bridge_s) for visit in left]

    def _gone(self, room: _Room, number: int) -> None:
        """A track's place is empty: its visit was over when it was last there for sure, and the place is nobody's any more."""
        visit = room.visits.get(number)
        if visit is not None and visit.track == number:
            visit.last, visit.stationary = visit.proven or visit.last, False
            self._vacate(room, visit.box)

    def _vacate(self, room: _Room, place: Box) -> None:
        if room.places:
            room.places = [known for known in room.places if not self._same_place(known[1], place)]

    def _outside(self, visits: dict[int, Visit], track: Track) -> None:
        visit = visits.get(track.id)
        if visit is not None and visit.track == track.id:
            visit.inside_from_s, visit.stationary = None, False

    def _inside(self, room: _Room, track: Track, here: dict[int, Track], now: Moment, result: RuleStep) -> None:
        visits = room.visits
        visit = visits.get(track.id)
        if visit is not None and self._broken(visit, track, now):
            self._close(room, visit, result)
            visit = None
        if visit is not None and visit.track != track.id:
            self._came_back(visits, visit, track, here)
        if visit is None:
            visit = Visit(
                self._new_id(), room.zone, track.id, track.label, now, now, track.xyxy, track.score, track.first_at_s,
                first_box=track.xyxy, rest_box=track.xyxy, rest_s=now.at_s, inside_from_s=now.at_s,
            )  # fmt: skip
            visits[track.id] = visit
        if track.confirmed and not visit.settled:
            visit = self._settle(room, visit, track, here)
        if visit.inside_from_s is None:
            visit.inside_from_s = now.at_s
        visit.drift = drifted(visit.drift, visit.box, track.xyxy, now.at_s - visit.last.at_s)
        visit.last, visit.box, visit.score = now, track.xyxy, track.score
        visit.proven = visit.proven if track.missing else now
        if not self._same_place(visit.rest_box, track.xyxy):
            if visit.stationary:
                self._vacate(room, visit.rest_box)
            visit.rest_box, visit.rest_s, visit.stationary = track.xyxy, now.at_s, False
        visit.stationary = visit.stationary or track.stationary or now.at_s - visit.rest_s >= self._settings.still_after_s
        visit.sure = visit.sure or self._sure is None or track.id in self._sure
        visit.admitted = visit.admitted or room.zone.admits(track, float(now.width_px * now.height_px))
        if not track.confirmed or visit.track != track.id or visit.muted:
            return
        result.present.append((visit, track))
        if not visit.raised:
            self._raise_if_due(room, visit, now, result)

    def _raise_if_due(self, room: _Room, visit: Visit, now: Moment, result: RuleStep) -> None:
        """After its dwell and inertia a visit becomes an event; a cool-down makes it wait, as long as the object stays."""
        zone, from_s = room.zone, visit.inside_from_s
        if not visit.sure or not visit.admitted or now.at_s - visit.entered.at_s < zone.dwell_s:
            return
        if from_s is None or now.at_s - from_s < zone.inertia_s:
            return
        if not room.cool.over(visit.label, now.at_s):
            if not visit.held_back:
                visit.held_back = True
                self.held_back[zone.name] += 1
            return
        room.cool.fired(visit.label, now.at_s)
        visit.raised = True
        result.started.append(visit)

    def _broken(self, visit: Visit, track: Track, now: Moment) -> bool:
        """Whether a track's visit is over since it was last inside. Where nobody looked in between, nobody saw it leave."""
        if now.at_s - visit.last.at_s <= self._settings.bridge_s or visit.last.at_s >= self._previous_s:
            return False
        return not (visit.stationary and self._same_place(visit.box, track.xyxy))

    def _settle(self, room: _Room, visit: Visit, track: Track, here: dict[int, Track]) -> Visit:
        """A track was confirmed inside: it either continues a visit whose track vanished just before, or stays on its own."""
        visit.settled = True
        visits = room.visits
        candidates = [other for other in _each(visits) if other is not visit and self._continues(other, visit, track, here)]
        if not candidates:
            self._recall(room, visit, track)
            return visit
        older = min(candidates, key=lambda other: body_distance(other.box, visit.box))
        older.former, older.resumed, older.track = older.track, visit.entered, track.id
        visits[track.id] = older
        return older

    def _recall(self, room: _Room, visit: Visit, track: Track) -> None:
        """Whether something like this stood still in this very place and had its event: then it stands there still."""
        for label, box, at_s in room.places:
            recent = visit.entered.at_s - at_s <= self._settings.stationary_memory_s
            here = self._same_place(box, visit.first_box) and self._same_place(box, track.xyxy)
            if recent and here and label == visit.label:
                visit.raised = visit.muted = True
                visit.rest_box, visit.rest_s = box, visit.entered.at_s - self._settings.still_after_s

    def _continues(self, older: Visit, newer: Visit, track: Track, here: dict[int, Track]) -> bool:
        """Whether `newer` may be the same object as `older`, whose track is not seen any more."""
        if not older.settled or older.label != newer.label:
            return False
        held = here.get(older.track)
        if older.stationary and (held is None or not held.seen):
            return self._same_place(older.box, newer.first_box) and self._same_place(older.box, track.xyxy)
        gap_s = newer.born_s - older.last.at_s
        if held is not None or not 0 < gap_s <= self._settings.bridge_s:
            return False
        near = body_distance(older.box, newer.box) <= self._settings.near + self._settings.near_per_s * gap_s
        return near and way_leads(older, newer.first_box, gap_s, self._settings)

    def _same_place(self, first: Box, second: Box) -> bool:
        """Whether two boxes are of one thing that stands still: near each other, and of about one size."""
        for low, high in ((0, 2), (1, 3)):
            small, large = sorted((first[high] - first[low], second[high] - second[low]))
            if small < self._settings.same_size * large:
                return False
        return body_distance(first, second) <= self._settings.same_place

    def _came_back(self, visits: dict[int, Visit], visit: Visit, track: Track, here: dict[int, Track]) -> None:
        """A track that was given up is seen again: it takes its visit back, and its supposed successor, if seen, gets its own."""
        successor = here.get(visit.track)
        one_thing = successor is not None and visit.stationary and self._same_place(successor.xyxy, track.xyxy)
        if successor is not None and visit.resumed is not None and not one_thing:
            visits[successor.id] = Visit(
                self._new_id(), visit.zone, successor.id, successor.label, visit.resumed, visit.last, successor.xyxy,
                successor.score, successor.first_at_s, successor.xyxy, successor.xyxy, visit.resumed.at_s, visit.resumed.at_s,
                settled=True, admitted=visit.admitted, sure=visit.sure,
            )  # fmt: skip
        visit.track = track.id
        if not one_thing:
            visit.former, visit.resumed = None, None

    def _close_old(self, room: _Room, now: Moment, result: RuleStep) -> None:
        settings = self._settings
        for visit in _each(room.visits):
            bridge_s = settings.stationary_bridge_s if visit.stationary and visit.raised else settings.bridge_s
            if now.at_s - visit.last.at_s > bridge_s + settings.settle_s:
                self._close(room, visit, result)

    def _close(self, room: _Room, visit: Visit, result: RuleStep) -> None:
        for track in [track for track, known in room.visits.items() if known is visit]:
            del room.visits[track]
        self._count_unsure(visit)
        self._remember(room, visit)
        (result.ended if visit.raised and not visit.muted else result.forgotten).append(visit)

    def _count_unsure(self, visit: Visit) -> None:
        stayed_s, zone = visit.last.at_s - visit.entered.at_s, visit.zone
        if visit.settled and visit.admitted and not visit.sure and stayed_s >= max(zone.dwell_s, zone.inertia_s):
            self.unsure[zone.name] += 1

    def _remember(self, room: _Room, visit: Visit) -> None:
        """Keep the place of what stood still and had its event, when it is lost or the source ends."""
        if not visit.raised or not visit.stationary:
            return
        least_s = visit.last.at_s - self._settings.stationary_memory_s
        room.places = [place for place in room.places if place[2] >= least_s and not self._same_place(place[1], visit.box)]
        room.places = [*room.places[-MOST_PLACES + 1 :], (visit.label, visit.box, visit.last.at_s)]

    def _restart(self, result: RuleStep) -> None:
        """The frames' clock began anew: a film from its start, another source. Nothing of before can be measured against it."""
        for room in self._rooms:
            for visit in _each(room.visits):
                self._close(room, visit, result)
            room.cool.restart()
            room.places = []


def _each(visits: dict[int, Visit]) -> list[Visit]:
    """Every visit once, though several track ids may lead to it."""
    return list({id(visit): visit for visit in visits.values()}.values())
