"""Fields of untyped tables (JSON, TOML): the value, or a sentence more in `faults` and the default. Pure."""

from collections.abc import Mapping
from typing import Any

MAX_CLASSES = 200


def strangers(entry: Mapping[Any, Any], known: tuple[str, ...], where: str) -> list[str]:
    """A sentence for fields that nobody knows: a misspelt setting must not be silently ignored."""
    unknown = sorted(str(key)[:60] for key in entry if key not in known)
    return [f"{where} has unknown fields: {', '.join(unknown[:10])}"] if unknown else []


def numbered(entry: Mapping[str, Any], key: str, most: float, where: str, faults: list[str], default: float = 0.0) -> float:
    """A number from 0 to `most`. (What is no number, nan, lies between no two; a whole number of any length compares.)"""
    value = entry.get(key, default)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    unit = "a number of seconds" if key.endswith("_s") else "a number of pixels" if key.endswith("_px") else "a number"
    faults.append(f"{where}.{key} must be {unit} from 0 to {most:g}")
    return default


def yes_or_no(entry: Mapping[str, Any], key: str, default: bool, where: str, faults: list[str]) -> bool:
    """True or false."""
    value = entry.get(key, default)
    if not isinstance(value, bool):
        faults.append(f"{where}.{key} must be true or false")
        return default
    return value


def labels_of(entry: Mapping[str, Any], where: str, faults: list[str]) -> frozenset[str]:
    """The `classes` of a table; none means all."""
    classes = entry.get("classes")
    if classes is None:
        return frozenset()
    if not isinstance(classes, list | tuple) or len(classes) > MAX_CLASSES or not all(isinstance(one, str) for one in classes):
        faults.append(f"{where}.classes must be a list of labels")
        return frozenset()
    return frozenset(classes)
