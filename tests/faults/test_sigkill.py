"""The process of the agent's update part dies: after every state that it wrote down, and at random system calls."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.update.states import STATES as TABLE_STATES
from tests.faults.agent_board import set_up as set_up_agent
from tests.faults.board import set_up
from tests.faults.judging import scratch
from tests.faults.recording import ROOT

STATES = [
    *(("new", state) for state in ("offered", "downloading", "verifying", "staging", "selftest", "trial", "committed")),
    ("waits", "waiting"), ("fails-its-test", "refused"), ("newer", "superseded"), ("none", "cancelled"),
]  # fmt: skip


@pytest.fixture
def room() -> Iterator[Path]:
    with scratch() as folder:
        set_up(folder)
        yield folder


def kill(room: Path, plans: list[dict[str, object]], timeout_s: float = 600.0) -> list[dict[str, object]]:
    """What the plans came to. In a process of its own: it forks, and a test runner has threads."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.kill_process", str(room)], cwd=ROOT, input="\n".join(map(json.dumps, plans)),
        capture_output=True, text=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def ptrace() -> None:
    """Skips where processes may not be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    asked = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        pytest.skip(f"ptrace refused by the kernel: {asked.stderr.strip()[-200:]}")


def test_killed_after_every_state_that_is_written_down(room: Path) -> None:
    """SIGKILL right after each persisted state of the table: the next process ends it as it would have ended, and says so."""
    with scratch() as other:
        set_up(other, blind=True)
        blind = kill(other, [{"story": "new", "state": "rolled_back"}])
    found = [*kill(room, [{"story": story, "state": state} for story, state in STATES]), *blind]
    wrong = [f"{one['state']}: {one['wrong']}" for one in found if one["wrong"]]
    assert not wrong, "\n".join(wrong)
    assert {one["state"] for one in found} == {state for state, fact in TABLE_STATES.items() if fact.persisted}


def test_the_agents_own_update_killed_after_every_state_that_is_written_down() -> None:
    """The same for the agent itself: the launcher starts an agent that is whole, and the update ends committed."""
    with scratch() as folder:
        set_up_agent(folder)
        states = [state for story, state in STATES if story == "new"]
        found = kill(folder, [{"agent": state} for state in states])
    wrong = [f"{one['agent']}: {one['wrong']}" for one in found if one["wrong"]]
    assert not wrong, "\n".join(wrong)
    assert len(found) == len(states)


def random_calls(room: Path, kills: int, seed: str) -> None:
    found = kill(room, [{"kills": kills, "seed": seed}], timeout_s=3600.0)
    wrong = [f"{one['call']} {one['number']}: {one['wrong']}" for one in found if one["wrong"]]
    print(f"seed {seed}: {sum(bool(one['killed']) for one in found)} kills among {found[0]['of']} system calls")
    assert not wrong, f"{len(wrong)} of {len(found)} (seed {seed}):\n" + "\n".join(wrong[:5])
    assert sum(bool(one["killed"]) for one in found) == kills


@pytest.mark.timeout(900)
def test_killed_at_fifty_random_system_calls(room: Path) -> None:
    """strace kills the process at the entry of one of its system calls, drawn at random from a run without any."""
    ptrace()
    random_calls(room, 50, "fifty")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(10))
def test_slow_sigkill_at_a_thousand_random_system_calls(room: Path, part: int) -> None:
    """The same, a thousand times in ten parts."""
    ptrace()
    random_calls(room, 100, f"thousand {part} {random.Random(part).random()}")
