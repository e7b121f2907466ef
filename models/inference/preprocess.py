"""From a picture to the input tensor, and how to find the way back.

Two resizes, both bilinear and both at a cost that hardly grows with the picture:

- *plain* (OpenCV INTER_LINEAR_EXACT), the default of `stretch`: what the SSDs of TensorFlow were trained and published with. The
  exact variant gives the same bytes on every machine, where INTER_LINEAR rounds as each board's vector unit likes; that last
  bit alone moves the uint8 SSD's person AP50 on the 52 shared photos from 0.434 to 0.410 (published: 0.431). It costs 0.34 ms
  CPU for 768x432 to 300x300 against 0.16 ms.
- *averaged*, the default of letterboxes: INTER_LINEAR to twice the input, then the mean of each 2x2. Only pictures more than
  twice as large as the input take it: below that, plain bilinear skips no pixel. It brings the 192-pixel person detector to
  0.490 (published 0.476; plain 0.499, by luck of aliasing) and costs 0.10 ms for 768x432 to 192x108, 0.5 ms to 300x300. From
  more than four times the input on it aliases a little, too: a full area mean would cost 6 ms from 1080p. The SSD under it
  moves one of four published boxes by 16 px, so a card that asks for it should be of a model that was trained with it.

Nearest-neighbour loses boxes. Colours are swapped and values scaled after the resize, on the small picture.
OpenCV is loaded where it is first used: an inference child whose pictures come ready never needs it (some 15 MB resident).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.card import InputSpec
from models.inference.errors import ModelError
from models.inference.types import AnyArray, FloatArray, Picture, TensorInfo

AVERAGED_FROM = 2.0
"""Source pixels for one of the input from which bilinear begins to skip some."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where the source picture lies in the input: `x_input = x_source * scale_x + left_px`, the same for y with `top_px`."""

    source_width_px: int
    source_height_px: int
    scale_x: float
    scale_y: float
    left_px: int = 0
    top_px: int = 0

    def to_source(self, xyxy_input_px: FloatArray) -> FloatArray:
        """Boxes (N, 4) in input pixels as boxes in source pixels, cut off at the picture's edges."""
        scale = np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y], np.float32)
        size = np.array([self.source_width_px, self.source_height_px] * 2, np.float32)
        if self.left_px or self.top_px:
            xyxy_input_px = xyxy_input_px - np.array([self.left_px, self.top_px] * 2, np.float32)
        source: FloatArray = xyxy_input_px / scale
        return np.clip(source, np.float32(0), size, out=source)

    def box_to_source(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float] | None:
        """One box in input pixels as one in source pixels, cut off at the picture's edges; None where nothing of it is left.

        For the few boxes of an answer: plain numbers are several times cheaper than as many arrays. None for NaN, too.
        """
        width, height = float(self.source_width_px), float(self.source_height_px)
        left = min(max((left - self.left_px) / self.scale_x, 0.0), width)
        top = min(max((top - self.top_px) / self.scale_y, 0.0), height)
        right = min(max((right - self.left_px) / self.scale_x, 0.0), width)
        bottom = min(max((bottom - self.top_px) / self.scale_y, 0.0), height)
        return (left, top, right, bottom) if left < right and top < bottom else None


class Preprocessor:
    """`prepare` with its buffers and tables made once: one per model, not for several threads at a time.

    The tensor it returns is its own buffer: it holds good until the next call.
    """

    def __init__(self, spec: InputSpec, info: TensorInfo) -> None:
        self._spec = spec
        height, width = spec.height_px, spec.width_px
        self._padded = np.empty((height, width, 3), np.uint8)
        self._coloured = np.empty((height, width, 3), np.uint8)
        self._table = value_table(spec, info)
        self._mapped = np.empty((height, width, 3), info.dtype)
        self._plane = np.empty((height, width), np.uint8)
        self._tensor = np.empty((1, 3, height, width) if spec.layout == "nchw" else (1, height, width, 3), info.dtype)

    def prepare(self, picture_bgr: Picture) -> tuple[AnyArray, Geometry]:
        """The input tensor (1, H, W, 3) or (1, 3, H, W) of a BGR picture (H, W, 3) uint8, and where the picture lies in it."""
        if picture_bgr.ndim != 3 or picture_bgr.shape[2] != 3 or picture_bgr.dtype != np.uint8 or 0 in picture_bgr.shape:
            raise ModelError(
                "bad_picture", f"a picture must be (H, W, 3) uint8 in BGR, not {picture_bgr.shape} {picture_bgr.dtype}"
            )
        pixels, geometry = self._resized(picture_bgr)
        if self._spec.colour == "rgb":
            import cv2

            cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=self._coloured)
            pixels = self._coloured
        return self._as_tensor(pixels), geometry

    def _resized(self, picture: Picture) -> tuple[Picture, Geometry]:
        """The picture at the size of the input, letterboxed where the card says so."""
        if picture.shape[:2] == self._padded.shape[:2]:
            return picture, Geometry(picture.shape[1], picture.shape[0], 1.0, 1.0)
        return self._padded, fit(picture, self._spec, self._padded)

    def _as_tensor(self, pixels: Picture) -> AnyArray:
        """Pixel values as the tensor wants them, in its layout."""
        channels_last = self._spec.layout == "nhwc"
        if self._table is None and channels_last:
            if self._tensor.dtype == np.uint8:
                return pixels[None]
            self._tensor[0] = pixels
            return self._tensor
        if self._table is not None:
            import cv2

            mapped = self._tensor[0] if channels_last else self._mapped
            cv2.LUT(pixels, self._table, dst=mapped)
            if channels_last:
                return self._tensor
            for channel in range(3):
                cv2.extractChannel(mapped, channel, dst=self._tensor[0, channel])
            return self._tensor
        import cv2

        for channel in range(3):  # a plane at a time: casting a transposed view costs several times as much
            cv2.extractChannel(pixels, channel, dst=self._plane)
            self._tensor[0, channel] = self._plane
        return self._tensor


def fit(picture_bgr: Picture, spec: InputSpec, target: Picture) -> Geometry:
    """Write a picture into `target`, (H, W, 3) uint8 of the input's size, letterboxed where the card says so. For any thread.

    Colours stay as they are. Every byte of `target` is written: what lay there before does not shine through.
    """
    import cv2

    height, width = picture_bgr.shape[:2]
    geometry, new_width, new_height = _placed(spec.resize, spec.width_px, spec.height_px, width, height)
    left, top = geometry.left_px, geometry.top_px
    right, bottom = left + new_width, top + new_height
    region = target
    if (new_width, new_height) != (spec.width_px, spec.height_px):
        target[:top] = target[bottom:] = target[top:bottom, :left] = target[top:bottom, right:] = spec.pad_value
        region = target[top:bottom, left:right]
    if (width, height) == (new_width, new_height):
        region[:] = picture_bgr
    elif spec.averaged and max(width / new_width, height / new_height) > AVERAGED_FROM:
        twice = cv2.resize(picture_bgr, (new_width * 2, new_height * 2), interpolation=cv2.INTER_LINEAR)
        cv2.resize(twice, (new_width, new_height), dst=region, interpolation=cv2.INTER_AREA)
    else:
        cv2.resize(picture_bgr, (new_width, new_height), dst=region, interpolation=cv2.INTER_LINEAR_EXACT)
    return geometry


@lru_cache(maxsize=64)
def _placed(resize: str, input_width: int, input_height: int, width: int, height: int) -> tuple[Geometry, int, int]:
    """Where a picture of this size goes, and its width and height there. Cameras keep their size: it is worked out once."""
    if resize == "stretch":
        return Geometry(width, height, input_width / width, input_height / height), input_width, input_height
    ratio = min(input_width / width, input_height / height)
    centred = resize == "letterbox_centre"
    # Ultralytics rounds to the nearest pixel and gives an odd rest to the right and below; YOLOX cuts off.
    add = 0.5 if centred else 1e-6
    new_width, new_height = max(1, int(width * ratio + add)), max(1, int(height * ratio + add))
    left, top = ((input_width - new_width) // 2, (input_height - new_height) // 2) if centred else (0, 0)
    return Geometry(width, height, new_width / width, new_height / height, left, top), new_width, new_height


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
