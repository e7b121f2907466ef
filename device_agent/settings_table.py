"""TOML tables into frozen dataclasses, with every fault found and not only the first. Pure."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import msgspec

S = TypeVar("S")


def section(kind: type[S], table: Any, where: str, base: Path, faults: list[str]) -> S | None:
    """One table as ``kind``; None when it has faults, which are added to ``faults`` with the key's full name.

    Paths are taken relative to ``base``, the folder of the file. Unknown keys are faults, with the nearest known one named.
    """
    if not isinstance(table, Mapping):
        faults.append(f"{where} must be a table")
        return None
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # S is always one of our dataclasses
    before = len(faults)
    for key in table:
        if key not in fields:
            import difflib  # for whoever mistyped alone

            near = difflib.get_close_matches(str(key), fields, n=1)
            faults.append(f"{where}.{key} is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in table:
            try:
                values[name] = _convert(table[name], hints[name], base)
            except msgspec.ValidationError as error:
                faults.append(f"{where}.{name}: {_words(error)}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            faults.append(f"{where}.{name} is missing")
    return kind(**values) if len(faults) == before else None


def _convert(value: Any, hint: Any, base: Path) -> Any:
    if hint is Path or (isinstance(hint, types.UnionType) and Path in typing.get_args(hint)):
        if not isinstance(value, str) or not value:
            raise msgspec.ValidationError("Expected a path")
        try:
            return base / Path(value).expanduser()
        except RuntimeError:
            raise msgspec.ValidationError("Expected a path: there is no home folder for its ~") from None
    return msgspec.convert(value, hint)


def _words(error: msgspec.ValidationError) -> str:
    text, _, at = str(error).partition(" - at ")
    place = at.strip("`").removeprefix("$")
    return text[0].lower() + text[1:] + (f" (at {place})" if place else "")
