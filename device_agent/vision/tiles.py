"""Looking at a picture in overlapping parts, so that small objects are large enough for a small model.

A model of 300 px sees a person of 20 px in a 1080p picture as 3 px. Looked at in 3 x 2 parts, it sees 9. The price is one look
for each part: `looks` counts them, and an answer's `invoke_ms` is their sum, so that the price shows wherever latency does.

What two parts say is merged by one rule: two boxes are one object if, where both parts look, they show the same. An object that a
seam cuts is put together from its pieces; with `whole`, the picture is looked at as a whole, too, so that what is larger than a
part is seen undivided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_agent.vision.boxes import FloatArray, areas, intersections
from device_agent.vision.detector import Answer, Detector, DetectorError, ModelSpec
from device_agent.vision.types import Cut, Frame, Picture
from models.card import ModelCard
from models.inference.types import Detections

BoolArray = npt.NDArray[np.bool_]
MAX_TILES = 16
"""Parts of one picture: each is a look, and a camera that waits for more than so many sees nothing any more."""
MIN_TILE_PX = 32
"""No part is smaller: fewer parts are made of a small picture."""
CUT_PX, CUT_SHARE = 2.0, 0.02
"""A box that ends this near to a seam, in pixels or as a share of its side, is taken as cut by it: models round."""


@dataclass(frozen=True, slots=True)
class TileSettings:
    """`columns` x `rows` parts that overlap by `overlap` of their side; `whole`: one more look at the whole picture.

    `same`: IoU, within what two parts both see, from which two boxes are one object. `contained`: share of a cut piece that lies
    in another box of its class, from which it is part of that one.
    """

    columns: int = 2
    rows: int = 2
    overlap: float = 0.2
    whole: bool = True
    same: float = 0.5
    contained: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what would look for ever or not at all."""
        if self.columns < 1 or self.rows < 1 or self.columns * self.rows > MAX_TILES:
            raise ValueError(f"tiles must be 1 to {MAX_TILES} in all, not {self.columns} x {self.rows}")
        if not 0 <= self.overlap <= 0.5 or not 0 < self.same <= 1 or not 0 < self.contained <= 1:
            raise ValueError("overlap must be 0 to 0.5, same and contained above 0 and at most 1")


def tile_cuts(width_px: int, height_px: int, settings: TileSettings) -> list[Cut]:
    """The parts of a picture of this size, row by row; together they cover it, and the whole comes last where it is wanted."""
    across = _spans(width_px, settings.columns, settings.overlap)
    down = _spans(height_px, settings.rows, settings.overlap)
    cuts = [(left, top, right, bottom) for top, bottom in down for left, right in across]
    if settings.whole and len(cuts) > 1:
        cuts.append((0, 0, width_px, height_px))
    return cuts


def merge(parts: Sequence[tuple[Cut, Detections]], width_px: int, height_px: int, settings: TileSettings) -> Detections:
    """Detections of a picture from those of its parts, each in pixels of its own part; best first."""
    if len(parts) == 1:
        return parts[0][1]
    counts = [len(found) for _, found in parts]
    if not sum(counts):
        return Detections.empty()
    tiles = np.repeat(np.array([cut for cut, _ in parts], np.float32), counts, axis=0)
    boxes = np.concatenate([found.xyxy for _, found in parts]) + tiles[:, [0, 1, 0, 1]]
    scores = np.concatenate([found.confidence for _, found in parts])
    classes = np.concatenate([found.class_id for _, found in parts])
    number = np.repeat(np.arange(len(parts)), counts)
    cut = _cut(boxes, tiles, width_px, height_px)
    apart = (number[:, None] != number[None, :]) & (classes[:, None] == classes[None, :])
    same = apart & (_agreement(boxes, tiles) >= settings.same)
    swallowed = apart & cut[None, :] & ~cut[:, None] & (_share_inside(boxes) >= settings.contained)
    kept = _groups(boxes, scores, cut, same, swallowed)
    joined = np.array([box for box, _, _ in kept], np.float32).reshape(-1, 4)
    best = np.array([score for _, score, _ in kept], np.float32)
    order = np.argsort(-best, kind="stable")
    return Detections(joined[order], best[order], classes[[first for _, _, first in kept]][order].astype(np.int32))


class TiledDetector:
    """A detector that looks in parts, around one that looks once: the same shape, for a camera whose objects are small."""

    def __init__(self, detector: Detector, settings: TileSettings) -> None:
        self._detector = detector
        self._settings = settings
        self.looks = 0

    @property
    def card(self) -> ModelCard:
        """The card of the model that answers now."""
        return self._detector.card

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""
        return self._detector.restarts

    @property
    def runtime(self) -> str:
        """Name and version of the TFLite runtime."""
        return self._detector.runtime

    @property
    def accelerator(self) -> str:
        """What the model runs on."""
        return self._detector.accelerator

    @property
    def accelerator_reason(self) -> str:
        """Why it does not run on what was asked for."""
        return self._detector.accelerator_reason

    @property
    def last_error(self) -> str:
        """How it failed last."""
        return self._detector.last_error

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture, weak ones too; raises DetectorError. `invoke_ms` is the sum of all looks.

        A model that is switched between two parts gives its answer from the first part again.
        """
        height_px, width_px = picture_bgr.shape[:2]
        cuts = tile_cuts(width_px, height_px, self._settings)
        for _ in range(2):
            answers = []
            for left, top, right, bottom in cuts:
                self.looks += 1
                answers.append(self._detector.look(picture_bgr[top:bottom, left:right]))
            if all(answer.card == answers[0].card for answer in answers):
                parts = [(cut, answer.detections) for cut, answer in zip(cuts, answers, strict=True)]
                found = merge(parts, width_px, height_px, self._settings)
                return replace(answers[-1], detections=found, invoke_ms=sum(answer.invoke_ms for answer in answers))
        raise DetectorError("failed", "the model was switched twice while one picture was looked at")

    def detect(self, frame: Frame) -> Detections:
        """The detections of a frame alone; raises DetectorError."""
        return self.look(frame.picture_bgr).detections

    def switch(
        self, model_path: Path, card_path: Path, *, threads: int = 1, delegate_library: str | None = None,
        fallback: ModelSpec | None = None,
    ) -> None:
        """Change to another model between two looks; raises ModelError."""
        self._detector.switch(model_path, card_path, threads=threads, delegate_library=delegate_library, fallback=fallback)

    def close(self) -> None:
        """End the detector behind it."""
        self._detector.close()


def find_in_tiles(find: Callable[[Picture], Detections], picture_bgr: Picture, settings: TileSettings) -> Detections:
    """The same with a bare model in place of a detector."""
    height_px, width_px = picture_bgr.shape[:2]
    cuts = tile_cuts(width_px, height_px, settings)
    parts = [((left, top, right, bottom), find(picture_bgr[top:bottom, left:right])) for left, top, right, bottom in cuts]
    return merge(parts, width_px, height_px, settings)


def _spans(side_px: int, count: int, overlap: float) -> list[tuple[int, int]]:
    """Beginnings and ends of equal parts of one side, the first at its beginning, the last at its end."""
    count = max(1, min(count, side_px // MIN_TILE_PX))
    length = min(side_px, -int(-side_px // (count - (count - 1) * overlap)))
    starts = [round(at * (side_px - length) / (count - 1)) if count > 1 else 0 for at in range(count)]
    return [(start, start + length) for start in starts]


def _cut(boxes: FloatArray, tiles: FloatArray, width_px: int, height_px: int) -> BoolArray:
    """Which boxes end at a seam: at an edge of their part that is not one of the picture."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], (1, 2))
    near = np.abs(boxes - tiles) <= np.maximum(CUT_PX, CUT_SHARE * sides)
    seam = np.abs(tiles - np.array([0, 0, width_px, height_px], np.float32)) > 0.5
    cut: BoolArray = (near & seam).any(axis=1)
    return cut


def _agreement(boxes: FloatArray, tiles: FloatArray) -> FloatArray:
    """IoU of each pair of boxes within what both their parts see, (N, N); 0 where that is nothing of either."""
    low = np.maximum(tiles[:, None, :2], tiles[None, :, :2])
    high = np.minimum(tiles[:, None, 2:], tiles[None, :, 2:])

    def within(each: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.maximum(each[..., :2], low), np.minimum(each[..., 2:], high)

    (low_a, high_a), (low_b, high_b) = within(boxes[:, None, :]), within(boxes[None, :, :])
    area_a, area_b = (np.maximum(top - bottom, 0).prod(axis=2) for bottom, top in ((low_a, high_a), (low_b, high_b)))
    shared = np.maximum(np.minimum(high_a, high_b) - np.maximum(low_a, low_b), 0).prod(axis=2)
    union = area_a + area_b - shared
    result: FloatArray = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return result


def _share_inside(boxes: FloatArray) -> FloatArray:
    """How much of box j lies in box i, (i, j)."""
    shared, own = intersections(boxes, boxes), areas(boxes)[None, :]
    result: FloatArray = np.divide(shared, own, out=np.zeros_like(shared), where=own > 0)
    return result


def _groups(
    boxes: FloatArray, scores: FloatArray, cut: BoolArray, same: BoolArray, swallowed: BoolArray
) -> list[tuple[FloatArray, float, int]]:
    """Each object once: its box, its best score, and the index of one of its boxes.

    Undivided boxes come first and take their likes with them; pieces that no undivided box explains are put together.
    """
    free = np.ones(len(boxes), bool)
    kept = []
    for at in np.lexsort((-scores, cut)).tolist():
        if not free[at]:
            continue
        if not cut[at]:
            members = free & (same[at] | swallowed[at])
            members[at] = True
            box = boxes[at]
        else:
            members = _connected(at, same & free[None, :])
            box = np.concatenate([boxes[members, :2].min(axis=0), boxes[members, 2:].max(axis=0)])
        free &= ~members
        kept.append((box, float(scores[members].max()), at))
    return kept


def _connected(at: int, same: BoolArray) -> BoolArray:
    """Everything that one piece reaches over pairs that show the same."""
    members = np.zeros(len(same), bool)
    members[at] = True
    while True:
        grown = members | same[members].any(axis=0)
        if (grown == members).all():
            return members
        members = grown
