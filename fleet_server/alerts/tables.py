"""The tables of alerts, webhooks and what is still to be told to them."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class AlertRow(Base):
    """One condition that needs a person, from when it began to hold until it no longer does."""

    __tablename__ = "alert"

    id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject: Mapped[str]
    text: Mapped[str]
    opened_s: Mapped[float] = mapped_column(index=True)
    resolved_s: Mapped[float | None] = mapped_column(index=True)
    acknowledged_s: Mapped[float | None]
    acknowledged_by: Mapped[str | None]


class WebhookRow(Base):
    """An address that is told of alerts."""

    __tablename__ = "webhook"

    id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(unique=True)
    created_s: Mapped[float]
    created_by: Mapped[str]
    last_s: Mapped[float | None]
    last_result: Mapped[str]


class WebhookCallRow(Base):
    """One message to one webhook that is not yet through."""

    __tablename__ = "webhook_call"

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[str] = mapped_column(index=True)
    body: Mapped[dict[str, Any]] = mapped_column(Json)
    attempts: Mapped[int]
    next_s: Mapped[float] = mapped_column(index=True)


class PartRow(Base):
    """How a part of the server itself is (broker, verifier), as the worker last saw it: the doors are other processes."""

    __tablename__ = "part_status"

    part: Mapped[str] = mapped_column(primary_key=True)
    ok: Mapped[bool]
    note: Mapped[str]
    at_s: Mapped[float]
