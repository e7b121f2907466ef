"""``rookery-agent detect``: pictures of strangers, labels of other models, and a model that kills what opens it."""

import dataclasses
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.vision.choice_disk import ModelChoice, card_of
from device_agent.vision.detect_disk import MAX_PICTURE_BYTES, detect_pictures, read_any_picture
from device_agent.vision.picture_file import look_at_picture
from device_agent.vision.tiles import TileSettings
from device_agent.vision.types import CameraError
from models.card import CardError, parse_labels
from models.inference.errors import ModelError

ROOT = Path(__file__).resolve().parents[3]
YARD = ROOT / "models" / "rendered" / "releases" / "yard-1"
ACCEPTANCE = ROOT / "models" / "rendered" / "acceptance"
CHOICE = ModelChoice(YARD / "model_int8.tflite", YARD / "labels.txt", YARD / "card.toml")
SSD = "models/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"


@pytest.fixture(scope="module")
def scene():
    """A picture in which the yard model finds something."""
    picture = cv2.imread(str(ACCEPTANCE / "01_day.jpg"))
    assert picture is not None
    return picture


def boxes(path, **changes):
    return detect_pictures(path, dataclasses.replace(CHOICE, **changes)).boxes


# pictures ----------------------------------------------------------------------------------------------------------------------


def test_broken_pictures_in_a_folder_are_named_and_left_out(tmp_path, scene):
    """Half a download, a text, an empty file, a bomb: each is named, the whole ones give their boxes, the file is whole."""
    folder, out = tmp_path / "pictures", tmp_path / "boxes.json"
    folder.mkdir()
    cv2.imwrite(str(folder / "a_good.png"), scene)
    cv2.imwrite(str(folder / "z_good.jpg"), scene)
    jpeg = (folder / "z_good.jpg").read_bytes()
    (folder / "b_half.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "c_half.png").write_bytes((folder / "a_good.png").read_bytes()[:3000])
    (folder / "d_text.jpg").write_text("<html>404</html>")
    (folder / "e_empty.png").write_bytes(b"")
    (folder / "f_bomb.png").write_bytes(bomb(60_000, 60_000))
    (folder / "notes.txt").write_text("not a picture, and not said to be one")
    (folder / "g_folder.jpg").mkdir()
    found = detect_pictures(folder, CHOICE, out)
    assert json.loads(out.read_text()) == found.boxes
    assert {line["file_name"] for line in found.boxes} == {"a_good.png", "z_good.jpg"}
    assert found.pictures == 2
    said = " ".join(found.skipped)
    assert len(found.skipped) == 5
    for name, why in (("b_half.jpg", "cut short"), ("c_half.png", "cut short"), ("d_text.jpg", "not a picture"),
                      ("e_empty.png", "not a picture"), ("f_bomb.png", "60000x60000")):  # fmt: skip
        assert any(name in line and why in line for line in found.skipped), (name, said)
    assert not list(tmp_path.glob("*.part"))


def bomb(width, height):
    """A PNG of a few hundred bytes that unpacks to gigabytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_nothing_is_written_where_nothing_could_be_looked_at(tmp_path):
    """Every picture is broken, or there is none, or the model is: an error, and the old results stand untouched."""
    folder, out = tmp_path / "pictures", tmp_path / "boxes.json"
    folder.mkdir()
    out.write_text("old")
    with pytest.raises(CameraError, match="holds no picture"):
        detect_pictures(folder, CHOICE, out)
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"\xff\xd8\xff")
    with pytest.raises(CameraError, match="not one of 2 pictures"):
        detect_pictures(folder, CHOICE, out)
    with pytest.raises(CameraError, match="absent"):
        detect_pictures(tmp_path / "absent.png", CHOICE, out)
    with pytest.raises(ModelError):
        detect_pictures(ACCEPTANCE / "01_day.jpg", ModelChoice(folder / "a.jpg", card=YARD / "card.toml"), out)
    assert out.read_text() == "old"


def test_a_picture_of_any_depth_gives_the_boxes_of_its_eight_bits(tmp_path, scene):
    """16 bits, transparency, grey: what a phone, a scanner or a thermal camera writes."""
    wanted = None
    for name, picture in (
        ("plain.png", scene),
        ("deep.png", scene.astype(np.uint16) * 257),
        ("clear.png", cv2.cvtColor(scene, cv2.COLOR_BGR2BGRA)),
        ("plain.bmp", scene),
    ):
        cv2.imwrite(str(tmp_path / name), picture)
        found = [(line["category"], line["bbox"]) for line in boxes(tmp_path / name)]
        wanted = wanted or found
        assert found == wanted
        assert wanted
    cv2.imwrite(str(tmp_path / "grey.jpg"), cv2.cvtColor(scene, cv2.COLOR_BGR2GRAY))
    assert read_any_picture(tmp_path / "grey.jpg").shape == scene.shape
    cv2.imwrite(str(tmp_path / "small.webp"), scene, [cv2.IMWRITE_WEBP_QUALITY, 101])
    assert (read_any_picture(tmp_path / "small.webp") == scene).all()


def test_boxes_are_those_of_the_picture_as_a_viewer_shows_it(tmp_path, scene):
    """A phone held upright stores a picture lying down and says so in EXIF: the boxes are those of the upright one."""
    lying = cv2.rotate(scene, cv2.ROTATE_90_COUNTERCLOCKWISE)
    _, jpeg = cv2.imencode(".jpg", lying, [cv2.IMWRITE_JPEG_QUALITY, 98])
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # Orientation = 6: turn right by a quarter to show
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 0)
    turned = tmp_path / "turned.jpg"
    turned.write_bytes(jpeg[:2].tobytes() + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:].tobytes())
    assert read_any_picture(turned).shape == scene.shape
    cv2.imwrite(str(tmp_path / "upright.jpg"), scene, [cv2.IMWRITE_JPEG_QUALITY, 98])
    upright, as_shown = boxes(tmp_path / "upright.jpg"), boxes(turned)
    assert [line["category"] for line in as_shown] == [line["category"] for line in upright]
    for one, other in zip(as_shown, upright, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=12)


def test_a_huge_file_is_not_read_into_memory(tmp_path):
    huge = tmp_path / "huge.jpg"
    with huge.open("wb") as file:
        file.write(b"\xff\xd8")
        file.truncate(MAX_PICTURE_BYTES * 4)
    with pytest.raises(CameraError, match="more than"):
        read_any_picture(huge)


MARKS = (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF0000WEBPVP8X", b"RIFF0000WEBPVP8 ", b"RIFF0000WEBPVP8L")


@given(st.binary(max_size=200), st.sampled_from(MARKS))
@settings(max_examples=200, deadline=None)
def test_a_header_of_any_bytes_is_read_or_refused(tail, mark):
    seen = look_at_picture(mark + tail)
    assert seen is None or seen.width_px >= 0 or seen.height_px >= 0


@pytest.mark.parametrize("kind", [".jpg", ".png", ".bmp", ".webp"])
def test_headers_tell_sizes_and_ends_as_the_decoder_does(kind, scene):
    """Cut anywhere, a picture is either refused by its header, or decoded whole."""
    for picture in (scene, scene[:37, :51], scene[:1, :2]):
        content = cv2.imencode(kind, picture)[1].tobytes()
        seen = look_at_picture(content)
        assert seen is not None
        assert (seen.width_px, seen.height_px, seen.whole) == (picture.shape[1], picture.shape[0], True)
        for share in (0.1, 0.5, 0.9):
            cut = look_at_picture(content[: int(len(content) * share)])
            assert cut is None or not cut.whole


def test_two_files_of_one_name_are_told_apart_by_their_paths(tmp_path, scene):
    for folder in ("day", "night"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), scene)
    found = detect_pictures([tmp_path / "day", tmp_path / "night"], CHOICE)
    assert {line["file_name"] for line in found.boxes} == {str(tmp_path / "day" / "a.png"), str(tmp_path / "night" / "a.png")}


def test_small_things_are_found_in_parts(tmp_path, scene):
    """The scene as a sixteenth of a large picture: too small for the model as a whole, found where it looks in parts."""
    large = np.full((scene.shape[0] * 4, scene.shape[1] * 4, 3), scene.mean(axis=(0, 1)).astype(np.uint8))
    large[: scene.shape[0], : scene.shape[1]] = scene
    cv2.imwrite(str(tmp_path / "large.png"), large)
    cv2.imwrite(str(tmp_path / "scene.png"), scene)
    there = boxes(tmp_path / "scene.png")
    whole = boxes(tmp_path / "large.png")
    parts = boxes(tmp_path / "large.png", tiles=TileSettings(4, 4, overlap=0.0))
    assert len(whole) < len(there)
    assert [line["category"] for line in parts] == [line["category"] for line in there]


# labels and cards --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0", "not text"),
        (b"person\ncart\x00\nanimal\n", "line 2"),
        (b"", "empty"),
        (b"\n\n  \n", "empty"),
        (b"person\nperson\nanimal\n", "more than once: person"),
        (b"n/a\n???\n\n", "used name"),
        (b"x" * 5000, "line 1"),
        (b"a\n" * 30_000, "30000 lines"),
        (b"a" * 5_000_000, "larger than"),
    ],
)
def test_a_label_file_that_is_none_is_refused_in_words(tmp_path, content, words):
    """A picture, binary rubbish, nothing at all, one name twice: the fault is named before the model is touched."""
    labels = tmp_path / "labels.txt"
    labels.write_bytes(content)
    with pytest.raises(CardError, match=words):
        card_of(ModelChoice(CHOICE.model, labels, CHOICE.card))


@pytest.mark.parametrize(("count", "words"), [(2, "too few"), (4, "too many"), (80, "too many")])
def test_labels_of_another_model_are_refused_before_it_runs(tmp_path, count, words):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"c{at}" for at in range(count)))
    with pytest.raises(ModelError, match=words) as refused:
        detect_pictures(ACCEPTANCE / "01_day.jpg", ModelChoice(CHOICE.model, labels, CHOICE.card))
    assert refused.value.reason == "wrong_shape"
    assert "3 classes" in refused.value.message


@pytest.mark.assets
def test_labels_are_held_against_the_post_processing_of_a_real_ssd(assets, tmp_path):
    """80 labels for 90 ids, one for the background in front (every name one off), one left out: all refused, without running."""
    whole = (assets / "labels/coco_labels.txt").read_text().splitlines()
    for lines, words in (
        (parse_labels((assets / "labels/coco80_labels.txt").read_text()), "80 labels are too few"),
        (["???", *whole], "begin with '\\?\\?\\?' for the background"),
        (whole[:-1], "89 labels are too few"),
    ):
        labels = tmp_path / "labels.txt"
        labels.write_text("\n".join(lines))
        with pytest.raises(ModelError, match=words):
            card_of(ModelChoice(assets / SSD, labels))
    assert len(card_of(ModelChoice(assets / SSD, assets / "labels/coco_labels.txt")).labels) == 90


# from the shell ----------------------------------------------------------------------------------------------------------------


def detect(*arguments, **options):
    command = [sys.executable, "-m", "device_agent", "detect", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=170, **options)


def test_the_command_names_what_it_left_out_and_ends_with_an_error(tmp_path, scene):
    """A folder with one broken picture, in a script: the boxes of the others are there, and the exit code says look."""
    folder, out = tmp_path / "pictures", tmp_path / "boxes.json"
    folder.mkdir()
    cv2.imwrite(str(folder / "good.png"), scene)
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    model = ["--model", CHOICE.model, "--labels", CHOICE.labels, "--card", CHOICE.card]
    done = detect(folder, ACCEPTANCE / "02_dusk.jpg", *model, "--out", out)
    assert done.returncode == 5
    assert "1 of 3 pictures were left out" in done.stderr
    assert "bad.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert {"good.png"} <= {line["file_name"] for line in json.loads(out.read_text())}
    assert set(json.loads(out.read_text())[0]) == {"file_name", "category", "bbox", "score"}
    (folder / "bad.png").unlink()
    fine = detect(folder, *model)
    assert fine.returncode == 0
    assert json.loads(fine.stdout) == [line for line in json.loads(out.read_text()) if line["file_name"] == "good.png"]
    assert detect(folder, *model, "--tiles", "2by2").returncode == 2
    assert "tiles must be" in detect(folder, *model, "--tiles", "9x9").stderr


def test_work_apart_gives_its_code_or_the_signal_that_ended_it(tmp_path):
    """What a malicious model does to its process must not be done to the one that the person started."""
    code = """
import os, signal, sys
from device_agent.vision.apart_linux import CrashedError, apart
print("before")
assert apart(lambda: 3) == 3
def fails(): raise ValueError("words")
assert apart(fails) == 70
for number in (signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT):
    try:
        apart(lambda: os.kill(os.getpid(), number))
        raise SystemExit("lived")
    except CrashedError as error:
        print(error.signal_name)
def says():
    print("in the child", flush=False)
    return 0
assert apart(says) == 0
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["before", "SIGSEGV", "SIGKILL", "SIGABRT", "in the child", "after", ""]


def test_a_model_that_kills_its_process_leaves_words_and_nothing_else(tmp_path):
    """The runtime dies while it opens the file (here it is told to): the command says so, exits 5, and writes nothing."""
    stub = tmp_path / "stub" / "ai_edge_litert"
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("__version__ = '0'")
    (stub / "interpreter.py").write_text(
        "import os, signal\nload_delegate = None\nclass Interpreter:\n    def __init__(self, model_path=None, **_):\n"
        "        if model_path is None:\n            raise ValueError('no model')\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{stub.parent}{os.pathsep}{ROOT}"}
    out = tmp_path / "boxes.json"
    model = ["--model", CHOICE.model, "--card", CHOICE.card]
    done = detect(ACCEPTANCE / "01_day.jpg", *model, "--out", out, env=environment)
    assert done.returncode == 5, done.stderr
    assert "SIGSEGV" in done.stderr
    assert "model_int8.tflite" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
