"""What goes in and out of inference: units and axes, said once.

Boxes are `xyxy`: float32 (N, 4), left, top, right, bottom in pixels of the *source* picture, x to the right, y down, origin at
the top left corner of the top left pixel.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Picture = npt.NDArray[np.uint8]
AnyArray = npt.NDArray[Any]
Index = AnyArray | slice | list[int]


@dataclass(frozen=True, slots=True)
class Detections:
    """What a detector found in one picture: N boxes, as three arrays of the same length, best first.

    `xyxy` float32 (N, 4) pixels of the source picture; `confidence` float32 (N,) 0..1; `class_id` int32 (N,) into the labels.
    """

    xyxy: FloatArray
    confidence: FloatArray
    class_id: IntArray

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        count = len(self.confidence)
        if self.xyxy.shape != (count, 4) or self.confidence.shape != (count,) or self.class_id.shape != (count,):
            shapes = (self.xyxy.shape, self.confidence.shape, self.class_id.shape)
            raise ValueError(f"detections need shapes (N, 4), (N,), (N,), not {shapes}")

    @classmethod
    def empty(cls) -> "Detections":
        """Nothing found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))

    @classmethod
    def of(cls, xyxy: Any, confidence: Any, class_id: Any) -> "Detections":
        """Detections from anything array-like, converted to the types above."""
        boxes = np.asarray(xyxy, np.float32)
        return cls(
            boxes if boxes.ndim == 2 else boxes.reshape(-1, 4),
            np.asarray(confidence, np.float32).reshape(-1),
            np.asarray(class_id, np.int32).reshape(-1),
        )

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, index: Index) -> "Detections":
        """Those that a boolean mask, an array of positions or a slice picks."""
        picked: Any = np.asarray(index, np.intp) if isinstance(index, list) and not index else index
        return Detections(self.xyxy[picked], self.confidence[picked], self.class_id[picked])


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a model: names, shape, element type and quantisation (real = (value - zero_point) * scale; scale 0: none).

    `role`: what a TFLite_Detection_PostProcess in the model gives in it (boxes, classes, scores, count), empty elsewhere.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0
    signature_name: str = ""
    index: int = -1
    role: str = ""

    @property
    def quantised(self) -> bool:
        """Whether the numbers in the tensor stand for others."""
        return self.scale > 0.0 and self.dtype.kind in "iu"


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """One output of one run: what it is and the raw array."""

    info: TensorInfo
    values: AnyArray

    @classmethod
    def of(cls, values: AnyArray, name: str = "", *, scale: float = 0.0, zero_point: int = 0) -> "OutputTensor":
        """An output described by its own array."""
        return cls(TensorInfo(name, tuple(values.shape), values.dtype, scale, zero_point), values)


def dequantise(values: AnyArray, info: TensorInfo) -> FloatArray:
    """The real values of a tensor, or of part of one."""
    if not info.quantised:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(info.zero_point)) * np.float32(info.scale)
