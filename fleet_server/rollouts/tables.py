"""The tables of rollouts, of what each device should run, of the assignments that say so, and of the reports that answer."""

from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class RolloutRow(Base):
    """One release on its way through the fleet."""

    __tablename__ = "rollout"

    id: Mapped[str] = mapped_column(primary_key=True)
    release: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="model")
    """Of the release: rollouts of models and of agents stand beside each other on a device."""
    sha256: Mapped[str]
    selector: Mapped[dict[str, Any]] = mapped_column(Json)
    shares: Mapped[list[Any]] = mapped_column(Json)
    max_failed: Mapped[int | None]
    max_wait_s: Mapped[float]
    deadline_s: Mapped[float]
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str]
    stage: Mapped[int]
    """The last open stage, from 0; -1 before the first."""
    stage_opened_s: Mapped[float]
    accepted: Mapped[dict[str, Any]] = mapped_column(Json)
    """Stage -> failures that a person accepted by resuming."""
    created_s: Mapped[float] = mapped_column(index=True)
    created_by: Mapped[str]
    ended_s: Mapped[float | None]
    fence: Mapped[int]
    """Fence number of the lease under which it was last ticked: an older ticker changes nothing."""


class RolloutDeviceRow(Base):
    """One device of one rollout."""

    __tablename__ = "rollout_device"

    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollout.id"), primary_key=True)
    device_id: Mapped[str] = mapped_column(primary_key=True, index=True)
    stage: Mapped[int]
    state: Mapped[str]
    reason: Mapped[str]
    detail: Mapped[str]
    running: Mapped[str]
    at_s: Mapped[float]
    previous: Mapped[str | None]
    """The release that the device was meant to run before; what it goes back to when the offer is withdrawn."""
    withdrawn: Mapped[bool]
    behaviour_unseen: Mapped[bool]
    """It committed, but its trial saw too little to judge the model's behaviour."""


class TargetRow(Base):
    """What one device should run, and who says so (a rollout or an experiment); one row for its model, one for its agent."""

    __tablename__ = "target"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    """model or agent."""
    release: Mapped[str | None]
    role: Mapped[str]
    arm: Mapped[str | None]
    source: Mapped[str]
    set_s: Mapped[float]
    woken: Mapped[bool] = mapped_column(index=True)


class AssignmentRow(Base):
    """The last assignment that was signed for a device."""

    __tablename__ = "assignment"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    seq: Mapped[int]
    content_sha256: Mapped[str]
    """Of all that may not change under one seq, without seq and times."""
    digest: Mapped[str]
    payload: Mapped[str]
    keyid: Mapped[str]
    signature: Mapped[str]
    issued_s: Mapped[float]
    expires_s: Mapped[float]


class ReportRow(Base):
    """One report as it came. The time is part of the key: a board that was set up anew numbers from 1 again."""

    __tablename__ = "report"
    __table_args__ = (Index("ix_report_device_received", "device_id", "received_s"),)

    device_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at_s: Mapped[float] = mapped_column(primary_key=True)
    target_sha256: Mapped[str] = mapped_column(index=True)
    state: Mapped[str]
    body: Mapped[dict[str, Any]] = mapped_column(Json)
    received_s: Mapped[float]


class ReportMarkRow(Base):
    """How far a device's reports are stored, and what guards against a cloned card."""

    __tablename__ = "report_mark"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    stored: Mapped[int]
    counter: Mapped[int]
    boot_id: Mapped[str]
    boots_seen: Mapped[list[Any]] = mapped_column(Json)
    """Boot ids before the present one, newest last, bounded: one that comes back belongs to a second card."""
