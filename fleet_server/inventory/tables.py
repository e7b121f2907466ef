"""The tables of devices: what each is (changes seldom) and how it is (changes with every message)."""

from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class DeviceRow(Base):
    """One enrolled board."""

    __tablename__ = "device"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    group: Mapped[str] = mapped_column(index=True)
    profile: Mapped[str] = mapped_column(index=True)
    board_model: Mapped[str]
    serial: Mapped[str] = mapped_column(index=True)
    facts: Mapped[dict[str, Any]] = mapped_column(Json)
    enrolled_s: Mapped[float]
    revoked_s: Mapped[float | None] = mapped_column(index=True)
    held: Mapped[str | None]
    """Why the device is held back from updates (a suspected clone); None when it is not."""
    wanted: Mapped[str | None]
    wanted_agent: Mapped[str | None]
    """Release of the agent that its assignment names; ``wanted`` is the model's."""
    certificate_serial: Mapped[str]
    certificate_not_after_s: Mapped[float]
    certificate_key_sha256: Mapped[str]
    """Of the public key (SubjectPublicKeyInfo), hexadecimal."""
    replaces: Mapped[str | None] = mapped_column(index=True)
    """Id of the device whose place this one took; its history goes on here."""
    decommissioned_s: Mapped[float | None]
    """Since when the device is gone for good; ``revoked_s`` is set then, too."""


class DeviceStateRow(Base):
    """The latest that was heard of one device. Made with it, so that the hot path only updates."""

    __tablename__ = "device_state"

    device_id: Mapped[str] = mapped_column(ForeignKey("device.id"), primary_key=True)
    last_seen_s: Mapped[float | None] = mapped_column(index=True)
    mqtt_online: Mapped[bool]
    heartbeat: Mapped[dict[str, Any] | None] = mapped_column(Json)
    heartbeat_s: Mapped[float]
    trouble: Mapped[str]
    """What the last heartbeat says that needs a person (``device.trouble_of``); empty when nothing does."""
    running: Mapped[dict[str, Any] | None] = mapped_column(Json)
    running_sha256: Mapped[str | None] = mapped_column(index=True)
    running_release: Mapped[str | None] = mapped_column(index=True)
    variant_reason: Mapped[str]
    """Only reports say why this variant; heartbeats do not, so it is kept beside ``running`` with the bundle that it is about."""
    variant_reason_of: Mapped[str | None]
    deployment: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """Of a model."""
    agent_deployment: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """Of the agent itself."""
    report_sequence: Mapped[int]
