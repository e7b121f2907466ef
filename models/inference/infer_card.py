"""Cards of models of a known kind, read off their tensors. Pure."""

from collections.abc import Iterable, Sequence

import numpy as np

from models.card import InputSpec, ModelCard, OutputSpec, Thresholds
from models.inference.decode_ssd import find_ssd_outputs
from models.inference.errors import ModelError
from models.inference.model_file import DETECTION_OP
from models.inference.types import TensorInfo


def infer_card(
    name: str, inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo], custom_ops: Iterable[str], labels: tuple[str, ...]
) -> ModelCard:
    """The card of an SSD with post-processing inside; raises ModelError `wrong_shape` for any other model.

    Such models take RGB stretched to the input; float ones -1..1 (TensorFlow's object detection API), integer ones raw pixels.
    """
    if DETECTION_OP not in set(custom_ops) or find_ssd_outputs(outputs) is None:
        raise ModelError("wrong_shape", f"{name} is of no known kind: write a model card for it (models/README.md)")
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].shape[3] != 3:
        raise ModelError("wrong_shape", f"{name} has no picture (1, H, W, 3) as its one input: write a model card for it")
    if not labels:
        raise ModelError("wrong_shape", f"{name} carries no labels of its own: give a label file")
    scaled = inputs[0].dtype == np.float32
    return ModelCard(
        name=name,
        task="detect",
        input=InputSpec(
            width_px=inputs[0].shape[2],
            height_px=inputs[0].shape[1],
            mean=127.5 if scaled else 0.0,
            std=127.5 if scaled else 1.0,
        ),
        output=OutputSpec("ssd_postprocess"),
        labels=labels,
        thresholds=Thresholds(score=0.5),
        licence="unknown",
        source=f"inferred from {name}",
    )
