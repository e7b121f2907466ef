"""The model card: all that is needed to run a model that a stranger trained, as one TOML text.

Pure and standard library only, so that a server or a flashing tool can read a card without numpy. `load_card` names every
fault of a card at once: whoever writes one by hand should not have to mend it fault by fault.
"""

import json
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, cast

from models.toml_table import PerChannel, Table, TensorNames

UNUSED_LABELS = frozenset({"n/a", "???", ""})
"""Names that mark a class id as unused (COCO's 90 ids have ten gaps)."""
MAX_LABELS = 20_000
MAX_LABEL_CHARS = 200
MAX_SIDE_PX = 4096
MAX_CARD_CHARS = 1_000_000

Task = Literal["detect", "classify"]
DecoderKind = Literal["points", "ssd_postprocess", "yolox", "classifier"]
Activation = Literal["none", "sigmoid", "softmax"]


class CardError(ValueError):
    """A card that cannot be used; `faults` holds one sentence for each thing that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("this model card cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the input tensor.

    `mean` and `std` act on pixel values 0..255: value = (pixel - mean) / std, one number or one per channel in the order of
    `colour`. A quantised tensor's own scale and zero point are applied on top. Mean 0 and std 1 mean *raw*: the pixel's number
    itself goes in (uint8 as it is, int8 less 128, float as 0..255), whatever scale the tensor declares.
    Letterboxing keeps the aspect ratio, puts the picture at the top left and fills the rest with `pad_value`.
    """

    width_px: int
    height_px: int
    layout: Literal["nhwc", "nchw"] = "nhwc"
    colour: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["letterbox", "stretch"] = "stretch"
    pad_value: int = 114
    mean: PerChannel = 0.0
    std: PerChannel = 1.0

    @property
    def raw(self) -> bool:
        """Whether pixel values go into the tensor unscaled."""
        return self.mean in (0.0, (0.0, 0.0, 0.0)) and self.std in (1.0, (1.0, 1.0, 1.0))


@dataclass(frozen=True)
class OutputSpec:
    """How output tensors become detections or class scores.

    The four names are tensor or signature names (a tuple: one per stride); None leaves the choice to shape and order.
    `strides` are in input pixels, in the order in which the points stand in the tensors.
    """

    decoder: DecoderKind
    strides: tuple[int, ...] = ()
    boxes: TensorNames = None
    scores: TensorNames = None
    classes: str | None = None
    count: str | None = None
    score_activation: Activation = "none"


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


def load_card(text: str) -> ModelCard:
    """The card that a TOML text describes; raises CardError with ALL faults at once, unknown keys among them."""
    if len(text) > MAX_CARD_CHARS:
        raise CardError([f"the text is longer than {MAX_CARD_CHARS} characters"])
    try:
        top = Table(tomllib.loads(text), "", [])
    except tomllib.TOMLDecodeError as error:
        raise CardError([f"not TOML: {error}"]) from error
    except RecursionError as error:
        raise CardError(["not a card: nested too deeply"]) from error
    card = ModelCard(
        name=top.text("name"),
        task=cast(Task, top.choice("task", ("detect", "classify"))),
        input=_input(top.table("input")),
        output=_output(top.table("output")),
        labels=_labels(top),
        thresholds=_thresholds(top.table("thresholds", required=False)),
        licence=top.text("licence"),
        source=top.text("source", default=""),
    )
    top.finish()
    if not top.faults:
        _cross_check(card, top.faults)
    if top.faults:
        raise CardError(top.faults)
    return card


def dump_card(card: ModelCard) -> str:
    """The card as TOML that `load_card` reads back as an equal card."""
    lines = [_line(key, getattr(card, key)) for key in ("name", "task", "licence", "source", "labels")]
    for section, value in (("input", card.input), ("output", card.output), ("thresholds", card.thresholds)):
        pairs = [(key, item) for key, item in vars(value).items() if item is not None and item != () and key != "per_class"]
        lines += ["", f"[{section}]", *(_line(key, item) for key, item in pairs)]
    if card.thresholds.per_class:
        lines += ["", "[thresholds.per_class]"]
        lines += [f"{_quoted(label)} = {_value(score)}" for label, score in card.thresholds.per_class.items()]
    return "\n".join(lines) + "\n"


def parse_labels(text: str) -> tuple[str, ...]:
    """Labels from a label file: line n (from 0) names class id n; trailing empty lines are dropped."""
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(line or "n/a" for line in lines)


def tensor_names(names: TensorNames) -> tuple[str, ...]:
    """The names of a card's field as a tuple, empty where the card names none."""
    return () if names is None else (names,) if isinstance(names, str) else names


def _input(table: Table) -> InputSpec:
    return InputSpec(
        width_px=table.whole("width_px", 1, MAX_SIDE_PX),
        height_px=table.whole("height_px", 1, MAX_SIDE_PX),
        layout=cast(Literal["nhwc", "nchw"], table.choice("layout", ("nhwc", "nchw"), "nhwc")),
        colour=cast(Literal["rgb", "bgr"], table.choice("colour", ("rgb", "bgr"), "rgb")),
        resize=cast(Literal["letterbox", "stretch"], table.choice("resize", ("letterbox", "stretch"), "stretch")),
        pad_value=table.whole("pad_value", 0, 255, 114),
        mean=table.per_channel("mean", 0.0, lambda number: True, "a finite number"),
        std=table.per_channel("std", 1.0, lambda number: number > 0, "a number above 0"),
    )


def _output(table: Table) -> OutputSpec:
    return OutputSpec(
        decoder=cast(DecoderKind, table.choice("decoder", ("points", "ssd_postprocess", "yolox", "classifier"))),
        strides=table.strides(),
        boxes=table.names("boxes"),
        scores=table.names("scores"),
        classes=table.name("classes"),
        count=table.name("count"),
        score_activation=cast(Activation, table.choice("score_activation", ("none", "sigmoid", "softmax"), "none")),
    )


def _thresholds(table: Table) -> Thresholds:
    per_class = table.table("per_class", required=False)
    values = {label: per_class.fraction(label, 0.5) for label in list(per_class.values)}
    return Thresholds(
        score=table.fraction("score", 0.5),
        per_class=values,
        nms_iou=table.fraction("nms_iou", 0.5),
        max_detections=table.whole("max_detections", 1, 10_000, 100),
    )


def _labels(top: Table) -> tuple[str, ...]:
    found = top.take("labels", required=True)
    if not isinstance(found, list) or not 1 <= len(found) <= MAX_LABELS:
        return top.fault("labels", f"a list of 1 to {MAX_LABELS} names", ())
    if not all(isinstance(label, str) and len(label) <= MAX_LABEL_CHARS for label in found):
        return top.fault("labels", f"only names of at most {MAX_LABEL_CHARS} characters", ())
    return tuple(found)


def _cross_check(card: ModelCard, faults: list[str]) -> None:
    """Faults that only show when two fields are seen together."""
    if (card.task == "classify") != (card.output.decoder == "classifier"):
        faults.append(f"task {card.task!r} does not go with decoder {card.output.decoder!r}")
    if card.output.decoder in ("points", "yolox") and not card.output.strides:
        faults.append(f"output.strides must be given for decoder {card.output.decoder!r}")
    if card.output.decoder in ("points", "yolox") and card.output.score_activation == "softmax":
        faults.append("output.score_activation 'softmax' is for classifiers: a detector's scores stand one by one")
    if card.output.decoder == "ssd_postprocess" and card.output.score_activation != "none":
        faults.append("output.score_activation must be 'none': TFLite_Detection_PostProcess has applied it already")
    used = [label for label in card.labels if label not in UNUSED_LABELS]
    if not used:
        faults.append("labels must hold at least one used name")
    # ImageNet has two cranes; a detector with two classes of one name cannot be told apart by anyone.
    twice = sorted(label for label, times in Counter(used).items() if times > 1) if card.task == "detect" else []
    if twice:
        faults.append(f"labels holds more than once: {', '.join(twice)}")
    unknown = sorted(set(card.thresholds.per_class) - set(used))
    if unknown:
        faults.append(f"thresholds.per_class names what labels does not hold: {', '.join(unknown)}")


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    # A TOML basic string is a JSON string but for U+007F, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
