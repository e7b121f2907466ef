"""What zones and lines ask for alike: who counts, when, and how soon after the last event another may follow. Pure."""

import math
from collections import deque
from dataclasses import dataclass

from device_agent.vision.schedule import Schedule
from device_agent.vision.types import Track

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """`min_share` is a share 0..1 of the picture's area, `min_px` of the box's longer side; `cooldown_s` between two events.

    Least score and size must be met once, where a visit or a crossing begins: somebody who turns away in a zone has not left it.
    """

    min_score: float = 0.0
    min_share: float = 0.0
    min_px: float = 0.0
    schedule: Schedule | None = None
    cooldown_s: float = 0.0
    cooldown_per_class: bool = False

    def admits(self, track: Track, picture_px2: float) -> bool:
        """Whether a track is sure and large enough; `picture_px2` is the source picture's area."""
        if track.score < self.min_score:
            return False
        if self.min_share <= 0 and self.min_px <= 0:
            return True
        width, height = track.xyxy[2] - track.xyxy[0], track.xyxy[3] - track.xyxy[1]
        return max(width, height) >= self.min_px and width * height >= self.min_share * picture_px2

    def awake(self, wall_s: float) -> bool:
        """Whether the schedule lets the rule see now."""
        return self.schedule is None or self.schedule.is_open(wall_s)


class CoolDown:
    """The seconds between two events of one rule, of each class where that is asked for. Measured on the frames' own clock."""

    def __init__(self, cooldown_s: float, *, per_class: bool) -> None:
        self._cooldown_s = cooldown_s
        self._per_class = per_class
        self._last_s: dict[str, float] = {}

    def over(self, label: str, at_s: float) -> bool:
        """Whether an event of this label may follow now."""
        return self._cooldown_s <= 0 or at_s - self._last_s.get(self._key(label), -math.inf) >= self._cooldown_s

    def fired(self, label: str, at_s: float) -> None:
        """An event was raised."""
        if self._cooldown_s > 0:
            self._last_s[self._key(label)] = at_s

    def restart(self) -> None:
        """The frames' clock began anew: times from before mean nothing."""
        self._last_s.clear()

    def _key(self, label: str) -> str:
        return label if self._per_class else ""


class Limiter:
    """A cool-down and an hourly limit together."""

    def __init__(self, cooldown_s: float, per_hour: int, *, per_class: bool) -> None:
        self._cool = CoolDown(cooldown_s, per_class=per_class)
        self._latest: deque[float] = deque(maxlen=per_hour)

    def lets(self, label: str, at_s: float) -> bool:
        """Whether an event may be raised now; if so it counts as raised."""
        full = len(self._latest) == self._latest.maxlen and at_s - self._latest[0] < HOUR_S
        if full or not self._cool.over(label, at_s):
            return False
        self._latest.append(at_s)
        self._cool.fired(label, at_s)
        return True

    def restart(self) -> None:
        """The frames' clock began anew."""
        self._cool.restart()
        self._latest.clear()
