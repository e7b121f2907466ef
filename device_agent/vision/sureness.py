"""Which tracks are believed enough for an event: the median of their latest scores reached a bar once. Pure.

A detector calls a hand a person for a second on end, at scores just over its threshold; real persons reach scores well above it.
Boxes are taken from the threshold on, so that tracks hold together; a track is believed only once the median of its latest scores
lies higher by a share of what is left to 1. What was believed once stays believed.
"""

import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.vision.types import Track

LEAST_LOOKS, MOST_LOOKS = 3, 5
"""The median is taken of so many of the latest scores."""
BAR_AT_MOST = 0.7
"""Whoever asks for a high threshold asks for no more than that (Frigate's default for a true positive is the same)."""
FORGET_S = 10.0


@dataclass(slots=True)
class _Seen:
    """A track's latest scores until it is believed."""

    last_s: float
    sure: bool = False
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_LOOKS))


class Sureness:
    """Believes tracks of one camera. `threshold_of` gives the score that a label is reported from; `share` 0 believes all."""

    def __init__(self, share: float, threshold_of: Callable[[str], float]) -> None:
        self._share = share
        self._threshold_of = threshold_of
        self._seen: dict[int, _Seen] = {}

    def step(self, tracks: Sequence[Track], at_s: float) -> set[int]:
        """The ids among these tracks that are believed."""
        if self._share <= 0:
            return {track.id for track in tracks}
        # A clock that jumped back (a film begins again) forgets those of before as well: their ids are of another source.
        for number in [number for number, state in self._seen.items() if not 0 <= at_s - state.last_s <= FORGET_S]:
            del self._seen[number]
        for track in tracks:
            state = self._seen.get(track.id)
            if state is None:
                state = self._seen[track.id] = _Seen(at_s)
            state.last_s = at_s
            if track.seen and not state.sure:
                state.scores.append(track.score)
                state.sure = len(state.scores) >= LEAST_LOOKS and statistics.median(state.scores) >= self.bar(track.label)
        return {track.id for track in tracks if self._seen[track.id].sure}

    def bar(self, label: str) -> float:
        """The score that the median must reach."""
        threshold = self._threshold_of(label)
        return max(threshold, min(BAR_AT_MOST, threshold + self._share * (1 - threshold)))
