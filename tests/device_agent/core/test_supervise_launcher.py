"""The supervisor restarts, tells systemd the truth, and ends; the launcher counts failed starts and falls back."""

import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent import launcher, launcher_disk, supervise
from device_agent.duties.turn import Bell, Stop
from device_agent.errors import ClaimRefusedError
from device_agent.memory_linux import give_back, one_heap
from device_agent.supervise import Notifier, Supervisor


class Duty:
    """A duty that does what it is given."""

    def __init__(self, name: str, work: Callable[[Stop, Callable[[], None]], None], silence_s: float = 100.0) -> None:
        self.name, self.silence_s, self.work = name, silence_s, work

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        self.work(stop, progress)


def test_a_duty_that_fails_is_started_again_and_the_others_never_notice() -> None:
    """One loop dies twice of a bug; the other runs all the time."""
    stop, starts, other_starts = Stop(), [], []

    def fragile(stop: Stop, progress: Callable[[], None]) -> None:
        starts.append(1)
        if len(starts) < 3:
            raise ZeroDivisionError("a bug")
        stop.set()

    def steady(stop: Stop, progress: Callable[[], None]) -> None:
        other_starts.append(1)
        stop.wait(60)

    Supervisor([Duty("fragile", fragile), Duty("steady", steady)], stop).run()
    assert len(starts) == 3
    assert len(other_starts) == 1


def test_memory_that_starting_left_free_goes_back_to_the_board(monkeypatch: pytest.MonkeyPatch) -> None:
    """What start-up freed is given back once it is over, and again later; a library that cannot do it is no fault."""
    monkeypatch.setattr(supervise, "FIRST_TIDY_S", 0.0)
    monkeypatch.setattr(supervise, "TIDY_EVERY_S", 0.0)
    monkeypatch.setattr(supervise, "LOOK_EVERY_S", 0.01)
    stop, given = Stop(), []

    def tidy() -> None:
        give_back()
        given.append(1)
        if len(given) == 3:
            stop.set()

    one_heap()
    Supervisor([Duty("steady", lambda stop, progress: stop.wait(60) and None)], stop, tidy=tidy).run()
    assert len(given) == 3


def test_what_only_a_person_can_change_ends_everything() -> None:
    """A refused claim is not retried for ever: it comes out of the supervisor."""
    stop = Stop()

    def refused(stop: Stop, progress: Callable[[], None]) -> None:
        raise ClaimRefusedError("this claim was used already")

    with pytest.raises(ClaimRefusedError):
        Supervisor([Duty("link", refused), Duty("other", lambda s, p: s.wait(60) and None)], stop).run()


def test_the_watchdog_is_fed_only_while_all_make_progress(tmp_path: Path) -> None:
    """One loop hangs: WATCHDOG=1 stops, and the status names it; systemd would restart us."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        stop = Stop()
        hangs = threading.Event()

        def hanging(stop: Stop, progress: Callable[[], None]) -> None:
            while not hangs.wait(0.02):
                progress()
            stop.wait(60)

        supervisor = Supervisor(
            [Duty("camera yard", hanging, silence_s=0.5)], stop, notifier=Notifier(str(tmp_path / "notify"), watchdog_s=0.3)
        )
        runner = threading.Thread(target=supervisor.run)
        runner.start()
        try:
            assert systemd.recv(4096) == b"READY=1"
            assert b"WATCHDOG=1" in systemd.recv(4096)
            hangs.set()
            said = systemd.recv(4096)
            while b"WATCHDOG=1" in said:
                said = systemd.recv(4096)
            assert said == b"STATUS=no progress: camera yard"
        finally:
            stop.set()
            runner.join(20)
        while said != b"STOPPING=1":
            said = systemd.recv(4096)


def test_a_bell_wakes_and_a_stop_wakes_everybody() -> None:
    stop = Stop()
    bell = Bell(stop)
    assert not bell.wait(0.0)
    bell.ring()
    assert bell.wait(0.0)
    assert not bell.wait(0.0)
    stop.set()
    assert bell.wait(60)
    assert Bell(stop).wait(60)


def test_one_callback_that_fails_does_not_keep_others_from_stopping() -> None:
    stop, told = Stop(), []

    def broken() -> None:
        raise RuntimeError("cannot join thread before it is started")

    stop.on_set(broken)
    stop.on_set(lambda: told.append(1))
    stop.set()
    assert told == [1]


def fake_python(path: Path, code: int) -> str:
    """An interpreter that notes its start and ends with a code."""
    path.write_text(f"#!{sys.executable}\nimport sys\nopen({str(path) + '.starts'!r}, 'a').write('x')\nsys.exit({code})\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def starts(path: str) -> int:
    return len(Path(path + ".starts").read_text()) if Path(path + ".starts").exists() else 0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(launcher, "LONGEST_WAIT_S", 0.05)


def test_after_three_failed_starts_the_previous_slot_is_taken(tmp_path: Path, quick: None) -> None:
    """A new agent does not start: three tries, then the one before."""
    new, old = fake_python(tmp_path / "new", 1), fake_python(tmp_path / "old", 0)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / launcher_disk.POINTER).write_text(json.dumps({"python": new, "previous": old}))
    (tmp_path / "agent.toml").write_text('[agent]\ndata_dir = "data"\n')
    assert launcher.main(["--config", str(tmp_path / "agent.toml")]) == 0
    assert (starts(new), starts(old)) == (3, 1)


def test_a_code_that_asks_for_a_person_is_passed_on(tmp_path: Path, quick: None) -> None:
    """Wrong settings or a used claim: starting again would change nothing."""
    only = fake_python(tmp_path / "only", 3)
    (tmp_path / launcher_disk.POINTER).write_text(json.dumps({"python": only}))
    (tmp_path / "agent.toml").write_text('[agent]\ndata_dir = "."\n')
    assert launcher.main(["--config", str(tmp_path / "agent.toml")]) == 3
    assert starts(only) == 1


def test_a_damaged_pointer_means_the_launchers_own_environment(tmp_path: Path) -> None:
    """The pointer was torn: the agent still starts (and says itself that its settings are wrong)."""
    (tmp_path / launcher_disk.POINTER).write_text("{half")
    (tmp_path / "agent.toml").write_text('[agent]\ndata_dir = "."\n')
    environment = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    try:
        assert launcher.main(["--config", str(tmp_path / "agent.toml")]) == 2
    finally:
        if environment is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = environment


def test_a_pointer_below_the_home_folder_is_found_where_the_agent_has_it(
    tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``data_dir = "~/rookery"``: launcher and agent mean the same folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    only = fake_python(tmp_path / "only", 0)
    (tmp_path / "home" / "rookery").mkdir(parents=True)
    (tmp_path / "home" / "rookery" / launcher_disk.POINTER).write_text(json.dumps({"python": only}))
    (tmp_path / "agent.toml").write_text('[agent]\ndata_dir = "~/rookery"\n')
    assert launcher.main(["--config", str(tmp_path / "agent.toml")]) == 0
    assert starts(only) == 1


def test_the_launchers_patience_lies_between_the_agents_and_its_supervisors() -> None:
    """A supervisor that kills after 15 s must not meet a launcher that still waits: its agent would be left alone."""
    assert supervise.END_S < launcher.END_S < 15.0


def test_a_launcher_killed_by_9_takes_its_agent_with_it(tmp_path: Path) -> None:
    """The launcher is killed with SIGKILL (out of memory, say): no agent stays behind that would hold the data folder."""
    (tmp_path / "agent.toml").write_text('[agent]\ndata_dir = "."\n')
    agent = tmp_path / "agent"
    agent.write_text(f"#!{sys.executable}\nimport os, time\nos.write(1, b'%d\\n' % os.getpid())\ntime.sleep(120)\n")
    agent.chmod(0o755)
    (tmp_path / launcher_disk.POINTER).write_text(json.dumps({"python": str(agent)}))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-m", "device_agent.launcher", "--config", str(tmp_path / "agent.toml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        watched = os.pidfd_open(int(running.stdout.readline()))
        try:
            running.kill()
            running.wait(20)
            ended, _, _ = select.select([watched], [], [], 20)
            assert ended == [watched]
        finally:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(watched, signal.SIGKILL)
            os.close(watched)
