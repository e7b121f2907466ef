"""Certificates on which devices live today, and those that ended before their time: what authorities and lists must know."""

from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from fleet_server.enrolment.certificates import SUPERSEDED_S
from fleet_server.enrolment.tables import CertificateRow


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that was revoked and has not expired.

    ``superseded``: not by a person. Its successor was used, or it got lost on its way to the device, which has asked for another.
    """

    serial: str
    revoked_s: float
    device: str
    superseded: bool


def revoked(session: Session, now_s: float) -> list[Revoked]:
    """What stands on the revocation lists, by serial."""
    newer = aliased(CertificateRow)
    superseded = (
        select(newer.serial)
        .where(newer.device_id == CertificateRow.device_id, newer.first_used_s + SUPERSEDED_S == CertificateRow.revoked_s)
        .exists()
    )
    # A renewal leaves the certificate good with which it was asked for; where a person ends them, no older one outlives it.
    asked_with = (
        select(newer.serial)
        .where(newer.device_id == CertificateRow.device_id, newer.issued_s < CertificateRow.issued_s)
        .where(or_(newer.revoked_s.is_(None), newer.revoked_s > CertificateRow.revoked_s))
        .exists()
    )
    lost = CertificateRow.first_used_s.is_(None) & asked_with
    rows = session.execute(
        select(CertificateRow.serial, CertificateRow.revoked_s, CertificateRow.device_id, or_(superseded, lost))
        .where(CertificateRow.revoked_s.is_not(None), CertificateRow.revoked_s <= now_s, CertificateRow.not_after_s > now_s)
        .order_by(CertificateRow.serial)
    )
    return [Revoked(serial, at_s, device, bool(old)) for serial, at_s, device, old in rows if at_s is not None]


def newest_living(session: Session, now_s: float) -> list[tuple[str, str]]:
    """Device and PEM of its newest certificate that is neither expired nor revoked, for every device that has one."""
    living = (CertificateRow.not_after_s > now_s) & or_(CertificateRow.revoked_s.is_(None), CertificateRow.revoked_s > now_s)
    newest = (
        select(CertificateRow.device_id, func.max(CertificateRow.issued_s).label("issued_s"))
        .where(living)
        .group_by(CertificateRow.device_id)
        .subquery()
    )
    rows = session.execute(
        select(CertificateRow.device_id, CertificateRow.pem)
        .join(newest, (newest.c.device_id == CertificateRow.device_id) & (newest.c.issued_s == CertificateRow.issued_s))
        .where(living)
        .order_by(CertificateRow.device_id)
    )
    return [(device, pem) for device, pem in rows]
