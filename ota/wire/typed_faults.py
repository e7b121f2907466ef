"""Everything that is wrong with a value from outside, measured against a type, with the path of each fault. Pure.

msgspec stops at the first fault; a person who fixes one and is told of the next nine times stops reading. So the value is walked
along the type, and each place speaks for itself. Never raises, whatever it is given.
"""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

MAX_DEPTH, MAX_NODES = 12, 20_000
"""Deeper or larger than anything that is meant: such a value is refused before it is looked at."""
MAX_FAULTS = 100
"""More than a person reads; the rest is counted."""
LARGEST_INT = 2**53
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


class Fault(NamedTuple):
    """One thing that is wrong: where (``cameras.gate.zones[2].name``, empty for the whole) and what, in words."""

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def below(path: str, key: str) -> str:
    """The path of a key under ``path``; names that a path could be mistaken for stand in quotes."""
    if not _PLAIN.match(key):
        return f'{path}["{key[:60]}"]'
    return f"{path}.{key}" if path else key


def monstrous(value: object) -> Fault | None:
    """Too deep, too large, or with numbers beyond all use: not worth a closer look. Needs no recursion."""
    heap: list[tuple[object, int]] = [(value, 0)]
    seen = 0
    while heap:
        found, depth = heap.pop()
        seen += 1
        if depth > MAX_DEPTH:
            return Fault("", f"is nested deeper than {MAX_DEPTH} levels")
        if seen > MAX_NODES:
            return Fault("", f"holds more than {MAX_NODES} values")
        if isinstance(found, dict):
            heap += [(inner, depth + 1) for inner in (*found.keys(), *found.values())]
        elif isinstance(found, list | tuple):
            heap += [(inner, depth + 1) for inner in found]
        elif isinstance(found, int) and abs(found) > LARGEST_INT:
            return Fault("", "holds a whole number beyond 2^53")
        elif isinstance(found, float) and not math.isfinite(found):
            return Fault("", "holds a number that is none (NaN or infinite)")
        elif isinstance(found, str) and not _is_text(found):
            return Fault("", "holds text that cannot be stored (NUL or a lone surrogate)")
    return None


def faults_of(value: object, kind: Any) -> list[Fault]:
    """All faults of ``value`` (as JSON or TOML gives it) as ``kind``; look with ``monstrous`` first."""
    return list(_walk(inspect.type_info(kind), value, ""))


def shortened(found: list[Fault]) -> list[Fault]:
    """The first faults, and how many there are besides."""
    if len(found) <= MAX_FAULTS:
        return found
    return [*found[:MAX_FAULTS], Fault("", f"and {len(found) - MAX_FAULTS} more faults")]


def shown(value: object) -> str:
    """A value as a fault names it: short, and never a whole table."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        small = len(value) <= 4 and not any(isinstance(one, list | tuple | dict) for one in value)
        return f"[{', '.join(shown(one) for one in value)}]" if small else f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "nothing (null)", True: "true", False: "false"}[value]
    return repr(value[:40] if isinstance(value, str) else value)[:44]


def _is_text(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _walk(kind: inspect.Type, value: object, path: str) -> Iterator[Fault]:
    bare = kind.type if isinstance(kind, inspect.Metadata) else kind
    if isinstance(bare, inspect.StructType):
        yield from _struct(bare, value, path)
    elif isinstance(bare, inspect.DictType):
        yield from _table(bare, value, path)
    elif isinstance(bare, inspect.ListType):
        yield from _list(bare, value, path)
    else:
        problem = _leaf(kind, value)
        if problem:
            yield Fault(path, f"{problem}, not {shown(value)}")


def _struct(kind: inspect.StructType, value: object, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path, f"must be a table, not {shown(value)}")
        return
    fields = {field.encode_name: field for field in kind.fields}
    for key in value:
        if key not in fields:
            import difflib  # a tenth of a megabyte, for whoever mistyped alone

            near = difflib.get_close_matches(str(key)[:60], fields, n=1)
            yield Fault(below(path, str(key)), "is not a setting" + (f"; did you mean {near[0]}?" if near else ""))
    for name, field in fields.items():
        if name in value:
            yield from _walk(field.type, value[name], below(path, name))
        elif field.required:
            yield Fault(below(path, name), "is missing")


def _table(kind: inspect.DictType, value: object, path: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(path, f"must be a table, not {shown(value)}")
        return
    yield from _length(kind, len(value), path, "entries")
    for key, inner in value.items():
        problem = _leaf(kind.key_type, key)
        if problem:
            yield Fault(below(path, str(key)), f"is no name that can be used: it {problem}")
        yield from _walk(kind.value_type, inner, below(path, str(key)))


def _list(kind: inspect.ListType, value: object, path: str) -> Iterator[Fault]:
    if not isinstance(value, list | tuple):
        yield Fault(path, f"must be a list, not {shown(value)}")
        return
    yield from _length(kind, len(value), path, "entries")
    for number, inner in enumerate(value):
        yield from _walk(kind.item_type, inner, f"{path}[{number}]")


def _length(kind: Any, length: int, path: str, what: str) -> Iterator[Fault]:
    least, most = kind.min_length or 0, kind.max_length
    if length < least or (most is not None and length > most):
        yield Fault(path, f"must have {_range(least, most)} {what}, not {length}")


def _leaf(kind: inspect.Type, value: object) -> str:
    """What a single value must be, where it is not; empty where it is. A type that gives an example is explained by it."""
    if isinstance(kind, inspect.Metadata):
        examples = (kind.extra_json_schema or {}).get("examples", [])
        problem = _leaf(kind.type, value)
        return f"must be like {examples[0]!r}" if problem and examples else problem
    for known, judge in _LEAVES:
        if isinstance(kind, known):
            return judge(kind, value)
    try:
        msgspec.convert(value, _python_type(kind))
    except msgspec.ValidationError as error:
        return f"is of no use here ({error})"
    return ""


def _python_type(kind: inspect.Type) -> Any:
    return {inspect.NoneType: None, inspect.AnyType: Any}.get(type(kind), Any)


def _bool(_kind: Any, value: object) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _int(kind: Any, value: object) -> str:
    fits = isinstance(value, int) and not isinstance(value, bool) and _within(kind, value)
    return "" if fits else f"must be a whole number{_bounds(kind)}"


def _float(kind: Any, value: object) -> str:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and _within(kind, value)
    return "" if fits else f"must be a number{_bounds(kind)}"


def _str(kind: Any, value: object) -> str:
    least, most = kind.min_length or 0, kind.max_length
    if not isinstance(value, str) or len(value) < least or (most is not None and len(value) > most):
        return f"must be text of {_range(least, most)} characters" if least or most is not None else "must be text"
    if kind.pattern is not None and re.search(kind.pattern, value) is None:
        return f"must look like {kind.pattern.removeprefix('^').removesuffix(chr(92) + 'Z')}"
    return ""


def _literal(kind: Any, value: object) -> str:
    fits = isinstance(value, str | int) and not isinstance(value, bool) and value in kind.values
    return "" if fits else f"must be {'' if len(kind.values) == 1 else 'one of '}{', '.join(str(one) for one in kind.values)}"


def _tuple(kind: Any, value: object) -> str:
    parts = kind.item_types
    fits = isinstance(value, list | tuple) and len(value) == len(parts)
    fits = fits and not any(_leaf(part, inner) for part, inner in zip(parts, value, strict=True))  # type: ignore[call-overload]
    return "" if fits else f"must be a list of {len(parts)}, each of which {_leaf(parts[0], None)}"


_LEAVES: tuple[tuple[type, Callable[[Any, object], str]], ...] = (
    (inspect.BoolType, _bool),
    (inspect.IntType, _int),
    (inspect.FloatType, _float),
    (inspect.StrType, _str),
    (inspect.LiteralType, _literal),
    (inspect.TupleType, _tuple),
)


def _within(kind: Any, value: float) -> bool:
    return (
        (kind.ge is None or value >= kind.ge) and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le) and (kind.lt is None or value < kind.lt)
    )  # fmt: skip


def _bounds(kind: Any) -> str:
    low = f" from {kind.ge:g}" if kind.ge is not None else f" above {kind.gt:g}" if kind.gt is not None else ""
    high = f" to {kind.le:g}" if kind.le is not None else f" below {kind.lt:g}" if kind.lt is not None else ""
    return low + high


def _range(least: int, most: int | None) -> str:
    return f"{least} or more" if most is None else f"{least} to {most}"
