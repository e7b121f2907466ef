"""The evaluation command with material that cannot be used: a sentence on stderr and exit code 1, never a stack trace."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.coco_set_disk import SetError, read_coco_set, read_picture
from models.evaluate import main


def coco_set(folder: Path, **changes: object) -> Path:
    """A set of one picture with one box and one crowd."""
    (folder / "images").mkdir(parents=True)
    cv2.imwrite(str(folder / "images" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20, "split": "night"}],
        "categories": [{"id": 7, "name": "person"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 12], "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [0, 0, 30, 20], "iscrowd": 1},
        ],
        **changes,
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def test_a_set_is_read_by_category_name(tmp_path: Path) -> None:
    found = read_coco_set(coco_set(tmp_path / "set"))
    assert found.categories == ("person",)
    assert found.pictures[0].split == "night"
    assert found.pictures[0].truth.xyxy.tolist() == [[1, 2, 11, 14], [0, 0, 30, 20]]
    assert found.pictures[0].truth.crowd.tolist() == [False, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": [{"id": 1, "file_name": "b.png"}]}, "not there"),
        ({"images": []}, "lists no images"),
        ({"images": 7}, "COCO's form"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]}]}, "no category 9"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3]}]}, "bbox must be"),
        ({"annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, float("nan")]}]}, "bbox must be"),
        ({"annotations": [{"id": 1}]}, "COCO's form"),
        ({"categories": None}, "COCO's form"),
    ],
)
def test_a_broken_set_is_named_with_its_fault(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(SetError, match=said):
        read_coco_set(coco_set(tmp_path / "set", **changes))


def test_a_picture_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    for content in (b"", b"not a picture"):
        path.write_bytes(content)
        with pytest.raises(SetError, match="not a picture"):
            read_picture(path)


def test_each_wrong_argument_ends_in_one_sentence(tmp_path: Path, cards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card, good_set, model = str(cards / "ssd_mobilenet_v1_coco.toml"), str(coco_set(tmp_path / "set")), tmp_path / "m.tflite"
    model.write_bytes(b"not a model at all")
    bad_card = tmp_path / "bad.toml"
    bad_card.write_text("name = 3")
    foreign = coco_set(tmp_path / "foreign", categories=[{"id": 7, "name": "unicorn"}])
    for changes, said in (
        ({"--model": str(tmp_path / "absent.tflite")}, "no model file"),
        ({}, "does not carry the mark"),
        ({"--card": str(bad_card)}, "name must be"),
        ({"--card": str(tmp_path / "absent.toml")}, "cannot be read"),
        ({"--card": str(cards / "vww_96_person.toml")}, "is a classifier"),
        ({"--set": str(tmp_path)}, "no annotations.json"),
        ({"--set": str(foreign)}, "share no class name"),
    ):
        arguments = {"--model": str(model), "--card": card, "--set": good_set, **changes}
        assert main([part for pair in arguments.items() for part in pair]) == 1
        error = capsys.readouterr().err
        assert error.startswith("evaluate: ")
        assert said in error
    with pytest.raises(SystemExit) as caught:
        main(["--model", "m"])
    assert caught.value.code == 2
