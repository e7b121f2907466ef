"""The real launcher over real slots with tiny agents: what it counts, when it falls back, what it leaves for the next to tell."""

import hashlib
import json
import time
from pathlib import Path

import pytest

from device_agent import launcher, launcher_disk
from device_agent.launcher_disk import Pointer, Trial, read_done, read_pointer, write_pointer
from device_agent.update.agent_environment_disk import Base, Parts, build_slot, own_base
from ota.bundle.agent_release import build_lock, parse_lock
from tests.fakes.wheels import ABI, make_wheel

HEAD = """
import json, os, sys, time
from pathlib import Path
here = Path({here!r})
def say(word):
    with open(here / "log", "a") as file:
        file.write(word + "\\n")
def starts():
    return (here / "log").read_text().split().count({word!r})
def pointer(**changes):
    found = json.loads((here / "data" / "agent-slot.json").read_text())
    (here / "data" / "agent-slot.json").write_text(json.dumps({{**found, **changes}}))
say({word!r})
"""


class Board:
    """A data folder, and agents of a few lines. ``log``: which agents were started, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.data.mkdir()
        (folder / "agent.toml").write_text('[agent]\ndata_dir = "data"\n')
        (folder / "factory" / "device_agent").mkdir(parents=True)
        (folder / "factory" / "device_agent" / "__init__.py").write_text("")
        self.factory("sys.exit(0)")

    def factory(self, code: str) -> None:
        """The agent of the launcher's own environment."""
        text = HEAD.format(here=str(self.folder), word="factory") + code
        (self.folder / "factory" / "device_agent" / "__main__.py").write_text(text)

    def slot(self, word: str, code: str, base: Base | None = None) -> str:
        """An installed agent; its digest."""
        text = HEAD.format(here=str(self.folder), word=word) + code
        name, data = make_wheel("rookery", "2", {"device_agent/__init__.py": b"", "device_agent/__main__.py": text.encode()})
        (self.folder / name).write_bytes(data)
        lock = build_lock({name: hashlib.sha256(data).hexdigest()}, ABI)
        parts = Parts(word.encode(), lock, parse_lock(lock), {name: self.folder / name})
        return build_slot(self.data / "agents", parts, base or own_base()).name

    def run(self) -> int:
        return launcher.main(["--config", str(self.folder / "agent.toml")])

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()

    @property
    def done(self) -> list[tuple[str, str]]:
        return [(one["slot"], one["reason"]) for one in read_done(self.data)]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    monkeypatch.setattr(launcher, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(launcher, "LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(launcher, "TRIAL_WAIT_S", 0.01)
    made = Board(tmp_path)
    monkeypatch.chdir(tmp_path / "factory")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "factory"))
    return made


ASK = """
if not (here / "asked").exists():
    (here / "asked").touch()
    pointer(trial={{"slot": {slot!r}, "starts": 0, "limit": 3, "token": "t-1", "alive_s": 60}})
    sys.exit(75)
sys.exit(0)
"""


def ask(board: Board, slot: str) -> None:
    """The factory agent asks for this slot once; started again, it ends for good."""
    write_pointer(board.data, Pointer())
    board.factory(ASK.format(slot=slot))


def test_an_agent_that_asks_gets_its_successor_at_once_and_it_stays(board: Board) -> None:
    """The good case: asked for, started once, committed by itself, and started again as the current one."""
    new = board.slot("new", """
if starts() == 1:
    pointer(current=os.environ["ROOKERY_SLOT"], trial=None)
    sys.exit(9)
sys.exit(0)
""")  # fmt: skip
    ask(board, new)
    assert board.run() == 0
    assert board.log == ["factory", "new", "new"]
    assert read_pointer(board.data) == Pointer(current=new)
    assert board.done == []


@pytest.mark.parametrize("end", ["sys.exit(0)", "sys.exit(2)", "os.kill(os.getpid(), 9)"])
def test_an_agent_that_ends_at_its_start_is_started_three_times_and_left(board: Board, end: str) -> None:
    """Whatever its exit code says, also "on purpose": an agent on trial has to stay. The old one runs, the reason is written."""
    new = board.slot("new", end)
    ask(board, new)
    assert board.run() == 0
    assert board.log == ["factory", "new", "new", "new", "factory"]
    assert board.done == [(new, "start")]
    assert "started 3 times" in read_done(board.data)[0]["detail"]
    assert read_done(board.data)[0]["token"] == "t-1"
    assert read_pointer(board.data).trial is None


def test_an_agent_whose_python_is_gone_is_left_without_a_start(board: Board) -> None:
    """The operating system was updated to another Python between install and start: the slot's link leads nowhere."""
    new = board.slot("new", "sys.exit(0)", Base("/nowhere/python3", "3.11", "3.11.2", system_packages=False))
    ask(board, new)
    assert board.run() == 0
    assert board.log == ["factory", "factory"]
    assert board.done == [(new, "hash")]


def test_an_agent_that_says_nothing_in_time_is_killed_and_left(board: Board) -> None:
    """It starts, hangs, and never says that it works."""
    new = board.slot("new", "time.sleep(600)")
    ask(board, new)
    board.factory(ASK.replace('"alive_s": 60', '"alive_s": 1').format(slot=new))
    assert board.run() == 0
    assert board.log[-1] == "factory"
    assert board.done == [(new, "alive")]


def test_an_agent_that_says_that_it_lives_is_not_killed(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked after its deadline, finds the number of this start, and lets the agent work."""
    new = board.slot("new", """
if starts() == 1:
    (here / "data" / "agent-alive").write_text(os.environ["ROOKERY_START"])
    while not (here / "looked").exists():
        time.sleep(0.02)
    pointer(current=os.environ["ROOKERY_SLOT"], trial=None)
    say("lived")
sys.exit(0)
""")  # fmt: skip
    real = launcher_disk.alive_nonce

    def look(data: Path) -> str:
        until_s = time.monotonic() + 60
        while not (data / launcher_disk.ALIVE).exists() and time.monotonic() < until_s:
            time.sleep(0.02)  # a busy machine may need longer than the second that this trial gives
        found = real(data)
        (board.folder / "looked").touch()
        return found

    monkeypatch.setattr(launcher_disk, "alive_nonce", look)
    board.factory(ASK.replace('"alive_s": 60', '"alive_s": 1').format(slot=new))
    write_pointer(board.data, Pointer())
    assert board.run() == 0
    assert board.log == ["factory", "new", "lived", "new"]
    assert board.done == []


def test_an_agent_that_never_judges_itself_is_left(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it works and then does nothing for its own trial (its link part is broken, say): not for ever."""
    monkeypatch.setattr(launcher, "JUDGED_S", 1.0)
    new = board.slot("new", "time.sleep(600)")
    write_pointer(board.data, Pointer(trial=Trial(new, limit=1, token="t-1", alive_s=3600.0)))
    board.factory("sys.exit(0)")
    assert board.run() == 0
    assert board.log[-1] == "factory"
    assert board.done == [(new, "deadline")]


def test_a_slot_that_was_tampered_with_is_not_started(board: Board) -> None:
    """Somebody changes one byte of an installed agent, on trial and later: it never runs, the one before does."""
    new = board.slot("new", "sys.exit(0)")
    changed = next((board.data / "agents" / new).rglob("__main__.py"))
    changed.write_text(changed.read_text() + "# one more line\n")
    ask(board, new)
    assert board.run() == 0
    assert board.log == ["factory", "factory"]
    assert board.done == [(new, "hash")]

    old, newer = board.slot("old", "sys.exit(0)"), board.slot("newer", "sys.exit(0)")
    write_pointer(board.data, Pointer(current=newer, previous=old))
    hidden = next((board.data / "agents" / newer).rglob("__pycache__")) / "sitecustomize.cpython-311.pyc"
    hidden.write_bytes(b"anything")
    assert board.run() == 0
    assert board.log[-1] == "old"
    assert board.done[-1] == (newer, "hash")
    assert read_pointer(board.data) == Pointer(current=old)


def test_where_both_slots_are_damaged_the_factory_agent_runs(board: Board) -> None:
    one, two = board.slot("one", "sys.exit(0)"), board.slot("two", "sys.exit(0)")
    for slot in (one, two):
        (board.data / "agents" / slot / "lock.json").write_text("{}")
    write_pointer(board.data, Pointer(current=one, previous=two))
    assert board.run() == 0
    assert board.log == ["factory"]
    assert read_pointer(board.data) == Pointer()


def test_a_committed_agent_that_no_longer_starts_makes_room_for_the_one_before(board: Board) -> None:
    """Not a trial: three starts in a row fail (another package of the system broke it, say)."""
    old, bad = board.slot("old", "sys.exit(0)"), board.slot("bad", "sys.exit(1)")
    write_pointer(board.data, Pointer(current=bad, previous=old))
    assert board.run() == 0
    assert board.log == ["bad", "bad", "bad", "old"]
    assert board.done == [(bad, "start")]


def test_power_lost_in_a_trial_three_times_ends_it(board: Board) -> None:
    """The count is on the disk before each start: a launcher that is killed each time still comes to an end."""
    new = board.slot("new", "sys.exit(0)")
    write_pointer(board.data, Pointer(trial=Trial(new, starts=3, limit=3, token="t-1")))
    board.factory("sys.exit(0)")
    assert board.run() == 0
    assert board.log == ["factory"]
    assert board.done == [(new, "boots")]


def test_a_start_that_cannot_be_counted_is_not_made(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: an agent on trial that could be started for ever is not started once."""
    new = board.slot("new", "sys.exit(0)")
    write_pointer(board.data, Pointer(trial=Trial(new, token="t-1")))
    board.factory("sys.exit(0)")

    def full(data: Path, pointer: Pointer) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(launcher_disk, "write_pointer", full)
    assert board.run() == 0
    assert board.log == ["factory"]


@pytest.mark.parametrize("writing", ["write_pointer", "write_done"])
def test_the_reason_outlives_a_cut_at_either_of_its_two_writes(
    board: Board, monkeypatch: pytest.MonkeyPatch, writing: str
) -> None:
    """The launcher writes what it does before it does it: cut at one of the two, it does it again and tells it once."""
    new = board.slot("new", "sys.exit(0)")
    write_pointer(board.data, Pointer(trial=Trial(new, starts=3, limit=3, token="t-1")))
    board.factory("sys.exit(0)")
    real = getattr(launcher_disk, writing)

    def cut(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher_disk, writing, cut)
    with pytest.raises(KeyboardInterrupt):
        board.run()
    monkeypatch.setattr(launcher_disk, writing, real)
    assert board.run() == 0
    assert board.done == [(new, "boots")]
    assert read_pointer(board.data) == Pointer()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"v": 2, "current": "x"}', '{"v": 1, "current": "../../etc", "trial": {"slot": 5}}', "[" * 10_000,
     '{"v": 1, "current": null, "trial": {"slot": "%s", "starts": "many"}}' % ("a" * 64)],
)  # fmt: skip
def test_a_pointer_that_makes_no_sense_means_the_factory_agent(board: Board, text: str) -> None:
    (board.data / launcher_disk.POINTER).write_text(text)
    board.factory("sys.exit(0)")
    assert board.run() == 0
    assert board.log == ["factory"]


def test_the_launcher_needs_nothing_but_the_standard_library() -> None:
    """It runs where every package of an update is broken: its two files import nothing else."""
    import ast
    import sys

    for module in (launcher, launcher_disk):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [node.module] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names]
                for name in names:
                    assert name.partition(".")[0] in sys.stdlib_module_names or name in (
                        "device_agent",
                        "device_agent.launcher_disk",
                    )


def test_what_the_launcher_did_is_bounded(board: Board) -> None:
    for number in range(50):
        launcher_disk.write_done(
            board.data, {"slot": "s", "token": "", "reason": "hash", "detail": str(number), "at_s": 0, "to": None}
        )
    assert len(json.loads((board.data / launcher_disk.DONE).read_text())["fallen"]) == launcher_disk.KEPT_DONE
