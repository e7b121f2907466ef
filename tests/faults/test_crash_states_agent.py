"""Every crash state of the agent's own update: the launcher finds a runnable agent, old or new, and it goes on to the end."""

from pathlib import Path

import pytest

from tests.faults.agent_board import AgentBoard, AgentStory, real_agent, recorded
from tests.faults.crash_states import CrashState, sample_states
from tests.faults.judging import Recording, judge, keep_counts, missed, told
from tests.faults.recording import Kind, read_log
from tests.faults.shop import NOW_S

SAMPLES, SAMPLE_PARTS = 2000, 20
KINDS = {
    "a module": r"agents/\.staging-[^/]*/lib/.*\.py",
    "a folder of modules": r"agents/\.staging-[^/]*/lib/python[^/]*/site-packages/device_agent",
    "the list of files": r"agents/\.staging-[^/]*/files\.sha256",
    "the folder of slots": r"agents",
    "the pointer": r"agent-slot\.json\..*\.part",
    "the pointer's folder": r"",
    "the agent's state": r"state/agent-state\.json\..*\.part",
    "the assignment's state": r"state/update\.json\..*\.part",
}


def resumed(story: AgentStory):
    """The board starts on what the crash left: the launcher chooses an agent, which hears the same assignment and goes on."""

    def check(folder: Path, state: CrashState) -> None:
        board = AgentBoard(folder, story, now_s=NOW_S + 5000.0)
        board.check_start(state.promises)
        board.live()
        board.check_end(state.promises)

    return check


@pytest.mark.timeout(900)  # some 25 s of a core, whoever else is using it
def test_every_crash_state_of_an_agent_update_starts_a_runnable_agent_and_ends_committed(
    agent_update: tuple[AgentStory, Recording],
) -> None:
    """The power fails after every single change of the agent's update, the launcher's own among them.

    At every start the launcher finds an agent whose every file is what was installed, old or new, never none; the trial goes on,
    the new agent is committed, its reports are true, the one before the old one is gone, and nothing half-done lies about.
    """
    story, recording = agent_update
    print(f"agent update: {len(recording.log)} lines, {recording.states}")
    assert recording.states.total == recording.states.expected
    assert recording.states.total > 2000
    failures = judge(recording.states.distinct, resumed(story))
    assert not failures, told(failures, recording.log)


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_update_without_one_sync_fails(kind: str, agent_update: tuple[AgentStory, Recording]) -> None:
    """The negative control, as for the model: one sync of each kind is overlooked in turn."""
    story, recording = agent_update
    found = missed(recording, KINDS[kind], resumed(story))
    print(f"without a sync of {kind}: {found}")
    assert found


def test_the_log_holds_what_an_agent_update_must_write(agent_update: tuple[AgentStory, Recording]) -> None:
    _, recording = agent_update
    saved = {op.path.split(" ")[2] for op in recording.log if op.kind is Kind.MARK and op.path.startswith("agent-saved ")}
    assert saved >= {"offered", "downloading", "verifying", "staging", "selftest", "trial", "committed"}
    renamed = {op.other for op in recording.log if op.kind is Kind.RENAME}
    assert {"agent-slot.json", "state/agent-state.json", "agent-alive"} <= renamed


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_slow_crash_states_of_an_agent_of_fifty_files() -> None:
    """All of them, for an agent of some forty files."""
    with recorded(modules=8) as (room, story):
        recording = Recording.read(room / "log", room / "start", room / "board")
        files = sum(1 for path in (room / "board" / "agents" / story.new).rglob("*") if path.is_file())
        print(f"an agent of {files} files: {len(recording.log)} lines, {recording.states}")
        assert files <= 50
        keep_counts(f"an agent of {files} files", recording.states)
        assert recording.states.total == recording.states.expected
        failures = judge(recording.states.distinct, resumed(story))
        assert not failures, told(failures, recording.log)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(SAMPLE_PARTS))
def test_slow_crash_states_of_an_agent_of_real_wheels_sampled(part: int) -> None:
    """The agent's own packages and some that it needs: drawn with a seed, two thousand in all parts together."""
    with recorded(newest=real_agent) as (room, story):
        log = read_log(room / "log", room / "board")
        states = list(sample_states(log, room / "start", f"real {part}", SAMPLES // SAMPLE_PARTS))
        assert len(states) == SAMPLES // SAMPLE_PARTS
        keep_counts(f"an agent of real wheels, sample {part} (seed 'real {part}')", len(states))
        failures = judge(states, resumed(story))
        assert not failures, told(failures, log)
