"""Classifiers: one score for each class of the whole picture. Pure numpy."""

from collections.abc import Sequence

import numpy as np

from models.card import ModelCard
from models.inference.errors import ModelError
from models.inference.head import activated, label_misfit, misfit, named
from models.inference.types import FloatArray, OutputTensor, TensorInfo, dequantise


class ClassifierDecoder:
    """Decoder `classifier`: the one output with as many numbers as the card has labels, or the one that the card names."""

    def __init__(self, card: ModelCard, outputs: Sequence[TensorInfo]) -> None:
        if card.output.decoder != "classifier":
            raise ModelError("wrong_task", f"{card.name} is a detector: it gives boxes, not class scores")
        self._activation = card.output.score_activation
        sized = [at for at, info in enumerate(outputs) if int(np.prod(info.shape)) == len(card.labels)]
        fitting = named(card, "scores", outputs) or sized
        if not sized and len(outputs) == 1 and outputs[0].shape and int(np.prod(outputs[0].shape)) == outputs[0].shape[-1]:
            raise label_misfit(card, outputs[0].shape[-1])
        if not fitting or fitting[0] not in sized:
            raise misfit(card, f"there must be an output of {len(card.labels)} scores, one for each label", outputs)
        self._at = fitting[0]

    def __call__(self, outputs: Sequence[OutputTensor]) -> FloatArray:
        """Scores float32 (C,) after the card's activation."""
        output = outputs[self._at]
        values = output.values.reshape(-1)
        if self._activation != "softmax":
            return activated(values, output.info, self._activation)
        real = dequantise(values, output.info)
        grown = np.exp(real - real.max())
        scores: FloatArray = grown / grown.sum()
        return scores
