"""Cards of models of a known kind, read off the file alone: no interpreter has seen it yet. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from models.card import CardError, InputSpec, ModelCard, OutputSpec, Thresholds, with_labels
from models.inference.decode_ssd import FIELDS, find_ssd_outputs
from models.inference.errors import ModelError
from models.inference.head import points_of
from models.inference.kinds import YOLO_STRIDES, card_advice, input_fault, labels_fault, looks_like
from models.inference.metadata import Metadata
from models.inference.model_file import DETECTION_OP, ModelFile
from models.inference.types import TensorInfo

YOLOV5_ANCHORS = 3
ULTRALYTICS_IOU, ULTRALYTICS_SCORE = 0.7, 0.25
"""The thresholds with which Ultralytics' own command line predicts; a score of 0.25 suits no event counter, so ours is higher."""
INFERRED_SCORE = 0.5


def infer_card(name: str, file: ModelFile, labels: Sequence[str], metadata: Metadata | None = None) -> ModelCard:
    """The card of a model whose file leaves no doubt; raises ModelError `wrong_shape` or `wrong_task` for any other.

    - TFLite_Detection_PostProcess (SSD, EfficientDet-Lite): RGB stretched to the input; float ones scaled as their metadata say,
      else to -1..1 (TensorFlow's object detection API), integer ones raw.
    - YOLOv8/11 and YOLOv5 as Ultralytics exports them, if the number of classes fits and the file says so, in its metadata or in
      the scale of a quantised output: RGB 0..1 in a centred letterbox.

    Given labels hold over those in the file.
    """
    metadata = metadata or Metadata()
    names = tuple(labels) or metadata.labels
    fault = input_fault(file.inputs, file.outputs)
    if fault:
        raise ModelError("wrong_shape", f"{name} cannot be run as a detector: {fault}")
    card = _post_processed(name, file, names, metadata) if DETECTION_OP in file.custom_ops else _yolo(name, file, names, metadata)
    if card is None:
        guess = looks_like(file.outputs)
        if guess:
            raise ModelError("wrong_task", f"{name} fits no detector: {guess}")
        advice = card_advice(file.inputs, file.outputs)
        raise ModelError("wrong_shape", f"{name} is of no kind whose card can be inferred. {advice}")
    try:
        return with_labels(card, names)
    except CardError as error:
        raise ModelError("wrong_shape", f"{name}: {'; '.join(error.faults)}") from error


def _post_processed(name: str, file: ModelFile, labels: tuple[str, ...], metadata: Metadata) -> ModelCard | None:
    there = {info.role for info in file.outputs}
    if not there.issuperset(FIELDS) and find_ssd_outputs(file.outputs) is None:
        return None
    shape = file.inputs[0].shape
    if len(shape) != 4 or shape[3] != 3 or min(shape[1:3]) < 1:
        return None
    _check_labels(name, labels, file.classes)
    scaled = file.inputs[0].dtype == np.float32
    mean, std = (127.5, 127.5) if scaled else (0.0, 1.0)
    spec = InputSpec(shape[2], shape[1], mean=mean, std=std)
    if scaled and metadata.mean is not None and metadata.std is not None:
        spec = replace(spec, mean=metadata.mean, std=metadata.std)
    return _card(name, spec, OutputSpec("ssd_postprocess"), labels)


def _yolo(name: str, file: ModelFile, labels: tuple[str, ...], metadata: Metadata) -> ModelCard | None:
    shape = file.inputs[0].shape
    if len(file.outputs) != 1 or len(shape) != 4 or 3 not in (shape[1], shape[3]) or min(shape) < 1:
        return None
    if metadata.ultralytics and metadata.task != "detect":
        raise ModelError("wrong_task", f"{name} was trained to {metadata.task}, not to detect: choose a detector")
    layout, height, width = ("nhwc", *shape[1:3]) if shape[3] == 3 else ("nchw", *shape[2:])
    cells = sum(math.prod(grid) for grid in points_of(width, height, YOLO_STRIDES))
    output = file.outputs[0]
    if len(output.shape) != 3 or output.shape[0] != 1 or not (metadata.ultralytics or _normalised(output)):
        return None
    if output.shape[2] == cells and output.shape[1] > 4:
        kind, classes = "yolov8", output.shape[1] - 4
    elif output.shape[1] == cells * YOLOV5_ANCHORS and output.shape[2] > 5:
        kind, classes = "yolov5", output.shape[2] - 5
    else:
        return None
    _check_labels(name, labels, classes)
    spec = InputSpec(width, height, layout, resize="letterbox_centre", std=255.0)  # type: ignore[arg-type]
    return _card(name, spec, OutputSpec(kind), labels, nms_iou=ULTRALYTICS_IOU)  # type: ignore[arg-type]


def _normalised(output: TensorInfo) -> bool:
    """Whether the scale of a quantised output leaves room for shares of the input and not for its pixels."""
    if not output.quantised:
        return False
    highest = (np.iinfo(output.dtype).max - output.zero_point) * output.scale
    return bool(0.9 <= highest <= 2.0)


def _check_labels(name: str, labels: tuple[str, ...], classes: int | None) -> None:
    if not labels:
        raise ModelError("wrong_shape", f"{name} carries no labels of its own: give a label file")
    fault = labels_fault(labels, classes) if classes is not None else ""
    if fault:
        raise ModelError("wrong_shape", f"{name}: {fault}")


def _card(name: str, spec: InputSpec, output: OutputSpec, labels: tuple[str, ...], nms_iou: float = 0.5) -> ModelCard:
    limits = Thresholds(score=INFERRED_SCORE, nms_iou=nms_iou)
    return ModelCard(name, "detect", spec, output, labels, limits, "unknown", f"inferred from {name}")
