"""The tables of claims, requests, rules, keys and certificates."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class ClaimRow(Base):
    """A one-time token that lets a board ask. ``used_by_key`` is the sha256 of the public key that used it."""

    __tablename__ = "claim"

    id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_s: Mapped[float] = mapped_column(index=True)
    created_by: Mapped[str]
    expires_s: Mapped[float]
    profile: Mapped[str | None]
    serial: Mapped[str | None]
    group: Mapped[str]
    device_name: Mapped[str | None]
    accept: Mapped[bool]
    """True: the claim's maker accepts whoever brings it; False: a person decides."""
    used_s: Mapped[float | None]
    used_by_key: Mapped[str | None]
    request_id: Mapped[str | None]
    purpose: Mapped[str] = mapped_column(server_default="enrol")
    """enrol: a new device; readmit: one new key for ``device_id``; replace: a new device in the place of ``device_id``."""
    device_id: Mapped[str | None] = mapped_column(index=True)
    ended_s: Mapped[float | None]
    ended_by: Mapped[str | None]


class EnrolmentRow(Base):
    """One board's request: pending, accepted or rejected."""

    __tablename__ = "enrolment"

    id: Mapped[str] = mapped_column(primary_key=True)
    claim_id: Mapped[str | None] = mapped_column(index=True)
    """None: the board came without a claim, and waits until a person or a rule decides."""
    rule_id: Mapped[str | None] = mapped_column(index=True)
    """The enrolment rule that let it in."""
    key_sha256: Mapped[str] = mapped_column(index=True)
    serial: Mapped[str] = mapped_column(server_default="", index=True)
    csr_pem: Mapped[str]
    facts: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str]
    asked_s: Mapped[float]
    last_asked_s: Mapped[float | None]
    """When a board without a claim was heard last, to the minute: one that asks no more leaves the queue."""
    decided_s: Mapped[float | None]
    decided_by: Mapped[str | None]
    device_id: Mapped[str | None]
    origin: Mapped[str]


class RuleRow(Base):
    """An enrolment rule: boards without a claim that fit it are let in without a person."""

    __tablename__ = "enrolment_rule"

    id: Mapped[str] = mapped_column(primary_key=True)
    profile: Mapped[str]
    """Empty: any."""
    serial: Mapped[str]
    """A pattern with * and ?; empty: any."""
    group: Mapped[str]
    most_per_day: Mapped[int]
    until_s: Mapped[float]
    created_s: Mapped[float]
    created_by: Mapped[str]


class QueueRow(Base):
    """One row. Its lock orders the boards that come without a claim, so that every bound on them is exact."""

    __tablename__ = "enrolment_queue"

    id: Mapped[int] = mapped_column(primary_key=True)
    turned_away: Mapped[int]
    """Requests that found the queue full, since ever."""
    turned_away_s: Mapped[float]
    """When the last of them came."""


class KeyRow(Base):
    """Whose a public key is, for ever: two requests for one key, by whatever way they come, cannot make two devices."""

    __tablename__ = "device_key"

    key_sha256: Mapped[str] = mapped_column(primary_key=True)
    device_id: Mapped[str] = mapped_column(index=True)


class CertificateRow(Base):
    """One certificate that the authority issued to a device."""

    __tablename__ = "device_certificate"

    serial: Mapped[str] = mapped_column(primary_key=True)
    """Hexadecimal, lower case."""
    device_id: Mapped[str] = mapped_column(index=True)
    key_sha256: Mapped[str] = mapped_column(index=True)
    pem: Mapped[str]
    issued_s: Mapped[float]
    not_after_s: Mapped[float]
    revoked_s: Mapped[float | None] = mapped_column(index=True)
    first_used_s: Mapped[float | None]
