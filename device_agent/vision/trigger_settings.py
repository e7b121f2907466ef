"""What makes a scene interesting enough to be kept, and how often: the settings of triggers and their untyped form. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from device_agent.vision.schedule import timezone_faults
from device_agent.vision.untyped import labels_of, numbered, strangers, yes_or_no

TriggerKind = Literal["first_today", "low_confidence", "near_miss", "disagreement"]
LIMIT_FIELDS = ("cooldown_s", "per_hour", "burst", "classes")
MAX_PAIRS = 50


@dataclass(frozen=True, slots=True)
class TriggerLimits:
    """`cooldown_s` between two events of one trigger, at most `per_hour` in any hour, with a `burst` of frames or without.

    No `classes` means all.
    """

    cooldown_s: float = 60.0
    per_hour: int = 6
    burst: bool = True
    classes: frozenset[str] = frozenset()

    def takes(self, label: str) -> bool:
        """Whether objects of this label count here."""
        return not self.classes or label in self.classes


@dataclass(frozen=True, slots=True)
class LowConfidence(TriggerLimits):
    """A track whose best score stays between `below` under and `above` over what its label is reported from.

    It is judged when it is gone, or when it was watched for `watch_s`.
    """

    below: float = 0.1
    above: float = 0.1
    watch_s: float = 5.0


@dataclass(frozen=True, slots=True)
class NearMiss(TriggerLimits):
    """Two tracks that nearly meet; `pairs` of labels in any order, none means any two."""

    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TriggerSettings:
    """One camera's triggers; None is off. `timezone` says when its day begins."""

    first_today: TriggerLimits | None = None
    low_confidence: LowConfidence | None = None
    near_miss: NearMiss | None = None
    disagreement: TriggerLimits | None = None
    timezone: str = "UTC"

    @property
    def on(self) -> dict[TriggerKind, TriggerLimits]:
        """The triggers that are on."""
        kinds: dict[TriggerKind, TriggerLimits | None] = {
            "first_today": self.first_today,
            "low_confidence": self.low_confidence,
            "near_miss": self.near_miss,
            "disagreement": self.disagreement,
        }
        return {kind: limits for kind, limits in kinds.items() if limits is not None}

    @property
    def asked(self) -> frozenset[str]:
        """Every label that is asked for by its name."""
        pairs = self.near_miss.pairs if self.near_miss else ()
        return frozenset().union(*(limits.classes for limits in self.on.values()), *pairs)

    def without_bursts(self) -> "TriggerSettings":
        """The same with no picture of a whole frame: for a board whose policy lets none out."""
        calm: dict[str, TriggerLimits] = {kind: replace(limits, burst=False) for kind, limits in self.on.items()}
        return replace(self, **calm)  # type: ignore[arg-type]


def make_triggers(entry: object, where: str, faults: list[str], timezone: str = "UTC") -> TriggerSettings | None:
    """Triggers from an untyped table of tables; None after adding to `faults` what is wrong with it. What is left out is off."""
    if not isinstance(entry, dict):
        faults.append(f"{where} must be a table")
        return None
    found = timezone_faults(timezone, f"{where}: timezone")
    found += strangers(entry, ("first_today", "low_confidence", "near_miss", "disagreement"), where)
    limits = {kind: _limits(table, f"{where}.{kind}", kind, found) for kind, table in entry.items() if table is not None}
    first, low, near, split = (limits.get(kind) for kind in ("first_today", "low_confidence", "near_miss", "disagreement"))
    if found:
        faults += found
        return None
    return TriggerSettings(
        first,
        low if isinstance(low, LowConfidence) else None,
        near if isinstance(near, NearMiss) else None,
        split,
        timezone,
    )


def _limits(table: object, where: str, kind: str, faults: list[str]) -> TriggerLimits | None:
    if not isinstance(table, dict):
        faults.append(f"{where} must be a table")
        return None
    own = {"low_confidence": ("below", "above"), "near_miss": ("pairs",)}.get(kind, ())
    faults += strangers(table, (*LIMIT_FIELDS, *own), where)
    cooldown_s = numbered(table, "cooldown_s", 86_400.0, where, faults, 60.0)
    burst = yes_or_no(table, "burst", True, where, faults)
    classes = labels_of(table, where, faults)
    per_hour = table.get("per_hour", 6)
    if not isinstance(per_hour, int) or isinstance(per_hour, bool) or not 1 <= per_hour <= 3600:
        faults.append(f"{where}.per_hour must be a whole number from 1 to 3600")
        per_hour = 6
    if kind == "low_confidence":
        below = numbered(table, "below", 1.0, where, faults, 0.1)
        above = numbered(table, "above", 1.0, where, faults, 0.1)
        return LowConfidence(cooldown_s, per_hour, burst, classes, below, above)
    if kind == "near_miss":
        return NearMiss(cooldown_s, per_hour, burst, classes, _pairs(table, where, faults))
    return TriggerLimits(cooldown_s, per_hour, burst, classes)


def _pairs(table: Mapping[str, Any], where: str, faults: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = table.get("pairs", [])
    if not isinstance(pairs, list | tuple) or len(pairs) > MAX_PAIRS or not all(_is_pair(pair) for pair in pairs):
        faults.append(f"{where}.pairs must be a list of at most {MAX_PAIRS} pairs of labels")
        return ()
    return tuple((pair[0], pair[1]) for pair in pairs)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(label, str) for label in pair)
