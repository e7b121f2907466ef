"""A board asks to be let in: with a claim, or without one. A lost answer can be asked for again and costs nothing."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import insert_new, note_change
from fleet_server.door_limits import address_key
from fleet_server.enrolment import accepting, certificates, claims, issuing, ruling, tokens_linux
from fleet_server.enrolment.accepting import Decision, Outcome
from fleet_server.enrolment.authority_x509 import CheckedRequest, check_request
from fleet_server.enrolment.issuing import Issuer
from fleet_server.enrolment.tables import ClaimRow, EnrolmentRow, QueueRow
from fleet_server.errors import ForbiddenError
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession as devices
from ota.wire.codec import to_builtins
from ota.wire.enrolment import EnrolRequest

HEARD_EVERY_S = 60.0
"""A board that waits asks every few seconds; that it was heard is written down this often."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many boards without a claim may wait, of all and of one address (IPv6: /64), and how long one that asks no more
    is kept."""

    most: int = 2000
    most_per_address: int = 200
    kept_s: float = 86_400.0


def enrol(
    session: Session, request: EnrolRequest, issuer: Issuer, *, origin: str, now_s: float, bounds: Bounds | None = None
) -> Outcome:
    """A board asks. ForbiddenError for a claim that is unknown, expired, used by another key or bound to another board.

    The claim's row is locked: of many boards that bring the same claim at the same moment exactly one gets in.
    """
    checked = check_request(request.csr_pem)
    if not request.claim:
        return _without_claim(session, request, checked, issuer, origin, now_s, bounds or Bounds())
    claim = claims.find_locked(session, request.claim)
    if claim.used_s is not None:
        if claim.used_by_key == checked.key_sha256 and claim.request_id is not None:
            # Gone, where the same key waited and was let in by another claim: what it is now counts.
            row = session.get(EnrolmentRow, claim.request_id)
            return _again(session, row, checked, issuer, origin, now_s)
        raise ForbiddenError("this claim was used by another board", f"a claim lets in one board, once; {claims.NEW_CLAIM}")
    claims.check_terms(claim, request.facts, now_s)
    row = _add(session, request, checked, origin, now_s, claim_id=claim.id)
    claim.used_s, claim.used_by_key, claim.request_id = now_s, checked.key_sha256, row.id
    note_change(session, "enrolments")
    if not claim.accept:
        return Outcome("pending", None, "")
    # A board did it, by what its maker once gave out: he stands in the row, and is not who was here now.
    decision = decision_of(claim, who=f"claim:{claim.id}", now_s=now_s, origin=origin)
    return accepting.let_in(session, row, checked, issuer, decision)


def check_asking(session: Session, request: EnrolRequest) -> None:
    """Refuse, only looking, what nobody may ask: InvalidError for a request that is none, ForbiddenError for an unknown claim."""
    check_request(request.csr_pem)
    if request.claim:
        claims.find(session, request.claim)


def decision_of(claim: ClaimRow, *, who: str, now_s: float, origin: str) -> Decision:
    """What a claim says about the board that brings it."""
    return Decision(who, now_s, origin, claim.group, claim.device_name, claim.purpose, claim.device_id, claim.created_by)


def _without_claim(
    session: Session, request: EnrolRequest, checked: CheckedRequest, issuer: Issuer, origin: str, now_s: float, bounds: Bounds
) -> Outcome:
    queue = _lock_queue(session)
    query = select(EnrolmentRow).where(EnrolmentRow.key_sha256 == checked.key_sha256, EnrolmentRow.claim_id.is_(None))
    row = session.scalars(query.order_by(EnrolmentRow.asked_s.desc()).limit(1).with_for_update()).first()
    if row is not None and row.state != "pending":
        return _again(session, row, checked, issuer, origin, now_s)
    if row is None and issuing.owner_of(session, checked.key_sha256) is not None:
        raise ForbiddenError("this key was certified before", "a board that enrols anew makes a new key")
    rule = ruling.decide_now(session, request.facts.serial, request.facts.profile, now_s).rule
    if row is None:
        if rule is None and _no_room(session, request.facts.serial, origin, now_s, bounds):
            queue.turned_away, queue.turned_away_s = queue.turned_away + 1, now_s
            return Outcome("full", None, "")
        row = _add(session, request, checked, origin, now_s, claim_id=None)
        note_change(session, "enrolments")
    elif now_s - (row.last_asked_s or 0.0) >= HEARD_EVERY_S:
        row.last_asked_s, row.origin = now_s, origin
    if rule is None:
        return Outcome("pending", None, "", now_s - row.asked_s)
    row.rule_id = rule.id
    decision = Decision(f"rule:{rule.id}", now_s, origin, rule.group)
    return accepting.let_in(session, row, checked, issuer, decision)


def _lock_queue(session: Session) -> QueueRow:
    insert_new(session, QueueRow, [{"id": 1, "turned_away": 0, "turned_away_s": 0.0}], keys=["id"])
    return session.get_one(QueueRow, 1, with_for_update=True, populate_existing=True)


def _no_room(session: Session, serial: str, origin: str, now_s: float, bounds: Bounds) -> bool:
    """Make room for one more that waits; True where there is none.

    What asks no more leaves; a board that was wiped while it waited (the same serial from the same address or /64, another key)
    takes the place of its older request.
    """
    waiting = (EnrolmentRow.state == "pending", EnrolmentRow.claim_id.is_(None))
    session.execute(delete(EnrolmentRow).where(*waiting, EnrolmentRow.last_asked_s < now_s - bounds.kept_s))
    here = address_key(origin)
    if serial:
        older = session.execute(select(EnrolmentRow.id, EnrolmentRow.origin).where(*waiting, EnrolmentRow.serial == serial))
        wiped = [row.id for row in older if address_key(row.origin) == here]
        session.execute(delete(EnrolmentRow).where(EnrolmentRow.id.in_(wiped)))
    counted = session.execute(select(EnrolmentRow.origin, func.count()).where(*waiting).group_by(EnrolmentRow.origin)).all()
    of_all, of_one = sum(count for _, count in counted), sum(count for at, count in counted if address_key(at) == here)
    return of_all >= bounds.most or of_one >= bounds.most_per_address


def _add(
    session: Session, request: EnrolRequest, checked: CheckedRequest, origin: str, now_s: float, *, claim_id: str | None
) -> EnrolmentRow:
    row = EnrolmentRow(
        id=tokens_linux.new_id("e"), claim_id=claim_id, rule_id=None, key_sha256=checked.key_sha256,
        serial=request.facts.serial, csr_pem=request.csr_pem, facts=to_builtins(request.facts), state="pending", reason="",
        asked_s=now_s, last_asked_s=now_s, decided_s=None, decided_by=None, device_id=None, origin=origin,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def _again(
    session: Session, row: EnrolmentRow | None, checked: CheckedRequest, issuer: Issuer, origin: str, now_s: float
) -> Outcome:
    """The same key asks once more: what it is told was decided before. A certificate that ended while the answer was lost for
    months is made anew."""
    if row is not None and row.state == "rejected":
        hint = f"to let it in after all, give it another claim; {claims.NEW_CLAIM}"
        raise ForbiddenError(f"this board was refused: {row.reason or 'no reason was given'}", hint)
    if row is not None and row.state == "pending":
        return Outcome("pending", None, "", now_s - row.asked_s)
    had = certificates.newest_of_key(session, checked.key_sha256)
    if had is None or had.revoked_s is not None:
        raise ForbiddenError("the certificate was revoked")
    if had.not_after_s <= now_s:
        device = devices.lock(session, had.device_id)
        if device.revoked_s is not None or not certificates.never_used(session, device.id):
            raise ForbiddenError("the certificate has expired", "start the agent as it was: it renews by its old key")
        issued = issuing.issue(session, issuer, checked, device.id, now_s)
        inventory.record_certificate(session, device.id, issuing.summary(issued))
        audit.record(
            session, who=f"device:{device.id}", what="certificate.anew", target=device.id, before={"serial": had.serial},
            after={"serial": issued.serial}, origin=origin, now_s=now_s,
        )  # fmt: skip
        return Outcome("accepted", device.id, issued.pem)
    return Outcome("accepted", had.device_id, had.pem)
