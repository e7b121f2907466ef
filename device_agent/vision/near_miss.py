"""Near-misses: two tracks whose boxes come within half of the smaller one's height in under a second without overlap. Pure.

They come within it *from* at least one such height apart: two who walk side by side do not miss each other all day. Whether
they overlap after all shows only in the next moment, so a near-miss is told when they part again or a second has gone by.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from device_agent.vision.types import Box, Track

WITHIN_S = 1.0
NEAR_HEIGHTS = 0.5
APART_HEIGHTS = 1.0
PARTING = 1.2
"""They part when the gap is so much wider than it was at its narrowest."""
MOST_FRAMES = 64
"""Frames of a track's last second; a camera gives at most 60."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Two tracks as they were when they were nearest; `gap_heights` in heights of the smaller one."""

    first: Track
    second: Track
    gap_heights: float
    at_s: float

    @property
    def box(self) -> Box:
        """The box around both."""
        one, other = self.first.xyxy, self.second.xyxy
        return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


@dataclass(slots=True)
class _Pair:
    """Two who are near: `miss` is what will be told, None where nothing will be (they came slowly, or overlap, or it was)."""

    miss: Miss | None
    since_s: float
    last_s: float


class NearMisses:
    """Watches the confirmed tracks of one camera. No `pairs` of labels means any two."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._wanted = {frozenset(pair) for pair in pairs}
        self._ways: dict[int, deque[tuple[float, Box]]] = {}
        self._pairs: dict[tuple[int, int], _Pair] = {}

    def step(self, tracks: Sequence[Track], at_s: float) -> list[Miss]:
        """The near-misses that are sure with this frame; frames must come in order of time."""
        here = sorted((track for track in tracks if track.confirmed and track.seen), key=lambda track: track.xyxy[0])
        for track in here:
            self._ways.setdefault(track.id, deque(maxlen=MOST_FRAMES)).append((at_s, track.xyxy))
        told: list[Miss] = []
        for number, one in enumerate(here):
            reach_px = one.xyxy[2] + APART_HEIGHTS * (one.xyxy[3] - one.xyxy[1])
            for other in here[number + 1 :]:
                if other.xyxy[0] > reach_px:
                    break
                if not self._wanted or frozenset((one.label, other.label)) in self._wanted:
                    told += self._judge(one, other, at_s)
        told += self._parted({track.id for track in here}, at_s)
        self._forget(at_s)
        return told

    def finish(self) -> None:
        """The source ended."""
        self._ways.clear()
        self._pairs.clear()

    def _judge(self, one: Track, other: Track, at_s: float) -> list[Miss]:
        gap = _gap_heights(one.xyxy, other.xyxy)
        key = (min(one.id, other.id), max(one.id, other.id))
        pair = self._pairs.get(key)
        if gap > APART_HEIGHTS:
            self._pairs.pop(key, None)
            return [] if pair is None or pair.miss is None else [pair.miss]
        if pair is None:
            if gap <= NEAR_HEIGHTS:
                fast = gap > 0 and self._came_fast(one.id, other.id, at_s)
                self._pairs[key] = _Pair(Miss(one, other, gap, at_s) if fast else None, at_s, at_s)
            return []
        pair.last_s = at_s
        if gap <= 0:
            pair.miss = None
        if pair.miss is None:
            return []
        if gap < pair.miss.gap_heights:
            pair.miss = Miss(one, other, gap, at_s)
        if gap <= pair.miss.gap_heights * PARTING and at_s - pair.since_s < WITHIN_S:
            return []
        told, pair.miss = pair.miss, None
        return [told]

    def _parted(self, here: set[int], at_s: float) -> list[Miss]:
        """Pairs that are seen, but too far apart now to have been looked at: at few frames a second that goes fast."""
        apart = [key for key, pair in self._pairs.items() if pair.last_s < at_s and here.issuperset(key)]
        misses = [self._pairs.pop(key).miss for key in apart]
        return [miss for miss in misses if miss is not None]

    def _came_fast(self, one: int, other: int, at_s: float) -> bool:
        """Whether less than a second ago they were far apart, and did not overlap since."""
        boxes = {when_s: box for when_s, box in self._ways[other] if at_s - when_s < WITHIN_S}
        for when_s, box in reversed(self._ways[one]):
            if when_s in boxes:
                gap = _gap_heights(box, boxes[when_s])
                if gap <= 0:
                    return False
                if gap >= APART_HEIGHTS:
                    return True
        return False

    def _forget(self, at_s: float) -> None:
        for key in [key for key, pair in self._pairs.items() if at_s - pair.last_s > WITHIN_S]:
            del self._pairs[key]
        for number in [number for number, way in self._ways.items() if at_s - way[-1][0] > WITHIN_S]:
            del self._ways[number]


def _gap_heights(one: Box, other: Box) -> float:
    """The gap between two boxes in heights of the smaller one; 0 where they touch or overlap."""
    across = max(0.0, other[0] - one[2], one[0] - other[2])
    down = max(0.0, other[1] - one[3], one[1] - other[3])
    return math.hypot(across, down) / max(min(one[3] - one[1], other[3] - other[1]), 1e-3)
