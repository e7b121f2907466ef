"""All that is wrong with a configuration, at once: types, ranges, shapes, names, cameras and classes. Never raises. Pure."""

from collections.abc import Collection
from typing import Any

import msgspec

from ota.wire.configuration import Configuration
from ota.wire.polygons import line_faults, polygon_faults
from ota.wire.typed_faults import Fault, below, faults_of, monstrous, shortened


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
    named = value.get("cameras")
    per_camera: dict[str, object] = {"every_camera": value.get("every_camera")}
    for name, camera in named.items() if isinstance(named, dict) else ():
        where = below("cameras", str(name))
        per_camera[where] = camera
        if cameras is not None and name not in cameras:
            found.append(Fault(where, f"this board has no such camera; it has {', '.join(sorted(cameras)) or 'none'}"))
    for where, camera in per_camera.items():
        if isinstance(camera, dict):
            found = _unlike(found, _camera_faults(camera, where, labels))
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


def _unlike(found: list[Fault], more: list[Fault]) -> list[Fault]:
    """Faults that a closer look adds: at a place where the type was wrong already, one word is enough."""
    known = {fault.path for fault in found}
    return found + [fault for fault in more if not any(fault.path == path or fault.path.startswith(path + "[") for path in known)]


def _camera_faults(camera: dict[str, Any], where: str, labels: Collection[str] | None) -> list[Fault]:
    found: list[Fault] = []
    for kind in ("zones", "lines", "masks", "triggers"):
        entries = camera.get(kind)
        tables = [entry if isinstance(entry, dict) else {} for entry in entries] if isinstance(entries, list | tuple) else []
        for number, entry in enumerate(tables):
            place = f"{where}.{kind}[{number}]"
            found += _shape(entry, kind, place) + _entry(entry, kind, place)
            found += _unknown(entry.get("classes"), labels, f"{place}.classes")
        if kind != "masks":
            found += _twice(tables, "kind" if kind == "triggers" else "name", f"{where}.{kind}")
    scores = camera.get("min_score")
    if isinstance(scores, dict):
        strange = [label for label in scores if _strange(label, labels)]
        found += [Fault(below(f"{where}.min_score", str(label)), _not_known(label)) for label in strange]
    return found


def _shape(entry: dict[str, Any], kind: str, place: str) -> list[Fault]:
    if kind in ("zones", "masks") and "polygon" in entry:
        return [_placed(fault, f"{place}.polygon") for fault in polygon_faults(entry["polygon"], f"{place}.polygon")]
    if kind == "lines" and "from" in entry and "to" in entry:
        return [Fault(place, _placed(fault, place).problem) for fault in line_faults([entry["from"], entry["to"]], place)]
    return []


def _placed(sentence: str, place: str) -> Fault:
    """A sentence about a shape as a fault: its place may go on with the number of a point."""
    rest = sentence.removeprefix(place)
    inner, bracket, words = rest.partition("]") if rest.startswith("[") else ("", "", rest)
    return Fault(place + inner + bracket, words.strip())


def _entry(entry: dict[str, Any], kind: str, place: str) -> list[Fault]:
    """What several fields of one entry say together."""
    if kind == "triggers" and entry.get("kind") == "low_confidence":
        low, high = entry.get("score_from", 0.3), entry.get("score_below", 0.5)
        if isinstance(low, int | float) and isinstance(high, int | float) and low >= high:
            return [Fault(f"{place}.score_from", f"must be less than score_below ({low:g} and {high:g})")]
    if kind == "lines":
        sides = [entry.get("left", "left"), entry.get("right", "right")]
        listed = entry.get("directions")
        strange = [side for side in listed if isinstance(side, str) and side not in sides] if isinstance(listed, list) else []
        found = [Fault(f"{place}.right", "must be another word than left")] if sides[0] == sides[1] else []
        return found + [Fault(f"{place}.directions", f"{side[:40]!r} is neither of its sides") for side in strange]
    return []


def _twice(entries: list[dict[str, Any]], key: str, place: str) -> list[Fault]:
    seen: list[object] = []
    found = []
    for number, entry in enumerate(entries):
        value = entry.get(key)
        if isinstance(value, str) and value in seen:
            found.append(Fault(f"{place}[{number}].{key}", f"{value[:60]!r} is there twice"))
        seen.append(value)
    return found


def _unknown(classes: object, labels: Collection[str] | None, place: str) -> list[Fault]:
    listed = classes if isinstance(classes, list) else []
    return [Fault(f"{place}[{number}]", _not_known(label)) for number, label in enumerate(listed) if _strange(label, labels)]


def _strange(label: object, labels: Collection[str] | None) -> bool:
    return labels is not None and isinstance(label, str) and label not in labels


def _not_known(label: object) -> str:
    return f"the model knows no class {str(label)[:60]!r}: such a rule would stay silent for ever"
