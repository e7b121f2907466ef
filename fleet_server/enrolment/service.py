"""Claims and requests: one claim lets one key in, once; a lost answer can be asked for again."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import case, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.enrolment import certificates
from fleet_server.enrolment.authority_x509 import Authority, CheckedRequest, IssuedCertificate, check_request
from fleet_server.enrolment.certificates import Certificate
from fleet_server.enrolment.tables import ClaimRow, EnrolmentRow
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import CertificateSummary
from ota.wire.codec import to_builtins
from ota.wire.enrolment import BoardFacts, EnrolRequest

_DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")
MAX_CLAIMS = 10_000
"""In one request."""


@dataclass(frozen=True, slots=True)
class NewClaim:
    """A claim with its token, which is shown once and kept nowhere."""

    id: str
    token: str
    expires_s: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it is listed: ``state`` is unused, used or expired; ``device``: who got in with it."""

    id: str
    state: str
    created_s: float
    created_by: str
    expires_s: float
    profile: str | None
    serial: str | None
    group: str
    device_name: str | None
    used_s: float | None
    enrolment: str | None
    device: str | None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A board's request: ``state`` is pending, accepted or rejected."""

    id: str
    state: str
    reason: str
    asked_s: float
    decided_s: float | None
    decided_by: str | None
    device: str | None
    key_sha256: str
    facts: dict[str, Any]
    origin: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the board is told: accepted with its certificate, or pending."""

    status: str
    device_id: str | None
    certificate_pem: str


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """What a claim is bound to; None binds to nothing. ``accept`` False: a person decides about each request."""

    profile: str | None = None
    serial: str | None = None
    group: str = "default"
    device_name: str | None = None
    accept: bool = True


@dataclass(frozen=True, slots=True)
class Issuer:
    """The authority and how long a device certificate lives."""

    authority: Authority
    certificate_days: int


def make_claims(session: Session, *, count: int, terms: ClaimTerms, ttl_s: float, who: str, now_s: float) -> list[NewClaim]:
    """Fresh claims. InvalidError for a bad name; several claims with one device name get numbers behind it."""
    if terms.device_name is not None and not _DEVICE_NAME.fullmatch(terms.device_name):
        raise InvalidError("device_name must be 1 to 63 letters, digits, blanks, '.', '_' or '-'")
    if not _DEVICE_NAME.fullmatch(terms.group):
        raise InvalidError("group must be 1 to 63 letters, digits, blanks, '.', '_' or '-'")
    made = []
    for number in range(1, count + 1):
        claim = NewClaim(f"c-{secrets.token_hex(5)}", f"rkc_{secrets.token_urlsafe(24)}", now_s + ttl_s)
        name = terms.device_name if terms.device_name is None or count == 1 else f"{terms.device_name}-{number}"
        session.add(
            ClaimRow(
                id=claim.id, token_hash=_hash(claim.token), created_s=now_s, created_by=who, expires_s=claim.expires_s,
                profile=terms.profile, serial=terms.serial, group=terms.group, device_name=name, accept=terms.accept,
                used_s=None, used_by_key=None, request_id=None,
            )
        )  # fmt: skip
        made.append(claim)
    note_change(session, "claims")
    return made


def claims(session: Session, now_s: float, limit: int = 1000) -> list[Claim]:
    """Newest first."""
    query = select(ClaimRow, EnrolmentRow.device_id).outerjoin(EnrolmentRow, EnrolmentRow.id == ClaimRow.request_id)
    rows = session.execute(query.order_by(ClaimRow.created_s.desc(), ClaimRow.id).limit(limit))
    return [
        Claim(
            row.id, "used" if row.used_s is not None else "expired" if row.expires_s < now_s else "unused", row.created_s,
            row.created_by, row.expires_s, row.profile, row.serial, row.group, row.device_name, row.used_s, row.request_id,
            device,
        )
        for row, device in rows
    ]  # fmt: skip


def enrolments(session: Session, limit: int = 1000) -> list[Enrolment]:
    """Pending requests first, then the newest."""
    order = case((EnrolmentRow.state == "pending", 0), else_=1)
    rows = session.scalars(select(EnrolmentRow).order_by(order, EnrolmentRow.asked_s.desc()).limit(limit))
    return [
        Enrolment(
            row.id, row.state, row.reason, row.asked_s, row.decided_s, row.decided_by, row.device_id,
            row.key_sha256, row.facts, row.origin,
        )
        for row in rows
    ]  # fmt: skip


def enrol(session: Session, request: EnrolRequest, issuer: Issuer, *, origin: str, now_s: float) -> Outcome:
    """A board asks. ForbiddenError for a claim that is unknown, expired, used by another key or bound to another board.

    The claim's row is locked: of two boards that bring the same claim at the same moment exactly one gets in.
    """
    checked = check_request(request.csr_pem)
    claim = session.scalars(select(ClaimRow).where(ClaimRow.token_hash == _hash(request.claim)).with_for_update()).first()
    if claim is None:
        raise ForbiddenError("this claim is not known here", "make a new one: rookery claim create")
    if claim.used_s is not None:
        if claim.used_by_key == checked.key_sha256 and claim.request_id is not None:
            return _again(session, claim.request_id, checked)
        raise ForbiddenError("this claim was used by another board", "a claim lets in one board, once; make a new one")
    _check_terms(claim, request.facts, now_s)
    row = EnrolmentRow(
        id=f"e-{secrets.token_hex(5)}", claim_id=claim.id, key_sha256=checked.key_sha256, csr_pem=request.csr_pem,
        facts=to_builtins(request.facts), state="pending", reason="", asked_s=now_s, decided_s=None, decided_by=None,
        device_id=None, origin=origin,
    )  # fmt: skip
    session.add(row)
    claim.used_s, claim.used_by_key, claim.request_id = now_s, checked.key_sha256, row.id
    note_change(session, "enrolments")
    if not claim.accept:
        return Outcome("pending", None, "")
    return _accept(session, row, claim, checked, issuer, who=claim.created_by, now_s=now_s)


def accept(session: Session, enrolment_id: str, issuer: Issuer, *, who: str, origin: str, now_s: float) -> str:
    """A person lets a pending board in; answers the new device's id. ConflictError when it was decided before."""
    row = _pending(session, enrolment_id)
    claim = session.get_one(ClaimRow, row.claim_id)
    outcome = _accept(session, row, claim, check_request(row.csr_pem), issuer, who=who, now_s=now_s, origin=origin)
    assert outcome.device_id is not None
    return outcome.device_id


def reject(session: Session, enrolment_id: str, *, reason: str, who: str, origin: str, now_s: float) -> None:
    """A person refuses a pending board; its next request is told so."""
    row = _pending(session, enrolment_id)
    row.state, row.reason, row.decided_s, row.decided_by = "rejected", reason, now_s, who
    audit.record(session, who=who, what="enrolment.reject", target=row.id, after={"reason": reason}, origin=origin, now_s=now_s)
    note_change(session, "enrolments")


def renew(session: Session, device_id: str, csr_pem: str, issuer: Issuer, *, now_s: float) -> str:
    """A new certificate for a device that showed its present one; answers the PEM. The present one stays valid until it ends.

    The same request again gets the same certificate while more than half of its life is left.
    """
    checked = check_request(csr_pem)
    had = certificates.newest_of_key(session, checked.key_sha256)
    if had is not None:
        if had.device_id != device_id:
            raise ForbiddenError("this key belongs to another device")
        if had.revoked_s is None and had.not_after_s - now_s > (had.not_after_s - had.issued_s) / 2:
            return had.pem
    issued = issuer.authority.issue_device(checked, device_id, issuer.certificate_days, now_s)
    _remember(session, issued, device_id, now_s)
    inventory.record_certificate(session, device_id, _summary(issued))
    audit.record(
        session, who=f"device:{device_id}", what="certificate.renew", target=device_id,
        after={"serial": issued.serial}, now_s=now_s,
    )  # fmt: skip
    return issued.pem


def revoke(session: Session, id_or_name: str, *, reason: str, who: str, origin: str, now_s: float) -> str:
    """The device is not ours any more: every certificate of it ends now. Answers its id; twice is the same as once."""
    device = inventory.get(session, id_or_name, now_s)
    if device.state == "revoked":
        return device.id
    number = certificates.revoke_all(session, device.id, now_s)
    inventory.record_revoked(session, device.id, now_s)
    audit.record(
        session, who=who, what="device.revoke", target=device.id, before={"state": device.state},
        after={"reason": reason, "certificates": number}, origin=origin, now_s=now_s,
    )  # fmt: skip
    return device.id


def _check_terms(claim: ClaimRow, facts: BoardFacts, now_s: float) -> None:
    if claim.expires_s < now_s:
        raise ForbiddenError("this claim has expired", "make a new one: rookery claim create")
    if claim.serial is not None and claim.serial != facts.serial:
        raise ForbiddenError("this claim is bound to a board with another serial number")
    if claim.profile is not None and claim.profile != facts.profile:
        raise ForbiddenError(f"this claim is bound to boards of profile {claim.profile!r}; this one is {facts.profile!r}")


def _again(session: Session, enrolment_id: str, checked: CheckedRequest) -> Outcome:
    row = session.get_one(EnrolmentRow, enrolment_id)
    if row.state == "rejected":
        raise ForbiddenError(f"this board was refused: {row.reason or 'no reason was given'}")
    if row.state == "pending":
        return Outcome("pending", None, "")
    had = certificates.newest_of_key(session, checked.key_sha256)
    if had is None or had.revoked_s is not None:
        raise ForbiddenError("the certificate was revoked")
    return Outcome("accepted", row.device_id, had.pem)


def _accept(
    session: Session, row: EnrolmentRow, claim: ClaimRow, checked: CheckedRequest, issuer: Issuer, *, who: str, now_s: float,
    origin: str = "",
) -> Outcome:  # fmt: skip
    if certificates.newest_of_key(session, checked.key_sha256) is not None:
        raise ForbiddenError("this key was certified before", "a board that enrols anew makes a new key")
    facts = msgspec.convert(row.facts, BoardFacts)
    suffix = secrets.token_hex(4)
    device_id = f"d-{suffix}"
    name = claim.device_name or f"{facts.profile}-{suffix}"
    if not inventory.name_is_free(session, name):
        name = f"{name}-{suffix}"
    issued = issuer.authority.issue_device(checked, device_id, issuer.certificate_days, now_s)
    inventory.record_enrolled(
        session, device_id=device_id, name=name, group=claim.group, facts=facts, certificate=_summary(issued), now_s=now_s
    )
    _remember(session, issued, device_id, now_s)
    row.state, row.device_id, row.decided_s, row.decided_by = "accepted", device_id, now_s, who
    audit.record(
        session, who=who, what="enrolment.accept", target=device_id, origin=origin, now_s=now_s,
        after={"name": name, "group": claim.group, "claim": claim.id, "profile": facts.profile, "serial": facts.serial},
    )  # fmt: skip
    note_change(session, "enrolments")
    return Outcome("accepted", device_id, issued.pem)


def _summary(issued: IssuedCertificate) -> CertificateSummary:
    return CertificateSummary(issued.serial, issued.not_after_s, issued.key_sha256)


def _remember(session: Session, issued: IssuedCertificate, device_id: str, now_s: float) -> None:
    certificates.issued(
        session, Certificate(issued.serial, device_id, issued.key_sha256, issued.pem, now_s, issued.not_after_s, None)
    )  # fmt: skip


def _pending(session: Session, enrolment_id: str) -> EnrolmentRow:
    row = session.get(EnrolmentRow, enrolment_id, with_for_update=True)
    if row is None:
        raise NotFoundError(f"there is no enrolment {enrolment_id!r}")
    if row.state != "pending":
        raise ConflictError(f"this enrolment was {row.state} already")
    return row


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
