"""The tables of claims, pending requests and certificates."""

from typing import Any

from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.database import Base, Json


class ClaimRow(Base):
    """A one-time token that lets a board ask. ``used_by_key`` is the sha256 of the public key that used it."""

    __tablename__ = "claim"

    id: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(unique=True)
    created_s: Mapped[float]
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


class EnrolmentRow(Base):
    """One board's request: pending, accepted or rejected."""

    __tablename__ = "enrolment"

    id: Mapped[str] = mapped_column(primary_key=True)
    claim_id: Mapped[str] = mapped_column(index=True)
    key_sha256: Mapped[str] = mapped_column(index=True)
    csr_pem: Mapped[str]
    facts: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str]
    asked_s: Mapped[float]
    decided_s: Mapped[float | None]
    decided_by: Mapped[str | None]
    device_id: Mapped[str | None]
    origin: Mapped[str]


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
