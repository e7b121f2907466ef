"""The model card: all that is needed to run a model that a stranger trained, as one TOML text.

Pure and standard library only, so that a server or a flashing tool can read a card without numpy. `load_card` names every
fault of a card at once: whoever writes one by hand should not have to mend it fault by fault.
"""

import dataclasses
import json
import tomllib
import unicodedata
from collections import Counter
from dataclasses import fields
from typing import Literal, cast

from models.card_fields import (
    UNUSED_LABELS,
    Activation,
    AnchorKind,
    AnchorSpec,
    BoxUnits,
    DecoderKind,
    InputSpec,
    ModelCard,
    OutputSpec,
    Resize,
    Task,
    Thresholds,
)
from models.toml_table import Table, TensorNames

__all__ = [
    "UNUSED_LABELS",
    "AnchorSpec",
    "CardError",
    "InputSpec",
    "ModelCard",
    "OutputSpec",
    "Thresholds",
    "dump_card",
    "load_card",
    "parse_labels",
    "tensor_names",
    "with_labels",
]

MAX_LABELS = 20_000
MAX_LABEL_CHARS = 200
MAX_SIDE_PX = 4096
MAX_CARD_CHARS = 1_000_000
DECODERS = ("points", "ssd_postprocess", "ssd_anchors", "yolox", "yolov5", "yolov8", "classifier")
WITH_STRIDES = ("points", "yolox", "ssd_anchors")


class CardError(ValueError):
    """A card that cannot be used; `faults` holds one sentence for each thing that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("this model card cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


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
    """The card as TOML that `load_card` reads back as an equal card.

    Fields that a card does not need are left out, so that agents that do not know them yet read the rest.
    """
    lines = [_line(key, getattr(card, key)) for key in ("name", "task", "licence", "source", "labels")]
    for section, value in (("input", card.input), ("output", card.output), ("thresholds", card.thresholds)):
        lines += ["", f"[{section}]", *(_line(key, item) for key, item in _written(value))]
    if card.output.anchors is not None:
        lines += ["", "[output.anchors]", *(_line(key, item) for key, item in vars(card.output.anchors).items())]
    if card.thresholds.per_class:
        lines += ["", "[thresholds.per_class]"]
        lines += [f"{_quoted(label)} = {_value(score)}" for label, score in card.thresholds.per_class.items()]
    return "\n".join(lines) + "\n"


def parse_labels(text: str) -> tuple[str, ...]:
    """Labels from a label file: line n (from 0) names class id n; trailing empty lines are dropped, empty ones are unused ids.

    Raises CardError for what is no list of names: nothing in it, control characters, lines or counts beyond all measure.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise CardError(["the label file is empty: write one name a line, line 1 for class 0"])
    if len(lines) > MAX_LABELS:
        raise CardError([f"the label file has {len(lines)} lines; {MAX_LABELS} are the most"])
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LABEL_CHARS or any(unicodedata.category(sign) == "Cc" and sign != "\t" for sign in line):
            raise CardError([f"line {number} of the label file is no name (control characters, or over {MAX_LABEL_CHARS})"])
    return tuple(line or "n/a" for line in lines)


def with_labels(card: ModelCard, labels: tuple[str, ...]) -> ModelCard:
    """The card with other labels; raises CardError where they do not go with it (duplicates, none used, thresholds of others)."""
    changed = dataclasses.replace(card, labels=labels)
    faults: list[str] = []
    _check_labels(changed, faults)
    if faults:
        raise CardError(faults)
    return changed


def tensor_names(names: TensorNames) -> tuple[str, ...]:
    """The names of a card's field as a tuple, empty where the card names none."""
    return () if names is None else (names,) if isinstance(names, str) else names


def _input(table: Table) -> InputSpec:
    return InputSpec(
        width_px=table.whole("width_px", 1, MAX_SIDE_PX),
        height_px=table.whole("height_px", 1, MAX_SIDE_PX),
        layout=cast(Literal["nhwc", "nchw"], table.choice("layout", ("nhwc", "nchw"), "nhwc")),
        colour=cast(Literal["rgb", "bgr"], table.choice("colour", ("rgb", "bgr"), "rgb")),
        resize=cast(Resize, table.choice("resize", ("letterbox", "letterbox_centre", "stretch"), "stretch")),
        pad_value=table.whole("pad_value", 0, 255, 114),
        mean=table.per_channel("mean", 0.0, lambda number: True, "a finite number"),
        std=table.per_channel("std", 1.0, lambda number: number > 0, "a number above 0"),
        antialias=table.flag("antialias", None),
    )


def _output(table: Table) -> OutputSpec:
    return OutputSpec(
        decoder=cast(DecoderKind, table.choice("decoder", DECODERS)),
        strides=table.strides(),
        boxes=table.names("boxes"),
        scores=table.names("scores"),
        classes=table.name("classes"),
        count=table.name("count"),
        score_activation=cast(Activation, table.choice("score_activation", ("none", "sigmoid", "softmax"), "none")),
        box_units=cast(BoxUnits, table.choice("box_units", ("normalised", "pixels"), "normalised")),
        distance_bins=table.whole("distance_bins", 0, 64, 0),
        box_scales=table.numbers("box_scales", (10.0, 10.0, 5.0, 5.0), 4),
        background=bool(table.flag("background", True)),
        anchors=_anchors(table.table("anchors")) if "anchors" in table.values else None,
    )


def _anchors(table: Table) -> AnchorSpec:
    usual = AnchorSpec()
    return AnchorSpec(
        kind=cast(AnchorKind, table.choice("kind", ("ssd", "multiscale"), usual.kind)),
        aspect_ratios=table.numbers("aspect_ratios", usual.aspect_ratios),
        min_scale=table.fraction("min_scale", usual.min_scale),
        max_scale=table.fraction("max_scale", usual.max_scale),
        interpolated_ratio=table.positive("interpolated_ratio", usual.interpolated_ratio, zero=True),
        reduce_lowest=bool(table.flag("reduce_lowest", usual.reduce_lowest)),
        anchor_scale=table.positive("anchor_scale", usual.anchor_scale),
        scales_per_octave=table.whole("scales_per_octave", 1, 16, usual.scales_per_octave),
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
    output, decoder = card.output, card.output.decoder
    if (card.task == "classify") != (decoder == "classifier"):
        faults.append(f"task {card.task!r} does not go with decoder {decoder!r}")
    if decoder in WITH_STRIDES and not output.strides:
        faults.append(f"output.strides must be given for decoder {decoder!r}")
    if decoder not in ("classifier", "ssd_postprocess") and output.score_activation == "softmax":
        faults.append("output.score_activation 'softmax' is for classifiers: a detector's scores stand one by one")
    if decoder == "ssd_postprocess" and output.score_activation != "none":
        faults.append("output.score_activation must be 'none': TFLite_Detection_PostProcess has applied it already")
    if (decoder == "ssd_anchors") != (output.anchors is not None):
        faults.append("[output.anchors] goes with decoder 'ssd_anchors', and that decoder needs it")
    if output.distance_bins and decoder != "points":
        faults.append("output.distance_bins goes with decoder 'points'")
    if output.distance_bins == 1:
        faults.append("output.distance_bins must be 0 (plain distances) or 2 and more")
    if output.anchors is not None and output.anchors.min_scale > output.anchors.max_scale:
        faults.append("output.anchors.min_scale must not be above max_scale")
    _check_labels(card, faults)


def _check_labels(card: ModelCard, faults: list[str]) -> None:
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


ALWAYS_WRITTEN = frozenset(
    ("layout", "colour", "resize", "pad_value", "mean", "std", "score_activation", "score", "nms_iou", "max_detections")
)


def _written(section: InputSpec | OutputSpec | Thresholds) -> list[tuple[str, object]]:
    """The pairs of a section that stand in a file: those that the reader cannot know, and the ones that cards always had."""
    pairs = []
    for each in fields(section):
        value = getattr(section, each.name)
        told = each.name in ALWAYS_WRITTEN or value != each.default
        if told and value is not None and value != () and each.name not in ("per_class", "anchors"):
            pairs.append((each.name, value))
    return pairs


def _line(key: str, value: object) -> str:
    return f"{key} = {_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    # A TOML basic string is a JSON string but for U+007F, which TOML wants escaped.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
