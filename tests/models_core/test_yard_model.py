"""Our own small model on our own drawn pictures, no assets needed: a conversion passes parity, a broken picture path does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.card import ModelCard, load_card
from models.coco_set_disk import read_picture
from models.golden import (
    ACCEPTANCE_THRESHOLD,
    AcceptanceSet,
    LabelledBoxes,
    Outcome,
    check_acceptance,
    check_parity,
    make_parity,
    parse_acceptance,
    parse_parity,
)
from models.inference.errors import ModelError
from models.inference.runtime_tflite import TfliteModel
from models.inference.types import Picture

RENDERED = Path(__file__).resolve().parents[2] / "models" / "rendered"
RELEASE = RENDERED / "releases" / "yard-1"
Change = Callable[[Picture], Picture]


@pytest.fixture(scope="module")
def card() -> ModelCard:
    return load_card((RELEASE / "card.toml").read_text())


@pytest.fixture(scope="module")
def accepted() -> AcceptanceSet:
    return parse_acceptance((RENDERED / "acceptance" / "acceptance.json").read_bytes())


@pytest.fixture(scope="module")
def pictures(accepted: AcceptanceSet) -> list[Picture]:
    return [read_picture(RENDERED / "acceptance" / image.file) for image in accepted.images]


def run(
    card: ModelCard, pictures: list[Picture], variant: str, threshold: float, change: Change = lambda picture: picture
) -> list[LabelledBoxes]:
    with TfliteModel(RELEASE / f"model_{variant}.tflite", card) as model:
        return [LabelledBoxes.found(model.detect(change(one), threshold=threshold), card.labels) for one in pictures]


@pytest.fixture(scope="module")
def parity(card: ModelCard, accepted: AcceptanceSet, pictures: list[Picture]) -> Callable[[list[LabelledBoxes]], Outcome]:
    """Compares with a parity file that the float32 model made."""
    limit = card.thresholds.score
    files = [(image.file, image.sha256) for image in accepted.images]
    held = parse_parity(make_parity(files, run(card, pictures, "float32", limit), threshold=limit))
    expected = [sample.expected for sample in held.samples]
    return lambda got: check_parity(expected, got, held.tolerance, threshold=held.threshold)


def test_the_int8_variant_says_what_the_float32_one_says(card, pictures, parity) -> None:  # type: ignore[no-untyped-def]
    outcome = parity(run(card, pictures, "int8", card.thresholds.score))
    assert outcome.ok, outcome.reason
    assert outcome.figures["iou_median"] > 0.95


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("colours swapped", lambda picture: picture[..., ::-1]),
        ("squeezed: padded below", lambda picture: cv2.copyMakeBorder(picture, 0, 80, 0, 0, cv2.BORDER_CONSTANT)),
        ("mirrored", lambda picture: picture[:, ::-1]),
        ("blank: a camera that gives nothing", np.zeros_like),
    ],
)
def test_a_broken_picture_path_fails_parity(card, pictures, parity, name: str, change: Change) -> None:  # type: ignore[no-untyped-def]
    assert not parity(run(card, pictures, "int8", card.thresholds.score, change)).ok, name


def test_wrong_scaling_in_the_card_fails_parity(card, pictures, parity) -> None:  # type: ignore[no-untyped-def]
    twice = replace(card, input=replace(card.input, std=127.5))
    assert not parity(run(twice, pictures, "int8", card.thresholds.score)).ok


def test_the_release_is_accepted_and_shifted_boxes_are_not(card, pictures, accepted) -> None:  # type: ignore[no-untyped-def]
    found = run(card, pictures, "int8", ACCEPTANCE_THRESHOLD)
    files = [image.file for image in accepted.images]
    outcome = check_acceptance(accepted, dict(zip(files, found, strict=True)))
    assert outcome.ok, outcome.reason
    shifted = [LabelledBoxes.of(one.xyxy + 12, one.labels, one.scores) for one in found]
    assert not check_acceptance(accepted, dict(zip(files, shifted, strict=True))).ok


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_half_a_model_is_refused(card: ModelCard, tmp_path: Path, share: float) -> None:
    whole = (RELEASE / "model_int8.tflite").read_bytes()
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError) as caught:
        TfliteModel(cut, card)
    assert caught.value.reason == "corrupt"
    assert "cut.tflite" in caught.value.message


def test_a_card_of_another_size_or_with_other_classes_is_refused(card: ModelCard) -> None:
    for wrong in (replace(card, input=replace(card.input, width_px=300)), replace(card, labels=(*card.labels, "dog", "bird"))):
        with pytest.raises(ModelError) as caught:
            TfliteModel(RELEASE / "model_int8.tflite", wrong)
        assert caught.value.reason == "wrong_shape"
