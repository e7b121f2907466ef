"""Real films through the whole pipeline, with three real detectors made by three different people: as many visits as there are.

What happens in the films was read by eye and stands in the README beside them. In the everyday tier five or ten frames a second
are looked at; the slow tier takes every frame.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.vision.choice_disk import ModelChoice
from device_agent.vision.loose_run_disk import RunRequest, run_film

pytestmark = pytest.mark.assets

ROOT = Path(__file__).resolve().parents[3]
ONE_BY_ONE = "videos/one-by-one-person-detection.mp4"
BOTTLES = "videos/bottle-detection.mp4"
DETECTORS = {
    "ssd_mobilenet_v1_coco": "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite",
    "yolox_nano_coco": "yolox_nano_float16.tflite",
    "rpi_person_192": "rpi_person_192.tflite",
}
VISITS = ((65, 200), (230, 445), (510, 695), (745, 865), (925, 1190), (1240, 1360))
"""Frames of the film's six visits."""
NEAR_FRAMES = 20
"""How far beginnings and ends may be from what was read by eye, every fifth frame looked at: 2 s."""


def choice(assets, name, **changes):
    return ModelChoice(assets / "models" / DETECTORS[name], card=ROOT / "models" / "cards" / f"{name}.toml", **changes)


def check_six(people):
    """Six persons one after the other, each about when it was there, nobody twice."""
    assert len(people) == 6, [(line["start_frame"], line["end_frame"]) for line in people]
    for line, (start, end) in zip(people, VISITS, strict=True):
        assert abs(line["start_frame"] - start) <= NEAR_FRAMES
        assert abs(line["end_frame"] - end) <= NEAR_FRAMES
        assert line["best"]["frame"] in range(start - NEAR_FRAMES, end + NEAR_FRAMES)
        assert line["best"]["bbox"][3] > 100, "a person in this film is larger than 100 px"
        assert line["rule_kind"] == "zone"


def people_of(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted((line for line in lines if line["category"] == "person"), key=lambda line: line["start_frame"])


@pytest.mark.parametrize("name", ["ssd_mobilenet_v1_coco", "yolox_nano_coco"])
def test_six_people_come_one_at_a_time(assets, tmp_path, name):
    """The .mp4 as it is, five frames a second, the model in its child: six visits, not one more and not one less."""
    out = tmp_path / "events.ndjson"
    summary = run_film(RunRequest(f"film:{assets / ONE_BY_ONE}", choice(assets, name), events=out, fps=5.0))
    check_six(people_of(out))
    assert summary.visits["person"] == 6
    assert (summary.restarts, summary.dropped) == (0, {})


def test_six_people_by_the_command_that_users_type(assets, tmp_path):
    """`rookery-agent run --source FILM --model M --labels L --card C --events FILE`, every frame, the Pi person detector."""
    out, labels = tmp_path / "events.ndjson", tmp_path / "labels.txt"
    labels.write_text("person\n")
    model = ["--model", assets / "models" / DETECTORS["rpi_person_192"], "--labels", labels]
    card = ["--card", ROOT / "models" / "cards" / "rpi_person_192.toml"]
    command = [sys.executable, "-m", "device_agent", "run", "--source", assets / ONE_BY_ONE, *model, *card, "--events", out]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False, timeout=170)
    assert done.returncode == 0, done.stderr
    assert "1394 frames" in done.stdout
    assert "visits: 6 person" in done.stdout
    check_six(people_of(out))


def check_bottles(summary):
    assert summary.visits.get("bottle", 0) >= 1
    assert "person" not in summary.visits, summary.visits


def test_bottles_are_bottles_and_a_hand_is_no_visitor(assets):
    """A hand reaches into the picture again and again; the SSD calls it a person at 0.5 to 0.62 for more than a second."""
    check_bottles(run_film(RunRequest(f"film:{assets / BOTTLES}", choice(assets, "ssd_mobilenet_v1_coco"), fps=10.0)))


@pytest.mark.slow
@pytest.mark.parametrize("fps", [None, 7.0, 5.0, 3.0])
@pytest.mark.parametrize("name", DETECTORS)
def test_six_people_at_every_rate(assets, tmp_path, name, fps, request):
    out = tmp_path / "events.ndjson"
    run_film(RunRequest(f"film:{assets / ONE_BY_ONE}", choice(assets, name), events=out, fps=fps))
    people = people_of(out)
    assert len(people) == 6
    if (name, fps) == ("rpi_person_192", 3.0):
        # Only from here on, so that a visit too many or too few fails here too.
        why = "the third visit's end is told 6 s late (docs/decisions/0006, known and open)"
        request.applymarker(pytest.mark.xfail(reason=why, strict=True))
    check_six(people)


@pytest.mark.slow
@pytest.mark.parametrize("fps", [None, 15.0, 5.0])
def test_bottles_at_every_rate(assets, fps):
    check_bottles(run_film(RunRequest(f"film:{assets / BOTTLES}", choice(assets, "ssd_mobilenet_v1_coco"), fps=fps)))
