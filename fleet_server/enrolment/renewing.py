"""The next certificate of a device: at most two are good at any time, and the one that a board asked for is the one it gets."""

from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.enrolment import certificates, issuing
from fleet_server.enrolment.authority_x509 import CheckedRequest, check_request
from fleet_server.enrolment.issuing import Issuer
from fleet_server.errors import ForbiddenError, TooManyError
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession as devices

DAY_S = 86_400.0
MOST_PER_DAY = 5
"""Certificates of one device in 24 hours: each may stand on a revocation list and stands in the audit, as long as it lives."""
LONGEST_RETRY_S = 3600
ASK_FOR_READMISSION = "an operator lets it in again: rookery device readmit"


def renew(
    session: Session, device_id: str, csr_pem: str, issuer: Issuer, *, presented: str, now_s: float, origin: str = ""
) -> str:
    """A new certificate (PEM) for a device that showed its present one, whose serial is ``presented``; that one stays valid until
    the new one was used.

    The same request again gets the same certificate while more than half of its life is left. Judged again under the device's
    lock: a renewal that is under way does not outlive a revocation.
    """
    checked = check_request(csr_pem)
    _lock_active(session, device_id)
    refusal = certificates.refusal(session, serial=presented, device_id=device_id, now_s=now_s)
    if refusal:
        raise ForbiddenError(refusal, ASK_FOR_READMISSION)
    return _next(session, device_id, checked, issuer, presented, now_s, origin, "certificate.renew")


def renew_expired(
    session: Session, device_id: str, csr_pem: str, issuer: Issuer, *, presented: str, now_s: float, longest_days: float,
    origin: str = "",
) -> str:  # fmt: skip
    """The same for a device whose certificate has ended and that proved to hold its key (the caller has checked the proof).

    The certificate must be the device's newest, or the newest is the answer that was lost: the one for this very request.
    """
    checked = check_request(csr_pem)
    _lock_active(session, device_id)
    had = certificates.find(session, presented)
    if had is None or had.device_id != device_id:
        raise ForbiddenError("this server did not issue the certificate")
    if had.revoked_s is not None:
        raise ForbiddenError("the certificate was revoked", ASK_FOR_READMISSION)
    if had.not_after_s < now_s - longest_days * DAY_S:
        raise ForbiddenError(f"the certificate ended more than {longest_days:.0f} days ago", ASK_FOR_READMISSION)
    newest = certificates.newest_of_device(session, device_id)
    if newest is not None and newest.serial != presented and newest.key_sha256 != checked.key_sha256:
        raise ForbiddenError("the device has had a newer certificate since", ASK_FOR_READMISSION)
    return _next(session, device_id, checked, issuer, presented, now_s, origin, "certificate.renew_expired")


def _lock_active(session: Session, device_id: str) -> None:
    if devices.lock(session, device_id).revoked_s is not None:
        raise ForbiddenError("the device was revoked", ASK_FOR_READMISSION)


def _not_too_many(session: Session, device_id: str, now_s: float) -> None:
    made = certificates.issued_within(session, device_id, now_s - DAY_S, now_s)
    if len(made) >= MOST_PER_DAY:
        retry_s = min(LONGEST_RETRY_S, int(made[MOST_PER_DAY - 1] + DAY_S - now_s) + 1)
        hint = "ask again with the key of the last request: that answer is kept for it"
        raise TooManyError(f"the device has had {MOST_PER_DAY} certificates within a day", hint, retry_s)


def _next(
    session: Session, device_id: str, checked: CheckedRequest, issuer: Issuer, presented: str, now_s: float, origin: str,
    deed: str,
) -> str:  # fmt: skip
    had = certificates.newest_of_key(session, checked.key_sha256)
    if had is not None:
        if had.device_id != device_id:
            raise ForbiddenError("this key belongs to another device")
        if had.revoked_s is not None:
            raise ForbiddenError("the certificate of this key was revoked", "ask with a new key")
        if had.not_after_s - now_s > (had.not_after_s - had.issued_s) / 2:
            return had.pem
    _not_too_many(session, device_id, now_s)
    issued = issuing.issue(session, issuer, checked, device_id, now_s)
    # What was issued besides and is neither the one in use nor the new one got lost on its way: nobody is to find it.
    kept = (presented, issued.serial)
    lost = certificates.revoke_others(session, device_id, now_s, kept)
    inventory.record_certificate(session, device_id, issuing.summary(issued))
    audit.record(
        session, who=f"device:{device_id}", what=deed, target=device_id, before={"serial": presented},
        after={"serial": issued.serial, "others_ended": lost}, origin=origin, now_s=now_s,
    )  # fmt: skip
    return issued.pem
