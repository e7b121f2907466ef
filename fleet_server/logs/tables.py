"""The tables of log lines and debug sessions."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base


class LogRow(Base):
    """One line. The time is part of the key: a board that was set up anew numbers from 1 again."""

    __tablename__ = "log_line"
    __table_args__ = (Index("ix_log_line_device_at", "device_id", "at_s"),)

    device_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at_s: Mapped[float] = mapped_column(primary_key=True)
    level: Mapped[str]
    logger: Mapped[str]
    text: Mapped[str]
    session: Mapped[str | None]


class LogMarkRow(Base):
    """How far a device's log is stored, and how many lines it says it lost."""

    __tablename__ = "log_mark"

    device_id: Mapped[str] = mapped_column(primary_key=True)
    stored: Mapped[int]
    dropped: Mapped[int]


class DebugSessionRow(Base):
    """Remote debugging with an end time."""

    __tablename__ = "debug_session"

    id: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(index=True)
    log_level: Mapped[str]
    reason: Mapped[str]
    created_s: Mapped[float]
    created_by: Mapped[str]
    until_s: Mapped[float]
    ended_s: Mapped[float | None]
    woken: Mapped[bool] = mapped_column(index=True)
    frames: Mapped[str]
    """Pictures that were asked for last: none, last or burst."""
    frames_asked: Mapped[int]
    """Rises with each request for pictures."""
    frames_camera: Mapped[str | None]
