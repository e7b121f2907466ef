"""Certificates that were issued: their status, their end. Reading it on every request is the real revocation."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, or_, select, update
from sqlalchemy.orm import Session

from fleet_server.enrolment.tables import CertificateRow

SUPERSEDED_S = 3600.0
"""So long a certificate lives on after its successor was used: the answer to that first use may be lost, and tried again."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a device."""

    serial: str
    device_id: str
    key_sha256: str
    pem: str
    issued_s: float
    not_after_s: float
    revoked_s: float | None


def _certificate(row: CertificateRow) -> Certificate:
    return Certificate(row.serial, row.device_id, row.key_sha256, row.pem, row.issued_s, row.not_after_s, row.revoked_s)


@dataclass(frozen=True, slots=True)
class Standing:
    """``refusal``: why a certificate is not taken, empty when it is; ``unused``: nothing was heard over it yet."""

    refusal: str
    unused: bool


def standing(session: Session, *, serial: str, device_id: str, now_s: float) -> Standing:
    """How a certificate stands at this moment. One indexed row per request."""
    found = session.execute(
        select(
            CertificateRow.device_id, CertificateRow.revoked_s, CertificateRow.not_after_s, CertificateRow.first_used_s
        ).where(CertificateRow.serial == serial)
    ).first()
    if found is None:
        return Standing("this server did not issue the certificate", False)
    owner, revoked_s, not_after_s, first_used_s = found
    unused = first_used_s is None
    if owner != device_id:
        return Standing("the certificate belongs to another device", unused)
    if revoked_s is not None and revoked_s <= now_s:
        return Standing("the certificate was revoked", unused)
    if not_after_s < now_s:
        return Standing("the certificate has expired", unused)
    return Standing("", unused)


def refusal(session: Session, *, serial: str, device_id: str, now_s: float) -> str:
    """Why this certificate is not taken; empty when it is."""
    return standing(session, serial=serial, device_id=device_id, now_s=now_s).refusal


def issued(session: Session, certificate: Certificate) -> None:
    """Remember a certificate that was just signed."""
    session.add(
        CertificateRow(
            serial=certificate.serial, device_id=certificate.device_id, key_sha256=certificate.key_sha256, pem=certificate.pem,
            issued_s=certificate.issued_s, not_after_s=certificate.not_after_s, revoked_s=None, first_used_s=None,
        )
    )  # fmt: skip
    session.flush()


def newest_of_key(session: Session, key_sha256: str) -> Certificate | None:
    """The certificate that was issued last for this public key."""
    row = session.scalars(
        select(CertificateRow).where(CertificateRow.key_sha256 == key_sha256).order_by(CertificateRow.issued_s.desc()).limit(1)
    ).first()
    return _certificate(row) if row else None


def newest_of_device(session: Session, device_id: str) -> Certificate | None:
    """The certificate that was issued last for this device."""
    row = session.scalars(
        select(CertificateRow).where(CertificateRow.device_id == device_id).order_by(CertificateRow.issued_s.desc()).limit(1)
    ).first()
    return _certificate(row) if row else None


def of_device(session: Session, device_id: str) -> list[Certificate]:
    """Every certificate that the device was ever given, the newest first."""
    query = select(CertificateRow).where(CertificateRow.device_id == device_id)
    return [_certificate(row) for row in session.scalars(query.order_by(CertificateRow.issued_s.desc(), CertificateRow.serial))]


def find(session: Session, serial: str) -> Certificate | None:
    """One certificate by its serial."""
    row = session.get(CertificateRow, serial)
    return _certificate(row) if row else None


def never_used(session: Session, device_id: str) -> bool:
    """Whether nothing was ever heard over any certificate of the device."""
    used = select(CertificateRow.serial).where(CertificateRow.device_id == device_id, CertificateRow.first_used_s.is_not(None))
    return session.execute(used.limit(1)).first() is None


def note_use(session: Session, serial: str, device_id: str, now_s: float) -> int:
    """The first use of a certificate: the device has it for good, and its older ones end in ``SUPERSEDED_S``.

    Answers how many will end. Later uses change nothing.
    """
    first = session.execute(
        update(CertificateRow)
        .where(CertificateRow.serial == serial, CertificateRow.first_used_s.is_(None))
        .values(first_used_s=now_s)
        .returning(CertificateRow.issued_s)
    ).first()
    if first is None:
        return 0
    end_s = now_s + SUPERSEDED_S
    ended = session.execute(
        update(CertificateRow)
        .where(CertificateRow.device_id == device_id, CertificateRow.serial != serial, CertificateRow.issued_s <= first[0])
        .where(CertificateRow.not_after_s > end_s, or_(CertificateRow.revoked_s.is_(None), CertificateRow.revoked_s > end_s))
        .values(revoked_s=end_s)
        .returning(CertificateRow.serial)
    )
    return len(ended.all())


def revoke_all(session: Session, device_id: str, now_s: float, *, but: str = "") -> int:
    """Revoke every certificate of a device but the one of this serial, ended ones too; answers how many were good before."""
    result = session.execute(
        update(CertificateRow)
        .where(CertificateRow.device_id == device_id, CertificateRow.serial != but, _good(now_s))
        .values(revoked_s=now_s)
        .returning(CertificateRow.serial)
    )
    return len(result.all())


def revoke_others(session: Session, device_id: str, now_s: float, kept: Collection[str]) -> int:
    """Revoke every certificate of a device but these, now; answers how many were good before."""
    result = session.execute(
        update(CertificateRow)
        .where(CertificateRow.device_id == device_id, CertificateRow.serial.not_in(list(kept)), _good(now_s))
        .where(CertificateRow.not_after_s > now_s)
        .values(revoked_s=now_s)
        .returning(CertificateRow.serial)
    )
    return len(result.all())


def issued_within(session: Session, device_id: str, since_s: float, now_s: float) -> list[float]:
    """When the device's certificates of this time were issued, the newest first."""
    query = select(CertificateRow.issued_s).where(CertificateRow.device_id == device_id)
    query = query.where(CertificateRow.issued_s > since_s, CertificateRow.issued_s <= now_s)
    return list(session.scalars(query.order_by(CertificateRow.issued_s.desc())))


def revoked(session: Session, now_s: float) -> list[tuple[str, float]]:
    """Serial and time of every revoked certificate that has not expired: the content of the revocation list."""
    rows = session.execute(
        select(CertificateRow.serial, CertificateRow.revoked_s)
        .where(CertificateRow.revoked_s.is_not(None), CertificateRow.revoked_s <= now_s, CertificateRow.not_after_s > now_s)
        .order_by(CertificateRow.serial)
    )
    return [(serial, revoked_s) for serial, revoked_s in rows if revoked_s is not None]


def revoked_devices(session: Session, now_s: float | None = None) -> list[str]:
    """Devices all of whose certificates are revoked: nothing of theirs is taken from the broker.

    ``now_s`` None: what will be revoked counts as good.
    """
    good = select(CertificateRow.device_id).where(CertificateRow.revoked_s.is_(None) if now_s is None else _good(now_s))
    rows = session.scalars(select(CertificateRow.device_id).where(CertificateRow.device_id.not_in(good)).distinct())
    return sorted(rows)


def _good(now_s: float) -> ColumnElement[bool]:
    return or_(CertificateRow.revoked_s.is_(None), CertificateRow.revoked_s > now_s)
