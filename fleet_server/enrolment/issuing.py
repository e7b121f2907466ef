"""Certificates for devices: who signs, whose a key is, and what else must happen when a device begins, goes on or ends."""

from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.database import insert_new
from fleet_server.enrolment import certificates
from fleet_server.enrolment.authority_x509 import Authority, CheckedRequest, IssuedCertificate
from fleet_server.enrolment.certificates import Certificate
from fleet_server.enrolment.tables import KeyRow
from fleet_server.errors import ForbiddenError
from fleet_server.inventory.device import CertificateSummary


class Heirs(Protocol):
    """What parts above this one keep of a device, and do in the same transaction when it changes hands."""

    def replaced(self, session: Session, old: str, new: str, *, who: str, now_s: float, origin: str) -> None:
        """``new`` takes the place of ``old``: configuration and wanted releases go over."""
        ...

    def begun_anew(self, session: Session, device_id: str) -> None:
        """The device has a new key and an empty disk: what guards against a second card counts from here."""
        ...


class Nobody:
    """Nothing above: for tests of this part alone."""

    def replaced(self, session: Session, old: str, new: str, *, who: str, now_s: float, origin: str) -> None:
        """Nothing."""

    def begun_anew(self, session: Session, device_id: str) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """The authority, how long a device certificate lives, and who must hear of devices that change hands."""

    authority: Authority
    certificate_days: int
    heirs: Heirs = field(default_factory=Nobody)


def issue(session: Session, issuer: Issuer, checked: CheckedRequest, device_id: str, now_s: float) -> IssuedCertificate:
    """A certificate for a key of this device, remembered. ForbiddenError where the key is another device's, now or ever."""
    insert_new(session, KeyRow, [{"key_sha256": checked.key_sha256, "device_id": device_id}], keys=["key_sha256"])
    owner = session.scalar(select(KeyRow.device_id).where(KeyRow.key_sha256 == checked.key_sha256))
    if owner != device_id:
        raise ForbiddenError("this key belongs to another device", "a board that enrols anew makes a new key")
    issued = issuer.authority.issue_device(checked, device_id, issuer.certificate_days, now_s)
    certificates.issued(
        session, Certificate(issued.serial, device_id, issued.key_sha256, issued.pem, now_s, issued.not_after_s, None)
    )  # fmt: skip
    return issued


def owner_of(session: Session, key_sha256: str) -> str | None:
    """The device that ever had a certificate for this key."""
    return session.scalar(select(KeyRow.device_id).where(KeyRow.key_sha256 == key_sha256))


def summary(issued: IssuedCertificate) -> CertificateSummary:
    """The certificate as the inventory shows it."""
    return CertificateSummary(issued.serial, issued.not_after_s, issued.key_sha256)
