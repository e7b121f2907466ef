"""Rules from untyped tables: a zone file, the settings, a configuration. All faults at once, unknown fields refused. Pure.

File (JSON): `{"timezone", "sureness", "sure_after_s", "zones": [...], "lines": [...],
"triggers": {...}}`, all optional but one of the last three. A zone: `name`, `polygon`,
`classes`, `inside`, `dwell_s`, `inertia_s`; a line: `name`, `points`, `classes`, `right`, `left`; both: `min_score`, `min_share`,
`min_px`, `schedule` (a list of `{"days", "from", "to"}`), `cooldown_s`, `cooldown_per_class`.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from device_agent.vision.rules import SURE_AFTER_S, SURE_SHARE
from device_agent.vision.schedule import Schedule, make_schedule, timezone_faults
from device_agent.vision.trigger_settings import TriggerSettings, make_triggers
from device_agent.vision.untyped import labels_of, numbered, strangers, yes_or_no
from device_agent.vision.zones import WHOLE_PICTURE, Line, Zone, ZoneError
from ota.wire.polygons import line_faults, points_of, polygon_faults

MAX_ZONES = 50
MAX_LINES = 50
MAX_TEXT_CHARS = 1_000_000
DAY_S = 86_400.0
Rule = TypeVar("Rule", Zone, Line)
_WORD = re.compile(r"[a-z0-9_.-]{1,60}")
_SHARED = ("name", "classes", "min_score", "min_share", "min_px", "schedule", "cooldown_s", "cooldown_per_class")
ZONE_FIELDS = (*_SHARED, "polygon", "inside", "dwell_s", "inertia_s")
LINE_FIELDS = (*_SHARED, "points", "right", "left")

NO_TRIGGERS = TriggerSettings()


@dataclass(frozen=True, slots=True)
class RuleFile:
    """What a zone file holds; `timezone` is the one that its schedules are written in. `sureness`, `sure_after_s`: who is
    believed (`RuleSettings.sure_share`, `sure_after_s`)."""

    zones: tuple[Zone, ...]
    lines: tuple[Line, ...]
    timezone: str = "UTC"
    sureness: float = SURE_SHARE
    sure_after_s: float = SURE_AFTER_S
    triggers: TriggerSettings = NO_TRIGGERS


class _Common(TypedDict):
    name: str
    classes: frozenset[str]
    min_score: float
    min_share: float
    min_px: float
    schedule: Schedule | None
    cooldown_s: float
    cooldown_per_class: bool


def load_rules(text: str) -> RuleFile:
    """The zones and lines of a file's text; raises ZoneError with all faults at once."""
    if len(text) > MAX_TEXT_CHARS:
        raise ZoneError([f"the text is longer than {MAX_TEXT_CHARS} characters"])
    try:
        top = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ZoneError([f"not JSON: {error}"]) from error
    if not isinstance(top, dict) or not any(key in top for key in ("zones", "lines", "triggers")):
        raise ZoneError(['the file must be {"zones": [...], "lines": [...], "triggers": {...}}, with one of them at least'])
    faults = strangers(top, ("zones", "lines", "triggers", "timezone", "sureness", "sure_after_s"), "the file")
    timezone = top.get("timezone", "UTC")
    wrong = timezone_faults(timezone, "timezone")
    faults += wrong
    zone_text = "UTC" if wrong else timezone
    sureness = numbered(top, "sureness", 1.0, "the file", faults, SURE_SHARE)
    after_s = numbered(top, "sure_after_s", DAY_S, "the file", faults, SURE_AFTER_S)
    zones = _listed(top, "zones", MAX_ZONES, make_zone, zone_text, faults)
    lines = _listed(top, "lines", MAX_LINES, make_line, zone_text, faults)
    triggers = make_triggers(top.get("triggers", {}), "triggers", faults, zone_text)
    if not faults and not zones and not lines and not (triggers and triggers.on):
        faults.append("the file holds no zone and no line, and no trigger")
    faults += name_faults([zone.name for zone in zones] + [line.name for line in lines])
    if faults or triggers is None:
        raise ZoneError(faults)
    return RuleFile(zones, lines, zone_text, sureness, after_s, triggers=triggers)


def name_faults(names: list[str]) -> list[str]:
    """Zones and lines of one camera that are called alike: an event names its rule."""
    return [f"two zones or lines are called {name!r}" for name in sorted({name for name in names if names.count(name) > 1})]


def make_zone(entry: object, where: str, faults: list[str], timezone: str = "UTC") -> Zone | None:
    """A zone from an untyped table; None after adding to `faults` what is wrong with it. `timezone` must be a known one."""
    if not isinstance(entry, dict):
        faults.append(f"{where} must be a table")
        return None
    found = strangers(entry, ZONE_FIELDS, where)
    shared = _common(entry, "zone", where, timezone, found)
    polygon = entry.get("polygon", WHOLE_PICTURE)
    found += polygon_faults(polygon, f"{where}.polygon")
    dwell_s = numbered(entry, "dwell_s", DAY_S, where, found)
    inertia_s = numbered(entry, "inertia_s", DAY_S, where, found)
    inside = yes_or_no(entry, "inside", True, where, found)
    if found or shared is None:
        faults += found
        return None
    return Zone(polygon=points_of(polygon), dwell_s=dwell_s, inertia_s=inertia_s, inside=inside, **shared)


def make_line(entry: object, where: str, faults: list[str], timezone: str = "UTC") -> Line | None:
    """A line from an untyped table; None after adding to `faults` what is wrong with it. `timezone` must be a known one."""
    if not isinstance(entry, dict):
        faults.append(f"{where} must be a table")
        return None
    found = strangers(entry, LINE_FIELDS, where)
    shared = _common(entry, "line", where, timezone, found)
    found += line_faults(entry.get("points"), f"{where}.points")
    words = {side: entry.get(side, default) for side, default in (("right", "in"), ("left", "out"))}
    for side, word in words.items():
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            found.append(f"{where}.{side} must be a word of 1 to 60 small letters, digits and _.-")
    if words["right"] == words["left"]:
        found.append(f"{where}: right and left must be two words, or nobody can tell the directions apart")
    if found or shared is None:
        faults += found
        return None
    first, second = points_of(entry["points"])
    return Line(points=(first, second), right=str(words["right"]), left=str(words["left"]), **shared)


def _listed(
    top: Mapping[str, Any], key: str, most: int, make: Callable[[object, str, list[str], str], Rule | None],
    timezone: str, faults: list[str],
) -> tuple[Rule, ...]:  # fmt: skip
    entries = top.get(key, [])
    if not isinstance(entries, list) or len(entries) > most:
        faults.append(f"{key} must be a list of at most {most}")
        return ()
    made = [make(entry, f"{key}[{number}]", faults, timezone) for number, entry in enumerate(entries)]
    return tuple(rule for rule in made if rule is not None)


def _common(entry: Mapping[str, Any], kind: str, where: str, timezone: str, faults: list[str]) -> _Common | None:
    before = len(faults)
    name = entry.get("name", kind)
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        faults.append(f"{where}.name must be 1 to 100 characters")
    made = _Common(
        name=str(name),
        classes=labels_of(entry, where, faults),
        min_score=numbered(entry, "min_score", 1.0, where, faults),
        min_share=numbered(entry, "min_share", 1.0, where, faults),
        min_px=numbered(entry, "min_px", 100_000.0, where, faults),
        schedule=make_schedule(entry.get("schedule", []), f"{where}.schedule", timezone, faults),
        cooldown_s=numbered(entry, "cooldown_s", DAY_S, where, faults),
        cooldown_per_class=yes_or_no(entry, "cooldown_per_class", False, where, faults),
    )
    return made if len(faults) == before else None
