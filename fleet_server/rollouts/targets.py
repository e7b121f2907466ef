"""What each device should run, and who says so. The newest word counts: a rollout, an experiment, or whoever installed by hand.

A device has two targets, which know nothing of each other: the model that it runs, and its own software (kind ``agent``).
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleet_server.database import upsert
from fleet_server.inventory import service as inventory
from fleet_server.rollouts.tables import RolloutDeviceRow, RolloutRow, TargetRow
from ota.bundle.manifest import MODEL


@dataclass(frozen=True, slots=True)
class Target:
    """One device's target; ``release`` None means: keep what runs. ``source``: ``rollout:<id>``, ``experiment:<id>``, local."""

    release: str | None
    role: str
    arm: str | None
    source: str


def set_target(
    session: Session, device_id: str, release: str | None, *, source: str, now_s: float, role: str = "run",
    arm: str | None = None, kind: str = MODEL,
) -> None:  # fmt: skip
    """Say what the device should run; it is woken by the worker and told at its next poll."""
    row = {"device_id": device_id, "kind": kind, "release": release, "role": role, "arm": arm, "source": source, "set_s": now_s,
           "woken": False}  # fmt: skip
    upsert(session, TargetRow, [row], keys=["device_id", "kind"], update=["release", "role", "arm", "source", "set_s", "woken"])
    inventory.record_wanted(session, device_id, release, kind)


def target(session: Session, device_id: str, kind: str = MODEL) -> Target | None:
    """The device's target of this kind, or None when nobody ever said anything."""
    return targets(session, [device_id], kind).get(device_id)


def targets(session: Session, devices: Collection[str], kind: str = MODEL) -> dict[str, Target]:
    """Targets of these devices."""
    query = select(TargetRow).where(TargetRow.device_id.in_(list(devices)), TargetRow.kind == kind)
    query = query.execution_options(populate_existing=True)
    return {row.device_id: Target(row.release, row.role, row.arm, row.source) for row in session.scalars(query)}


def unheeded(session: Session, before_s: float) -> dict[str, tuple[str, float]]:
    """Devices that were offered a release before this time by an open rollout and have not even begun: (release, since when)."""
    query = (
        select(RolloutDeviceRow.device_id, RolloutRow.release, RolloutDeviceRow.at_s)
        .join(RolloutRow, RolloutRow.id == RolloutDeviceRow.rollout_id)
        .where(RolloutRow.state == "running", RolloutDeviceRow.state == "offered", RolloutDeviceRow.at_s < before_s)
    )
    return {row.device_id: (row.release, row.at_s) for row in session.execute(query)}


def take_unwoken(session: Session) -> list[str]:
    """Devices whose target changed since they were last woken; each is named once."""
    found = list(session.scalars(select(TargetRow.device_id).where(TargetRow.woken.is_(False)).distinct()))
    if found:
        session.execute(update(TargetRow).where(TargetRow.device_id.in_(found)).values(woken=True))
    return found


def has_unwoken(session: Session) -> bool:
    """Whether anybody is to be woken: a reader's look before a writer's lock."""
    return session.execute(select(TargetRow.device_id).where(TargetRow.woken.is_(False)).limit(1)).first() is not None
