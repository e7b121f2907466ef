"""Every kind of head, laid by an encoder of this file's own and decoded by the card alone: what went in must come out.

The encoder works on lists of boxes, one at a time and in plain arithmetic: it shares no code and no axis with the decoders.
"""

import dataclasses
import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import AnchorSpec, InputSpec, ModelCard, OutputSpec, Thresholds, dump_card, load_card
from models.inference.anchors import lay_anchors
from models.inference.decode import decode, make_decoder
from models.inference.errors import ModelError
from models.inference.head import limits_of
from models.inference.preprocess import Geometry
from models.inference.types import OutputTensor, TensorInfo

WIDTH, HEIGHT = 160, 96
LABELS = ("person", "cart", "animal", "n/a", "bus")
SAME = Geometry(WIDTH, HEIGHT, 1.0, 1.0)
CELLS = [(stride, column, row) for stride in (8, 16) for row in range(HEIGHT // stride) for column in range(WIDTH // stride)]
ANCHORS = AnchorSpec(aspect_ratios=(1.0, 2.0, 0.5))


def card(decoder: str, **output: Any) -> ModelCard:
    return ModelCard(
        "head", "detect", InputSpec(WIDTH, HEIGHT), OutputSpec(decoder, **output), LABELS, Thresholds(0.5, nms_iou=0.6), "CC0-1.0"
    )  # type: ignore[arg-type]


def refusal(call: Any, *arguments: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    return caught.value


@st.composite
def scenes(draw: st.DrawFn) -> list[tuple[list[float], int, float]]:
    """Boxes that do not overlap, one in each of some tiles of the picture: (left, top, right, bottom), class, score."""
    tiles = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=0, max_size=8, unique=True))
    found = []
    for column, row in tiles:
        left, top = column * 32 + draw(st.floats(1, 8)), row * 32 + draw(st.floats(1, 8))
        right, bottom = left + draw(st.floats(9, 22)), top + draw(st.floats(9, 22))
        found.append(([left, top, right, bottom], draw(st.sampled_from([0, 1, 2, 4])), draw(st.integers(140, 250)) / 255))
    return found


def logit(score: float) -> float:
    return math.log(score / (1 - score))


def stored(real: np.ndarray, kind: str, scale: float, zero: int) -> OutputTensor:
    """A tensor as a float or a quantised network gives it."""
    if kind == "float32":
        return OutputTensor.of(real.astype(np.float32))
    whole = np.clip(np.rint(real / scale) + zero, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)
    return OutputTensor.of(whole, scale=scale, zero_point=zero)


def check(scene: Any, tensors: list[OutputTensor], by: ModelCard, px: float, score: float) -> None:
    """The boxes of a scene come out within `px` and `score`."""
    found = decode(tensors, by, SAME)
    assert len(found) == len(scene)
    left = list(range(len(found)))
    for box, class_id, wanted in scene:
        at = min(left, key=lambda one: float(np.abs(found.xyxy[one] - box).max()))
        left.remove(at)
        assert found.xyxy[at].tolist() == pytest.approx(box, abs=px)
        assert found.class_id[at] == class_id
        assert found.confidence[at] == pytest.approx(wanted, abs=score)
    assert (np.diff(found.confidence) <= 1e-6).all()


KINDS = st.sampled_from([("float32", 0.0, 0), ("int8", 1 / 255, -128), ("uint8", 1 / 255, 0), ("int16", 1 / 32767, 0)])


@given(scenes(), KINDS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_yolov8_columns_come_out(scene: Any, kind: tuple[str, float, int], turned: bool) -> None:
    """YOLOv8 and 11 as Ultralytics exports them: (1, 4 + C, N), shares of the input, one 8-bit scale for boxes and scores."""
    real = np.zeros((4 + len(LABELS), 315))
    for at, (box, class_id, score) in enumerate(scene):
        column = 17 * at + 3
        real[0, column], real[1, column] = (box[0] + box[2]) / 2 / WIDTH, (box[1] + box[3]) / 2 / HEIGHT
        real[2, column], real[3, column] = (box[2] - box[0]) / WIDTH, (box[3] - box[1]) / HEIGHT
        real[4 + class_id, column] = score
    tensor = stored((real.T if turned else real)[None], *kind)
    tolerance = WIDTH / 255 if kind[0] in ("int8", "uint8") else 0.02
    check(scene, [tensor], card("yolov8"), px=tolerance, score=0.005)


@given(scenes(), st.sampled_from([("float32", 0.0, 0), ("int16", 1 / 128, 0)]))
@settings(max_examples=40, deadline=None)
def test_yolov8_in_pixels_with_raw_scores_comes_out(scene: Any, kind: tuple[str, float, int]) -> None:
    real = np.full((4 + len(LABELS), 315), -9.0)
    real[:4] = 0
    for at, (box, class_id, score) in enumerate(scene):
        real[:4, 314 - at] = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
        real[4 + class_id, 314 - at] = logit(score)
    by = card("yolov8", box_units="pixels", score_activation="sigmoid")
    check(scene, [stored(real[None], *kind)], by, px=0.05, score=0.01)


@given(scenes(), KINDS)
@settings(max_examples=60, deadline=None)
def test_yolov5_rows_come_out(scene: Any, kind: tuple[str, float, int]) -> None:
    """YOLOv5 as exported: (1, N, 5 + C), objectness times class score."""
    real = np.zeros((1, 900, 5 + len(LABELS)))
    for at, (box, class_id, score) in enumerate(scene):
        middle = [(box[0] + box[2]) / 2 / WIDTH, (box[1] + box[3]) / 2 / HEIGHT]
        real[0, 31 * at + 7, :5] = [*middle, (box[2] - box[0]) / WIDTH, (box[3] - box[1]) / HEIGHT, math.sqrt(score)]
        real[0, 31 * at + 7, 5 + class_id] = math.sqrt(score)
    tolerance = WIDTH / 255 if kind[0] in ("int8", "uint8") else 0.02
    check(scene, [stored(real, *kind)], card("yolov5"), px=tolerance, score=0.01)


@given(scenes(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_yolox_cells_come_out_whether_decoded_or_not(scene: Any, decoded: bool) -> None:
    """The raw export counts in cells and logarithms; the one with its own decoding is YOLOv5's form in pixels."""
    real = np.zeros((1, len(CELLS), 5 + len(LABELS)))
    for box, class_id, score in scene:
        middle, size = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], [box[2] - box[0], box[3] - box[1]]
        at = CELLS.index((8, int(middle[0] // 8), int(middle[1] // 8)))
        if decoded:
            real[0, at, :4] = [*middle, *size]
        else:
            real[0, at, :2] = [middle[0] / 8 - middle[0] // 8, middle[1] / 8 - middle[1] // 8]
            real[0, at, 2:4] = [math.log(size[0] / 8), math.log(size[1] / 8)]
        real[0, at, 4], real[0, at, 5 + class_id] = 1.0, score
    by = card("yolov5", box_units="pixels") if decoded else card("yolox", strides=(8, 16))
    check(scene, [stored(real, "float32", 0, 0)], by, px=0.01, score=0.001)


@given(scenes(), st.sampled_from(["float32", "int8"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_split_heads_for_an_edge_tpu_come_out(scene: Any, kind: str, per_stride: bool) -> None:
    """Scores as logits and distances as 16 bins each, in two tensors (or two for each stride), as they are split for an Edge TPU:
    the distances are what a distribution over the bins says, between two of them.
    """
    bins = 16
    scores = np.full((len(CELLS), len(LABELS)), -8.0)
    boxes = np.full((len(CELLS), 4 * bins), -12.0)
    for box, class_id, score in scene:
        middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        at = CELLS.index((8, int(middle[0] // 8), int(middle[1] // 8)))
        x, y = (CELLS[at][1] + 0.5) * 8, (CELLS[at][2] + 0.5) * 8
        scores[at, class_id] = logit(score)
        for side, distance in enumerate([(x - box[0]) / 8, (y - box[1]) / 8, (box[2] - x) / 8, (box[3] - y) / 8]):
            whole, part = int(distance // 1), distance % 1
            boxes[at, side * bins + whole] = math.log(1 - part + 1e-9) + 6
            boxes[at, side * bins + whole + 1] = math.log(part + 1e-9) + 6
    cut = [240] if per_stride else []
    halves = [
        stored(part[None], kind, scale, zero)
        for real, scale, zero in ((scores, 1 / 12, 20), (boxes, 1 / 8, 32))
        for part in np.split(real, cut)
    ]
    by = card("points", strides=(8, 16), distance_bins=bins, score_activation="sigmoid")
    # An eighth of a logit moves a half-and-half distribution by a sixteenth of a stride of 8.
    check(scene, halves, by, px=0.05 if kind == "float32" else 1.0, score=0.012)


@given(scenes(), st.booleans(), st.sampled_from([("float32", 0.0, 0), ("uint8", 1 / 255, 0)]))
@settings(max_examples=60, deadline=None)
def test_an_ssd_without_post_processing_comes_out(scene: Any, background: bool, kind: tuple[str, float, int]) -> None:
    """Offsets from anchors times 10, 10, 5, 5; the first column of the scores is the background, or left out."""
    laid = lay_anchors(ANCHORS, WIDTH, HEIGHT, (8, 16))
    skip = 1 if background else 0
    boxes, scores = np.zeros((1, len(laid), 4)), np.zeros((1, len(laid), len(LABELS) + skip))
    if background:
        scores[0, :, 0] = 0.99
    for box, class_id, score in scene:
        middle = ((box[1] + box[3]) / 2, (box[0] + box[2]) / 2)
        at = int(np.argmin(np.hypot(laid[:, 0] - middle[0], laid[:, 1] - middle[1])))
        y, x, height, width = laid[at].tolist()
        boxes[0, at, :2] = [(middle[0] - y) / height * 10, (middle[1] - x) / width * 10]
        boxes[0, at, 2:] = [math.log((box[3] - box[1]) / height) * 5, math.log((box[2] - box[0]) / width) * 5]
        scores[0, at, class_id + skip] = score
    by = card("ssd_anchors", strides=(8, 16), anchors=ANCHORS, background=background)
    check(scene, [stored(scores, *kind), stored(boxes, "float32", 0, 0)], by, px=0.02, score=0.005)


# anchors -----------------------------------------------------------------------------------------------------------------------


def test_the_anchors_of_ssd_mobilenet_are_those_of_tensorflow() -> None:
    """1,917 anchors at 300 px; first, second and last cell worked out by hand from ssd_anchor_generator's formulas."""
    laid = lay_anchors(AnchorSpec(), 300, 300, (16, 32, 64, 128, 256, 512))
    assert laid.shape == (1917, 4)
    share = laid / 300
    first = [0.5 / 19, 0.5 / 19, 0.1, 0.1]
    assert share[0].tolist() == pytest.approx(first, abs=1e-5)
    assert share[1].tolist() == pytest.approx([*first[:2], 0.2 / math.sqrt(2), 0.2 * math.sqrt(2)], abs=1e-5)
    assert share[2].tolist() == pytest.approx([*first[:2], 0.2 * math.sqrt(2), 0.2 / math.sqrt(2)], abs=1e-5)
    assert share[3].tolist() == pytest.approx([0.5 / 19, 1.5 / 19, 0.1, 0.1], abs=1e-5)
    second_map = share[19 * 19 * 3]
    assert second_map.tolist() == pytest.approx([0.05, 0.05, 0.35, 0.35], abs=1e-5)
    assert share[19 * 19 * 3 + 5].tolist() == pytest.approx([0.05, 0.05, math.sqrt(0.35 * 0.5), math.sqrt(0.35 * 0.5)], abs=1e-5)
    assert share[-6].tolist() == pytest.approx([0.5, 0.5, 0.95, 0.95], abs=1e-5)
    assert share[-1].tolist() == pytest.approx([0.5, 0.5, math.sqrt(0.95), math.sqrt(0.95)], abs=1e-5)


def test_the_anchors_of_a_pyramid_grow_by_octaves() -> None:
    """multiscale_grid_anchor_generator at 640 px: 51,150 anchors, 4 strides wide, two sizes an octave, ratio after ratio."""
    spec = AnchorSpec("multiscale", aspect_ratios=(1.0, 2.0, 0.5), anchor_scale=4.0, scales_per_octave=2)
    laid = lay_anchors(spec, 640, 640, (8, 16, 32, 64, 128))
    assert laid.shape == ((80 * 80 + 40 * 40 + 20 * 20 + 10 * 10 + 5 * 5) * 6, 4)
    assert laid[0].tolist() == pytest.approx([4, 4, 32, 32])
    assert laid[1].tolist() == pytest.approx([4, 4, 32 * math.sqrt(2), 32 * math.sqrt(2)])
    assert laid[2].tolist() == pytest.approx([4, 4, 32 / math.sqrt(2), 32 * math.sqrt(2)])
    odd = lay_anchors(spec, 320, 320, (128,))
    assert odd[0, :2].tolist() == [0, 0], "128 does not divide 320: TensorFlow leaves the offset out"


def test_a_card_with_more_anchors_than_any_model_is_refused_before_they_are_laid() -> None:
    huge = ModelCard(
        "huge", "detect", InputSpec(4096, 4096), OutputSpec("ssd_anchors", (1,), anchors=AnchorSpec()), LABELS, licence="CC0-1.0"
    )
    assert "anchors" in refusal(make_decoder, huge, []).message


# what does not fit -------------------------------------------------------------------------------------------------------------


def info(*shape: int, name: str = "out", dtype: str = "f4", scale: float = 0.0) -> TensorInfo:
    return TensorInfo(name, shape, np.dtype(dtype), scale)


def test_too_few_and_too_many_labels_are_told_from_a_wrong_model() -> None:
    """The label file of another model: the refusal says how many classes there are, not only that shapes differ."""
    anchors = len(lay_anchors(ANCHORS, WIDTH, HEIGHT, (8, 16)))
    for by, outputs in (
        (card("yolox", strides=(8, 16)), [info(1, 300, 85)]),
        (card("points", strides=(8, 16)), [info(1, 300, 4), info(1, 300, 80)]),
        (card("points", strides=(8, 16), distance_bins=16), [info(1, 300, 64), info(1, 300, 80)]),
        (card("ssd_anchors", strides=(8, 16), anchors=ANCHORS), [info(1, anchors, 4), info(1, anchors, 81)]),
    ):
        error = refusal(make_decoder, by, outputs)
        assert error.reason == "wrong_shape"
        assert "5 labels are too few: the model has 80 classes" in error.message
    many = refusal(make_decoder, card("yolox", strides=(8, 16)), [info(1, 300, 7)]).message
    assert "5 labels are too many: the model has 2 classes" in many


def test_each_head_refuses_what_is_not_its_own() -> None:
    anchored = card("ssd_anchors", strides=(8, 16), anchors=ANCHORS)
    wrong = ([], [info(1, 1001)], [info(1, 1, 17, 3)], [info(2, 300, 10)], [info(1, 9, 300), info(1, 9, 300)], [info()])
    for by in (card("yolov8"), card("yolov5"), card("yolox", strides=(8, 16)), anchored, card("points", strides=(8, 16))):
        for outputs in wrong:
            assert refusal(make_decoder, by, outputs).reason == "wrong_shape"
    two = [info(1, 9, 315, name="a"), info(1, 9, 315, name="b")]
    make_decoder(card("yolov8", boxes="b"), two)  # the card tells which of two that look alike


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([info(1, 1001, dtype="u1")], "classifier of 1001 classes"),
        ([info(1, 1, 1, 1000)], "classifier of 1000 classes"),
        ([info(1, 1, 17, 3)], "pose net"),
        ([info(1, 1, 6, 56)], "pose net"),
        ([info(1, 23, 17, 17), info(1, 23, 17, 34), info(1, 23, 17, 64), info(1, 23, 17, 32)], "pose net"),
        ([info(1, 257, 257, 21)], "segmentation"),
    ],
)
def test_a_model_that_is_no_detector_is_called_what_it_is(outputs: list[TensorInfo], words: str) -> None:
    """A classifier, pose nets, a segmentation net under a detector's card: refused before anything runs, with what to do."""
    message = refusal(make_decoder, card("yolov8"), outputs).message
    assert words in message
    assert "detector" in message.split(words)[1]


# thresholds in the tensor's own numbers -----------------------------------------------------------------------------------------


@given(
    st.sampled_from([("int8", -128), ("int8", 0), ("uint8", 0), ("uint8", 128), ("int16", 0)]),
    st.floats(1e-4, 0.2),
    st.lists(st.one_of(st.floats(0, 1), st.just(math.inf)), min_size=1, max_size=5),
    st.sampled_from(["none", "sigmoid"]),
)
@settings(max_examples=150, deadline=None)
def test_comparing_raw_numbers_is_comparing_scores(
    kind: tuple[str, int], scale: float, scores: list[float], activation: str
) -> None:
    """Every value that a quantised tensor can hold: it passes raw exactly where its score passes (but for the last bit)."""
    tensor = TensorInfo("s", (1,), np.dtype(kind[0]), scale, kind[1])
    bounds = np.iinfo(kind[0])
    values = np.arange(bounds.min, bounds.max + 1, max(1, (bounds.max - bounds.min) // 500)).astype(kind[0])
    wanted = np.array(scores, np.float32)
    passed = limits_of(wanted, activation, tensor).passed(np.repeat(values[:, None], len(scores), axis=1))
    real = (values.astype(np.float64) - kind[1]) * scale
    if activation == "sigmoid":
        real = 1 / (1 + np.exp(-np.clip(real, -500, 500)))
    for column, threshold in enumerate(scores):
        clear = np.abs(real - threshold) > 1e-5
        assert (passed[clear, column] == (real[clear] >= threshold)).all()


def test_no_line_of_python_runs_once_for_each_anchor() -> None:
    """8,400 candidates of 80 classes, 50 of which fire: the lines that run are counted, and a loop over anchors would show."""
    names = tuple(f"c{at}" for at in range(80))
    laid = lay_anchors(AnchorSpec(), 640, 640, (16, 32, 64, 128, 256, 512))
    large = InputSpec(640, 640)
    heads = (
        (card("yolov8"), [(1, 84, 8400)]),
        (card("yolov5"), [(1, 25200, 85)]),
        (card("yolox", strides=(8, 16, 32)), [(1, 8400, 85)]),
        (card("points", strides=(8, 16, 32), distance_bins=16), [(1, 8400, 64), (1, 8400, 80)]),
        (card("ssd_anchors", strides=(16, 32, 64, 128, 256, 512), anchors=AnchorSpec()), [(1, len(laid), 4), (1, len(laid), 81)]),
    )
    for by, shapes in heads:
        by = dataclasses.replace(by, labels=names, input=large)
        outputs = [OutputTensor.of(np.full(shape, -128, np.int8), scale=1 / 255, zero_point=-128) for shape in shapes]
        for output in outputs:
            output.values.reshape(-1)[:: output.values.size // 50] = 100
        decoder = make_decoder(by, [output.info for output in outputs])
        lines = 0

        def count(frame: Any, event: str, argument: Any) -> Any:
            nonlocal lines
            lines += event == "line"
            return count

        before = sys.gettrace()
        sys.settrace(count)
        try:
            decoder(outputs, Geometry(640, 640, 1, 1), None)
        finally:
            sys.settrace(before)
        assert 0 < lines < 1500, by.output.decoder


def test_numbers_that_are_none_never_come_out() -> None:
    """A delegate gone bad: NaN and infinity in every place of every head."""
    laid = len(lay_anchors(ANCHORS, WIDTH, HEIGHT, (8, 16)))
    heads = (
        (card("yolov8"), [(1, 9, 315)]),
        (card("yolov5"), [(1, 300, 10)]),
        (card("yolox", strides=(8, 16)), [(1, 300, 10)]),
        (card("points", strides=(8, 16), distance_bins=16, score_activation="sigmoid"), [(1, 300, 64), (1, 300, 5)]),
        (card("ssd_anchors", strides=(8, 16), anchors=ANCHORS), [(1, laid, 4), (1, laid, 6)]),
    )
    rng = np.random.default_rng(0)
    for by, shapes in heads:
        for bad in (np.nan, np.inf, -np.inf, 3e38):
            values = [rng.random(shape).astype(np.float32) * 3 for shape in shapes]
            for value in values:
                value[rng.random(value.shape) < 0.3] = bad
            found = decode([OutputTensor.of(value) for value in values], by, SAME)
            assert np.isfinite(found.xyxy).all()
            assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


@pytest.mark.parametrize(
    "output",
    [
        OutputSpec("yolov8", box_units="pixels"),
        OutputSpec("yolov5", boxes="Identity", score_activation="sigmoid"),
        OutputSpec("points", (8, 16, 32), distance_bins=16, score_activation="sigmoid"),
        OutputSpec("ssd_anchors", (16, 32), anchors=AnchorSpec("multiscale", (1.0, 2.0), scales_per_octave=3), background=False),
    ],
)
def test_cards_of_these_heads_survive_their_file(output: OutputSpec) -> None:
    by = dataclasses.replace(card("yolov8"), output=output, input=InputSpec(640, 640, resize="letterbox_centre", antialias=False))
    assert load_card(dump_card(by)) == by
