"""Which tracks are believed enough for an event: scores well above the threshold at once, scores just above it with time. Pure.

A detector calls a hand a person for a second or two on end, at scores just over its threshold; real persons mostly reach scores
well above it, but not every camera's do: one who stands in full view for half a minute at 0.55 is there all the same. Boxes are
taken from the threshold on, so that tracks hold together; a track is believed once the median of its latest scores lies higher
by a share of what is left to 1, or once it was seen at its threshold and above for longer than a mistake lasts, in most of the
looks at it. What was believed once stays believed.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.vision.types import Track

LEAST_LOOKS, MOST_LOOKS = 3, 5
"""The median is taken of so many of the latest scores."""
BAR_AT_MOST = 0.7
"""Whoever asks for a high threshold asks for no more than that (Frigate's default for a true positive is the same)."""
LOOK_AT_MOST_S = 1.0
"""One look vouches for so much of the time before it at most: nobody knows what was there meanwhile."""
FORGET_S = 10.0


@dataclass(slots=True)
class _Seen:
    """A track's scores until it is believed: the latest, how many there were, how many of them at its threshold or above, and
    for how long it was seen so."""

    last_s: float
    sure: bool = False
    scores: deque[float] = field(default_factory=lambda: deque(maxlen=MOST_LOOKS))
    looks: int = 0
    good: int = 0
    good_s: float = 0.0


class Sureness:
    """Believes tracks of one camera. `threshold_of` gives the score that a label is reported from; `share` 0 believes all.

    `after_s`: for so long must a track be seen at its threshold or above that does not reach the bar.
    """

    def __init__(self, share: float, after_s: float, threshold_of: Callable[[str], float]) -> None:
        self._share, self._after_s = share, after_s
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
            if track.seen and not state.sure:
                self._look(state, track, at_s)
            state.last_s = at_s
        return {track.id for track in tracks if self._seen[track.id].sure}

    def bar(self, label: str) -> float:
        """The score that the median must reach to be believed at once."""
        threshold = self._threshold_of(label)
        return max(threshold, min(BAR_AT_MOST, threshold + self._share * (1 - threshold)))

    def _look(self, state: _Seen, track: Track, at_s: float) -> None:
        state.scores.append(track.score)
        state.looks += 1
        if track.score >= self._threshold_of(track.label):
            state.good += 1
            state.good_s += min(at_s - state.last_s, LOOK_AT_MOST_S)
        if state.looks < LEAST_LOOKS:
            return
        long = state.good_s >= self._after_s and 2 * state.good >= state.looks  # half of them: so is their median
        state.sure = long or _median(state.scores) >= self.bar(track.label)


def _median(scores: Sequence[float]) -> float:
    """As `statistics.median`, which is a fifth of a megabyte for this."""
    ordered, half = sorted(scores), len(scores) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
