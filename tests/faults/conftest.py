"""Recordings that several tests judge: made once."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.agent_board import AgentStory, recorded
from tests.faults.board import Story, set_up
from tests.faults.judging import Recording, scratch
from tests.faults.recording import run_below


def _recorded(room: Path, *, blind: bool) -> tuple[Story, Recording]:
    story = set_up(room, blind=blind)
    shutil.copytree(room / "board", room / "start", symlinks=True)
    run_below("tests.faults.board_process", "record", room, room / "log")
    return story, Recording.read(room / "log", room / "start", room / "board")


@pytest.fixture(scope="session")
def model_update() -> Iterator[tuple[Story, Recording]]:
    """One update of the model that ends committed."""
    with scratch() as room:
        yield _recorded(room, blind=False)


@pytest.fixture(scope="session")
def model_roll_back() -> Iterator[tuple[Story, Recording]]:
    """One update of the model to a release that sees nothing: rolled back after its trial."""
    with scratch() as room:
        yield _recorded(room, blind=True)


@pytest.fixture(scope="session")
def agent_update() -> Iterator[tuple[AgentStory, Recording]]:
    """One update of the agent itself, a very small one."""
    with recorded() as (room, story):
        yield story, Recording.read(room / "log", room / "start", room / "board")


@pytest.fixture(scope="session")
def spool_life() -> Iterator[Recording]:
    """A life of the outbox in small."""
    with scratch() as room:
        (room / "spool").mkdir()
        (room / "start").mkdir()
        run_below("tests.faults.spool_life", room / "spool", room / "log")
        yield Recording.read(room / "log", room / "start", room / "spool")
