"""Layers over each other: the effective value with the origin of each part, and what differs between two. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ota.wire.configuration import laid_over
from ota.wire.typed_faults import below


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of an effective configuration (a list counts as one) and the layer that it comes from."""

    path: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class _Said:
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs. ``kind``: added, removed or changed; the side that does not have it is None."""

    path: str
    kind: str
    before: Any
    after: Any


def merged(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[dict[str, Any], list[Setting]]:
    """(origin, content) from the lowest layer up, as one content and its settings in the order of their paths."""
    content: dict[str, Any] = {}
    named: dict[str, Any] = {}
    for origin, layer in layers:
        content = laid_over(content, layer)
        named = laid_over(named, _named(layer, origin))
    found = [(path, said) for path, said in leaves(named) if isinstance(said, _Said)]
    return content, sorted((Setting(path, said.value, said.origin) for path, said in found), key=lambda one: one.path)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What differs, in the order of paths."""
    old, new = dict(leaves(before)), dict(leaves(after))
    found = []
    for path in sorted(old.keys() | new.keys()):
        if path not in old:
            found.append(Change(path, "added", None, new[path]))
        elif path not in new:
            found.append(Change(path, "removed", old[path], None))
        elif old[path] != new[path] or type(old[path]) is not type(new[path]):
            found.append(Change(path, "changed", old[path], new[path]))
    return found


def leaves(content: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; tables are walked into, lists are values, an empty table is one, too."""
    for key, value in content.items():
        here = below(path, key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def _named(layer: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The layer with its origin written beside every value."""
    return {
        key: _named(value, origin) if isinstance(value, Mapping) else _Said(value, origin) for key, value in layer.items()
    }  # fmt: skip
