"""All rules of one camera: its zones and its lines, in one step. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from device_agent.vision.lines import LineCounts, LineRules
from device_agent.vision.rules import Moment, RuleSettings, RuleStep, Visit
from device_agent.vision.sureness import Sureness
from device_agent.vision.types import Track
from device_agent.vision.zone_rules import ZoneRules
from device_agent.vision.zones import Line, Zone


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """Since the start: crossings by line, label and direction; events that a cool-down held back, by rule."""

    crossed: LineCounts = field(default_factory=dict)
    held_back: dict[str, int] = field(default_factory=dict)


class CameraRules:
    """Zones and lines of one camera; where there is neither, the whole picture is a zone. One thread calls `step`.

    `counted`: the counts of the rules before a change of configuration; lines that keep their name go on counting.
    `threshold_of` gives the score that a label is reported from; without it every confirmed track is believed.
    """

    def __init__(
        self,
        zones: Sequence[Zone],
        lines: Sequence[Line],
        new_id: Callable[[], str],
        settings: RuleSettings | None = None,
        counted: RuleCounts | None = None,
        threshold_of: Callable[[str], float] | None = None,
    ) -> None:
        self._zones = ZoneRules(zones, new_id, settings) if zones or not lines else None
        self._lines = LineRules(lines, new_id, settings, counted.crossed if counted else None)
        share = (settings or RuleSettings()).sure_share
        self._sureness = Sureness(share, threshold_of) if threshold_of is not None else None

    def step(self, tracks: Sequence[Track], now: Moment) -> RuleStep:
        """Judge one frame's tracks; frames must come in order of time."""
        sure = self._sureness.step(tracks, now.at_s) if self._sureness is not None else None
        found = RuleStep() if self._zones is None else self._zones.step(tracks, now, sure)
        crossings = self._lines.step(tracks, now, sure)
        return replace(found, crossings=crossings) if crossings else found

    def finish(self) -> list[tuple[Visit, bool]]:
        """The source ended: the visits whose events were not told to be over, and whether each was really still open."""
        self._lines.finish()
        return [] if self._zones is None else self._zones.finish()

    def counts(self) -> RuleCounts:
        """What was counted since the start; callable from any thread."""
        zones = {} if self._zones is None else self._zones.held_back
        held_back = {name: count for name, count in (*zones.items(), *self._lines.held_back.items()) if count}
        return RuleCounts(self._lines.counts(), held_back)
