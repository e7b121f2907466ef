"""What ``run --source`` says: one word per thing, every loss, numbers that are refused in words, a card in a line."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.__main__ import main
from device_agent.loose_words import last_lines, said, short_card
from device_agent.vision.run_summary import RunSummary
from device_agent.vision.types import Event, EventUpdate
from models.card import load_card

ROOT = Path(__file__).parents[3]
YARD = ROOT / "models" / "rendered" / "releases" / "yard-1"
MODEL = ["--model", str(YARD / "model_int8.tflite"), "--card", str(YARD / "card.toml")]
DEADLINE_S = 120.0
VISIT = Event(
    "camera-1", 0, "camera", 3, "person", "yard", "zone", "yard", 10, 1.0, 0.0, 60, 6.0, 0.0, True, 0.8, 0.5,
    (0.0, 0.0, 9.0, 9.0), 12, 640, 480,
)  # fmt: skip
SUMMARY = RunSummary(100, 50, 40, 30, {"person": 2}, {}, {}, {}, {}, 0, "tflite", "cpu", 10.0)


def test_a_crossing_is_said_once_with_rule_and_direction():
    """"person crossed door, in": not "person left after 0.0 s" besides."""
    crossing = replace(VISIT, rule="door", rule_kind="line", zone=None, direction="in")
    assert said(EventUpdate("start", crossing)).split("s  ")[1] == "person crossed door, in (track 3)\n"
    assert said(EventUpdate("end", replace(crossing, open=False))) == ""
    trigger = replace(VISIT, rule="near_miss", rule_kind="trigger", zone=None)
    assert "trigger near_miss: person" in said(EventUpdate("start", trigger))


def test_an_end_names_its_rule_and_whether_it_was_one():
    """Two zones overlap: which one did he leave? And who was there when the film ended has not left."""
    assert "person in yard (track 3)" in said(EventUpdate("start", VISIT))
    assert "person stayed in yard" in said(EventUpdate("start", replace(VISIT, rule_kind="dwell")))
    assert "person left yard after 5.0 s" in said(EventUpdate("end", replace(VISIT, open=False)))
    assert "person was still in yard after 5.0 s" in said(EventUpdate("end", VISIT))
    assert said(EventUpdate("update", VISIT)) == ""


def test_visits_and_crossings_stand_apart_in_the_last_line():
    crossed = replace(SUMMARY, crossings={("person", "door", "in"): 2, ("cart", "door", "out"): 1}, triggers={"near_miss": 1})
    assert "visits: 2 person; crossings: 2 person door in, 1 cart door out; triggers: 1 near_miss;" in last_lines(crossed)
    assert "visits: none;" in last_lines(replace(SUMMARY, visits={}))


def test_every_loss_is_said_and_none_is_not():
    """A run that skipped half of its frames looked exactly like a quiet yard."""
    assert last_lines(SUMMARY).count("\n") == 1
    lost = replace(SUMMARY, dropped={"detector_died": 3, "hot": 0}, camera_dropped={"late": 12, "broken_frame": 1}, restarts=2)
    lines = last_lines(lost).splitlines()[1:]
    assert lines == [
        "lost by the pipeline: 3 detector_died",
        "lost by the source: 1 broken_frame, 12 late",
        "the detector was started again: 2 times",
    ]


@pytest.mark.parametrize(
    "wrong",
    [["--threads", "0"], ["--threads", "two"], ["--frames", "-3"], ["--frames", "0"], ["--fps", "0"], ["--fps", "nan"]],
)
def test_numbers_that_cannot_be_are_refused_in_words(capsys, wrong):
    """By the command line itself: exit code 2, which option, and what would do."""
    with pytest.raises(SystemExit) as ended:
        main(["run", "--source", "rendered:7", *MODEL, *wrong])
    assert ended.value.code == 2
    words = capsys.readouterr().err
    assert f"{wrong[0]}: {wrong[1]!r} is not a" in words


def test_an_inferred_card_is_one_line_and_all_of_it_is_had_on_request(assets, tmp_path, capsys):
    """Ninety labels in one line buried the fault that came after; `--print-card > card.toml` is a card that can be used."""
    model = ["--model", str(assets / "models/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite")]
    model += ["--labels", str(assets / "labels/coco_labels.txt")]
    assert main(["run", "--source", str(tmp_path / "absent.mp4"), *model]) == 5
    words = capsys.readouterr().err.splitlines()
    assert "300x300 px, decoder ssd_postprocess, 80 labels" in words[0]
    assert "--print-card" in words[0]
    assert words[1].startswith("rookery-agent:")
    assert main(["run", *model, "--print-card"]) == 0
    card = load_card(capsys.readouterr().out)
    assert len(short_card(card)) < 250
    assert main(["run", "--print-card"]) == 2
    assert main(["run", "--print-card", "--model", str(tmp_path / "none.tflite")]) == 5


def test_sigterm_ends_like_ctrl_c(tmp_path):
    """A service manager stops the run: what was written stands, what was open is added, and the exit code says which signal."""
    out = tmp_path / "events.ndjson"
    command = [sys.executable, "-m", "device_agent", "run", "--source", "rendered:7:day", *MODEL, "--events", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end_s = time.monotonic() + DEADLINE_S
    while not (out.exists() and out.read_text().count("\n") >= 2):
        assert time.monotonic() < end_s
        assert process.poll() is None, "the run ended by itself: its events must be there before that"
        time.sleep(0.02)
    before = out.read_text()
    process.terminate()
    said_out, said_err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + signal.SIGTERM, said_err
    assert "visits: " in said_out
    after = out.read_text()
    assert after.startswith(before)
    assert len([json.loads(line) for line in after.splitlines()]) == after.count("\n")
