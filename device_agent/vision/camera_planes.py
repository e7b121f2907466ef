"""YUV 4:2:0 pictures as cameras lay them into memory: three planes one after the other, each row padded. Pure.

The first plane is luma, `stride` bytes a row; then come U and V with half as many rows of `stride // 2` bytes each. What lies
behind the width in a row, and behind the last row, is padding of no meaning.
"""

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from device_agent.vision.types import Cut, Picture

MainFormat = Literal["YUV420", "RGB888"]
"""What the large stream may be: RGB888 is, in picamera2's naming, BGR in memory."""
Memory = npt.NDArray[np.uint8]
"""uint8, (bytes,): a stream's memory as it was mapped."""


@dataclass(frozen=True, slots=True)
class Planes:
    """Size in px (both even) and bytes from one row of luma to the next."""

    width_px: int
    height_px: int
    stride_bytes: int

    def luma(self, memory: Memory) -> Picture:
        """The luma plane, (height, width): a view."""
        return memory[: self.stride_bytes * self.height_px].reshape(self.height_px, self.stride_bytes)[:, : self.width_px]

    def chroma(self, memory: Memory) -> tuple[Picture, Picture]:
        """U and V, (height / 2, width / 2) each: views."""
        stride, rows = self.stride_bytes // 2, self.height_px // 2
        start = self.stride_bytes * self.height_px
        both = memory[start : start + 2 * rows * stride].reshape(2, rows, stride)[:, :, : self.width_px // 2]
        return both[0], both[1]

    def copied(self, memory: Memory) -> Picture:
        """The picture without padding as OpenCV takes it (I420): (height * 3 / 2, width), luma in the first rows."""
        return _i420(self.luma(memory), *self.chroma(memory))


def region_bgr(memory: Memory, planes: Planes, kind: MainFormat, cut: Cut) -> Picture:
    """A part of a picture as BGR: only the bytes of that part are read, and copied."""
    left, top, right, bottom = cut
    if kind == "RGB888":
        rows = memory[: planes.stride_bytes * planes.height_px].reshape(planes.height_px, planes.stride_bytes)
        return rows[top:bottom, 3 * left : 3 * right].reshape(bottom - top, right - left, 3).copy()
    # Colour is there for every second pixel of every second row: an even cut around, then the part asked for.
    x, y = left - left % 2, top - top % 2
    across, down = slice(x, right + right % 2), slice(y, bottom + bottom % 2)
    half_across, half_down = slice(across.start // 2, across.stop // 2), slice(down.start // 2, down.stop // 2)
    u, v = planes.chroma(memory)
    even = _i420(planes.luma(memory)[down, across], u[half_down, half_across], v[half_down, half_across])
    picture: Any = cv2.cvtColor(even, cv2.COLOR_YUV2BGR_I420)
    return np.ascontiguousarray(picture[top - y : bottom - y, left - x : right - x], np.uint8)


def _i420(luma: Picture, u: Picture, v: Picture) -> Picture:
    """Planes (any strides) as one contiguous I420 picture, (height * 3 / 2, width)."""
    height, width = luma.shape
    together = np.empty(height * width * 3 // 2, np.uint8)
    end, quarter = height * width, height * width // 4
    together[:end].reshape(height, width)[:] = luma
    together[end : end + quarter].reshape(u.shape)[:] = u
    together[end + quarter :].reshape(v.shape)[:] = v
    return together.reshape(height * 3 // 2, width)
