"""Anchors of SSDs, laid as TensorFlow's object detection API lays them. Pure numpy."""

import math
from collections.abc import Sequence

import numpy as np

from models.card import AnchorSpec
from models.inference.head import points_of
from models.inference.types import FloatArray

MAX_ANCHORS = 500_000
"""More than any detector has (RetinaNet at 1,280 px: 307,000); a card must not ask for more memory than there is."""


def lay_anchors(spec: AnchorSpec, width_px: int, height_px: int, strides: Sequence[int]) -> FloatArray:
    """Anchors (N, 4) as y, x of the middle, height and width in input pixels: map after map, row by row, all of a cell together.

    Raises ValueError where the card describes more than `MAX_ANCHORS`.
    """
    grids = points_of(width_px, height_px, strides)
    sizes = [_sizes(spec, level, len(strides), min(width_px, height_px), strides[level]) for level in range(len(strides))]
    total = sum(columns * rows * len(each) for (columns, rows), each in zip(grids, sizes, strict=True))
    if total > MAX_ANCHORS:
        raise ValueError(f"the card describes {total} anchors; {MAX_ANCHORS} are the most")
    laid = []
    for (columns, rows), stride, each in zip(grids, strides, sizes, strict=True):
        across, down = _steps(spec, columns, rows, stride, width_px, height_px)
        y, x = np.meshgrid(down, across, indexing="ij")
        middles = np.repeat(np.stack([y, x], axis=-1).reshape(-1, 2), len(each), axis=0)
        laid.append(np.concatenate([middles, np.tile(each, (columns * rows, 1))], axis=1))
    anchors: FloatArray = np.concatenate(laid).astype(np.float32)
    return anchors


def _steps(
    spec: AnchorSpec, columns: int, rows: int, stride: int, width_px: int, height_px: int
) -> tuple[FloatArray, FloatArray]:
    """x and y of the middles of a map's cells."""
    if spec.kind == "ssd":  # cells share the picture out evenly
        across, down = (np.arange(columns) + 0.5) * (width_px / columns), (np.arange(rows) + 0.5) * (height_px / rows)
    else:  # cells are strides apart; their offset vanishes where the stride does not divide the side (TensorFlow's own rule)
        offset_x, offset_y = (stride / 2 if side % stride == 0 else 0.0 for side in (width_px, height_px))
        across, down = np.arange(columns) * stride + offset_x, np.arange(rows) * stride + offset_y
    return across.astype(np.float32), down.astype(np.float32)


def _sizes(spec: AnchorSpec, level: int, levels: int, shorter_px: int, stride: int) -> FloatArray:
    """Height and width (A, 2) of the anchors of each cell of a map."""
    if spec.kind == "multiscale":
        octaves = [2.0 ** (step / spec.scales_per_octave) for step in range(spec.scales_per_octave)]
        pairs = [(spec.anchor_scale * stride * octave, ratio) for ratio in spec.aspect_ratios for octave in octaves]
    else:
        grown = [spec.min_scale + (spec.max_scale - spec.min_scale) * at / max(1, levels - 1) for at in range(levels)]
        scale, following = grown[level], [*grown, 1.0][level + 1]
        if level == 0 and spec.reduce_lowest:
            chosen = [(0.1, 1.0), (scale, 2.0), (scale, 0.5)]
        else:
            chosen = [(scale, ratio) for ratio in spec.aspect_ratios]
            if spec.interpolated_ratio > 0:
                chosen.append((math.sqrt(scale * following), spec.interpolated_ratio))
        pairs = [(share * shorter_px, ratio) for share, ratio in chosen]
    found: FloatArray = np.array([(size / math.sqrt(ratio), size * math.sqrt(ratio)) for size, ratio in pairs], np.float32)
    return found
