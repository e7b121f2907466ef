"""From tensors to boxes: what was encoded must come out, whatever the order of outputs; what is broken must not crash."""

import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.card import InputSpec, ModelCard, OutputSpec, Thresholds
from models.inference.decode import decode, decode_scores, make_decoder
from models.inference.decode_points import point_grid
from models.inference.errors import REASONS, ModelError
from models.inference.nms import keep_best, pairwise_iou
from models.inference.preprocess import Geometry
from models.inference.types import Detections, OutputTensor

SAME = Geometry(160, 96, 1.0, 1.0)
LABELS = ("person", "cart", "animal")


def card(decoder: str = "points", **changes: Any) -> ModelCard:
    output = {"strides": (8, 16), **changes.pop("output", {})}
    base = ModelCard(
        "yard",
        "classify" if decoder == "classifier" else "detect",
        InputSpec(160, 96),
        OutputSpec(decoder, **output),  # type: ignore[arg-type]
        LABELS,
        Thresholds(score=0.5, nms_iou=1.0),
    )
    return dataclasses.replace(base, **changes)


def reason(call: Any, *arguments: Any) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments)
    assert caught.value.message
    return str(caught.value.reason)


# points ------------------------------------------------------------------------------------------------------------------------


@st.composite
def point_heads(draw: st.DrawFn) -> dict[str, Any]:
    strides = draw(st.sampled_from([(8,), (16,), (8, 16), (8, 16, 32)]))
    width, height = draw(st.integers(33, 200)), draw(st.integers(33, 200))
    counts = [-(-width // s) * -(-height // s) for s in strides]
    points = draw(st.lists(st.integers(0, sum(counts) - 1), max_size=12, unique=True))
    return {
        "strides": strides,
        "size": (width, height),
        "counts": counts,
        "points": np.array(sorted(points), int),
        "classes": np.array([draw(st.integers(0, 2)) for _ in points], int),
        "distances": np.array([[draw(st.integers(2, 60)) * 0.125 for _ in range(4)] for _ in points], np.float32).reshape(-1, 4),
        "scores": np.array([draw(st.integers(140, 255)) / 255 for _ in points], np.float32),
        "split": draw(st.booleans()),
        "kind": draw(st.sampled_from(["float", "sigmoid", "int8", "uint8"])),
    }


def encode(head: dict[str, Any]) -> tuple[list[OutputTensor], ModelCard]:
    """The tensors that a network would give for these boxes."""
    total = sum(head["counts"])
    boxes, scores = np.zeros((1, total, 4), np.float32), np.zeros((1, total, 3), np.float32)
    boxes[0, head["points"]] = head["distances"]
    scores[0, head["points"], head["classes"]] = head["scores"]
    kind, scale = head["kind"], {}
    if kind == "sigmoid":
        clipped = np.clip(scores, 1e-4, 1 - 1e-4)
        scores = np.log(clipped / (1 - clipped)).astype(np.float32)
    elif kind != "float":
        zero = -128 if kind == "int8" else 0
        scores = (np.rint(scores * 255) + zero).astype(kind)
        boxes = (np.rint(boxes / 0.125) + zero).astype(kind)
        scale = {"boxes": {"scale": 0.125, "zero_point": zero}, "scores": {"scale": 1 / 255, "zero_point": zero}}
    cuts = np.cumsum(head["counts"])[:-1] if head["split"] else []
    tensors = [OutputTensor.of(part, **scale.get("scores", {})) for part in np.split(scores, cuts, axis=1)]
    tensors += [OutputTensor.of(part, **scale.get("boxes", {})) for part in np.split(boxes, cuts, axis=1)]
    activation = "sigmoid" if kind == "sigmoid" else "none"
    fitting = card(input=InputSpec(*head["size"]), output={"strides": head["strides"], "score_activation": activation})
    return tensors, fitting


@given(point_heads())
@settings(max_examples=150, deadline=None)
def test_points_that_were_encoded_come_out(head: dict[str, Any]) -> None:
    tensors, fitting = encode(head)
    width, height = head["size"]
    found = decode(tensors, fitting, Geometry(width, height, 1.0, 1.0))
    centres, sizes = point_grid(width, height, head["strides"])
    at = head["points"]
    sign = np.array([-1, -1, 1, 1])
    wanted = np.tile(centres[at], 2) + sign * head["distances"] * sizes[at][:, None]
    wanted = np.clip(wanted, 0, [width, height, width, height])
    seen = (wanted[:, 2] > wanted[:, 0]) & (wanted[:, 3] > wanted[:, 1])
    assert len(found) == seen.sum()
    order = np.argsort(-head["scores"], kind="stable")
    order = order[seen[order]]
    assert np.allclose(found.confidence, head["scores"][order], atol=2e-3)
    rows = sorted((*np.round(box, 2), int(c)) for box, c in zip(wanted[order], head["classes"][order], strict=True))
    got = sorted((*np.round(box, 2), int(c)) for box, c in zip(found.xyxy, found.class_id, strict=True))
    assert np.allclose(np.array(rows), np.array(got), atol=0.02)


def test_the_grid_runs_row_by_row_stride_after_stride() -> None:
    centres, sizes = point_grid(24, 16, (8, 16))
    assert centres[:4].tolist() == [[4, 4], [12, 4], [20, 4], [4, 12]]
    assert centres[6:].tolist() == [[8, 8], [24, 8]]
    assert sizes.tolist() == [8] * 6 + [16] * 2


def one_point(scores: list[float], box: list[float] | None = None, **changes: Any) -> Detections:
    values, distances = np.zeros((1, 300, 3), np.float32), np.ones((1, 300, 4), np.float32)
    values[0, 25] = scores
    distances[0, 25] = box or [1, 1, 1, 1]
    return decode([OutputTensor.of(distances), OutputTensor.of(values)], card(**changes), SAME)


def test_one_point_is_one_thing_its_best_class() -> None:
    found = one_point([0.6, 0.9, 0.7])
    assert found.class_id.tolist() == [1]
    assert found.xyxy.tolist() == [[36.0, 4.0, 52.0, 20.0]]


def test_each_class_has_its_own_threshold() -> None:
    strict = Thresholds(0.5, {"cart": 0.95}, 1.0)
    assert one_point([0.6, 0.9, 0.1], thresholds=strict).class_id.tolist() == [0]
    assert len(one_point([0.1, 0.9, 0.1], thresholds=strict)) == 0


def test_unused_class_ids_never_come_out() -> None:
    assert one_point([0.1, 0.9, 0.1], labels=("person", "n/a", "animal")).class_id.tolist() == []


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, 3e38])
def test_numbers_that_are_none_are_dropped_not_passed_on(broken: float) -> None:
    """A delegate that went bad answers NaN: no box of it may reach the tracker."""
    found = one_point([0.1, 0.9, 0.1], [1, broken, 1, 1])
    assert np.isfinite(found.xyxy).all()
    assert len(one_point([np.nan, np.nan, np.nan])) == 0
    assert (one_point([0.1, np.inf, 0.1]).confidence <= 1).all()


def test_a_noise_picture_does_not_stall() -> None:
    """Every point of a large grid fires: the work stays bounded, the answer too."""
    rng = np.random.default_rng(0)
    boxes, scores = rng.random((1, 8400, 4), np.float32) * 4, rng.random((1, 8400, 3), np.float32)
    noisy = card(input=InputSpec(640, 640), output={"strides": (8, 16, 32)}, thresholds=Thresholds(0.01, {}, 0.5, 50))
    found = decode([OutputTensor.of(boxes), OutputTensor.of(scores)], noisy, Geometry(640, 640, 1, 1))
    assert len(found) == 50
    assert (np.diff(found.confidence) <= 0).all()


def test_points_that_do_not_fit_their_card_are_refused() -> None:
    def shaped(*shapes: tuple[int, ...]) -> list[Any]:
        return [OutputTensor.of(np.zeros(shape, np.float32), f"t{at}").info for at, shape in enumerate(shapes)]

    make_decoder(card(), shaped((1, 300, 4), (1, 300, 3)))
    make_decoder(card(), shaped((1, 12, 20, 4), (1, 12, 20, 3), (1, 6, 10, 4), (1, 6, 10, 3)))
    for wrong in (
        shaped((1, 300, 4)),
        shaped((1, 299, 4), (1, 299, 3)),
        shaped((1, 300, 4), (1, 300, 5)),
        shaped((1, 240, 4), (1, 60, 4), (1, 300, 3)),
        shaped((2, 300, 4), (2, 300, 3)),
        shaped((1, 1001)),
        shaped(),
    ):
        assert reason(make_decoder, card(), wrong) == "wrong_shape"
    assert reason(make_decoder, card(output={"boxes": "t9"}), shaped((1, 300, 4), (1, 300, 3))) == "wrong_shape"


def test_four_classes_need_names_because_scores_look_like_boxes() -> None:
    tensors = [OutputTensor.of(np.zeros((1, 300, 4), np.float32), name) for name in ("a", "b")]
    tensors[0].values[0, 0] = 0.9
    tensors[1].values[0, 0] = 1.0
    four = card(labels=("a", "b", "c", "d"))
    assert reason(decode, tensors, four, SAME) == "wrong_shape"
    named = card(labels=("a", "b", "c", "d"), output={"boxes": "b", "scores": "a"})
    assert decode(tensors, named, SAME).xyxy.tolist() == [[0.0, 0.0, 12.0, 12.0]]


# ssd ---------------------------------------------------------------------------------------------------------------------------


def ssd(order: str, prefix: str = "") -> list[OutputTensor]:
    """Three boxes, the last beyond the count; tensors in the order of the letters b c s n."""
    values = {
        "b": np.array([[[0.1, 0.2, 0.5, 0.4], [-0.5, 0.5, 1.5, 2.0], [0, 0, 1, 1]]], np.float32),
        "c": np.array([[2.0, 0.0, 1.0]], np.float32),
        "s": np.array([[0.9, 0.6, 0.99]], np.float32),
        "n": np.array([2.0], np.float32),
        "x": np.zeros((1, 64), np.float32),
    }
    tails = {"tf1": ("", ":1", ":2", ":3"), "tf2": (":3", ":2", ":1", ":0")}
    named = dict(zip("bcsn", tails[prefix], strict=True)) if prefix else {}
    stem = {"tf1": "TFLite_Detection_PostProcess", "tf2": "StatefulPartitionedCall"}.get(prefix, "")
    return [OutputTensor.of(values[letter], stem + named[letter] if letter in named else "?") for letter in order]


@pytest.mark.parametrize(
    "outputs",
    [
        ssd("bcsn"),  # TF1, by order alone
        ssd("sbnc"),  # TF2, by order alone
        ssd("ncbs", "tf1"),
        ssd("bnsc", "tf2"),
        ssd("xbcsnx", "tf1"),  # two states of an LSTM come with them
    ],
)
def test_the_four_outputs_are_found_in_any_known_order(outputs: list[OutputTensor]) -> None:
    found = decode(outputs, card("ssd_postprocess", output={"strides": ()}), SAME)
    assert found.class_id.tolist() == [2, 0]
    assert np.allclose(found.xyxy, [[32, 9.6, 64, 48], [80, 0, 160, 96]])
    assert np.allclose(found.confidence, [0.9, 0.6])


def test_names_in_the_card_hold_over_the_order() -> None:
    swapped = ssd("bscn")
    outputs = [OutputTensor.of(output.values, name) for output, name in zip(swapped, "bscn", strict=True)]
    names = {"boxes": "b", "scores": "s", "classes": "c", "count": "n", "strides": ()}
    assert decode(outputs, card("ssd_postprocess", output=names), SAME).class_id.tolist() == [2, 0]


def test_a_count_or_class_out_of_range_does_no_harm() -> None:
    outputs = ssd("bcsn")
    outputs[3].values[0] = 1e9
    outputs[1].values[0] = [77, np.nan, 1]
    assert decode(outputs, card("ssd_postprocess", output={"strides": ()}), SAME).class_id.tolist() == [1]
    outputs[3].values[0] = np.nan
    assert len(decode(outputs, card("ssd_postprocess", output={"strides": ()}), SAME)) == 0


def test_a_classifier_under_a_detectors_card_is_refused() -> None:
    classifier = [OutputTensor.of(np.zeros((1, 1001), np.uint8), "Predictions").info]
    for kind in ("ssd_postprocess", "yolox", "points"):
        assert reason(make_decoder, card(kind), classifier) == "wrong_shape"
    assert reason(make_decoder, card("classifier"), classifier) == "wrong_task"
    assert reason(decode_scores, [OutputTensor.of(np.zeros((1, 3), np.float32))], card()) == "wrong_task"


# yolox -------------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 299), st.integers(0, 2), st.floats(0.75, 1), st.floats(0.75, 1), st.floats(0, 2), st.floats(-1, 2))
@settings(max_examples=60, deadline=None)
def test_yolox_cells_are_decoded(cell: int, class_id: int, objectness: float, score: float, dx: float, log_w: float) -> None:
    values = np.zeros((1, 300, 8), np.float32)
    values[0, cell, :5] = [dx, 0.5, log_w, 0.0, objectness]
    values[0, cell, 5 + class_id] = score
    stride, column, row = (8, cell % 20, cell // 20) if cell < 240 else (16, (cell - 240) % 10, (cell - 240) // 10)
    wide = dataclasses.replace(SAME, source_width_px=10_000, source_height_px=10_000)
    found = decode([OutputTensor.of(values)], card("yolox"), wide)
    middle, half = (column + dx) * stride, np.exp(log_w) * stride / 2
    assert found.class_id.tolist() == [class_id]
    assert found.confidence[0] == pytest.approx(objectness * score, abs=1e-5)
    assert found.xyxy[0] == pytest.approx([max(0, middle - half), row * stride, middle + half, (row + 1) * stride], abs=1e-2)


def test_yolox_with_the_degraded_release_quantised_to_one_scale_still_decodes() -> None:
    values = np.zeros((1, 300, 8), np.uint8)
    values[0, 0] = [255, 255, 255, 255, 255, 255, 0, 0]
    found = decode([OutputTensor.of(values, scale=1 / 255)], card("yolox"), SAME)
    assert found.class_id.tolist() == [0]


# classifier --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "wanted"), [("none", [0.0, 1.0, 0.5]), ("sigmoid", None), ("softmax", None)])
def test_class_scores(activation: str, wanted: list[float] | None) -> None:
    values = np.array([[0.0, 1.0, 0.5]], np.float32)
    scores = decode_scores([OutputTensor.of(values)], card("classifier", output={"score_activation": activation}))
    assert scores.shape == (3,)
    assert int(scores.argmax()) == 1
    if wanted is not None:
        assert scores.tolist() == wanted
    if activation == "softmax":
        assert scores.sum() == pytest.approx(1.0)


def test_quantised_class_scores() -> None:
    values = np.array([[-128, 127, 0]], np.int8)
    scores = decode_scores([OutputTensor.of(values, scale=1 / 255, zero_point=-128)], card("classifier"))
    assert np.allclose(scores, [0, 1, 128 / 255])


# suppression and detections ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 60), st.integers(0, 10_000), st.floats(0.1, 0.9))
@settings(max_examples=80, deadline=None)
def test_suppression_is_exactly_the_greedy_one(count: int, seed: int, limit: float) -> None:
    rng = np.random.default_rng(seed)
    corner = rng.random((count, 2), np.float32) * 30
    boxes = np.concatenate([corner, corner + 5 + rng.random((count, 2), np.float32) * 20], axis=1)
    scores, classes = rng.random(count, np.float32), rng.integers(0, 2, count).astype(np.int32)
    kept = keep_best(boxes, scores, classes, nms_iou=limit, max_detections=1000)
    iou, greedy = pairwise_iou(boxes, boxes), []
    for at in np.argsort(-scores, kind="stable"):
        if all(classes[at] != classes[other] or iou[at, other] <= limit for other in greedy):
            greedy.append(int(at))
    assert kept.tolist() == greedy


def test_detections_are_picked_like_arrays_and_refuse_what_does_not_belong_together() -> None:
    found = Detections.of([[0, 0, 1, 1], [1, 1, 2, 2]], [0.5, 0.9], [1, 0])
    assert len(found) == 2
    assert found[found.confidence > 0.6].class_id.tolist() == [0]
    assert found[[1, 0]].confidence.tolist() == pytest.approx([0.9, 0.5])
    assert len(found[[]]) == 0
    assert len(Detections.empty()) == 0
    with pytest.raises(ValueError, match="shapes"):
        Detections(found.xyxy, found.confidence[:1], found.class_id)


def test_errors_survive_the_way_out_of_the_child_process() -> None:
    error = pickle.loads(pickle.dumps(ModelError("corrupt", "cut short")))
    assert (error.reason, str(error)) == ("corrupt", "cut short")
    assert "needs_edgetpu" in REASONS
