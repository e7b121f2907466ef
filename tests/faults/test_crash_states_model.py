"""Every crash state of a model update, rebuilt from what the real code wrote, and resumed by the real code."""

from pathlib import Path

import pytest

from tests.faults.board import Board, Story
from tests.faults.crash_states import CrashState
from tests.faults.judging import Recording, judge, keep_counts, missed, told
from tests.faults.recording import Kind
from tests.faults.shop import NOW_S

LATER_S = 5000.0
"""The power comes back after this time."""


def resumed(story: Story):
    """The agent starts on what the crash left, hears the same assignment again, and comes to rest."""

    def check(folder: Path, state: CrashState) -> None:
        board = Board(folder, story, now_s=NOW_S + LATER_S)
        board.check_start(state.promises)
        assert board.poll() is None
        board.live()
        board.check_end(state.promises)

    return check


@pytest.mark.timeout(600)  # some 10 s of a core, whoever else is using it
@pytest.mark.parametrize("which", ["model_update", "model_roll_back"])
def test_every_crash_state_of_a_model_update_resumes_to_a_runnable_model_and_a_true_report(which: str, request) -> None:
    """The power fails after every single change, with every unsynced one kept, dropped, dropped alone, or the last one torn.

    At every start a whole model runs, old or new, the factory's is there, no floor has fallen and no report is lost; at rest the
    board is where it would have been without the crash, says so, and nothing half-done lies about.
    """
    story, recording = request.getfixturevalue(which)
    print(f"{which}: {len(recording.log)} lines, {recording.states}")
    assert recording.states.total == recording.states.expected
    assert recording.states.total > 500
    keep_counts(which, recording.states)
    failures = judge(recording.states.distinct, resumed(story))
    assert not failures, told(failures, recording.log)


KINDS = {
    "the state's file": r"state/update\.json\..*\.part",
    "the state's folder": r"state",
    "a file of the install place": r"slots/\.staging-[^/]*/model\.tflite",
    "the install place's own folder": r"slots/\.staging-[^/]*",
    "the pointer": r"slots/\.new-pointers\.json",
    "the folder of install places": r"slots",
    "signed metadata": r"metadata/snapshot\.json",
    "the folder of signed metadata": r"metadata",
    "a report": r"spool/reports/.*\.part",
    "the folder of reports": r"spool/reports",
}


@pytest.mark.parametrize("kind", KINDS)
def test_without_one_sync_the_crash_states_fail(kind: str, model_update: tuple[Story, Recording]) -> None:
    """The negative control: the recorder overlooks one sync of each kind in turn, as if the code had forgotten it.

    A check that still passed would prove nothing. At least one sync of each kind must be one that something depends on.
    """
    story, recording = model_update
    found = missed(recording, KINDS[kind], resumed(story))
    print(f"without a sync of {kind}: {found}")
    assert found


def test_the_log_holds_what_an_update_must_write(model_update: tuple[Story, Recording]) -> None:
    """The recorder sees the real code: every persisted state, the install place, the pointer, metadata and reports."""
    _, recording = model_update
    saved = {op.path.split(" ")[3] for op in recording.log if op.kind is Kind.MARK and op.path.startswith("saved ")}
    assert saved >= {"offered", "downloading", "verifying", "staging", "selftest", "trial", "committed"}
    renamed = {op.other for op in recording.log if op.kind is Kind.RENAME}
    assert {"state/update.json", "slots/pointers.json", "metadata/timestamp.json", "metadata/stable.json"} <= renamed
