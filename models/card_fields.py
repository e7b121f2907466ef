"""The fields of a model card, and what each of them means. Pure, standard library only."""

from dataclasses import dataclass, field
from typing import Literal

from models.toml_table import PerChannel, TensorNames

UNUSED_LABELS = frozenset({"n/a", "???", ""})
"""Names that mark a class id as unused (COCO's 90 ids have ten gaps)."""

Task = Literal["detect", "classify"]
DecoderKind = Literal["points", "ssd_postprocess", "ssd_anchors", "yolox", "yolov5", "yolov8", "classifier"]
Activation = Literal["none", "sigmoid", "softmax"]
Resize = Literal["letterbox", "letterbox_centre", "stretch"]
BoxUnits = Literal["normalised", "pixels"]
AnchorKind = Literal["ssd", "multiscale"]


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the input tensor.

    `mean` and `std` act on pixel values 0..255: value = (pixel - mean) / std, one number or one per channel in the order of
    `colour`. A quantised tensor's own scale and zero point are applied on top. Mean 0 and std 1 mean *raw*: the pixel's number
    itself goes in (uint8 as it is, int8 less 128, float as 0..255), whatever scale the tensor declares.
    Letterboxing keeps the aspect ratio, puts the picture at the top left (`letterbox_centre`: in the middle) and fills the rest
    with `pad_value`. `antialias`: whether a picture more than twice as large as the input is averaged on its way down; None
    leaves it to the kind of resize (letterbox: yes, stretch: no; see `models.inference.preprocess`).
    """

    width_px: int
    height_px: int
    layout: Literal["nhwc", "nchw"] = "nhwc"
    colour: Literal["rgb", "bgr"] = "rgb"
    resize: Resize = "stretch"
    pad_value: int = 114
    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    antialias: bool | None = None

    @property
    def raw(self) -> bool:
        """Whether pixel values go into the tensor unscaled."""
        return self.mean in (0.0, (0.0, 0.0, 0.0)) and self.std in (1.0, (1.0, 1.0, 1.0))

    @property
    def averaged(self) -> bool:
        """Whether large pictures are antialiased."""
        return self.resize != "stretch" if self.antialias is None else self.antialias


@dataclass(frozen=True)
class AnchorSpec:
    """How the anchors of an SSD were laid, for models that leave box decoding to us; feature maps are those of `strides`.

    `ssd` (TensorFlow's ssd_anchor_generator): scales grow evenly from `min_scale` to `max_scale` over the maps, shares of the
    input's shorter side; each cell has one anchor for each of `aspect_ratios` and, with `interpolated_ratio` above 0, one of that
    ratio between its own scale and the next; with `reduce_lowest` the first map has three (scale 0.1, then ratios 2 and 1/2).
    `multiscale` (RetinaNet, SSD FPN): `scales_per_octave` sizes from `anchor_scale` strides on, for each of `aspect_ratios`.
    """

    kind: AnchorKind = "ssd"
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 0.3333)
    min_scale: float = 0.2
    max_scale: float = 0.95
    interpolated_ratio: float = 1.0
    reduce_lowest: bool = True
    anchor_scale: float = 4.0
    scales_per_octave: int = 2


@dataclass(frozen=True)
class OutputSpec:
    """How output tensors become detections or class scores.

    The four names are tensor or signature names (a tuple: one per stride); None leaves the choice to shape and order.
    `strides` are in input pixels, in the order in which the points stand in the tensors. `box_units` (yolov5, yolov8): whether
    x, y, width, height are shares of the input or its pixels. `distance_bins` (points): 0 for plain distances, else the number of
    bins over which each distance is a distribution (DFL). `box_scales` (ssd_anchors): what the encoded y, x, height, width were
    multiplied with; `background`: whether class 0 of its scores means nothing.
    """

    decoder: DecoderKind
    strides: tuple[int, ...] = ()
    boxes: TensorNames = None
    scores: TensorNames = None
    classes: str | None = None
    count: str | None = None
    score_activation: Activation = "none"
    box_units: BoxUnits = "normalised"
    distance_bins: int = 0
    box_scales: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)
    background: bool = True
    anchors: AnchorSpec | None = None


@dataclass(frozen=True)
class Thresholds:
    """What counts as found: scores 0..1, a class of its own threshold in `per_class`, IoU 0..1 for suppression."""

    score: float = 0.5
    per_class: dict[str, float] = field(default_factory=dict)
    nms_iou: float = 0.5
    max_detections: int = 100

    @property
    def lowest(self) -> float:
        """The lowest score that any class is let through with."""
        return min([self.score, *self.per_class.values()])


@dataclass(frozen=True)
class ModelCard:
    """One model's card; `labels[i]` names class id i, names in `UNUSED_LABELS` mark ids that never occur."""

    name: str
    task: Task
    input: InputSpec
    output: OutputSpec
    labels: tuple[str, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    licence: str = ""
    source: str = ""
