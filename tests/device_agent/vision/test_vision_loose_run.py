"""A model on a film or on pictures without any server, on real material where it is there."""

import json

import pytest

from device_agent.vision.choice_disk import ModelChoice, card_of, write_result
from device_agent.vision.detect_disk import detect_pictures
from device_agent.vision.detector import DetectorError
from device_agent.vision.loose_run_disk import RunRequest, run_film
from device_agent.vision.types import CameraError
from device_agent.vision.zones import ZoneError
from models.card import CardError, dump_card
from models.inference.errors import ModelError


@pytest.fixture
def ssd(assets):
    """The real SSD with the labels of COCO."""
    model = assets / "models/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    return ModelChoice(model, labels=assets / "labels/coco_labels.txt")


@pytest.mark.assets
def test_the_published_boxes_come_out_of_the_whole_path(assets, ssd, tmp_path):
    """cats_and_dogs.jpg through reading, child, shared memory and file: the boxes that the model's authors published."""
    out = tmp_path / "boxes.json"
    found = detect_pictures(assets / "images/cats_and_dogs.jpg", ssd, out).boxes
    assert json.loads(out.read_text()) == found
    published = [("cat", (54, 396, 393, 196)), ("cat", (602, 157, 394, 447)), ("cat", (260, 394, 180, 209))]
    published += [("dog", (389, 197, 278, 409))]
    for category, box in published:
        assert any(line["category"] == category and _iou(line["bbox"], box) > 0.9 for line in found), (category, box)
    assert all(line["file_name"] == "cats_and_dogs.jpg" for line in found)


def _iou(first, second):
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    width = min(ax + aw, bx + bw) - max(ax, bx)
    height = min(ay + ah, by + bh) - max(ay, by)
    shared = max(0, width) * max(0, height)
    return shared / (aw * ah + bw * bh - shared)


@pytest.mark.assets
def test_a_real_model_cut_in_half_is_refused_and_leaves_nothing(assets, ssd, tmp_path, draw):
    """Half of a download: a clear reason, no events file."""
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(ssd.model.read_bytes()[: 2_000_000])
    card = tmp_path / "card.toml"
    card.write_text(dump_card(card_of(ssd)))
    film = draw.two_visits(tmp_path / "film.avi")
    with pytest.raises(ModelError) as refused:
        run_film(RunRequest(str(film), ModelChoice(cut, card=card), events=tmp_path / "events.ndjson"))
    assert refused.value.reason == "corrupt"
    assert not (tmp_path / "events.ndjson").exists()


@pytest.mark.assets
def test_a_zone_for_a_class_that_the_model_does_not_know_is_refused(ssd, tmp_path, draw):
    """A typo in the zone file would be silent for ever."""
    zone = tmp_path / "zone.json"
    zone.write_text('{"zones": [{"name": "door", "classes": ["persn"]}]}')
    film = draw.two_visits(tmp_path / "film.avi")
    with pytest.raises(ZoneError, match="persn"):
        run_film(RunRequest(str(film), ssd, zone=zone))


def test_wrong_files_are_named(tmp_path, draw, blob):
    """No film, no card, no label file, no zone file, no folder for the output: the message has the file's name."""
    none = tmp_path / "none"
    film = draw.two_visits(tmp_path / "film.avi")
    with pytest.raises(CameraError, match="none"):
        run_film(RunRequest(str(none), ModelChoice(*blob)))
    with pytest.raises(CardError, match="none"):
        run_film(RunRequest(str(film), ModelChoice(blob[0], card=none)))
    with pytest.raises(CardError, match="none"):
        run_film(RunRequest(str(film), ModelChoice(blob[0], labels=none)))
    with pytest.raises(CardError, match="none"):
        run_film(RunRequest(str(film), ModelChoice(blob[0]), zone=none))
    with pytest.raises(CameraError, match="cannot be written"):
        write_result(tmp_path / "no" / "such" / "file", b"x")
    with pytest.raises((ModelError, DetectorError)):
        run_film(RunRequest(str(film), ModelChoice(blob[0], card=blob[1])))
