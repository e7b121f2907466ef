"""What agents of before left on a board is read by this one: every file of the data folder, as a real agent wrote it.

``tests/fixtures/board_set_<n>`` is the data folder of an agent that writes the on-disk formats of set n
(``agent_formats.FORMATS``). Whoever raises a format raises that number, adds the folder of the new set, and keeps the one before:
agents read N and N - 1. (The identity is left out, it holds a key; TUF's own files are TUF's.)
"""

import shutil
from pathlib import Path

import pytest

from device_agent import launcher_disk
from device_agent.configuration.kept_disk import KeptFile
from device_agent.link.clock_disk import read_floor
from device_agent.logs.ring_disk import LogRing
from device_agent.spool.spool_disk import Outbox
from device_agent.update.agent_formats import FORMATS, OLDEST_READ
from device_agent.update.agent_place_disk import AgentPlace, token_of
from device_agent.update.history_disk import HistoryFile
from device_agent.update.state_disk import AGENT_STATE_FILE, StateFile

FIXTURES = Path(__file__).parents[2] / "fixtures"
AGENT = "5a867ae389ef997f412a603b038a9f27462ae8936c15de500cd79cce05cd0522"
MODEL = "b91904d0539cce043b6f12fa80a4c0ae573bb85e60d0c74033d8322cfb59b356"
SETS = range(OLDEST_READ, FORMATS + 1)


def test_the_sets_that_this_code_speaks_of_are_two_at_most_and_both_are_here() -> None:
    assert max(1, FORMATS - 1) == OLDEST_READ
    assert [number for number in SETS if not (FIXTURES / f"board_set_{number}").is_dir()] == []


@pytest.fixture(params=SETS)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the data folder of one set."""
    return Path(shutil.copytree(FIXTURES / f"board_set_{request.param}", tmp_path / "data"))


def test_every_file_of_a_board_is_read(data: Path) -> None:
    """Nothing is set aside, nothing starts from nothing: state of both updates, spool, history, configuration, log, pointers."""
    model, agent = StateFile(data / "state"), StateFile(data / "state", AGENT_STATE_FILE)
    assert model.load().seen_seq == 1
    deployment = agent.load().deployment
    assert (model.note, agent.note) == ("", "")
    assert deployment is not None
    assert (deployment.state, deployment.bundle.sha256, deployment.settled) == ("committed", AGENT, True)
    place = AgentPlace(data, slot=AGENT)
    before = place.before(token_of(deployment))
    assert before is not None
    assert before.cameras == ["yard"]
    assert place.formats_in_force() == 1
    outbox = Outbox(data / "spool", max_bytes=2**20, min_free_bytes=0, free_bytes=lambda path: 2**30)
    assert outbox.count("events") == 2
    assert HistoryFile(data / "history").load().fps > 7
    assert KeptFile(data / "configuration").load().attempts == 0
    assert read_floor(data / "state" / "clock", 0.0) == 1_795_461_265
    assert LogRing(data / "logs", 10_000).last >= 15
    assert [path.name for path in data.rglob("*") if "unreadable" in path.name or "quarantine" in path.parent.name] == []


def test_the_launchers_files_are_read(data: Path) -> None:
    """The launcher is of the day on which the board was set up, the agents are not: each reads what the other wrote."""
    assert launcher_disk.read_pointer(data) == launcher_disk.Pointer(current=AGENT)
    assert [one["reason"] for one in launcher_disk.read_done(data)] == ["start"]


def test_a_pointer_of_the_first_agents_is_still_read(tmp_path: Path) -> None:
    """It named interpreters, not slots."""
    (tmp_path / launcher_disk.POINTER).write_text('{"python": "/opt/new/bin/python", "previous": "/opt/old/bin/python"}')
    found = launcher_disk.read_pointer(tmp_path)
    assert (found.python, found.python_before) == ("/opt/new/bin/python", "/opt/old/bin/python")
