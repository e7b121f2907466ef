"""Training pictures: drawn once in shards of a thousand, kept as arrays, handed out in batches with targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.rendered import scenes
from models.rendered.yard import HEIGHT_PX, WIDTH_PX

SHARD = 1000
MOST_OBJECTS = 8
STRIDE_PX = 8
COLUMNS, ROWS = WIDTH_PX // STRIDE_PX, HEIGHT_PX // STRIDE_PX
POINTS = COLUMNS * ROWS
VALIDATION_SEEDS = range(800_000, 800_240)
"""Seeds for choices made while training; those of the published figures start at 900000."""

Array = npt.NDArray[Any]


def _draw(seed: int, compress: bool) -> tuple[Array, Array, float]:
    """One picture as RGB, its boxes (8, 5): x1, y1, x2, y2, class (-1 where there is none), its darkness (0 day – 1 night)."""
    rendered = scenes.sample(seed)
    picture: Array = rendered.picture_bgr
    rng = np.random.default_rng((seed, 11))
    if compress and rng.random() < 0.5:  # films reach the detector through a codec
        _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 96))])
        picture = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
    boxes = np.full((MOST_OBJECTS, 5), -1, np.float32)
    for row, item in enumerate(rendered.truth[:MOST_OBJECTS]):
        boxes[row] = (*item.box_px, scenes.LABELS.index(item.label))
    return picture[:, :, ::-1], boxes, rendered.darkness


def shard(work: Path, first_seed: int, count: int = SHARD, *, compress: bool = True) -> tuple[Array, Array, Array]:
    """Pictures (n, 240, 320, 3) uint8 RGB, boxes (n, 8, 5), darkness (n,): drawn, or read from `work` if drawn before."""
    path = work / f"pictures_{first_seed}_{count}.npz"
    if not path.exists():
        drawn = [_draw(seed, compress) for seed in range(first_seed, first_seed + count)]
        pictures, boxes = np.stack([item[0] for item in drawn]), np.stack([item[1] for item in drawn])
        darkness = np.array([item[2] for item in drawn])
        work.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".part.npz")
        np.savez(half, pictures=pictures, boxes=boxes, darkness=darkness)
        half.rename(path)
    with np.load(path) as kept:
        return kept["pictures"], kept["boxes"], kept["darkness"]


def load(work: Path, count: int) -> tuple[Array, Array, Array]:
    """The first `count` training pictures (seeds 0 to count - 1), their boxes and their darkness."""
    parts = [shard(work, first) for first in range(0, count, SHARD)]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts])


def _centres() -> tuple[Array, Array]:
    x, y = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    return (x.ravel() + 0.5) * STRIDE_PX, (y.ravel() + 0.5) * STRIDE_PX


def targets(boxes: Array) -> tuple[Array, Array, Array]:
    """For boxes (B, 8, 5): score targets (B, P, 3), distances (B, P, 4) in strides, weights of the box loss (B, P).

    The score wanted at a point falls off from an object's centre as a Gaussian whose width follows the box.
    """
    px, py = _centres()
    x1, y1, x2, y2, label = (boxes[:, :, i, None] for i in range(5))
    sigma_x, sigma_y = np.maximum(0.22 * (x2 - x1), 5.0), np.maximum(0.22 * (y2 - y1), 5.0)
    near = np.exp(-0.5 * (((px - (x1 + x2) / 2) / sigma_x) ** 2 + ((py - (y1 + y2) / 2) / sigma_y) ** 2))
    near = np.where((label >= 0) & (near > 0.08), near, 0.0)
    best = near.argmax(axis=1)
    weight = np.take_along_axis(near, best[:, None], axis=1)[:, 0]
    own = np.take_along_axis(boxes, best[:, :, None], axis=1)
    distances = np.stack([px - own[..., 0], py - own[..., 1], own[..., 2] - px, own[..., 3] - py], axis=-1) / STRIDE_PX
    scores = np.stack([np.where(label == index, near, 0.0).max(axis=1) for index in range(3)], axis=-1)
    weight = np.where(weight > 0.2, weight, 0)
    return scores.astype(np.float32), np.maximum(distances, 0.02).astype(np.float32), weight.astype(np.float32)


def batches(pictures: Array, boxes: Array, size: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """One epoch of float pictures 0–1 and boxes in random order, mirrored and re-lit at random."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(pictures))
    for start in range(0, len(order) - size + 1, size):
        chosen = np.sort(order[start : start + size])
        batch, own = pictures[chosen].astype(np.float32) / 255, boxes[chosen].copy()
        for row in range(size):
            if rng.random() < 0.5:
                batch[row] = batch[row, :, ::-1]
                own[row, :, [0, 2]] = np.where(own[row, :, 4] >= 0, WIDTH_PX - own[row, :, [2, 0]], -1)
            batch[row] *= (rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, 3)).astype(np.float32)
        yield np.minimum(batch, 1.0), own
