"""`rookery-agent run … --show OUT.mp4`, as a person runs it: to the end, interrupted, killed, and with material that breaks."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from device_agent.__main__ import main

ROOT = Path(__file__).parents[3]
YARD = ROOT / "models" / "rendered" / "releases" / "yard-1"
MODEL = ["--model", str(YARD / "model_int8.tflite"), "--card", str(YARD / "card.toml")]
DEADLINE_S = 120.0


def frames_of(path):
    film = cv2.VideoCapture(str(path))
    count = int(film.get(cv2.CAP_PROP_FRAME_COUNT)) if film.isOpened() else 0
    film.release()
    return count


def test_a_film_and_the_same_events_with_and_without_it(tmp_path, capsys):
    """Thirty drawn frames: a film of thirty pictures, and exactly the events of a run without one; no bar without a terminal."""
    for name, more in (("plain", []), ("shown", ["--show", str(tmp_path / "out.mp4")])):
        events = ["--events", str(tmp_path / f"{name}.ndjson")]
        assert main(["run", "--source", "rendered:7:day", *MODEL, "--frames", "30", *events, *more]) == 0
    assert frames_of(tmp_path / "out.mp4") == 30
    assert (tmp_path / "plain.ndjson").read_text() == (tmp_path / "shown.ndjson").read_text()
    assert "\033[K" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--source", "absent.mp4", *MODEL], 5),
        (["--source", "rendered:7", "--model", "absent.tflite", *MODEL[2:]], 5),
        (["--source", "rendered:7", *MODEL, "--show", "out.gif"], 5),
        (["--source", "rendered:7", *MODEL, "--show", "no/folder/out.mp4"], 5),
    ],
)
def test_bad_material_leaves_no_film(tmp_path, monkeypatch, capsys, arguments, code):
    """A film that is not there, a model that is not, a name that is no film's: words, a code, and nothing in the folder."""
    monkeypatch.chdir(tmp_path)
    more = [] if "--show" in arguments else ["--show", "out.mp4"]
    assert main(["run", *arguments, *more, "--frames", "5"]) == code
    assert capsys.readouterr().err.startswith("rookery-agent:")
    assert not list(tmp_path.iterdir())


def started(folder):
    """A run without an end, in a process of its own, that has begun to write."""
    command = [sys.executable, "-m", "device_agent", "run", "--source", "rendered:7:day", *MODEL]
    command += ["--show", str(folder / "out.avi")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end_s = time.monotonic() + DEADLINE_S
    while not any(file.stat().st_size > 100_000 for file in folder.glob(".out*")):
        assert time.monotonic() < end_s
        assert process.poll() is None
        time.sleep(0.02)
    return process


def test_an_interrupted_run_gives_the_film_so_far(tmp_path):
    """Ctrl-C counts as the source's end: the film is whole up to there."""
    process = started(tmp_path)
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    assert frames_of(tmp_path / "out.avi") > 3
    assert [file.name for file in tmp_path.iterdir()] == ["out.avi"]


def test_a_killed_run_gives_no_film(tmp_path):
    """kill -9: there is no film under its name, only a hidden leftover."""
    process = started(tmp_path)
    process.kill()
    process.wait(DEADLINE_S)
    assert not (tmp_path / "out.avi").exists()
