"""The line rule: who crosses, in which direction, how many of which class. Pure: all times come in with the frame.

What moves is the middle of a box's lower edge, from one frame to the next, however far that is: at two frames a second a walker
is never seen on the line. A line has a width, a share of the body that crosses it: only who was beyond its band on one side and
is beyond it on the other has crossed, so that one who dithers on it counts once. Tracks count from when they are confirmed, with
the way that they went before; a track that continues one that vanished begins where that one ended.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from device_agent.vision.conditions import CoolDown
from device_agent.vision.rules import Crossing, Moment, RuleSettings, body_size
from device_agent.vision.types import Box, Track
from device_agent.vision.zones import Line

LineCounts = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Line -> label -> direction -> how often."""
WAY_AT_MOST = 64
"""Frames of a tentative track's way that are remembered; tracks are confirmed within a few."""
XY = tuple[float, float]


@dataclass(slots=True)
class _Side:
    """Where a follower stands to one line: `sure` beyond the band (1 right, -1 left, 0 never yet), `last` by the sign alone.

    `through`: the last change of sign went through the line, not around its end; it was first seen in `crossed`.
    """

    sure: int = 0
    last: int = 0
    through: bool = False
    crossed: Moment | None = None
    admitted: bool = False


@dataclass(slots=True, eq=False)
class _Follower:
    """One track on its way. `way` (foot, body size, moment) is kept until it is confirmed."""

    track: Track
    foot: XY
    sides: list[_Side]
    last_s: float
    confirmed: bool = False
    continued: bool = False
    way: list[tuple[XY, float, Moment]] = field(default_factory=list)


class LineRules:
    """All lines of one camera. `counted` carries the counts of former rules on when the configuration changes."""

    def __init__(
        self,
        lines: Sequence[Line],
        new_id: Callable[[], str],
        settings: RuleSettings | None = None,
        counted: LineCounts | None = None,
    ) -> None:
        self.lines = tuple(lines)
        self.held_back: dict[str, int] = {line.name: 0 for line in self.lines}
        """Crossings of each line that were counted, but raised no event because of its cool-down."""
        self.unsure: dict[str, int] = {line.name: 0 for line in self.lines}
        """Crossings of each line by those who were not believed: not counted as crossings."""
        self._new_id = new_id
        self._settings = settings or RuleSettings()
        self._cools = [CoolDown(line.cooldown_s, per_class=line.cooldown_per_class) for line in self.lines]
        self._followers: dict[int, _Follower] = {}
        self._counts = {line.name: (counted or {}).get(line.name, {}) for line in self.lines}
        self._sure: Collection[int] | None = None
        self._now_s = -math.inf

    def counts(self) -> LineCounts:
        """How often each line was crossed since the start, by label and direction. Any thread may read what it gets."""
        return self._counts

    def step(self, tracks: Sequence[Track], now: Moment, sure: Collection[int] | None = None) -> list[Crossing]:
        """The crossings of one frame that are events. Frames must come in order of time; a jump back begins anew.

        `sure` holds the ids of tracks that are believed enough to be counted; None: all are.
        """
        if not self.lines:
            return []
        if now.at_s < self._now_s:
            self.finish()
            for cool in self._cools:
                cool.restart()
        self._now_s = now.at_s
        crossings: list[Crossing] = []
        seen = {track.id for track in tracks if track.seen}
        self._sure = sure
        for track in tracks:
            if track.seen:
                self._follow(track, seen, now, crossings)
        self._forget({track.id for track in tracks}, now)
        return crossings

    def finish(self) -> None:
        """The source ended: nobody is on any way; the counts stay."""
        self._followers.clear()

    def _follow(self, track: Track, seen: set[int], now: Moment, crossings: list[Crossing]) -> None:
        foot = _foot(track.xyxy)
        follower = self._followers.get(track.id)
        if follower is None:
            follower = _Follower(track, foot, [_Side() for _ in self.lines], now.at_s)
            self._followers[track.id] = follower
        first = not follower.confirmed and track.confirmed
        follower.track, follower.last_s = track, now.at_s
        if follower.confirmed:
            self._move(follower, foot, body_size(track.xyxy), now, now, crossings)
            return
        follower.way = [*follower.way[-WAY_AT_MOST + 1 :], (foot, body_size(track.xyxy), now)]
        if not first:
            return
        follower.confirmed = True
        self._continue(follower, seen)
        for passed, size_px, moment in follower.way:
            self._move(follower, passed, size_px, moment, now, crossings)
        follower.way = []

    def _continue(self, follower: _Follower, seen: set[int]) -> None:
        """A track was confirmed: where it continues one that vanished just before, it begins on that one's side of each line."""
        track = follower.track
        born_at, born_box_size, _ = follower.way[0]
        best: tuple[float, _Follower] | None = None
        for other in self._followers.values():
            if not other.confirmed or other.continued or other.track.id in seen or other.track.label != track.label:
                continue
            gap_s = track.first_at_s - other.last_s
            if not 0 < gap_s <= self._settings.bridge_s:
                continue
            far = math.dist(other.foot, born_at) / max((body_size(other.track.xyxy) + born_box_size) / 2, 1e-3)
            if far <= self._settings.near + self._settings.near_per_s * gap_s and (best is None or far < best[0]):
                best = (far, other)
        if best is not None:
            former = best[1]
            former.continued = True
            follower.foot = former.foot
            follower.sides = [
                _Side(side.sure, side.last, side.through, side.crossed, side.admitted) for side in former.sides
            ]

    def _move(
        self, follower: _Follower, foot: XY, size_px: float, moment: Moment, now: Moment, crossings: list[Crossing]
    ) -> None:
        track, before = follower.track, follower.foot
        follower.foot = foot
        for number, line in enumerate(self.lines):
            if not line.takes(track.label):
                continue
            side = follower.sides[number]
            side.admitted = side.admitted or line.admits(track, float(now.width_px * now.height_px))
            crossed = _pass(side, line, before, foot, self._settings.line_band * size_px, moment)
            if not (crossed and side.admitted and line.awake(now.wall_s)):
                continue
            if self._sure is None or track.id in self._sure:
                self._crossed(number, side, track, moment, now, crossings)
            else:
                self.unsure[line.name] += 1

    def _crossed(
        self, number: int, side: _Side, track: Track, moment: Moment, now: Moment, crossings: list[Crossing]
    ) -> None:
        line = self.lines[number]
        direction = line.right if side.sure > 0 else line.left
        self._count(line.name, track.label, direction)
        if not self._cools[number].over(track.label, now.at_s):
            self.held_back[line.name] += 1
            return
        self._cools[number].fired(track.label, now.at_s)
        crossings.append(Crossing(self._new_id(), line, track, direction, side.crossed or moment, now))

    def _count(self, name: str, label: str, direction: str) -> None:
        """A new table for each crossing: whoever reads the old one in another thread is not disturbed."""
        of_line = self._counts[name]
        of_label = of_line.get(label, {})
        of_label = {**of_label, direction: of_label.get(direction, 0) + 1}
        self._counts = {**self._counts, name: {**of_line, label: of_label}}

    def _forget(self, alive: set[int], now: Moment) -> None:
        patience_s = self._settings.bridge_s + self._settings.settle_s
        gone = [
            number
            for number, follower in self._followers.items()
            if number not in alive and now.at_s - follower.last_s > patience_s
        ]
        for number in gone:
            del self._followers[number]


def _pass(side: _Side, line: Line, before: XY, foot: XY, band_px: float, moment: Moment) -> bool:
    """Take one movement (px of the source picture) into account; True when the line was crossed for sure, to `side.sure`."""
    first = (line.points[0][0] * moment.width_px, line.points[0][1] * moment.height_px)
    second = (line.points[1][0] * moment.width_px, line.points[1][1] * moment.height_px)
    along = (second[0] - first[0], second[1] - first[1])
    length = math.hypot(*along)
    off = _off(first, along, foot) / length
    sign = side.last if off == 0 else 1 if off > 0 else -1
    if side.last and sign != side.last:
        was_off = _off(first, along, before) / length
        share = was_off / (was_off - off) if was_off != off else 0.0
        at = (before[0] + (foot[0] - before[0]) * share - first[0], before[1] + (foot[1] - before[1]) * share - first[1])
        side.through = 0 <= (at[0] * along[0] + at[1] * along[1]) / length**2 <= 1
        side.crossed = moment
    side.last = sign
    if abs(off) < band_px or sign == side.sure or not sign:
        return False
    counts = side.sure != 0 and side.through
    side.sure = sign
    return counts


def _off(first: XY, along: XY, foot: XY) -> float:
    """How far right (on a screen) of the line through `first` a point lies, times the line's length."""
    return along[0] * (foot[1] - first[1]) - along[1] * (foot[0] - first[0])


def _foot(box: Box) -> XY:
    """Where a thing stands: the middle of its box's lower edge, px."""
    return ((box[0] + box[2]) / 2, box[3])
