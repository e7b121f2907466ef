"""Is this a whole TFLite file? Read from its bytes, before any interpreter sees it. Pure, standard library only.

tflite-runtime 2.14.0 dies with a segmentation fault on a file that was cut short, and a half-downloaded model would kill the
agent in a loop. So every table that an interpreter would follow is followed here first, with bounds.
Field numbers are those of TensorFlow's `schema.fbs`, version 3.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.inference.errors import ModelError

IDENTIFIER = b"TFL3"
EDGETPU_OP = "edgetpu-custom-op"
DETECTION_OP = "TFLite_Detection_PostProcess"
_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS = 1, 2, 4
_OPERATOR_CODE_CUSTOM = 1
_SUBGRAPH_TENSORS, _SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_NAME, _TENSOR_QUANTISATION = 0, 3, 4
_QUANTISATION_SCALE, _QUANTISATION_ZERO_POINT = 2, 3
_OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_OPTIONS, _OPERATOR_CUSTOM_OPTIONS = 1, 2, 4, 5
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
MAX_TABLES = 1_000_000


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What a look at the file alone tells: custom operations and how many bytes there are."""

    custom_ops: frozenset[str]
    size_bytes: int

    @property
    def for_edgetpu(self) -> bool:
        """Whether it was compiled for an Edge TPU and runs nowhere else."""
        return EDGETPU_OP in self.custom_ops


def check_model_file(data: Any, name: str) -> ModelFile:
    """What kind of model these bytes are (bytes, or a memory map); raises ModelError `not_a_model` or `corrupt`."""
    if len(data) < 8 or bytes(data[4:8]) != IDENTIFIER:
        what = "is empty" if len(data) == 0 else f"does not carry the mark {IDENTIFIER.decode()} of a TFLite model"
        raise ModelError("not_a_model", f"{name} {what}")
    try:
        return ModelFile(frozenset(_Walk(data).model()), len(data))
    except (struct.error, IndexError, _OutOfBoundsError) as error:
        raise ModelError("corrupt", f"{name} is damaged or was cut short ({error}): fetch it again") from error


class _OutOfBoundsError(Exception):
    """A table or vector that does not lie inside the file."""


class _Walk:
    """One pass over the tables of a model."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self._size = len(data)
        self._tables = 0

    def model(self) -> set[str]:
        """Follow the whole model; returns the names of its custom operations."""
        root = self._unsigned(0)
        custom: set[str] = set()
        self._each(root, _MODEL_OPERATOR_CODES, lambda at: custom.add(self._text(at, _OPERATOR_CODE_CUSTOM)))
        subgraphs = self._each(root, _MODEL_SUBGRAPHS, self._subgraph)
        buffers = self._each(root, _MODEL_BUFFERS, self._buffer)
        if subgraphs == 0 or buffers == 0:
            raise _OutOfBoundsError("it holds no graph")
        return custom - {""}

    def _subgraph(self, at: int) -> None:
        self._each(at, _SUBGRAPH_TENSORS, self._tensor)
        self._vector(at, _SUBGRAPH_INPUTS, 4)
        self._vector(at, _SUBGRAPH_OUTPUTS, 4)
        self._each(at, _SUBGRAPH_OPERATORS, self._operator)

    def _tensor(self, at: int) -> None:
        self._vector(at, _TENSOR_SHAPE, 4)
        self._vector(at, _TENSOR_NAME, 1)
        quantisation = self._table(at, _TENSOR_QUANTISATION)
        if quantisation is not None:
            self._vector(quantisation, _QUANTISATION_SCALE, 4)
            self._vector(quantisation, _QUANTISATION_ZERO_POINT, 8)

    def _operator(self, at: int) -> None:
        self._vector(at, _OPERATOR_INPUTS, 4)
        self._vector(at, _OPERATOR_OUTPUTS, 4)
        self._table(at, _OPERATOR_OPTIONS)
        self._vector(at, _OPERATOR_CUSTOM_OPTIONS, 1)

    def _buffer(self, at: int) -> None:
        self._vector(at, _BUFFER_DATA, 1)
        # Models above 2 GB keep their weights behind the tables: a position and a length in the file itself.
        offset, size = self._number(at, _BUFFER_OFFSET), self._number(at, _BUFFER_SIZE)
        if offset > 1 and size > 0:
            self._inside(offset, size)

    def _each(self, table: int, field: int, visit: Callable[[int], None]) -> int:
        """Visit every table of a vector of tables; returns how many there are."""
        start, count = self._vector(table, field, 4)
        for position in range(start, start + 4 * count, 4):
            self._tables += 1
            if self._tables > MAX_TABLES:
                raise _OutOfBoundsError(f"more than {MAX_TABLES} tables")
            visit(position + self._unsigned(position))
        return count

    def _field(self, table: int, field: int) -> int | None:
        """Where a field of a table stands, None where it is left out."""
        self._inside(table, 4)
        vtable = table - struct.unpack_from("<i", self._data, table)[0]
        self._inside(vtable, 4)
        length = struct.unpack_from("<H", self._data, vtable)[0]
        self._inside(vtable, length)
        place = 4 + 2 * field
        offset = struct.unpack_from("<H", self._data, vtable + place)[0] if place + 2 <= length else 0
        return table + int(offset) if offset else None

    def _table(self, table: int, field: int) -> int | None:
        """Where the table that a field points to stands."""
        at = self._field(table, field)
        if at is None:
            return None
        found = at + self._unsigned(at)
        self._field(found, 0)
        return found

    def _vector(self, table: int, field: int, item_bytes: int) -> tuple[int, int]:
        """Start and length of the vector that a field points to; (0, 0) where it is left out."""
        at = self._field(table, field)
        if at is None:
            return 0, 0
        start = at + self._unsigned(at)
        count = self._unsigned(start)
        self._inside(start + 4, count * item_bytes)
        return start + 4, count

    def _text(self, table: int, field: int) -> str:
        start, count = self._vector(table, field, 1)
        return bytes(self._data[start : start + count]).decode("utf-8", "replace")

    def _number(self, table: int, field: int) -> int:
        at = self._field(table, field)
        if at is None:
            return 0
        self._inside(at, 8)
        return int(struct.unpack_from("<Q", self._data, at)[0])

    def _unsigned(self, at: int) -> int:
        self._inside(at, 4)
        return int(struct.unpack_from("<I", self._data, at)[0])

    def _inside(self, start: int, length: int) -> None:
        if start < 0 or start + length > self._size:
            raise _OutOfBoundsError(f"bytes {start} to {start + length} of {self._size}")
