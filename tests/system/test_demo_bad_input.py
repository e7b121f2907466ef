"""What people do wrong with the demo: each gets a sentence and an exit code, and nothing stays behind."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from demo_process import DEMO, ROOT, environment, processes_of

pytestmark = pytest.mark.system


def demo(home: Path, *arguments: str, deadline_s: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), *arguments], cwd=ROOT, env=environment(home), capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=deadline_s, check=False,
    )  # fmt: skip


def test_a_second_demo_says_so(demo_home: Path) -> None:
    """Two terminals, one folder: the second is told, and disturbs nothing."""
    demo_home.mkdir(parents=True)
    with (demo_home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = demo(demo_home, "--once")
    assert done.returncode == 2
    assert "running already" in done.stderr
    assert not (demo_home / "run").exists()


def test_a_chosen_port_in_use_is_named(demo_home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = demo(demo_home, "--once", "--port", str(port))
    assert done.returncode == 1
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["--video", "--model"])
def test_a_file_that_is_not_there(demo_home: Path, tmp_path: Path, missing: str) -> None:
    names = {"--video": tmp_path / "film.mp4", "--model": tmp_path / "model.tflite", "--labels": tmp_path / "labels.txt"}
    for name, path in names.items():
        if name != missing:
            path.write_text("x")
    done = demo(demo_home, "--once", *(word for name, path in names.items() for word in (name, str(path))))
    assert done.returncode == 2
    assert str(names[missing]) in done.stderr


def test_a_model_that_is_no_model(demo_home: Path, tmp_path: Path) -> None:
    """A text file called model.tflite: refused before anything is started."""
    for name in ("film.mp4", "model.tflite", "labels.txt"):
        (tmp_path / name).write_text("person\n")
    done = demo(demo_home, "--once", "--video", str(tmp_path / "film.mp4"), "--model", str(tmp_path / "model.tflite"),
                "--labels", str(tmp_path / "labels.txt"))  # fmt: skip
    assert done.returncode == 1
    assert "model.tflite" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes_of(demo_home) == []


def test_a_film_that_is_no_film(demo_home: Path, tmp_path: Path) -> None:
    """A text file called film.mp4 with a good model: refused before anything is started."""
    release = ROOT / "models" / "rendered" / "releases" / "yard-1"
    (tmp_path / "film.mp4").write_text("not a film")
    done = demo(demo_home, "--once", "--video", str(tmp_path / "film.mp4"), "--model", str(release / "model_int8.tflite"),
                "--labels", str(release / "labels.txt"), "--card", str(release / "card.toml"))  # fmt: skip
    assert done.returncode == 1
    assert "film.mp4" in done.stderr
    assert "Traceback" not in done.stderr


def wait_for(what: Path, process: subprocess.Popen[str], deadline_s: float = 90) -> None:
    """Wait for a file that the demo makes on its way."""
    end = time.monotonic() + deadline_s
    while not what.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, f"{what} did not appear"
        time.sleep(0.05)


MOMENTS = ("run/server", "run/server/run.json", "run/offline/trust/root.json", "run/boards/shed/agent.toml")


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_leaves_nothing_running(demo_home: Path, films: Path, moment: str) -> None:
    """A person presses Ctrl-C while the server starts, while keys are made, while the boards start."""
    demo_home.mkdir(parents=True)
    (demo_home / "films").symlink_to(films)
    process = subprocess.Popen(
        [sys.executable, str(DEMO)], cwd=ROOT, env=environment(demo_home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(demo_home / moment, process)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    assert processes_of(demo_home) == []
    shutil.rmtree(demo_home / "run", ignore_errors=True)
