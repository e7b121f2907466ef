"""How many whole frames a board hands out in an hour, whatever a configuration asks for. Pure."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from device_agent.spool.upload_rule import class_of
from device_agent.vision.types import Crop, EventUpdate

WHOLE_CLASSES = frozenset({"burst", "recall"})
"""Classes of pictures that show a whole frame, wanted by a configuration alone."""
MOST_PER_HOUR = 120
"""Of all cameras together: twelve bursts, or a sample each half minute. A server that could have more would have a film."""
HELD_BACK = "whole_frames"
"""The reason under which those over it are counted."""


class WholeFrames:
    """The budget of one board; any camera's thread may ask. ``steady_s``: a clock that is never set."""

    def __init__(self, steady_s: Callable[[], float], most_per_hour: int = MOST_PER_HOUR) -> None:
        self._steady_s, self._most = steady_s, most_per_hour
        self._lock = threading.Lock()
        self._let_s: deque[float] = deque(maxlen=most_per_hour)

    def before(self, keep: Callable[[EventUpdate], None], count: Callable[[str], None]) -> Callable[[EventUpdate], None]:
        """``keep`` for what is left of an update; ``count`` hears of each picture that was taken out."""

        def kept(update: EventUpdate) -> None:
            left, held_back = self.let(update)
            for _ in range(held_back):
                count(HELD_BACK)
            keep(left)

        return kept

    def let(self, update: EventUpdate) -> tuple[EventUpdate, int]:
        """The update with as many whole frames as the hour has left, and how many were taken out; the event always goes."""
        kind = update.event.rule_kind
        crops = [crop for crop in update.event.crops if self._lets(kind, crop)]
        held_back = len(update.event.crops) - len(crops)
        if not held_back:
            return update, 0
        return replace(update, event=replace(update.event, crops=tuple(crops))), held_back

    def _lets(self, rule_kind: str, crop: Crop) -> bool:
        if class_of(rule_kind, crop.kind) not in WHOLE_CLASSES:
            return True
        now_s = self._steady_s()
        with self._lock:
            while self._let_s and self._let_s[0] <= now_s - 3600.0:
                self._let_s.popleft()
            if len(self._let_s) >= self._most:
                return False
            self._let_s.append(now_s)
            return True
