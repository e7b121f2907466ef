"""What a deed changed, as lines of a table: before and after of each value that differs. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_server.dashboard.words import instant

MOST = 40
"""Lines of one deed that a page shows; the whole stands in the export."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value, both sides as text: ``kind`` is added, removed or changed; the side that is not there is empty."""

    path: str
    kind: str
    before: str
    after: str


def differences(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Difference]:
    """In the order of paths. A deed that has only an after says what was made: all of it is added."""
    old, new = dict(_leaves(before or {})), dict(_leaves(after or {}))
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            found.append(Difference(path, "added", "", _said(path, new[path])))
        elif path not in new:
            found.append(Difference(path, "removed", _said(path, old[path]), ""))
        elif old[path] != new[path]:
            found.append(Difference(path, "changed", _said(path, old[path]), _said(path, new[path])))
    return found


def _said(path: str, value: Any) -> str:
    """JSON; an instant (``…_s``, after 2001) as date and time."""
    if path.endswith("_s") and isinstance(value, int | float) and 1e9 < value < 2**34:
        return f"{instant(value)} UTC"
    return json.dumps(value, ensure_ascii=False)


def _leaves(value: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, one in value.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(one, Mapping) and one:
            yield from _leaves(one, here)
        else:
            yield here, one
