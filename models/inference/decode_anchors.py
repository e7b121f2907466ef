"""SSDs that were exported without post-processing: offsets from anchors that the card describes. Pure numpy."""

from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.inference.anchors import lay_anchors
from models.inference.errors import ModelError
from models.inference.head import CardLimits, Limits, activated, finish, label_misfit, misfit, named, one_class_each, positions_of
from models.inference.preprocess import Geometry
from models.inference.types import Detections, OutputTensor, TensorInfo, dequantise


class AnchorsDecoder:
    """Decoder `ssd_anchors`: boxes (1, N, 4) as y, x of the middle in anchor sizes from the anchor's, then the logarithms of
    height and width in anchor sizes, each times its `box_scales`; scores (1, N, C), or C + 1 where column 0 is the background.
    """

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        self._card = card
        if card.output.anchors is None:
            raise ModelError("wrong_shape", f"{card.name}: the decoder ssd_anchors needs [output.anchors] in the card")
        try:
            self._anchors = lay_anchors(card.output.anchors, card.input.width_px, card.input.height_px, card.output.strides)
        except ValueError as error:
            raise ModelError("wrong_shape", f"{card.name}: {error}") from error
        self._skip = 1 if card.output.background else 0
        self._boxes_at, self._scores_at = self._find(outputs)
        self._scales = np.array(card.output.box_scales, np.float32)
        self._thresholds = CardLimits(card)

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; only anchors whose score passes, in the tensor's own numbers, are decoded."""
        info, count = outputs[self._scores_at].info, len(self._anchors)
        scores = outputs[self._scores_at].values.reshape(count, -1)[:, self._skip :]
        limits: Limits = self._thresholds.of(threshold, self._scores_at, info)[1]
        rows, columns = positions_of(limits.passed(scores))
        if len(rows) == 0:
            return Detections.empty()
        passed = activated(scores[rows, columns], info, self._card.output.score_activation)
        best = one_class_each(rows, columns, passed)
        rows, columns, passed = rows[best], columns[best], passed[best]
        raw = outputs[self._boxes_at]
        offsets = dequantise(raw.values.reshape(count, 4)[rows], raw.info) / self._scales
        anchors = self._anchors[rows]
        with np.errstate(over="ignore", invalid="ignore"):  # a wild size becomes infinite and is dropped with its box
            middle = offsets[:, :2] * anchors[:, 2:] + anchors[:, :2]
            half = np.exp(offsets[:, 2:]) * anchors[:, 2:] / 2
            yxyx = np.concatenate([middle - half, middle + half], axis=1)
        return finish(self._card, geometry, yxyx[:, [1, 0, 3, 2]], passed, columns.astype(np.int32))

    def _find(self, outputs: Sequence[TensorInfo]) -> tuple[int, int]:
        """Positions of boxes and scores; raises ModelError `wrong_shape`."""
        card, count = self._card, len(self._anchors)
        last = len(card.labels) + self._skip

        def holds(info: TensorInfo, numbers: int | None) -> bool:
            shape = tuple(side for side in info.shape[:-1] if side != 1)
            return len(info.shape) >= 3 and info.shape[0] == 1 and shape == (count,) and numbers in (None, info.shape[-1])

        boxes, scores = named(card, "boxes", outputs), named(card, "scores", outputs)
        if not (boxes and scores) and last == 4:
            raise misfit(card, "with four columns of scores boxes look alike: name both in the card", outputs)
        boxes = boxes or [at for at, info in enumerate(outputs) if holds(info, 4)]
        scores = scores or [at for at, info in enumerate(outputs) if at not in boxes and holds(info, last)]
        if len(boxes) == len(scores) == 1 and holds(outputs[boxes[0]], 4) and holds(outputs[scores[0]], last):
            return boxes[0], scores[0]
        beside = {info.shape[-1] for at, info in enumerate(outputs) if at not in boxes and holds(info, None)}
        if len(boxes) == 1 and holds(outputs[boxes[0]], 4) and len(beside) == 1:
            raise label_misfit(card, beside.pop() - self._skip)
        wanted = f"boxes (1, {count}, 4) and scores (1, {count}, {last})"
        raise misfit(card, f"the {count} anchors of its strides and [output.anchors] need {wanted}", outputs)
