"""The disk is full, or cannot be written, from each single change of an update on; then it works again."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.board import set_up
from tests.faults.judging import scratch
from tests.faults.recording import run_below


@pytest.fixture
def room() -> Iterator[Path]:
    with scratch() as folder:
        set_up(folder)
        yield folder


def fail(room: Path, faults: dict[str, int]) -> dict[str, int]:
    said = json.loads(run_below("tests.faults.board_process", "fail", room, json.dumps(faults)))
    print(said["changes"], "changes;", said["seen"])
    assert said["failures"] == [], "\n".join([f"{len(said['failures'])} of them", *said["failures"][:12]])
    assert sum(said["seen"].values()) >= sum(said["changes"] // every for every in faults.values())
    return said["seen"]


@pytest.mark.timeout(600)
def test_a_disk_that_is_full_from_any_change_on_leaves_the_old_model_running_and_the_update_goes_on_later(room: Path) -> None:
    """ENOSPC at every change of the update in turn, after half of the write where it is one. A whole model runs throughout,

    the board says ``disk``; with room again the update ends committed, its reports are true and nothing is left half-written.
    """
    fail(room, {"FULL_SHORT": 1})


def test_a_disk_that_becomes_read_only_at_any_change_leaves_the_old_model_running(room: Path) -> None:
    """EROFS, as a worn card answers, at a fifth of all changes; every one of them is in the slow tier."""
    fail(room, {"READ_ONLY": 5})


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_slow_disk_fails_in_every_way_at_every_change(room: Path) -> None:
    """Full with and without half a write, and read-only, at every change."""
    fail(room, {"FULL": 1, "FULL_SHORT": 1, "READ_ONLY": 1})
