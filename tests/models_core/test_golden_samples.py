"""Golden samples: they must let an honest conversion pass and stop a model that looks plausible and sees wrongly."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.golden import (
    AcceptanceImage,
    LabelledBoxes,
    ParitySet,
    Tolerance,
    ap50,
    average_precision,
    check_acceptance,
    check_parity,
    make_acceptance,
    make_parity,
    match_class,
    parse_acceptance,
    parse_parity,
)
from models.golden_json import GoldenError
from models.scores import score_results

LABELS = ("person", "cart", "animal")
SHA = "0" * 64


def scene(seed: int, count: int = 5) -> LabelledBoxes:
    """Boxes of 24 to 64 px that do not touch, scores as a good model gives them."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation(12)[:count]
    corner = np.stack([cells % 4, cells // 4], axis=1) * 80 + rng.integers(0, 12, (count, 2))
    size = rng.integers(24, 64, (count, 2))
    labels = [LABELS[at] for at in rng.integers(0, 3, count)]
    return LabelledBoxes.of(np.concatenate([corner, corner + size], axis=1), labels, rng.uniform(0.45, 0.97, count))


SCENES = [scene(seed) for seed in range(20)]


def changed(boxes: LabelledBoxes, xyxy: Any = None, scores: Any = None, labels: Any = None) -> LabelledBoxes:
    return LabelledBoxes.of(
        boxes.xyxy if xyxy is None else xyxy, labels or boxes.labels, boxes.scores if scores is None else np.clip(scores, 0, 1)
    )


def parity(results: list[LabelledBoxes]) -> tuple[bool, str]:
    outcome = check_parity(SCENES, results, Tolerance(), threshold=0.4)
    return outcome.ok, outcome.reason


# average precision against numbers known beforehand ----------------------------------------------------------------------------


def test_one_right_of_two_truths_reads_51_of_101_recalls() -> None:
    """By hand: recall stops at 0.5, so 51 of the 101 points (0.00 to 0.50) have precision 1."""
    truth = LabelledBoxes.of([[0, 0, 10, 10], [50, 50, 60, 60]], ["a", "a"])
    found = LabelledBoxes.of([[0, 0, 10, 10]], ["a"], [0.9])
    assert ap50([truth], [found]).mean == pytest.approx(51 / 101)


def test_a_false_alarm_above_halves_the_precision() -> None:
    """By hand: right at rank 2 of 2, precision 1/2 at every recall up to 1."""
    truth = LabelledBoxes.of([[0, 0, 10, 10]], ["a"])
    found = LabelledBoxes.of([[80, 80, 90, 90], [0, 0, 10, 10]], ["a", "a"], [0.9, 0.8])
    assert ap50([truth], [found]).mean == pytest.approx(0.5)


def test_a_second_box_on_one_thing_is_wrong_and_a_box_in_a_crowd_is_neither() -> None:
    """By hand: right, duplicate, crowd (twice, ignored), right: precisions 1, then 2/3 -> (51 + 50 * 2/3) / 101."""
    truth = LabelledBoxes.of([[0, 0, 10, 10], [50, 50, 60, 60], [100, 0, 200, 100]], ["a"] * 3, crowd=[False, False, True])
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [120, 20, 140, 40], [150, 20, 170, 40], [50, 50, 60, 60]]
    found = LabelledBoxes.of(boxes, ["a"] * 5, [0.9, 0.8, 0.75, 0.7, 0.6])
    assert ap50([truth], [found]).mean == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_iou_limit_is_one_half() -> None:
    truth = LabelledBoxes.of([[0, 0, 10, 10]], ["a"])
    for width, wanted in ((5.0, 1.0), (4.9, 0.0)):
        assert ap50([truth], [LabelledBoxes.of([[0, 0, 10, width]], ["a"], [0.9])]).mean == wanted


def test_classes_are_averaged_and_classes_without_truth_left_out() -> None:
    truth = LabelledBoxes.of([[0, 0, 10, 10], [20, 20, 30, 30]], ["a", "b"])
    found = LabelledBoxes.of([[0, 0, 10, 10], [20, 20, 30, 30], [60, 60, 70, 70]], ["a", "c", "d"], [0.9, 0.9, 0.9])
    score = ap50([truth], [found])
    assert score.per_class == {"a": 1.0, "b": 0.0}
    assert score.mean == 0.5
    assert math.isnan(ap50([LabelledBoxes.of([], [])], [found]).mean)


@given(st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_bootstrap_weight_is_the_same_as_repeating_the_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truths = [scene(at) for at in range(6)]
    results = [changed(one, one.xyxy + rng.normal(0, 9, one.xyxy.shape), rng.random(len(one))) for one in truths]
    weights = rng.integers(0, 3, 6)
    repeated = [at for at in range(6) for _ in range(weights[at])]
    once = average_precision(match_class(truths, results, "person"), weights)
    again = average_precision(match_class([truths[at] for at in repeated], [results[at] for at in repeated], "person"))
    assert (math.isnan(once) and math.isnan(again)) or once == pytest.approx(again)


def test_intervals_hold_the_figure_and_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(5)
    results = [changed(one, one.xyxy + rng.normal(0, 6, one.xyxy.shape)) for one in SCENES]
    first, second = (score_results(SCENES, results, bootstrap=100, seed=3) for _ in range(2))
    assert first.ci90 is not None
    assert first.ci90[0] < first.ap50 < first.ci90[1]
    assert first == second
    json.dumps(first.as_json(), allow_nan=False)


# parity ------------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_what_quantisation_does_passes(seed: int) -> None:
    """Scores move by a few hundredths, boxes by a pixel, a box at the threshold comes or goes: the same model."""
    rng = np.random.default_rng(seed)
    results = []
    for one in SCENES:
        moved = changed(one, one.xyxy + rng.normal(0, 0.8, one.xyxy.shape), one.scores + rng.normal(0, 0.025, len(one)))
        kept = np.nonzero(moved.scores >= 0.4)[0]
        moved = LabelledBoxes.of(moved.xyxy[kept], [moved.labels[at] for at in kept], moved.scores[kept])
        if rng.random() < 0.3:  # one more, just above the threshold
            extra = np.vstack([moved.xyxy, [300, 200, 330, 230]])
            moved = LabelledBoxes.of(extra, [*moved.labels, "cart"], [*moved.scores, 0.45])
        results.append(moved)
    assert parity(results)[0]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("boxes shifted by a third", lambda one: changed(one, one.xyxy + 0.33 * (one.xyxy[:, [2]] - one.xyxy[:, [0]]))),
        ("boxes scaled from the corner", lambda one: changed(one, one.xyxy * 0.8)),
        ("x and y swapped", lambda one: changed(one, one.xyxy[:, [1, 0, 3, 2]])),
        ("letterbox forgotten", lambda one: changed(one, one.xyxy * [1, 0.75, 1, 0.75])),
        ("colours swapped: scores fall", lambda one: changed(one, None, one.scores - 0.3)),
        ("classes exchanged", lambda one: changed(one, labels=[LABELS[(LABELS.index(n) + 1) % 3] for n in one.labels])),
        ("scaling wrong: blind", lambda one: LabelledBoxes.of([], [])),
        ("every box twice, apart", lambda one: LabelledBoxes.of(
            np.vstack([one.xyxy, one.xyxy + 200]), one.labels * 2, np.tile(one.scores, 2))),
        ("sizes all alike", lambda one: changed(one, np.hstack([one.xyxy[:, :2], one.xyxy[:, :2] + 20]))),
    ],
)
def test_what_a_broken_picture_path_does_fails(name: str, wrong: Any) -> None:
    ok, why = parity([wrong(one) for one in SCENES])
    assert not ok, name
    assert why


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda one: changed(one, None, one.scores - 0.1), "all scores moved: by -0.100"),
        (lambda one: changed(one, None, np.minimum(one.scores + 0.1, 1.0)), "all scores moved: by +0.1"),
        (lambda one: changed(one, one.xyxy + [0, 0, 0.3, 0.0] * (one.xyxy[:, [2]] - one.xyxy[:, [0]])), "all boxes moved"),
    ],
)
def test_what_moves_every_box_a_little_within_its_tolerance_fails(wrong: Any, said: str) -> None:
    """A scale that was written wrong: no pair is beyond what one pair may be off by, but all lean to one side."""
    ok, why = parity([wrong(one) for one in SCENES])
    assert not ok
    assert why.startswith(said)


def test_a_parity_of_nothing_proves_nothing() -> None:
    empty = LabelledBoxes.of([], [])
    assert not check_parity([empty], [empty], Tolerance()).ok
    assert not check_parity(SCENES, SCENES[:-1], Tolerance()).ok
    with pytest.raises(ValueError, match="prove nothing"):
        make_parity([("a.png", SHA)], [empty], threshold=0.4)


def test_parity_files_are_deterministic_and_read_back() -> None:
    samples = [(f"samples/{at:02}.png", f"{at:064x}") for at in range(len(SCENES))]
    data = make_parity(samples, SCENES, threshold=0.4)
    assert data == make_parity(samples, SCENES, threshold=0.4)
    found = parse_parity(data)
    assert isinstance(found, ParitySet)
    assert (found.reference, found.threshold, found.tolerance) == ("float32", 0.4, Tolerance())
    assert [(sample.file, sample.sha256) for sample in found.samples] == samples
    assert check_parity([sample.expected for sample in found.samples], SCENES, found.tolerance, threshold=found.threshold).ok


# acceptance --------------------------------------------------------------------------------------------------------------------


def accepted(minimum: float = 0.8) -> bytes:
    return make_acceptance("yard", minimum, [AcceptanceImage(f"{at}.png", SHA, one) for at, one in enumerate(SCENES)])


def test_a_good_model_is_accepted_and_one_with_plausible_scores_on_wrong_boxes_is_not() -> None:
    held = parse_acceptance(accepted())
    good = {f"{at}.png": one for at, one in enumerate(SCENES)}
    assert check_acceptance(held, good).ok
    wrong = {file: changed(one, np.hstack([one.xyxy[:, :2], one.xyxy[:, :2] + 15])) for file, one in good.items()}
    outcome = check_acceptance(held, wrong)
    assert not outcome.ok
    assert outcome.figures["ap50"] < 0.3
    assert "ap50.person" in outcome.figures
    del good["3.png"]
    assert "3.png" in check_acceptance(held, good).reason


@pytest.mark.parametrize("parse", [parse_parity, parse_acceptance])
@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'{"v":2}', b'{"v":1}', b"\xff\xfe", b"[" * 100_000, b'{"v":1,"images":[1],"samples":{}}']
)
def test_bytes_that_are_no_golden_file(parse: Any, data: bytes) -> None:
    with pytest.raises(GoldenError):
        parse(data)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("images", 0, "file"), "../../etc/passwd"),
        (("images", 0, "file"), "/etc/passwd"),
        (("images", 0, "sha256"), "ABC"),
        (("images", 0, "objects", 0, "bbox"), [0, 0, -1, 5]),
        (("images", 0, "objects", 0, "bbox"), [0, 0, 1e300, 5]),
        (("images", 0, "objects", 0, "bbox"), [0, 0, 10**400, 5]),
        (("images", 0, "objects", 0, "bbox"), [0, 0, True, 5]),
        (("images", 0, "objects", 0, "label"), ""),
        (("images", 1, "file"), "0.png"),
        (("min_ap50",), 1.5),
        (("min_ap50",), float("nan")),
        (("name",), 7),
        (("images",), []),
    ],
)
def test_each_hostile_field_is_refused(where: tuple[Any, ...], value: Any) -> None:
    document = json.loads(accepted())
    place = document
    for step in where[:-1]:
        place = place[step]
    place[where[-1]] = value
    with pytest.raises(GoldenError) as caught:
        parse_acceptance(json.dumps(document).encode())
    assert len(caught.value.faults) == 1
