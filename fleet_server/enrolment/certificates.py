"""Certificates that were issued: their status, their end. Reading it on every request is the real revocation."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleet_server.enrolment.tables import CertificateRow


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


def refusal(session: Session, *, serial: str, device_id: str, now_s: float) -> str:
    """Why this certificate is not taken; empty when it is. One indexed row per request."""
    found = session.execute(
        select(CertificateRow.device_id, CertificateRow.revoked_s, CertificateRow.not_after_s).where(
            CertificateRow.serial == serial
        )
    ).first()
    if found is None:
        return "this server did not issue the certificate"
    owner, revoked_s, not_after_s = found
    if owner != device_id:
        return "the certificate belongs to another device"
    if revoked_s is not None:
        return "the certificate was revoked"
    if not_after_s < now_s:
        return "the certificate has expired"
    return ""


def issued(session: Session, certificate: Certificate) -> None:
    """Remember a certificate that was just signed."""
    session.add(
        CertificateRow(
            serial=certificate.serial, device_id=certificate.device_id, key_sha256=certificate.key_sha256, pem=certificate.pem,
            issued_s=certificate.issued_s, not_after_s=certificate.not_after_s, revoked_s=None, first_used_s=None,
        )
    )  # fmt: skip


def newest_of_key(session: Session, key_sha256: str) -> Certificate | None:
    """The certificate that was issued last for this public key."""
    row = session.scalars(
        select(CertificateRow).where(CertificateRow.key_sha256 == key_sha256).order_by(CertificateRow.issued_s.desc()).limit(1)
    ).first()
    return _certificate(row) if row else None


def revoke_all(session: Session, device_id: str, now_s: float) -> int:
    """Revoke every certificate of a device; answers how many were not revoked before."""
    result = session.execute(
        update(CertificateRow)
        .where(CertificateRow.device_id == device_id, CertificateRow.revoked_s.is_(None))
        .values(revoked_s=now_s)
        .returning(CertificateRow.serial)
    )
    return len(result.all())


def revoked(session: Session, now_s: float) -> list[tuple[str, float]]:
    """Serial and time of every revoked certificate that has not expired: the content of the revocation list."""
    rows = session.execute(
        select(CertificateRow.serial, CertificateRow.revoked_s)
        .where(CertificateRow.revoked_s.is_not(None), CertificateRow.not_after_s > now_s)
        .order_by(CertificateRow.serial)
    )
    return [(serial, revoked_s) for serial, revoked_s in rows if revoked_s is not None]


def revoked_devices(session: Session) -> list[str]:
    """Devices all of whose certificates are revoked: nothing of theirs is taken from the broker."""
    good = select(CertificateRow.device_id).where(CertificateRow.revoked_s.is_(None))
    rows = session.scalars(select(CertificateRow.device_id).where(CertificateRow.device_id.not_in(good)).distinct())
    return sorted(rows)
