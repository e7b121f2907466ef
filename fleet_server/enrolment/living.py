"""Certificates on which a device lives today: what must be looked at before an authority goes."""

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from fleet_server.enrolment.tables import CertificateRow


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
