"""What kind of model is this, by its tensors: words for those whom a refusal should tell what they hold. Pure."""

import math
from collections.abc import Sequence

from models.card import UNUSED_LABELS
from models.inference.types import TensorInfo

BACKGROUND = UNUSED_LABELS | {"background", "__background__", "none"}
CLASSIFIER_MIN = 2
YOLO_STRIDES = (8, 16, 32)
"""Those of the YOLO family's usual three grids."""
NAME_CHARS = 48


def looks_like(outputs: Sequence[TensorInfo]) -> str:
    """A sentence on a model that is no detector, and what to do with it; empty where its outputs say nothing clear."""
    shapes = [info.shape for info in outputs]
    if any(len(shape) == 4 and shape[0] == 1 and shape[2:] in ((17, 3), (6, 56)) for shape in shapes):
        return "This looks like a pose net (keypoints of a body), which gives no boxes: use it on crops, behind a detector"
    if len(shapes) == 1 and _classes(shapes[0]) >= CLASSIFIER_MIN:
        return (
            f"This looks like a classifier of {_classes(shapes[0])} classes, which gives no boxes: "
            "use it on crops (task = \"classify\"), or choose a detector"
        )
    maps = [shape for shape in shapes if len(shape) == 4 and shape[0] == 1 and shape[1] > 1 and shape[2] > 1]
    if len(maps) >= 3 and sorted({shape[3] for shape in maps})[:3] == [17, 32, 34]:
        return "This looks like a pose net (heat maps of 17 joints), which gives no boxes: use it on crops, behind a detector"
    if len(shapes) == len(maps) == 1:
        return "This looks like a segmentation net (one value for each pixel), which gives no boxes: choose a detector"
    return ""


def input_fault(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> str:
    """Why a model cannot be given a picture and nothing else; empty where it can."""
    if len(inputs) == 1:
        return ""
    if not inputs:
        return "it takes no input at all"
    given = [(info.shape, info.dtype) for info in outputs]
    states = [info for info in inputs if len(info.shape) != 4 or info.shape[3] not in (1, 3)]
    back = [info for info in states if (info.shape, info.dtype) in given]
    names = ", ".join(f"{said(info)} {info.shape}" for info in (back or states or inputs)[:4])
    if back:
        return (
            f"it has {len(inputs)} inputs and carries state from frame to frame ({names} come back as outputs): a recurrent "
            "model. Frames are looked at one by one here, and some are skipped; export it without state"
        )
    return f"it has {len(inputs)} inputs ({names}); a detector takes one picture and nothing else: export it so"


def labels_fault(labels: Sequence[str], classes: int) -> str:
    """Why these labels are not those of a model of so many classes, and what to do; empty where they are."""
    if len(labels) == classes:
        return ""
    if len(labels) == classes + 1 and labels[0].strip().lower() in BACKGROUND:
        return (
            f"the labels begin with {labels[0]!r} for the background, which this model does not count: "
            f"take that first line out, or every name is one class off ({classes} classes)"
        )
    few = "too few" if len(labels) < classes else "too many"
    return f"{len(labels)} labels are {few}: the model has {classes} classes (name unused ones n/a)"


def card_advice(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> str:
    """Which fields a card of such a model needs: the ones that can be read off its tensors, filled in."""
    size = "width_px, height_px"
    if len(inputs) == 1 and len(inputs[0].shape) == 4:
        sides = inputs[0].shape
        layout, height, width = ("nchw", *sides[2:]) if sides[1] == 3 else ("nhwc", *sides[1:3])
        size = f"width_px = {width}, height_px = {height}, layout = \"{layout}\""
        cells = sum(-(-height // stride) * -(-width // stride) for stride in YOLO_STRIDES)
        rows = [info for info in outputs if len(info.shape) == 3 and info.shape[1] == cells and info.shape[2] > 5]
        if len(outputs) == len(rows) == 1:
            shape, strides = rows[0].shape, list(YOLO_STRIDES)
            return (
                f"Its output {shape} has a row for each cell of the strides {strides} and {shape[2] - 5} classes. Write a model "
                f"card: labels, licence, [input] {size}, colour, resize, mean, std, [output] decoder = \"yolox\" with these "
                "strides, or \"yolov5\" with box_units = \"pixels\" if it was exported with its own decoding (models/README.md)"
            )
    there = ", ".join(f"{said(info)} {info.shape} {info.dtype}" for info in outputs)
    return (
        f"Write a model card: labels, licence, [input] {size}, colour, resize, mean, std, [output] decoder (points, yolox, "
        f"yolov5, yolov8 or ssd_anchors) with its strides, box_units or anchors (models/README.md). The outputs are {there}"
    )


def said(info: TensorInfo) -> str:
    """What a tensor is called, cut to a length that a sentence bears: fused ones have names of a whole page."""
    name = info.signature_name or info.name or "?"
    return name if len(name) <= NAME_CHARS else name[: NAME_CHARS - 1] + "…"


def _classes(shape: tuple[int, ...]) -> int:
    """How many classes a tensor of this shape scores for the whole picture; 0 where it does not look like that."""
    return shape[-1] if len(shape) >= 2 and math.prod(shape) == shape[-1] else 0
