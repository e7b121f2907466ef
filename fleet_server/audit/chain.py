"""The chain over the audit: a row's canonical text, its hash, and what a check of many rows finds. Pure.

How a stranger computes it anew, with Python alone or with ``sha256sum`` (``docs/security.md`` has the lines):

- The text of a row is one JSON object with the keys ``after at_s before id origin previous target v what who``: keys sorted at
  every depth, no blanks, ASCII only (other letters as ``\\uXXXX``). ``v`` is 1. A number without a fraction has none (``5``,
  never ``5.0``); any other is the shortest decimal that reads back as the same double. That is what
  ``json.dumps(row, sort_keys=True, separators=(",", ":"))`` writes for what ``json.loads`` has read.
- ``previous`` is the hash of the row before; for row 1 it is 64 zeros.
- The hash of a row is the sha256 of that text in lower-case hexadecimal. ``id`` counts 1, 2, 3 … without a gap.
- A line of an export is ``{"hash":"…","row":{…}}``, the text as it was hashed.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ota.wire.base import Count, Instant, Message, Sha256

VERSION = 1
GENESIS = "0" * 64
"""What row 1 follows."""
FIELDS = frozenset({"after", "at_s", "before", "id", "origin", "previous", "target", "v", "what", "who"})


class AuditHead(Message, frozen=True, kw_only=True):
    """What the server signs of its audit: at ``at_s`` row ``id`` was there and had this hash, and so all before it."""

    kind: str = "audit-head"
    id: Count
    hash: Sha256
    at_s: Instant


def plain(value: Any) -> Any:
    """A value as every database gives it back: integral floats are integers, no NaN, keys are text. TypeError for an object."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(one) for one in value)
    raise TypeError(f"{type(value).__name__} cannot stand in the audit")


def text_of(
    *, id: int, at_s: float, who: str, what: str, target: str, before: Any, after: Any, origin: str, previous: str  # noqa: A002
) -> str:
    """The canonical text of one row; see the top of this file."""
    row = {
        "v": VERSION, "id": id, "at_s": plain(at_s), "who": who, "what": what, "target": target, "before": plain(before),
        "after": plain(after), "origin": origin, "previous": previous,
    }  # fmt: skip
    return canonical(row)


def canonical(row: Mapping[str, Any]) -> str:
    """JSON with sorted keys, no blanks, ASCII only."""
    return json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def hash_of(text: str) -> str:
    """sha256 of a canonical text, lower-case hexadecimal."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def line_of(text: str) -> str:
    """A row as a line of an export, without its end."""
    return f'{{"hash":"{hash_of(text)}","row":{text}}}'


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found wrong: at row ``id`` (0: the whole), in words."""

    id: int
    problem: str


class Check:
    """Rows in rising order, one after the other; what is wrong gathers in ``findings`` (the first 100), the sum in ``faults``.

    ``last_id`` and ``last_hash`` say how far it has come; ``first_id`` is where it began: of rows before that it knows nothing
    but the hash that the first one names.
    """

    MOST = 100

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.faults = 0
        self.first_id = 0
        self.last_id, self.last_hash = 0, GENESIS
        self.count = 0

    def take(self, row: Mapping[str, Any], said_hash: str) -> None:
        """One row as an export has it: the object that was hashed, and the hash that stands beside it."""
        number = row.get("id")
        if not isinstance(number, int) or isinstance(number, bool) or set(row) != FIELDS or row.get("v") != VERSION:
            self.fault(self.last_id + 1, "is no row of an audit of this version")
            return
        if self.count == 0:
            self.first_id = number
            if number == 1 and row["previous"] != GENESIS:
                self.fault(1, "is the first and does not say so: what stood before it was taken away")
        elif number != self.last_id + 1:
            self._gap(number)
        elif row["previous"] != self.last_hash:
            self.fault(number, f"does not follow row {self.last_id}: one of the two was written anew")
        if hash_of(canonical(cast("Mapping[str, Any]", plain(row)))) != said_hash:
            self.fault(number, "does not fit its hash: it was changed, or the row before it was")
        self.count += 1
        self.last_id, self.last_hash = number, said_hash

    def end(self, head_id: int, head_hash: str) -> None:
        """The head that the server keeps beside the rows must be the last row."""
        if head_id > self.last_id:
            self.fault(head_id, f"is the last by the server's own head, and rows end at {self.last_id}: the end was cut off")
        elif head_id < self.last_id or head_hash != self.last_hash:
            self.fault(self.last_id, "is the last, and the server's own head says otherwise")

    def fault(self, number: int, problem: str) -> None:
        """Keep a finding."""
        self.faults += 1
        if len(self.findings) < self.MOST:
            self.findings.append(Finding(number, problem))

    def _gap(self, number: int) -> None:
        if number <= self.last_id:
            self.fault(number, f"stands behind row {self.last_id}")
        elif number == self.last_id + 2:
            self.fault(number - 1, "is missing")
        else:
            self.fault(self.last_id + 1, f"and all up to {number - 1} are missing")
