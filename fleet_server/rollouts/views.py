"""A rollout as the operator API shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from fleet_server.inventory import service as inventory
from fleet_server.rollouts import gates
from fleet_server.rollouts.tables import RolloutDeviceRow, RolloutRow


@dataclass(frozen=True, slots=True)
class StageEntry:
    """One stage; ``devices`` are those that it adds. ``state``: open, done or waiting."""

    share: float
    devices: int
    state: str
    committed: int
    failed: int
    pending: int


@dataclass(frozen=True, slots=True)
class RolloutCounts:
    """Devices by what became of them. ``running``: offered or at work; ``pending``: their turn has not come."""

    committed: int
    refused: int
    rolled_back: int
    lost: int
    pending_offline: int
    running: int
    pending: int
    superseded: int


@dataclass(frozen=True, slots=True)
class RolloutDevice:
    """One device of a rollout; ``stage`` counts from 1."""

    device: str
    name: str
    stage: int
    state: str
    reason: str
    detail: str
    running: str
    at_s: float
    behaviour_unseen: bool
    """Committed, but its trial saw too little to judge the model's behaviour."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """One rollout; ``id`` is None in a dry run. ``kind``: of a model, or of the agent."""

    id: str | None
    release: str
    kind: str
    state: str
    reason: str
    created_s: float
    created_by: str
    ended_s: float | None
    stages: list[StageEntry]
    counts: RolloutCounts
    devices: list[RolloutDevice]


def view(
    session: Session, row: RolloutRow, members: Sequence[RolloutDeviceRow], *, dry_run: bool = False, with_devices: bool = True
) -> Rollout:
    """The row and its devices as one value."""
    devices = []
    if with_devices:
        known = inventory.presences(session, [one.device_id for one in members], 0.0)
        for one in members:
            name = known[one.device_id].name if one.device_id in known else one.device_id
            devices.append(
                RolloutDevice(
                    one.device_id, name, one.stage + 1, one.state, one.reason, one.detail, one.running, one.at_s,
                    one.behaviour_unseen,
                )
            )  # fmt: skip
    stages = [_stage(row, index, float(share), [one.state for one in members if one.stage == index])
              for index, share in enumerate(row.shares)]  # fmt: skip
    return Rollout(
        None if dry_run else row.id, row.release, row.kind, row.state, row.reason, row.created_s, row.created_by, row.ended_s,
        stages, _counts([one.state for one in members]), devices,
    )  # fmt: skip


def _stage(row: RolloutRow, index: int, share: float, states: list[str]) -> StageEntry:
    committed = states.count("committed")
    failed = sum(1 for state in states if state in gates.BAD)
    aside = sum(1 for state in states if state in gates.ASIDE)
    if row.state == "finished" or index < row.stage:
        state = "done"
    else:
        state = "open" if index == row.stage and row.state not in gates.TERMINAL else "waiting"
    return StageEntry(share, len(states), state, committed, failed, len(states) - committed - failed - aside)


def _counts(states: list[str]) -> RolloutCounts:
    return RolloutCounts(
        committed=states.count("committed"),
        refused=states.count("refused"),
        rolled_back=states.count("rolled_back"),
        lost=states.count("lost"),
        pending_offline=states.count("pending_offline"),
        running=sum(1 for state in states if state in (*gates.NOT_BEGUN, *gates.BEGUN)),
        pending=states.count("pending"),
        superseded=sum(1 for state in states if state in gates.ASIDE),
    )


def standing_of(rollout: RolloutRow) -> dict[str, Any]:
    """How a rollout stands, as the audit keeps it before and after a person's word."""
    return {"state": rollout.state, "reason": rollout.reason, "stage": rollout.stage, "accepted": rollout.accepted}
