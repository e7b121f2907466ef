"""The tables of events and their crops."""

from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class EventRow(Base):
    """One event in its highest revision; ``body`` is the message as it came."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_device_started", "device_id", "started_at_s"),
        Index("ix_event_kind_started", "rule_kind", "started_at_s"),
    )

    device_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True, index=True)
    revision: Mapped[int]
    sequence: Mapped[int]
    label: Mapped[str] = mapped_column(index=True)
    rule_kind: Mapped[str]
    """zone, dwell, line, trigger, or sample: a recall sample is kept apart from all that was seen"""
    started_at_s: Mapped[float] = mapped_column(index=True)
    bundle_sha256: Mapped[str] = mapped_column(index=True)
    body: Mapped[dict[str, Any]] = mapped_column(Json)
    received_s: Mapped[float] = mapped_column(index=True)
    """When its first revision came."""


class EventMarkRow(Base):
    """How far a device's events are stored."""

    __tablename__ = "event_mark"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    stored: Mapped[int]


class CropRow(Base):
    """One crop of an event. It counts as delivered only when the blob store has it."""

    __tablename__ = "crop"
    __table_args__ = (Index("ix_crop_event", "device_id", "event_id"),)

    key: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str]
    event_id: Mapped[str]
    kind: Mapped[str]
    sha256: Mapped[str]
    length_bytes: Mapped[int]
    score: Mapped[float]
    at_s: Mapped[float]
    box: Mapped[list[Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(index=True)
    """missing, delivered or expired (deleted because of its age)"""
    checked_s: Mapped[float]
    received_s: Mapped[float] = mapped_column(index=True)
    verdict: Mapped[str] = mapped_column(index=True)
    """unverified, agree, disagree or unreadable"""
    verdict_label: Mapped[str]
    verdict_score: Mapped[float]
    verifier: Mapped[str]
    verified_s: Mapped[float | None] = mapped_column(index=True)
