"""From output tensors to detections: one decoder for each kind of head, chosen by the card. Pure numpy.

A decoder is made once per model (`make_decoder`), which refuses outputs that do not fit the card *before* anything runs; it is
then called for each picture. `decode` does both for one picture.
"""

from collections.abc import Sequence
from typing import Protocol

from models.card import ModelCard
from models.inference.decode_anchors import AnchorsDecoder
from models.inference.decode_classifier import ClassifierDecoder
from models.inference.decode_columns import ColumnsDecoder
from models.inference.decode_points import PointsDecoder
from models.inference.decode_rows import RowsDecoder
from models.inference.decode_ssd import SsdDecoder
from models.inference.errors import ModelError
from models.inference.preprocess import Geometry
from models.inference.types import Detections, FloatArray, OutputTensor, TensorInfo


class Decoder(Protocol):
    """What turns the outputs of one run into detections."""

    def __call__(self, outputs: Sequence[OutputTensor], geometry: Geometry, threshold: float | None) -> Detections:
        """Detections in source pixels; a given threshold stands for all of the card's."""
        ...


class _DecoderKind(Protocol):
    def __call__(self, card: ModelCard, outputs: Sequence[TensorInfo], /) -> Decoder: ...


DECODERS: dict[str, _DecoderKind] = {
    "points": PointsDecoder,
    "ssd_postprocess": SsdDecoder,
    "ssd_anchors": AnchorsDecoder,
    "yolox": RowsDecoder,
    "yolov5": RowsDecoder,
    "yolov8": ColumnsDecoder,
}
"""Every kind of detection head by the name that a card gives it."""


def make_decoder(card: ModelCard, outputs: Sequence[TensorInfo]) -> Decoder:
    """The decoder of a detector's card, for outputs of these shapes; raises ModelError `wrong_shape` or `wrong_task`."""
    kind = DECODERS.get(card.output.decoder)
    if kind is not None:
        return kind(card, outputs)
    raise ModelError("wrong_task", f"{card.name} is a classifier: its outputs are class scores, not boxes")


def decode(
    outputs: Sequence[OutputTensor], card: ModelCard, geometry: Geometry, *, threshold: float | None = None
) -> Detections:
    """Detections of one picture; see `make_decoder`, which a loop over frames should keep."""
    return make_decoder(card, [output.info for output in outputs])(outputs, geometry, threshold)


def decode_scores(outputs: Sequence[OutputTensor], card: ModelCard) -> FloatArray:
    """Class scores (C,) of one picture from a classifier's outputs."""
    return ClassifierDecoder(card, [output.info for output in outputs])(outputs)
