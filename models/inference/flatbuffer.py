"""Reading a FlatBuffer by hand, with bounds: every offset is checked before it is followed. Pure, standard library only."""

import struct
from collections.abc import Iterator
from typing import Any

MAX_TABLES = 1_000_000
"""Tables that one reading may touch: a file that points to itself must not keep anybody busy."""


class OutOfBoundsError(Exception):
    """A table, vector or number that does not lie inside the file, or that no model holds."""


class Tables:
    """The tables of one file. A table is known by the position where it stands; fields by their numbers in the schema."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._size = len(data)
        self._tables = 0

    def root(self) -> int:
        """Where the root table stands."""
        return self.unsigned(0)

    def each(self, table: int, field: int) -> Iterator[int]:
        """Every table of a vector of tables."""
        start, count = self.vector(table, field, 4)
        for position in range(start, start + 4 * count, 4):
            self._tables += 1
            if self._tables > MAX_TABLES:
                raise OutOfBoundsError(f"more than {MAX_TABLES} tables")
            yield position + self.unsigned(position)

    def field(self, table: int, field: int) -> int | None:
        """Where a field of a table stands, None where it is left out."""
        self.inside(table, 4)
        vtable = table - struct.unpack_from("<i", self._data, table)[0]
        self.inside(vtable, 4)
        length = struct.unpack_from("<H", self._data, vtable)[0]
        self.inside(vtable, length)
        place = 4 + 2 * field
        offset = struct.unpack_from("<H", self._data, vtable + place)[0] if place + 2 <= length else 0
        return table + int(offset) if offset else None

    def table(self, table: int, field: int) -> int | None:
        """Where the table that a field points to stands."""
        at = self.field(table, field)
        if at is None:
            return None
        found = at + self.unsigned(at)
        self.field(found, 0)
        return found

    def vector(self, table: int, field: int, item_bytes: int) -> tuple[int, int]:
        """Start and length of the vector that a field points to; (0, 0) where it is left out."""
        at = self.field(table, field)
        if at is None:
            return 0, 0
        start = at + self.unsigned(at)
        count = self.unsigned(start)
        self.inside(start + 4, count * item_bytes)
        return start + 4, count

    def numbers(self, table: int, field: int, code: str) -> tuple[Any, ...]:
        """The numbers of a vector, of one `struct` code (i: int32, f: float32, q: int64)."""
        start, count = self.vector(table, field, struct.calcsize(f"<{code}"))
        return struct.unpack_from(f"<{count}{code}", self._data, start) if count else ()

    def text(self, table: int, field: int) -> str:
        """A string, empty where it is left out."""
        start, count = self.vector(table, field, 1)
        return bytes(self._data[start : start + count]).decode("utf-8", "replace")

    def number(self, table: int, field: int, code: str, default: int = 0) -> int:
        """One number of a table, of one `struct` code."""
        at = self.field(table, field)
        if at is None:
            return default
        self.inside(at, struct.calcsize(f"<{code}"))
        return int(struct.unpack_from(f"<{code}", self._data, at)[0])

    def unsigned(self, at: int) -> int:
        """The uint32 at a position."""
        self.inside(at, 4)
        return int(struct.unpack_from("<I", self._data, at)[0])

    def inside(self, start: int, length: int) -> None:
        """Raise OutOfBoundsError where these bytes are not all in the file."""
        if start < 0 or start + length > self._size:
            raise OutOfBoundsError(f"bytes {start} to {start + length} of {self._size}")
