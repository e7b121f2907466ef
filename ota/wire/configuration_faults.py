"""All that is wrong with a configuration, at once: types, ranges, shapes, names, cameras and classes. Never raises. Pure."""

from collections.abc import Collection
from typing import Any

import msgspec

from ota.wire.configuration import Configuration
from ota.wire.polygons import line_faults, polygon_faults
from ota.wire.typed_faults import MAX_NODES, Fault, below, faults_of, monstrous, shortened


class ConfigurationError(ValueError):
    """A configuration that cannot be used; ``faults`` holds all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("this configuration cannot be used: " + "; ".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


def faults(value: object, cameras: Collection[str] | None = None, labels: Collection[str] | None = None) -> list[Fault]:
    """Everything that is wrong with a configuration as it came (JSON, TOML); never raises.

    ``cameras``: those of the board, None where they are not known; ``labels``: those of the model, None likewise.
    """
    odd = monstrous(value)
    if odd is not None:
        return [odd]
    found = faults_of(value, Configuration)
    if not isinstance(value, dict):
        return found
    every, named = value.get("every_camera"), value.get("cameras")
    shared: dict[str, Any] = every if isinstance(every, dict) else {}
    more = _camera_faults(shared, "every_camera", labels) + _twice(shared, "every_camera")
    for name, camera in named.items() if isinstance(named, dict) else ():
        where = below("cameras", str(name))
        if cameras is not None and name not in cameras:
            more.append(Fault(where, f"this board has no such camera; it has {', '.join(sorted(cameras)) or 'none'}"))
        if isinstance(camera, dict):
            more += _camera_faults(camera, where, labels) + _twice({**shared, **camera}, where)
    known = {fault.path for fault in found}
    # At a place where the type was wrong already, one word is enough.
    found += [fault for fault in more if not any(fault.path == path or fault.path.startswith(path + "[") for path in known)]
    return shortened(found)


def faults_between(merged: dict[str, Any]) -> list[Fault]:
    """What is wrong with valid layers once they lie over each other: names that meet, and more than a board takes.

    Everything else (types, ranges, shapes) was judged in each layer by itself, and laying over only joins tables and replaces
    values whole: judging each polygon again for every pile that it is in takes minutes in a large fleet.
    """
    # A value takes two bytes at least: most piles are too small to be looked through for their size.
    odd = monstrous(merged) if len(msgspec.json.encode(merged)) >= 2 * MAX_NODES else None
    if odd is not None:
        return [odd]
    shared: dict[str, Any] = merged.get("every_camera") or {}
    found = _twice(shared, "every_camera")
    for name, camera in (merged.get("cameras") or {}).items():
        found += _twice({**shared, **camera}, below("cameras", name))
    return shortened(found)


def problems(value: object, cameras: Collection[str] | None = None, labels: Collection[str] | None = None) -> list[str]:
    """``faults`` as sentences."""
    return [str(fault) for fault in faults(value, cameras, labels)]


def parse(value: object, cameras: Collection[str] | None = None, labels: Collection[str] | None = None) -> Configuration:
    """The typed configuration; raises ConfigurationError with all faults."""
    found = faults(value, cameras, labels)
    if found:
        raise ConfigurationError(found)
    try:
        return msgspec.convert(value, Configuration)
    except msgspec.ValidationError as error:  # the walk and the types differ: a fault of ours, and no reason to fall
        raise ConfigurationError([Fault("", str(error))]) from None


def _camera_faults(camera: dict[str, Any], where: str, labels: Collection[str] | None) -> list[Fault]:
    found: list[Fault] = []
    for kind in ("zones", "lines", "masks"):
        for number, entry in enumerate(_tables(camera.get(kind))):
            place = f"{where}.{kind}[{number}]"
            found += _shape(entry, kind, place) + _spans(entry.get("schedule"), f"{place}.schedule")
            found += _unknown(entry.get("classes"), labels, f"{place}.classes")
            if kind == "lines" and entry.get("right", "in") == entry.get("left", "out"):
                found.append(Fault(f"{place}.left", "must be another word than right"))
    triggers = camera.get("triggers")
    for name, trigger in triggers.items() if isinstance(triggers, dict) else ():
        found += _trigger(trigger, below(f"{where}.triggers", str(name)), labels) if isinstance(trigger, dict) else []
    scores = camera.get("min_score")
    for label in scores if isinstance(scores, dict) else ():
        found += _unknown_label(label, labels, below(f"{where}.min_score", str(label)))
    return found


def _trigger(trigger: dict[str, Any], place: str, labels: Collection[str] | None) -> list[Fault]:
    found = _unknown(trigger.get("classes"), labels, f"{place}.classes")
    pairs = trigger.get("pairs")
    for number, pair in enumerate(pairs if isinstance(pairs, list | tuple) else []):
        found += _unknown(pair, labels, f"{place}.pairs[{number}]")
    return found


def _twice(camera: dict[str, Any], where: str) -> list[Fault]:
    """An event names its rule: names must differ over zones and lines of a camera."""
    seen: set[str] = set()
    found = []
    for kind in ("zones", "lines"):
        for number, entry in enumerate(_tables(camera.get(kind))):
            name = entry.get("name")
            if isinstance(name, str) and name in seen:
                found.append(Fault(f"{where}.{kind}[{number}].name", f"{name[:60]!r} is there twice"))
            seen |= {name} if isinstance(name, str) else set()
    return found


def _tables(entries: object) -> list[dict[str, Any]]:
    listed = entries if isinstance(entries, list | tuple) else []
    return [entry if isinstance(entry, dict) else {} for entry in listed]


def _shape(entry: dict[str, Any], kind: str, place: str) -> list[Fault]:
    key, judge = ("points", line_faults) if kind == "lines" else ("polygon", polygon_faults)
    place = f"{place}.{key}"
    return [_placed(sentence, place) for sentence in judge(entry[key], place)] if key in entry else []


def _spans(schedule: object, place: str) -> list[Fault]:
    found = []
    for number, entry in enumerate(_tables(schedule)):
        if entry.get("from") == "24:00":
            found.append(Fault(f"{place}[{number}].from", "must be before 24:00"))
        elif isinstance(entry.get("from"), str) and entry["from"] == entry.get("to"):
            found.append(Fault(f"{place}[{number}]", "begins when it ends; the whole day is 00:00 to 24:00"))
    return found


def _placed(sentence: str, place: str) -> Fault:
    """A sentence about a shape as a fault: its place may go on with the number of a point."""
    rest = sentence.removeprefix(place)
    inner, bracket, words = rest.partition("]") if rest.startswith("[") else ("", "", rest)
    return Fault(place + inner + bracket, words.strip())


def _unknown(classes: object, labels: Collection[str] | None, place: str) -> list[Fault]:
    listed = classes if isinstance(classes, list | tuple) else []
    return [fault for number, label in enumerate(listed) for fault in _unknown_label(label, labels, f"{place}[{number}]")]


def _unknown_label(label: object, labels: Collection[str] | None, place: str) -> list[Fault]:
    if labels is None or not isinstance(label, str) or label in labels:
        return []
    return [Fault(place, f"the model knows no class {label[:60]!r}: such a rule would stay silent for ever")]
