"""Doubtful tracks: confirmed ones whose best score stays in a band around what their label is reported from. No IO."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_agent.vision.best_crop import BestCrop
from device_agent.vision.cutter import Cutter
from device_agent.vision.trigger_settings import LowConfidence
from device_agent.vision.types import Crop, Frame, Track

MOST_WATCHED = 32
"""Tracks that are watched at one time; each may hold one crop."""
MOST_JUDGED = 1000
"""Ids of judged tracks that are remembered: ids only grow, so the oldest are of tracks that are long gone."""
GONE_S = 0.5
"""A track that is not seen for so long is judged."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A track that stayed doubtful, its best score and the best picture of it."""

    track: Track
    best: float
    crop: Crop | None


@dataclass(slots=True)
class _Watched:
    """A track that is not judged yet: its best score and picture so far."""

    track: Track
    crop: BestCrop
    best: float = 0.0


class Doubtful:
    """Watches one camera's tracks; each is judged once, when it is gone or was watched long enough."""

    def __init__(self, limits: LowConfidence, cutter: Cutter) -> None:
        self._limits = limits
        self._cutter = cutter
        self._watched: dict[int, _Watched] = {}
        self._judged: OrderedDict[int, None] = OrderedDict()

    def step(self, tracks: Sequence[Track], frame: Frame, threshold_of: Callable[[str], float]) -> list[Doubt]:
        """The tracks that were judged doubtful with this frame."""
        limits = self._limits
        for track in tracks:
            if track.confirmed and track.seen and track.id not in self._judged and limits.takes(track.label):
                self._watch(track, frame, threshold_of(track.label) + limits.above)
        found = []
        for state in list(self._watched.values()):
            track = state.track
            if frame.at_s - track.last_at_s > GONE_S or frame.at_s - track.first_at_s >= limits.watch_s:
                self._judge(track)
                if state.best >= threshold_of(track.label) - limits.below:
                    found.append(Doubt(track, state.best, state.crop.best))
        return found

    def finish(self) -> None:
        """The source ended."""
        self._watched.clear()

    def _watch(self, track: Track, frame: Frame, sure_above: float) -> None:
        state = self._watched.get(track.id)
        if track.score > sure_above:
            self._judge(track)
        elif state is None and len(self._watched) >= MOST_WATCHED:
            return
        else:
            if state is None:
                state = self._watched[track.id] = _Watched(track, BestCrop(cutter=self._cutter))
            state.track, state.best = track, max(state.best, track.score)
            state.crop.offer(frame, track.xyxy, track.score, "first")

    def _judge(self, track: Track) -> None:
        self._watched.pop(track.id, None)
        self._judged[track.id] = None
        while len(self._judged) > MOST_JUDGED:
            self._judged.popitem(last=False)
