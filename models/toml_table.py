"""Reading a TOML table key by key, with every fault noted rather than the first one raised. Pure, standard library only."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

PerChannel = float | tuple[float, float, float]
TensorNames = str | tuple[str, ...] | None
T = TypeVar("T")
MAX_NUMBER = 1000.0
"""Scales and ratios of anchors: anything beyond would only overflow."""


class Table:
    """One TOML table being read: keys are taken one by one, faults gathered, and what nobody took is unknown."""

    def __init__(self, values: Mapping[str, object], path: str, faults: list[str]) -> None:
        self.values, self.path, self.faults = values, path, faults
        self._taken: set[str] = set()
        self._children: list[Table] = []

    def take(self, key: str, required: bool = False) -> object | None:
        """The raw value of a key, None where it is absent (a fault if it is required)."""
        self._taken.add(key)
        if key not in self.values and required:
            self.faults.append(f"{self.path}{key} is missing")
        return self.values.get(key)

    def fault(self, key: str, wanted: str, instead: T) -> T:
        """Note that a key that is there holds the wrong thing; returns `instead` so that reading goes on."""
        if key in self.values:
            self.faults.append(f"{self.path}{key} must be {wanted}")
        return instead

    def table(self, key: str, required: bool = True) -> "Table":
        """A table below this one; an empty one where it is absent."""
        found = self.take(key, required)
        values = found if isinstance(found, dict) else self.fault(key, "a table", cast(dict[str, object], {}))
        # What a missing table lacks has been said by its own name: its keys must not be named one by one.
        child = Table(values, f"{self.path}{key}.", self.faults if isinstance(found, dict) else [])
        self._children.append(child)
        return child

    def text(self, key: str, default: str | None = None) -> str:
        """A text without line ends; an empty one only where a default is given."""
        found = self.take(key, default is None)
        if found is None:
            return default or ""
        if not isinstance(found, str) or "\n" in found or len(found) > 1000 or (default is None and not found.strip()):
            return self.fault(key, "a text of one line", "")
        return found

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of the allowed words."""
        found = self.take(key, default is None)
        if isinstance(found, str) and found in allowed:
            return found
        return self.fault(key, "one of " + ", ".join(allowed), default or allowed[0])

    def whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """A whole number within bounds."""
        found = self.take(key, default is None)
        if isinstance(found, int) and not isinstance(found, bool) and least <= found <= most:
            return found
        return self.fault(key, f"a whole number from {least} to {most}", default or least)

    def fraction(self, key: str, default: float) -> float:
        """A number from 0 to 1."""
        found = _number(self.take(key))
        return found if found is not None and 0 <= found <= 1 else self.fault(key, "a number from 0 to 1", default)

    def flag(self, key: str, default: bool | None) -> bool | None:
        """True or false."""
        found = self.take(key)
        return found if isinstance(found, bool) else self.fault(key, "true or false", default)

    def positive(self, key: str, default: float, *, zero: bool = False) -> float:
        """A number above 0, or 0 itself where that is allowed."""
        found = _number(self.take(key))
        if found is not None and (found > 0 or (zero and found == 0)) and found <= MAX_NUMBER:
            return found
        return self.fault(key, f"a number {'of 0 or more' if zero else 'above 0'}, at most {MAX_NUMBER:g}", default)

    def numbers(self, key: str, default: tuple[float, ...], count: int | None = None) -> tuple[float, ...]:
        """A list of numbers above 0: of `count`, or of 1 to 16."""
        found = self.take(key)
        read = [_number(item) for item in found] if isinstance(found, list) else []
        kept = [number for number in read if number is not None and 0 < number <= MAX_NUMBER]
        if kept and len(kept) == len(read) and (len(kept) == count if count else len(kept) <= 16):
            return tuple(kept)
        return self.fault(key, f"a list of {count or '1 to 16'} numbers above 0, at most {MAX_NUMBER:g}", default)

    def per_channel(self, key: str, default: float, good: Callable[[float], bool], wanted: str) -> PerChannel:
        """One number, or one for each of three channels."""
        found = self.take(key)
        numbers = [_number(item) for item in (found if isinstance(found, list) else [found])]
        kept = [number for number in numbers if number is not None and good(number)]
        if len(kept) != len(numbers) or len(kept) not in (1, 3):
            return self.fault(key, f"{wanted}, or three of them", default)
        return (kept[0], kept[1], kept[2]) if isinstance(found, list) and len(kept) == 3 else kept[0]

    def strides(self) -> tuple[int, ...]:
        """The strides, empty where none are given."""
        found = self.take("strides")
        good = isinstance(found, list) and all(type(item) is int and 1 <= item <= 1024 for item in found)
        return tuple(cast(list[int], found)) if good else self.fault("strides", "a list of whole numbers from 1 to 1024", ())

    def name(self, key: str) -> str | None:
        """A tensor's name, None where the card leaves it open."""
        found = self.take(key)
        return found if isinstance(found, str) and found else self.fault(key, "a tensor's name", None)

    def names(self, key: str) -> TensorNames:
        """One tensor's name or a list of them."""
        found = self.take(key)
        if isinstance(found, list) and found and all(isinstance(item, str) and item for item in found):
            return tuple(cast(list[str], found))
        return found if isinstance(found, str) and found else self.fault(key, "a tensor's name or a list of names", None)

    def finish(self) -> None:
        """Name the keys that no one took, here and below."""
        self.faults += [f"{self.path}{key} is not known" for key in self.values if key not in self._taken]
        for child in self._children:
            child.finish()


def _number(found: object) -> float | None:
    """A finite number as float; None for anything else, booleans among it."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
