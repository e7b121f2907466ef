"""Standard output is data, standard error is talk: tables for people, JSON for programs."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], Any]]


def talk(text: str) -> None:
    """Say something to the person; never data."""
    print(lines(text), file=sys.stderr)


def plain(value: Any) -> str:
    """As one line of text: the words of a device or a server must not steer the terminal, so no control characters reach it."""
    return "".join(character if character.isprintable() else " " for character in str(value))


def lines(text: str) -> str:
    """The same of several lines."""
    return "\n".join(plain(line) for line in text.split("\n"))


def print_items(items: Sequence[Row], columns: Sequence[Column], output: str, name: str = "id") -> None:
    """A list in the wanted format; ``name`` is the key that ``-o name`` prints, one a line."""
    if output == "json":
        print(json.dumps({"items": list(items), "next": None, "schema": "rookery/v1"}, indent=2))
    elif output == "ndjson":
        for item in items:
            print(json.dumps(item))
    elif output == "name":
        for item in items:
            print(plain(item[name]))
    else:
        print_table([title for title, _ in columns], [[_cell(value(item)) for _, value in columns] for item in items])


def print_one(item: Row, lines: Sequence[tuple[str, Any]], output: str, name: str = "id") -> None:
    """One thing: its JSON, its name, or ``key  value`` lines."""
    if output in ("json", "ndjson"):
        print(json.dumps(item, indent=2 if output == "json" else None))
    elif output == "name":
        print(plain(item[name]))
    else:
        width = max((len(key) for key, _ in lines), default=0)
        for key, value in lines:
            print(f"{key:<{width}}  {_cell(value)}")


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns without a library: short, greppable, no wrapping."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [
        max(len(title), *(len(row[index]) for row in rows), 0) if rows else len(title) for index, title in enumerate(titles)
    ]
    for row in ([title.upper() for title in titles], *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def ago(at_s: float | None, now_s: float | None = None) -> str:
    """``3 min ago`` for an instant in seconds since 1970; ``never`` for None."""
    if not at_s:
        return "never"
    seconds = max(0.0, (time.time() if now_s is None else now_s) - at_s)
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def clock(at_s: float | None) -> str:
    """An instant as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s)) if at_s else "-"


def size(count: float | None) -> str:
    """Bytes as a person reads them."""
    value = float(count or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: the last unit always returns")


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(value)
