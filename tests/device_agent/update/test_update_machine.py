"""The table row by row, and what the machine counts beside it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.update import diagram
from device_agent.update.deployment import Deployment, Event
from device_agent.update.machine import RETRY_BUDGET, TRANSITION_LIMIT, age, begin, overdue, retry_wait_s, step
from device_agent.update.states import ACTIONS, BEFORE_TRIAL, EVENTS, STATES, TABLE, UnknownEventError, events_of, row_for
from device_agent.update.wanted import MODEL_FAULTS
from ota.wire.assignments import AssignedBundle
from ota.wire.deployments import BOARD, DEPLOYMENT_STATES, END_STATES, FAULTS, NOBODY, REASONS, RELEASE, SERVER, fault_of

BUNDLE = AssignedBundle(path="stable/yard/2/manifest.json", sha256="a" * 64, length_bytes=100, channel="stable", release="yard@2")
PAGE = Path(__file__).resolve().parents[3] / "docs" / "update-states.md"


def at(state: str, **changes: object) -> Deployment:
    """A deployment that stands in a state."""
    from msgspec.structs import replace

    return replace(begin(7, "d" * 64, BUNDLE, 1000.0), state=state, **changes)


def walk(deployment: Deployment, *kinds: str) -> Deployment:
    for kind in kinds:
        deployment = step(deployment, Event(kind=kind), 1001.0).deployment
    return deployment


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.state}-{row.event}")
def test_every_row_does_what_it_says(row) -> None:
    done = step(at(row.state), Event(kind=row.event), 1010.0)
    assert done.deployment.state == row.next
    assert done.actions == (() if row.event == "settled" else row.actions)


def test_the_table_speaks_the_words_of_the_wire() -> None:
    assert tuple(STATES) == DEPLOYMENT_STATES
    assert tuple(name for name, fact in STATES.items() if fact.ended) == END_STATES
    assert {row.event for row in TABLE} == set(EVENTS)
    assert {action for row in TABLE for action in row.actions} == set(ACTIONS)
    assert len({(row.state, row.event) for row in TABLE}) == len(TABLE), "a state knows an event twice"


@pytest.mark.parametrize("state", [name for name, fact in STATES.items() if fact.persisted])
def test_every_persisted_state_says_what_a_restart_makes_of_it(state: str) -> None:
    assert row_for(state, "interrupted").next == STATES[state].resumes_as
    assert STATES[state].ended or STATES[state].deadline_s


def test_every_state_can_be_left_and_every_way_ends() -> None:
    reach = {name: {row.next for row in TABLE if row.state == name} for name in STATES}
    for start in STATES:
        seen, todo = set(), [start]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += reach[name]
        assert seen & set(END_STATES)


@given(st.sampled_from(sorted(STATES)), st.sampled_from([*sorted(EVENTS), "nonsense"]))
def test_an_event_that_a_state_does_not_know_is_an_error_that_names_both(state: str, event: str) -> None:
    if event in events_of(state):
        return
    with pytest.raises(UnknownEventError, match=state) as caught:
        step(at(state), Event(kind=event), 1.0)
    assert event in str(caught.value)


def test_the_straight_way() -> None:
    done = walk(at("idle"), "assigned", "resolved", "downloaded", "verified", "staged", "proved", "good", "settled")
    assert (done.state, done.settled, done.transitions) == ("committed", True, 7)


@pytest.mark.parametrize("code", sorted(RETRY_BUDGET))
def test_a_passing_failure_is_tried_again_within_its_budget_and_then_refused(code: str) -> None:
    """The server's disk hiccups: the device asks again, a little later each time, and not for ever."""
    deployment = walk(at("idle"), "assigned", "resolved")
    waits = []
    for _ in range(RETRY_BUDGET[code]):
        deployment = step(deployment, Event(kind="failed", reason=code, detail="no luck"), 2000.0).deployment
        assert (deployment.state, deployment.reason) == ("waiting", code)
        waits.append(deployment.retry_at_s - 2000.0)
        deployment = walk(deployment, "clear", "resolved")
    assert waits == sorted(waits)
    ended = step(deployment, Event(kind="failed", reason=code, detail="no luck"), 2000.0).deployment
    assert (ended.state, ended.reason) == ("refused", code)
    assert ended.attempt == RETRY_BUDGET[code] + 2


def test_a_wrong_hash_is_fetched_once_more_in_full_and_then_refused() -> None:
    """A byte was flipped in the server's store: the second, complete download proves that it was not the line."""
    deployment = walk(at("idle"), "assigned", "resolved", "downloaded")
    once = step(deployment, Event(kind="failed", reason="hash", detail="model.tflite"), 1.0).deployment
    assert (once.state, once.refetch) == ("waiting", True)
    again = walk(once, "clear", "resolved")
    assert again.refetch
    twice = step(again, Event(kind="failed", reason="hash", detail="model.tflite"), 1.0).deployment
    assert (twice.state, twice.reason) == ("refused", "hash")


@pytest.mark.parametrize("code", sorted(set(REASONS) - set(RETRY_BUDGET)))
@pytest.mark.parametrize("state", BEFORE_TRIAL)
def test_every_other_failure_ends_it_at_once(state: str, code: str) -> None:
    done = step(at(state), Event(kind="failed", reason=code, detail="so it is"), 1.0).deployment
    assert (done.state, done.reason, done.detail) == ("refused", code, "so it is")


def test_a_failure_in_the_trial_goes_back() -> None:
    done = step(at("trial"), Event(kind="failed", reason="model", detail="it died"), 1.0)
    assert (done.deployment.state, done.actions[0]) == ("rolled_back", "roll_back")


def test_a_newer_assignment_during_a_trial_rolls_back_first() -> None:
    done = step(at("trial"), Event(kind="newer", detail="yard@3"), 1.0)
    assert (done.deployment.state, done.deployment.reason) == ("rolled_back", "superseded")
    assert "roll_back" in done.actions


def test_three_restarts_in_a_trial_are_survived_and_the_fourth_goes_back() -> None:
    """The new model makes the supply sag: the board restarts again and again."""
    deployment = at("trial")
    for _ in range(3):
        done = step(deployment, Event(kind="interrupted"), 1.0)
        deployment = done.deployment
        assert (deployment.state, done.actions) == ("trial", ("switch",))
    last = step(deployment, Event(kind="interrupted"), 1.0)
    assert (last.deployment.state, last.deployment.reason) == ("rolled_back", "boots")


@pytest.mark.parametrize("state", [name for name, fact in STATES.items() if fact.deadline_s])
def test_a_state_that_lasts_too_long_ends(state: str) -> None:
    limit_s = STATES[state].deadline_s
    assert overdue(age(at(state), limit_s)) is None
    event = overdue(age(at(state), limit_s + 1))
    done = step(at(state), event, 1.0).deployment
    assert (done.state, done.reason) == ("rolled_back" if state == "trial" else "refused", "deadline")


def test_a_deployment_that_runs_in_circles_is_ended() -> None:
    deployment = walk(at("idle"), "assigned")
    for _ in range(TRANSITION_LIMIT):
        for kind in ("blocked", "clear"):
            if deployment.state not in END_STATES:
                deployment = step(deployment, Event(kind=kind, reason="heat"), 1.0).deployment
    assert (deployment.state, deployment.reason) == ("refused", "loop")


FAILURES = st.sampled_from(sorted(REASONS)).map(lambda code: Event(kind="failed", reason=code))


@given(st.data())
def test_any_sequence_of_events_ends_and_no_release_stays_without_proof(data) -> None:
    """Whatever happens in whatever order, a deployment ends, and it is committed only after a self-test and a trial."""
    deployment = step(at("idle"), Event(kind="assigned"), 0.0).deployment
    seen = []
    for _ in range(TRANSITION_LIMIT + 2):
        if deployment.state in END_STATES:
            break
        known = [Event(kind=name, reason="heat") for name in events_of(deployment.state)]
        event = data.draw(st.one_of(st.sampled_from(known), FAILURES))
        seen.append((deployment.state, event.kind))
        deployment = step(deployment, event, 0.0).deployment
    assert deployment.state in END_STATES
    if deployment.state == "committed":
        assert ("selftest", "proved") in seen
        assert ("trial", "good") in seen or ("trial", "unseen") in seen


def test_waits_between_attempts_grow_and_stay_below_half_an_hour() -> None:
    waits = [retry_wait_s(n) for n in range(1, 40)]
    assert waits == sorted(waits)
    assert waits[0] == 5.0
    assert waits[-1] == 1800.0


def test_the_diagram_in_the_docs_is_drawn_from_this_table() -> None:
    assert PAGE.read_text() == diagram.page(), "run python -m device_agent.update.diagram > docs/update-states.md"


def test_every_reason_is_somebodys_fault_or_nobodys() -> None:
    """A fleet whose metadata expired over night stands at "0 failed": each reason says whether a release, a board or the
    server's side is to blame, and a code of a later agent blames nobody."""
    assert set(FAULTS) == set(REASONS)
    assert (fault_of("expired"), fault_of("download"), fault_of("hash")) == (SERVER, SERVER, BOARD)
    assert (fault_of("parity"), fault_of("disk"), fault_of("hook")) == (RELEASE, BOARD, BOARD)
    assert fault_of("of-a-later-version") == fault_of("superseded") == NOBODY
    assert {code for code in REASONS if fault_of(code) == RELEASE} == MODEL_FAULTS
