"""Every crash state of the outbox: what was acknowledged reaches the server, once."""

import pytest

from tests.faults.judging import Recording, judge, keep_counts, missed, told
from tests.faults.recording import Kind
from tests.faults.spool_life import check_after

KINDS = {
    "an entry": r"events/.*\.part",
    "the folder of entries": r"events",
    "the ledger": r"state\.json\..*\.part",
    "the ledger's folder": r"",
}


def test_every_crash_state_of_the_outbox_loses_nothing_and_shows_nothing_twice(spool_life: Recording) -> None:
    """Events, reports and pictures are kept, sent, stored, given up for others, put aside and numbered anew; the power fails

    anywhere in it. Afterwards every acknowledged entry that was not given up reaches the server, no number is used again for
    something else, report batches are numbered on upwards, and no leftover stays.
    """
    print(f"the outbox: {len(spool_life.log)} lines, {spool_life.states}")
    assert spool_life.states.total == spool_life.states.expected
    assert spool_life.states.total > 500
    keep_counts("outbox", spool_life.states)
    failures = judge(spool_life.states.distinct, lambda folder, state: check_after(folder, state.promises))
    assert not failures, told(failures, spool_life.log)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outbox_without_one_sync_fails(kind: str, spool_life: Recording) -> None:
    """The negative control, as for the model: one sync of each kind is overlooked in turn."""
    found = missed(spool_life, KINDS[kind], lambda folder, state: check_after(folder, state.promises))
    print(f"without a sync of {kind}: {found}")
    assert found


def test_the_recorded_life_has_all_there_is_in_an_outbox(spool_life: Recording) -> None:
    promised = {op.path.split(" ")[0] for op in spool_life.log if op.kind is Kind.MARK}
    assert promised == {"kept", "shown", "counter", "gave-up", "ahead", "end"}
    folders = {op.other.partition("/")[0] for op in spool_life.log if op.kind is Kind.RENAME}
    assert folders == {"events", "reports", "stills", "quarantine", "state.json"}
