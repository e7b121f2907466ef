"""The gates, driven by a fleet that does what it likes."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_server.rollouts import gates
from fleet_server.rollouts.gates import Limits, Member, Progress, Step, evaluate
from fleet_server.rollouts.plan import stages

LIMITS = Limits(max_wait_s=1000.0, deadline_s=5000.0, lost_after_s=600.0)


@dataclass
class Fleet:
    """A rollout held in memory: applies steps as the service does."""

    members: dict[str, Member]
    progress: Progress
    limits: Limits = LIMITS
    now_s: float = 0.0
    log: list[Step] = field(default_factory=list)

    @classmethod
    def of(cls, count: int, shares: tuple[float, ...] = (0.05, 0.25, 1.0), limits: Limits = LIMITS) -> "Fleet":
        planned = stages("r-1", [f"d{n:03}" for n in range(count)], shares)
        members = {one: Member(one, stage, "pending", True, 0.0, one) for stage, ids in enumerate(planned) for one in ids}
        return cls(members, Progress("running", -1, len(shares), 0.0, 0.0), limits)

    def set(self, device: str, **changes: object) -> None:
        self.members[device] = replace(self.members[device], **changes)  # type: ignore[arg-type]

    def tick(self) -> Step:
        step = evaluate(self.progress, list(self.members.values()), self.limits, self.now_s)
        for ids, state in (
            (step.offer, "offered"),
            (step.offline, "pending_offline"),
            (step.lost, "lost"),
            (step.withdraw, "pending"),
        ):
            for device in ids:
                self.set(device, state=state)
        self.progress = replace(
            self.progress, state=step.state, stage=step.stage, stage_opened_s=step.stage_opened_s, reason=step.reason
        )
        self.log.append(step)
        return step

    def states(self) -> list[str]:
        return [one.state for one in self.members.values()]

    def in_state(self, *states: str) -> list[str]:
        return [one.device for one in self.members.values() if one.state in states]


def test_a_fleet_that_behaves_goes_through_stage_by_stage() -> None:
    fleet = Fleet.of(30)
    begun = []
    for _ in range(5):
        fleet.tick()
        begun.append(sum(state != "pending" for state in fleet.states()))
        for device in fleet.in_state("offered"):
            fleet.set(device, state="committed")
    assert begun[:2] == [10, 30]  # stages 1 and 2 have the same ten of thirty
    assert fleet.progress.state == "finished"
    assert "30 of 30" in fleet.progress.reason


def test_one_bad_device_of_a_small_fleet_pauses_at_once_and_says_why() -> None:
    """Nobody watches; the release is blind on dark frames, and the first device says so."""
    fleet = Fleet.of(3)
    first = fleet.tick().offer[0]
    fleet.set(first, state="rolled_back", reason="detection_rate", detail="0.02 against 0.61")
    step = fleet.tick()
    assert step.state == "paused"
    assert "paused by itself" in step.reason
    assert "rolled back(detection_rate): 0.02 against 0.61" in step.reason
    assert fleet.in_state("offered") == []


def test_devices_that_have_not_begun_are_taken_back_and_those_that_have_go_on() -> None:
    fleet = Fleet.of(9, (1.0,))
    offered = fleet.tick().offer
    fleet.set(offered[0], state="refused")
    fleet.set(offered[1], state="trial")
    fleet.set(offered[2], state="committed")
    step = fleet.tick()
    assert sorted(step.withdraw) == sorted(offered[3:])
    assert [fleet.members[each].state for each in offered[:3]] == ["refused", "trial", "committed"]
    assert fleet.tick().withdraw == []


def test_a_device_that_was_offline_is_shown_apart_and_blocks_nothing() -> None:
    fleet = Fleet.of(3, (0.3, 1.0))
    last = fleet.in_state("pending")[-1]
    fleet.set(last, online=False)
    for _ in range(3):
        fleet.tick()
        for device in fleet.in_state("offered"):
            fleet.set(device, state="committed")
    assert fleet.progress.state == "finished"
    assert fleet.members[last].state == "pending_offline"
    assert "1 were offline" in fleet.progress.reason


def test_silence_after_the_download_began_is_a_failure_and_before_it_is_not() -> None:
    fleet = Fleet.of(6, (1.0,))
    offered = fleet.tick().offer
    fleet.set(offered[0], state="downloading", online=False, silent_s=599.0)
    fleet.set(offered[1], online=False, silent_s=5000.0)
    assert fleet.tick().lost == []
    assert fleet.members[offered[1]].state == "pending_offline"
    fleet.set(offered[0], silent_s=601.0)
    step = fleet.tick()
    assert step.lost == [offered[0]]
    assert step.state == "paused"


def test_a_stage_without_evidence_is_held_for_a_person() -> None:
    """The whole first stage is offline: nothing is known, so nothing goes on, and it is said."""
    fleet = Fleet.of(9)
    for device in list(fleet.members):
        fleet.set(device, online=False)
    assert fleet.tick().state == "running"
    fleet.now_s = 1001.0
    step = fleet.tick()
    assert step.state == "held"
    assert "held for a person" in step.reason


def test_failures_that_a_person_accepted_do_not_stop_it_again_but_new_ones_do() -> None:
    fleet = Fleet.of(6, (1.0,))
    offered = fleet.tick().offer
    fleet.set(offered[0], state="refused")
    assert fleet.tick().state == "paused"
    fleet.progress = replace(fleet.progress, state="running", accepted={0: 1})
    assert fleet.tick().state == "running"
    fleet.set(offered[1], state="refused")
    assert fleet.tick().state == "paused"


@pytest.mark.parametrize(("offered", "allowed"), [(1, 0), (9, 0), (10, 0), (40, 2), (1000, 50)])
def test_how_many_may_fail(offered: int, allowed: int) -> None:
    assert gates.allowed_failures(offered, Limits()) == allowed


moves = st.lists(
    st.tuples(
        st.integers(0, 200),
        st.sampled_from(["on", "off", "downloading", "trial", "committed", "refused", "rolled_back", "waiting"]),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 25), moves, st.sampled_from([(1.0,), (0.2, 1.0), (0.05, 0.25, 1.0)]))
def test_whatever_the_fleet_does_no_stage_is_exceeded_and_every_rollout_ends(
    count: int, given_moves: list[tuple[int, str]], shares: tuple[float, ...]
) -> None:
    fleet = Fleet.of(count, shares)
    ids = sorted(fleet.members)
    last_stage = -1
    for index, move in given_moves:
        fleet.now_s += 7.0
        step = fleet.tick()
        assert step.stage >= last_stage  # monotone
        last_stage = step.stage
        assert all(one.state in gates.UNOFFERED for one in fleet.members.values() if one.stage > step.stage)
        if step.state == "paused":
            assert not fleet.in_state(*gates.NOT_BEGUN)
            assert not step.offer
        again = evaluate(fleet.progress, list(fleet.members.values()), fleet.limits, fleet.now_s)
        assert [again.offer, again.withdraw, again.lost, again.offline] == [[]] * 4, "a second tick must change nothing"
        device = fleet.members[ids[index % count]]
        if move in ("on", "off"):
            fleet.set(device.device, online=move == "on", silent_s=0.0 if move == "on" else 9999.0)
        elif device.state in (*gates.NOT_BEGUN, *gates.BEGUN):
            fleet.set(device.device, state=move)
    fleet.now_s += fleet.limits.deadline_s + 1
    assert fleet.tick().state in gates.TERMINAL
    ended = fleet.tick()
    assert ended.state in gates.TERMINAL
    assert not (ended.offer)
    assert not (ended.withdraw)
