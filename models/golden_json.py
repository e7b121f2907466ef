"""Reading and writing the JSON of golden samples: hostile bytes in, checked values or every fault out. Pure."""

import json
import math
import re
from typing import Any

MAX_BYTES = 8 << 20
MAX_ITEMS = 20_000
MAX_TEXT_CHARS = 200
MAX_SIDE_PX = 100_000.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")


class GoldenError(ValueError):
    """Golden samples that cannot be used; `faults` holds one sentence for each thing that is wrong."""

    def __init__(self, what: str, faults: list[str]) -> None:
        shown = faults[:10] + ([f"and {len(faults) - 10} more"] if len(faults) > 10 else [])
        super().__init__(f"{what} cannot be used: " + "; ".join(shown))
        self.faults = tuple(faults)


class ObjectReader:
    """One JSON object being read: fields taken one by one, faults gathered in the list that all readers of a file share."""

    def __init__(self, values: dict[str, Any], path: str, what: str, faults: list[str]) -> None:
        self._values, self._path, self._what, self._faults = values, path, what, faults

    def text(self, key: str) -> str:
        """A short text that is not empty."""
        found = self._values.get(key)
        if isinstance(found, str) and 0 < len(found) <= MAX_TEXT_CHARS:
            return found
        self._fault(key, f"a text of 1 to {MAX_TEXT_CHARS} characters")
        return ""

    def file(self) -> str:
        """The field `file`: a plain relative path, nothing that leads out of its folder."""
        found = self.text("file")
        if found and not _FILE.fullmatch(found):
            self._fault("file", "a plain relative path")
        return found

    def sha256(self) -> str:
        """The field `sha256`, lower-case hexadecimal."""
        found = self._values.get("sha256")
        if isinstance(found, str) and _SHA256.fullmatch(found):
            return found
        self._fault("sha256", "64 lower-case hexadecimal digits")
        return ""

    def fraction(self, key: str, default: float | None = None) -> float:
        """A number from 0 to 1."""
        found = _finite(self._values.get(key, default))
        if found is not None and 0 <= found <= 1:
            return found
        self._fault(key, "a number from 0 to 1")
        return 0.0

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of the allowed words."""
        found = self._values.get(key)
        if found not in allowed:
            self._fault(key, "one of " + ", ".join(allowed))
            return allowed[0]
        return str(found)

    def bbox(self) -> list[float]:
        """The field `bbox`: left, top, width, height in pixels, with an area."""
        found = self._values.get("bbox")
        if isinstance(found, list) and len(found) == 4:
            numbers = [number for number in map(_finite, found) if number is not None]
            if len(numbers) == 4 and max(map(abs, numbers)) <= MAX_SIDE_PX and min(numbers[2:]) > 0:
                return numbers
        self._fault("bbox", "[left, top, width, height] in pixels with an area")
        return [0.0, 0.0, 1.0, 1.0]

    def object(self, key: str) -> "ObjectReader":
        """An object below this one."""
        found = self._values.get(key)
        if not isinstance(found, dict):
            self._fault(key, "an object")
            return ObjectReader({}, f"{self._path}{key}.", self._what, [])
        return ObjectReader(found, f"{self._path}{key}.", self._what, self._faults)

    def objects(self, key: str) -> list["ObjectReader"]:
        """A list of objects below this one."""
        found = self._values.get(key)
        if not isinstance(found, list) or len(found) > MAX_ITEMS or not all(isinstance(item, dict) for item in found):
            self._fault(key, f"a list of at most {MAX_ITEMS} objects")
            return []
        return [ObjectReader(item, f"{self._path}{key}[{at}].", self._what, self._faults) for at, item in enumerate(found)]

    def finish(self, *faults: str | bool) -> None:
        """Raise GoldenError if anything was wrong, the given sentences included."""
        self._faults += [fault for fault in faults if isinstance(fault, str)]
        if self._faults:
            raise GoldenError(self._what, self._faults)

    def _fault(self, key: str, wanted: str) -> None:
        self._faults.append(f"{self._path}{key} must be {wanted}")


def read_object(data: bytes, what: str) -> ObjectReader:
    """The top of a golden file of version 1; raises GoldenError where it is not even that."""
    if len(data) > MAX_BYTES:
        raise GoldenError(what, [f"it is larger than {MAX_BYTES >> 20} MiB"])
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GoldenError(what, [f"it is not JSON ({error})"]) from error
    if not isinstance(found, dict):
        raise GoldenError(what, ["it is not a JSON object"])
    if found.get("v") != 1:
        raise GoldenError(what, [f"version {found.get('v')!r} is not known here: only 1 is"])
    return ObjectReader(found, "", what, [])


def dump(values: dict[str, Any]) -> bytes:
    """JSON bytes that depend on the values alone."""
    return (json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _finite(found: object) -> float | None:
    """A finite number as float; None for anything else, booleans among it."""
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
