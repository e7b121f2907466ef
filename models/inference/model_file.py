"""Is this a whole TFLite file, and what is in it? Read from its bytes, before any interpreter sees it. Pure.

tflite-runtime 2.14.0 dies with a segmentation fault on a file that was cut short, and a half-downloaded model would kill the
agent in a loop. So every table that an interpreter would follow is followed here first, with bounds, and what a graph claims is
held against what a model can be: a file of a kilobyte may ask for a terabyte.
Field numbers and types are those of TensorFlow's `schema.fbs`, version 3.
"""

import math
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models.inference.errors import ModelError
from models.inference.flatbuffer import OutOfBoundsError, Tables
from models.inference.flexbuffer import whole_number
from models.inference.types import TensorInfo

IDENTIFIER = b"TFL3"
EDGETPU_OP = "edgetpu-custom-op"
DETECTION_OP = "TFLite_Detection_PostProcess"
DETECTION_ROLES = ("boxes", "classes", "scores", "count")
"""What the outputs of that operation are, in its own order, whatever the order of the model's outputs."""

MAX_MODEL_BYTES = 512 << 20
"""A file beyond this is no model for a board (ResNet-152 in float32 has 240 MB)."""
MAX_TENSOR_BYTES = 512 << 20
MAX_TENSORS_BYTES = 8 << 30
"""One tensor, and all of a graph together, of which an interpreter keeps the living ones alone."""
MAX_RANK = 8

_MODEL_OPERATOR_CODES, _MODEL_SUBGRAPHS, _MODEL_BUFFERS, _MODEL_SIGNATURES = 1, 2, 4, 7
_OPERATOR_CODE_CUSTOM = 1
_SUBGRAPH_TENSORS, _SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 0, 1, 2, 3
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME, _TENSOR_QUANTISATION = 0, 1, 2, 3, 4
_QUANTISATION_SCALE, _QUANTISATION_ZERO_POINT = 2, 3
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS, _OPERATOR_OPTIONS, _OPERATOR_CUSTOM_OPTIONS = 0, 1, 2, 4, 5
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_SUBGRAPH = 0, 1, 4
_MAPPED_NAME, _MAPPED_TENSOR = 0, 1
_TYPES = {0: "f4", 1: "f2", 2: "i4", 3: "u1", 4: "i8", 6: "?", 7: "i2", 8: "c8", 9: "i1", 10: "f8", 12: "u8", 15: "u4", 16: "u2"}
"""TensorType as numpy has it; what is missing (strings, resources, 4 bits) is no picture and no box."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the file alone tells. `inputs` and `outputs` are the main graph's; what only shows when it runs is left out or -1.

    `classes`: how many classes the model's TFLite_Detection_PostProcess tells apart, None where there is none of it.
    """

    custom_ops: frozenset[str]
    size_bytes: int
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    classes: int | None = None

    @property
    def for_edgetpu(self) -> bool:
        """Whether it was compiled for an Edge TPU and runs nowhere else."""
        return EDGETPU_OP in self.custom_ops

    def role_of(self, index: int) -> str:
        """What the post-processing operation gives in the tensor of this index; empty where it does not."""
        return next((info.role for info in self.outputs if info.index == index), "")


def check_model_file(data: Any, name: str) -> ModelFile:
    """What these bytes are (bytes, or a memory map); raises ModelError `not_a_model`, `corrupt` or `too_large`."""
    if len(data) < 8 or bytes(data[4:8]) != IDENTIFIER:
        what = "is empty" if len(data) == 0 else f"does not carry the mark {IDENTIFIER.decode()} of a TFLite model"
        raise ModelError("not_a_model", f"{name} {what}")
    check_size(len(data), name)
    try:
        return _Walk(data).model()
    except _TooLargeError as error:
        raise ModelError("too_large", f"{name} {error}: no board has room for it, and no real model needs it") from error
    except (struct.error, IndexError, OutOfBoundsError) as error:
        raise ModelError("corrupt", f"{name} is damaged or was cut short ({error}): fetch it again") from error


def check_size(size_bytes: int, name: str) -> None:
    """Raise ModelError `too_large` for a file that is not even to be read."""
    if size_bytes > MAX_MODEL_BYTES:
        raise ModelError("too_large", f"{name} has {size_bytes} bytes: models may have {MAX_MODEL_BYTES} at most")


class _TooLargeError(Exception):
    """A graph that asks for more memory than there is."""


class _Walk(Tables):
    """One pass over the tables of a model."""

    def model(self) -> ModelFile:
        """Follow the whole model."""
        root = self.root()
        codes = [self.text(at, _OPERATOR_CODE_CUSTOM) for at in self.each(root, _MODEL_OPERATOR_CODES)]
        graphs = [self._graph(at, codes) for at in self.each(root, _MODEL_SUBGRAPHS)]
        buffers = sum(1 for at in self.each(root, _MODEL_BUFFERS) if self._buffer(at))
        if not graphs or buffers == 0:
            raise OutOfBoundsError("it holds no graph")
        inputs, outputs, classes = graphs[0]
        names_in, names_out = self._signature(root)
        return ModelFile(
            frozenset(codes) - {""},
            self._size,
            tuple(replace(info, signature_name=names_in.get(info.index, "")) for info in inputs),
            tuple(replace(info, signature_name=names_out.get(info.index, "")) for info in outputs),
            classes,
        )

    def _graph(self, at: int, codes: list[str]) -> tuple[list[TensorInfo], list[TensorInfo], int | None]:
        tensors = [self._tensor(tensor, index) for index, tensor in enumerate(self.each(at, _SUBGRAPH_TENSORS))]
        total = sum(_bytes_of(tensor) for tensor in tensors)
        if total > MAX_TENSORS_BYTES:
            raise _TooLargeError(f"asks for {total} bytes of tensors")
        roles: dict[int, str] = {}
        classes = None
        for operator in self.each(at, _SUBGRAPH_OPERATORS):
            given = self._operator(operator, len(tensors))
            code = self.number(operator, _OPERATOR_CODE, "I")
            if code < len(codes) and codes[code] == DETECTION_OP:
                roles = dict(zip(given, DETECTION_ROLES, strict=False))
                start, count = self.vector(operator, _OPERATOR_CUSTOM_OPTIONS, 1)
                classes = whole_number(bytes(self._data[start : start + count]), "num_classes")
        found = []
        for field in (_SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS):
            indices = self._indices(at, field, len(tensors))
            found.append([replace(tensors[index], role=roles.get(index, "")) for index in indices if index >= 0])
        return found[0], found[1], classes

    def _tensor(self, at: int, index: int) -> TensorInfo:
        shape = self.numbers(at, _TENSOR_SHAPE, "i")
        if len(shape) > MAX_RANK or any(side < -1 for side in shape):
            raise OutOfBoundsError(f"a tensor of the shape {shape[: MAX_RANK + 1]}")
        name = self.text(at, _TENSOR_NAME)
        scale, zero_point = 0.0, 0
        quantisation = self.table(at, _TENSOR_QUANTISATION)
        if quantisation is not None:
            scales = self.numbers(quantisation, _QUANTISATION_SCALE, "f")
            zero_points = self.numbers(quantisation, _QUANTISATION_ZERO_POINT, "q")
            if len(scales) == 1 and math.isfinite(scales[0]):
                scale, zero_point = scales[0], zero_points[0] if len(zero_points) == 1 else 0
        dtype = np.dtype(_TYPES.get(self.number(at, _TENSOR_TYPE, "b"), "V1"))
        info = TensorInfo(name, shape, dtype, scale, zero_point, index=index)
        if _bytes_of(info) > MAX_TENSOR_BYTES:
            raise _TooLargeError(f"asks for a tensor of the shape {shape}")
        return info

    def _operator(self, at: int, tensors: int) -> tuple[int, ...]:
        """The tensors that an operation gives."""
        self.table(at, _OPERATOR_OPTIONS)
        self.vector(at, _OPERATOR_CUSTOM_OPTIONS, 1)
        self._indices(at, _OPERATOR_INPUTS, tensors)
        return self._indices(at, _OPERATOR_OUTPUTS, tensors)

    def _indices(self, at: int, field: int, tensors: int) -> tuple[int, ...]:
        indices = self.numbers(at, field, "i")
        if any(not -1 <= index < tensors for index in indices):
            raise OutOfBoundsError(f"tensor {max(indices)} of {tensors}")
        return indices

    def _buffer(self, at: int) -> bool:
        self.vector(at, _BUFFER_DATA, 1)
        # Models above 2 GB keep their weights behind the tables: a position and a length in the file itself.
        offset, size = self.number(at, _BUFFER_OFFSET, "Q"), self.number(at, _BUFFER_SIZE, "Q")
        if offset > 1 and size > 0:
            self.inside(offset, size)
        return True

    def _signature(self, root: int) -> tuple[dict[int, str], dict[int, str]]:
        """Names that signatures of the main graph give to its tensors, by their index."""
        names: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for signature in self.each(root, _MODEL_SIGNATURES):
            if self.number(signature, _SIGNATURE_SUBGRAPH, "I") != 0:
                continue
            for found, field in zip(names, (_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS), strict=True):
                for at in self.each(signature, field):
                    found[self.number(at, _MAPPED_TENSOR, "I")] = self.text(at, _MAPPED_NAME)
        return names


def _bytes_of(info: TensorInfo) -> int:
    return math.prod(max(1, side) for side in info.shape) * info.dtype.itemsize
