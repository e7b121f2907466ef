"""All rules of one camera: its zones and its lines, in one step. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from device_agent.vision.lines import LineCounts, LineRules
from device_agent.vision.rules import Moment, RuleSettings, RuleStep, Visit
from device_agent.vision.sureness import Sureness
from device_agent.vision.types import Track
from device_agent.vision.zone_rules import ZoneRules
from device_agent.vision.zones import Line, Zone


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """Since the start: crossings by line, label and direction; by rule, events that a cool-down held back, and visits and
    crossings of those who were never believed (`unsure`)."""

    crossed: LineCounts = field(default_factory=dict)
    held_back: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)


class CameraRules:
    """Zones and lines of one camera; where there is neither, the whole picture is a zone. One thread calls `step`.

    `counted`: the counts of the rules before a change of configuration; rules that keep their name go on counting.
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
        believe = settings or RuleSettings()
        sureness = None if threshold_of is None else Sureness(believe.sure_share, believe.sure_after_s, threshold_of)
        self._sureness = sureness
        self._before = counted or RuleCounts()

    def step(self, tracks: Sequence[Track], now: Moment, left: Collection[int] = ()) -> RuleStep:
        """Judge one frame's tracks; frames must come in order of time. `left`: tracks that the tracker found to be gone."""
        sure = self._sureness.step(tracks, now.at_s) if self._sureness is not None else None
        found = RuleStep() if self._zones is None else self._zones.step(tracks, now, sure, left)
        crossings = self._lines.step(tracks, now, sure)
        return replace(found, crossings=crossings) if crossings else found

    def finish(self) -> list[tuple[Visit, bool]]:
        """The source ended: the visits whose events were not told to be over, and whether each was really still open."""
        self._lines.finish()
        return [] if self._zones is None else self._zones.finish()

    def counts(self) -> RuleCounts:
        """What was counted since the start; callable from any thread."""
        zones, lines, before = self._zones, self._lines, self._before
        held_back = _sum(before.held_back, lines.held_back, {} if zones is None else zones.held_back)
        unsure = _sum(before.unsure, lines.unsure, {} if zones is None else zones.unsure)
        return RuleCounts(lines.counts(), held_back, unsure)


def _sum(*counts: Mapping[str, int]) -> dict[str, int]:
    """Counts of rules added up by name, those that are not nothing."""
    names = dict.fromkeys(name for part in counts for name in part)
    return {name: total for name in names if (total := sum(part.get(name, 0) for part in counts))}
