"""The project's own verbs, on machines that lack things: a Python without venv, an interrupted set-up, no Python at all."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from demo_process import ROOT

pytestmark = pytest.mark.system

FAKE_PYTHON = """#!/bin/sh
# A Debian Python without venv: everything works but `import ensurepip`.
case "$*" in
  *ensurepip*) exit 1 ;;
  *python%d*) echo python3.11-venv; exit 0 ;;
  *version_info*) exit 0 ;;
esac
exit 0
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that `./run` needs, in a folder of their own."""
    folder = tmp_path / "checkout"
    (folder / "requirements").mkdir(parents=True)
    for name in ("run", "pyproject.toml", "requirements/demo.txt", "requirements/test.txt"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(checkout / "run"), *arguments], cwd=checkout, env={**os.environ, **environment}, capture_output=True,
        text=True, stdin=subprocess.DEVNULL, check=False, timeout=120,
    )  # fmt: skip


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


def test_help_names_every_verb(checkout: Path) -> None:
    done = run(checkout)
    assert done.returncode == 0
    for verb in ("demo", "setup", "test", "check", "bench"):
        assert verb in done.stdout


@pytest.mark.parametrize("arguments", [["dance"], ["setup", "moon"]])
def test_an_unknown_word_is_refused(checkout: Path, arguments: list[str]) -> None:
    done = run(checkout, *arguments)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_on_the_benchmarks_installs_nothing(checkout: Path, word: str) -> None:
    """A look at the options took minutes and two environments."""
    shutil.copytree(ROOT / "tests" / "bench", checkout / "tests" / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    done = run(checkout, "bench", "P1", word, ROOKERY_PYTHON=sys.executable)
    assert done.returncode == 0, done.stderr
    assert "--json" in done.stdout
    assert not [path.name for path in checkout.iterdir() if path.name.startswith(".venv")]


def test_without_a_python_of_today_it_says_which_is_needed(checkout: Path, tmp_path: Path) -> None:
    """A machine with Python 3.9 only."""
    program(tmp_path / "bin", "python3", "#!/bin/sh\nexit 1\n")
    done = run(checkout, "setup", ROOKERY_PYTHON=str(tmp_path / "bin" / "python3"))
    assert done.returncode == 2
    assert "3.11 or newer" in done.stderr


def test_without_venv_an_ordinary_user_is_told_the_one_command(checkout: Path, tmp_path: Path) -> None:
    """Debian's Python without venv, and nobody is root: the command stands in the message, and nothing was made."""
    program(tmp_path / "bin", "python3", FAKE_PYTHON)
    program(tmp_path / "bin", "id", "#!/bin/sh\necho 1000\n")
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = run(checkout, "setup", ROOKERY_PYTHON=str(tmp_path / "bin" / "python3"), PATH=path)
    assert done.returncode == 2
    assert "sudo apt-get install python3.11-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_venv_root_installs_it(checkout: Path, tmp_path: Path) -> None:
    """The same as root: exactly that package is installed."""
    program(tmp_path / "bin", "python3", FAKE_PYTHON)
    program(tmp_path / "bin", "id", "#!/bin/sh\necho 0\n")
    program(tmp_path / "bin", "apt-get", f'#!/bin/sh\necho "$@" >> {tmp_path}/apt.log\n')
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    run(checkout, "setup", ROOKERY_PYTHON=str(tmp_path / "bin" / "python3"), PATH=path)
    assert "python3.11-venv" in (tmp_path / "apt.log").read_text()


def test_a_set_up_that_was_interrupted_is_made_anew(checkout: Path) -> None:
    """Ctrl-C between venv and pip leaves a Python without pip: the next run must not stumble over it for ever."""
    half = checkout / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(half)], check=True)
    (half / "left-over").write_text("from the interrupted run")
    (checkout / "requirements" / "demo.txt").write_text("--no-index\nrookery-has-no-such-package==1\n")
    done = run(checkout, "setup")
    assert done.returncode == 2
    assert "could not install" in done.stderr
    assert not (half / "left-over").exists()
    pip = subprocess.run([str(half / "bin" / "python"), "-m", "pip", "--version"], capture_output=True, check=False)
    assert pip.returncode == 0


def test_continuous_integration_calls_the_tests_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[-1] == "exec ./run test"
    assert "export CI=true" in lines
