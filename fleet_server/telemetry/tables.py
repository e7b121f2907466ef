"""The tables of heartbeats: recent ones whole, hourly sums per release, bytes per boot."""

from typing import Any

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class TelemetryRow(Base):
    """One heartbeat as it came; kept for a while."""

    __tablename__ = "telemetry_raw"
    __table_args__ = (Index("ix_telemetry_raw_device_received", "device_id", "received_s"),)

    device_id: Mapped[str] = mapped_column(primary_key=True)
    boot_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at_s: Mapped[float]
    received_s: Mapped[float] = mapped_column(index=True)
    body: Mapped[dict[str, Any]] = mapped_column(Json)


class TelemetryHourRow(Base):
    """What one device saw with one release in one hour."""

    __tablename__ = "telemetry_hour"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    bundle_sha256: Mapped[str] = mapped_column(primary_key=True)
    hour_s: Mapped[int] = mapped_column(primary_key=True)
    frames: Mapped[int]
    gated_frames: Mapped[int]
    frames_with_detection: Mapped[int]
    detections: Mapped[int]


class TelemetryBytesRow(Base):
    """What one device sent. Its counters begin again with each start of the agent: ``past_*`` is what earlier starts came to."""

    __tablename__ = "telemetry_bytes"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    past_sent_bytes: Mapped[int]
    past_baseline_bytes: Mapped[int]
    sent_bytes: Mapped[int]
    baseline_bytes: Mapped[int]
    boot_id: Mapped[str]
    sequence: Mapped[int]
