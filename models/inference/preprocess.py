"""From a picture to the input tensor, and how to find the way back.

The resize is bilinear without antialiasing (OpenCV INTER_LINEAR), as in the published evaluation code of the SSD models;
nearest-neighbour loses boxes, area costs 29 times as much. Colours are swapped and values scaled after it, on the small picture.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from models.card import InputSpec
from models.inference.errors import ModelError
from models.inference.types import AnyArray, FloatArray, Picture, TensorInfo


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the source picture lies in the input tensor: `x_input = x_source * scale_x`, the same for y (top left is fixed)."""

    source_width_px: int
    source_height_px: int
    scale_x: float
    scale_y: float

    def to_source(self, xyxy_input_px: FloatArray) -> FloatArray:
        """Boxes (N, 4) in input pixels as boxes in source pixels, cut off at the picture's edges."""
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)
        size = np.array([self.source_width_px, self.source_height_px] * 2, np.float32)
        source: FloatArray = xyxy_input_px / scale
        return np.clip(source, np.float32(0), size, out=source)


class Preprocessor:
    """`prepare` with its buffers and tables made once: one per model, not for several threads at a time.

    The tensor it returns is its own buffer: it holds good until the next call.
    """

    def __init__(self, spec: InputSpec, info: TensorInfo) -> None:
        self._spec = spec
        height, width = spec.height_px, spec.width_px
        self._padded = np.full((height, width, 3), spec.pad_value, np.uint8)
        self._coloured = np.empty((height, width, 3), np.uint8)
        self._table = value_table(spec, info)
        self._mapped = np.empty((height, width, 3), info.dtype)
        self._plane = np.empty((height, width), np.uint8)
        self._tensor = np.empty((1, 3, height, width) if spec.layout == "nchw" else (1, height, width, 3), info.dtype)
        self._last_region = (width, height)

    def prepare(self, picture_bgr: Picture) -> tuple[AnyArray, Geometry]:
        """The input tensor (1, H, W, 3) or (1, 3, H, W) of a BGR picture (H, W, 3) uint8, and where the picture lies in it."""
        if picture_bgr.ndim != 3 or picture_bgr.shape[2] != 3 or picture_bgr.dtype != np.uint8 or 0 in picture_bgr.shape:
            raise ModelError(
                "bad_picture", f"a picture must be (H, W, 3) uint8 in BGR, not {picture_bgr.shape} {picture_bgr.dtype}"
            )
        pixels, geometry = self._resized(picture_bgr)
        if self._spec.colour == "rgb":
            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=self._coloured)
            pixels = self._coloured
        return self._as_tensor(pixels), geometry

    def _resized(self, picture: Picture) -> tuple[Picture, Geometry]:
        """The picture at the size of the input, letterboxed where the card says so."""
        spec = self._spec
        height, width = picture.shape[:2]
        new_width, new_height = spec.width_px, spec.height_px
        if spec.resize == "letterbox":
            ratio = min(spec.width_px / width, spec.height_px / height)
            new_width, new_height = max(1, int(width * ratio + 1e-6)), max(1, int(height * ratio + 1e-6))
        geometry = Geometry(width, height, new_width / width, new_height / height)
        if (width, height) == (spec.width_px, spec.height_px):
            return picture, geometry
        if (new_width, new_height) != self._last_region:  # what the last picture covered must not shine through
            self._padded[:] = spec.pad_value
            self._last_region = (new_width, new_height)
        region = self._padded[:new_height, :new_width]
        if (width, height) == (new_width, new_height):
            region[:] = picture
        else:
            cv2.resize(picture, (new_width, new_height), dst=region, interpolation=cv2.INTER_LINEAR)
        return self._padded, geometry

    def _as_tensor(self, pixels: Picture) -> AnyArray:
        """Pixel values as the tensor wants them, in its layout."""
        channels_last = self._spec.layout == "nhwc"
        if self._table is None and channels_last:
            if self._tensor.dtype == np.uint8:
                return pixels[None]
            self._tensor[0] = pixels
            return self._tensor
        if self._table is not None:
            mapped = self._tensor[0] if channels_last else self._mapped
            cv2.LUT(pixels, self._table, dst=mapped)
            if channels_last:
                return self._tensor
            for channel in range(3):
                cv2.extractChannel(mapped, channel, dst=self._tensor[0, channel])
            return self._tensor
        for channel in range(3):  # a plane at a time: casting a transposed view costs several times as much
            cv2.extractChannel(pixels, channel, dst=self._plane)
            self._tensor[0, channel] = self._plane
        return self._tensor


def prepare(picture_bgr: Picture, spec: InputSpec, info: TensorInfo) -> tuple[AnyArray, Geometry]:
    """One picture's input tensor and geometry; see `Preprocessor`, which a loop over frames should keep."""
    return Preprocessor(spec, info).prepare(picture_bgr)


def value_table(spec: InputSpec, info: TensorInfo) -> AnyArray | None:
    """What each pixel value 0..255 becomes in each channel, (1, 256, 3) in the tensor's type; None where it stays itself."""
    pixel = np.arange(256, dtype=np.float64)[None, :, None]
    if info.dtype.kind == "f":
        real = (pixel - np.asarray(spec.mean)) / np.asarray(spec.std)
        table = np.broadcast_to(real, (1, 256, 3)).astype(info.dtype)
    elif spec.raw or not info.quantised:
        # An int8 tensor without a use for its scale holds the pixel less 128: the same bits with the top one turned.
        table = np.broadcast_to(pixel - (128 if info.dtype == np.int8 else 0), (1, 256, 3)).astype(info.dtype)
    else:
        real = (pixel - np.asarray(spec.mean)) / np.asarray(spec.std)
        limits = np.iinfo(info.dtype)
        stored = np.clip(np.rint(real / info.scale + info.zero_point), limits.min, limits.max)
        table = np.broadcast_to(stored, (1, 256, 3)).astype(info.dtype)
    return None if np.array_equal(table, np.broadcast_to(pixel, table.shape)) else np.ascontiguousarray(table)
