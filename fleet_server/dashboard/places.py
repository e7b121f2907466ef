"""Where in a JSON text a path stands: so that each fault is shown under the line that it is about. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ota.wire.typed_faults import below

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s{}\[\]:,"]+')


@dataclass(frozen=True, slots=True)
class MarkedLine:
    """One line of a text, from 1 on, and what is wrong in it."""

    number: int
    text: str
    faults: tuple[str, ...]


def marked(text: str, faults: Iterable[Mapping[str, str]]) -> list[MarkedLine]:
    """The lines of a JSON text with the faults ({path, problem}) under the lines that they are about.

    A fault of a path that is not there (a missing key) stands at the nearest table around it.
    """
    places = lines_of(text)
    by_line: dict[int, list[str]] = {}
    for fault in faults:
        by_line.setdefault(_nearest(fault["path"], places), []).append(f"{fault['path'] or 'the whole'}: {fault['problem']}")
    return [MarkedLine(number, line, tuple(by_line.get(number, ()))) for number, line in enumerate(text.split("\n"), start=1)]


def lines_of(text: str) -> dict[str, int]:
    """Path -> number of the line in which its value (or its key) begins; as far as the text is JSON."""
    found = {"": 1}
    stack: list[tuple[str, int | None]] = []  # (path of the table or list, number of the entry or None in a table)
    path, key_path, expects_key, line, at = "", "", False, 1, 0
    for token in _TOKEN.finditer(text):
        line += text.count("\n", at, token.start())
        at, word = token.start(), token[0]
        if word in "}]":
            if not stack:
                return found
            path = stack.pop()[0]
            expects_key = False
        elif word == ",":
            expects_key = bool(stack) and stack[-1][1] is None
            if stack and stack[-1][1] is not None:
                stack[-1] = (stack[-1][0], stack[-1][1] + 1)
        elif expects_key and word.startswith('"'):
            key_path = below(stack[-1][0], _plain(word))
            found.setdefault(key_path, line)
            expects_key = False
        elif word != ":":
            path = _path_here(stack, key_path)
            found.setdefault(path, line)
            if word in "{[":
                stack.append((path, None if word == "{" else 0))
                expects_key = word == "{"
    return found


def _path_here(stack: list[tuple[str, int | None]], key_path: str) -> str:
    if not stack:
        return ""
    around, number = stack[-1]
    return key_path if number is None else f"{around}[{number}]"


def _plain(word: str) -> str:
    try:
        return str(json.loads(word, strict=False))
    except ValueError:
        return word.strip('"')


def _nearest(path: str, places: Mapping[str, int]) -> int:
    while path and path not in places:
        cut = max(path.rfind("."), path.rfind("["))
        path = path[:cut] if cut > 0 else ""
    return places.get(path, 1)
