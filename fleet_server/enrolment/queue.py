"""The boards that ask: who waits, what a person needs to know of each, and the person's decision."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import and_, case, or_, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.enrolment import accepting
from fleet_server.enrolment.accepting import Decision
from fleet_server.enrolment.asking import decision_of
from fleet_server.enrolment.authority_x509 import check_request
from fleet_server.enrolment.claims_csv import NAME, NAME_RULE
from fleet_server.enrolment.issuing import Issuer
from fleet_server.enrolment.tables import ClaimRow, EnrolmentRow, QueueRow
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from fleet_server.inventory import succession as devices
from ota.wire.enrolment import fingerprint

STATES = ("pending", "accepted", "rejected")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A board's request: ``state`` is pending, accepted or rejected.

    ``fingerprint``: of its key, as the board itself says it in its log and ``rookery-agent doctor``. ``same_serial``: the device
    that bears its serial number already. ``claim``, ``rule``: by what it came, or was let in.
    """

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
    fingerprint: str
    serial: str
    profile: str
    claim: str | None
    rule: str | None
    group: str | None
    last_asked_s: float | None
    same_serial: str


def enrolments(
    session: Session, limit: int = 1000, *, state: str | None = None, text: str = "", after: str = "",
    groups: Collection[str] | None = None,
) -> list[Enrolment]:  # fmt: skip
    """Pending requests first, then the newest. ``text``: part of a serial, id, address or key; ``after``: the last id of a page.

    ``groups``: only requests whose claim names one of them; boards without a claim belong to no group yet.
    """
    rank = case((EnrolmentRow.state == "pending", 0), else_=1)
    query = select(EnrolmentRow, ClaimRow.group).outerjoin(ClaimRow, ClaimRow.id == EnrolmentRow.claim_id)
    if state is not None:
        if state not in STATES:
            raise InvalidError(f"state {state[:40]!r} is not one of {', '.join(STATES)}")
        query = query.where(EnrolmentRow.state == state)
    if groups is not None:
        query = query.where(ClaimRow.group.in_(sorted(groups)))
    if text:
        plain = text.replace(" ", "") if set(text) <= set("0123456789abcdefABCDEF ") else text
        pattern = "%" + plain.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = (EnrolmentRow.serial, EnrolmentRow.id, EnrolmentRow.origin, EnrolmentRow.key_sha256)
        query = query.where(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
    if after:
        query = query.where(_behind(session, after, groups))
    rows = list(session.execute(query.order_by(rank, EnrolmentRow.asked_s.desc(), EnrolmentRow.id).limit(limit)))
    taken = devices.by_serial(session, {row.serial for row, _ in rows if row.state == "pending" and row.serial}, groups)
    return [_entry(row, group, taken) for row, group in rows]


def turned_away(session: Session) -> tuple[int, float]:
    """How many requests found the queue full, and when the last one did (0: never)."""
    row = session.get(QueueRow, 1)
    return (row.turned_away, row.turned_away_s) if row is not None else (0, 0.0)


def accept(
    session: Session, enrolment_id: str, issuer: Issuer, *, who: str, origin: str, now_s: float, group: str = "", name: str = "",
    groups: Collection[str] | None = None,
) -> str:  # fmt: skip
    """A person lets a pending board in; answers the new device's id. ConflictError when it was decided before.

    ``group`` and ``name`` stand over what its claim says; a board without a claim joins ``default`` where nothing is said.
    """
    for label, value in (("group", group), ("name", name)):
        if value and not NAME.fullmatch(value):
            raise InvalidError(f"{label} {NAME_RULE}")
    if group and groups is not None and group not in groups:
        raise ForbiddenError(f"{group!r} is not one of your groups", f"yours: {', '.join(sorted(groups))}")
    row, claim = _pending(session, enrolment_id, groups)
    decision = decision_of(claim, who=who, now_s=now_s, origin=origin) if claim is not None else Decision(who, now_s, origin)
    decision = replace(decision, group=group or decision.group, name=name or decision.name)
    outcome = accepting.let_in(session, row, check_request(row.csr_pem), issuer, decision)
    assert outcome.device_id is not None
    return outcome.device_id


def reject(
    session: Session, enrolment_id: str, *, reason: str, who: str, origin: str, now_s: float,
    groups: Collection[str] | None = None,
) -> None:  # fmt: skip
    """A person refuses a pending board; its next request is told so."""
    row, _ = _pending(session, enrolment_id, groups)
    audit.record(
        session, who=who, what="enrolment.reject", target=row.id, before={"state": row.state},
        after={"state": "rejected", "reason": reason, "serial": row.serial, "key_sha256": row.key_sha256}, origin=origin,
        now_s=now_s,
    )  # fmt: skip
    row.state, row.reason, row.decided_s, row.decided_by = "rejected", reason, now_s, who
    note_change(session, "enrolments")


def _pending(
    session: Session, enrolment_id: str, groups: Collection[str] | None
) -> tuple[EnrolmentRow, ClaimRow | None]:
    """The request and its claim, both locked, the claim first: in the order in which a board that asks again locks them."""
    claim_id = session.scalar(select(EnrolmentRow.claim_id).where(EnrolmentRow.id == enrolment_id))
    claim = session.get(ClaimRow, claim_id, with_for_update=True) if claim_id is not None else None
    row = session.get(EnrolmentRow, enrolment_id, with_for_update=True, populate_existing=True)
    if row is None or (groups is not None and (claim is None or claim.group not in groups)):
        raise NotFoundError(f"there is no enrolment {enrolment_id!r}", "`rookery enrolment list` shows who waits")
    if row.state != "pending":
        raise ConflictError(f"this enrolment was {row.state} already")
    return row, claim


def _behind(session: Session, after: str, groups: Collection[str] | None) -> Any:
    """Whatever stands behind this request in the order of the list; one of a foreign group is as unknown as none."""
    query = select(EnrolmentRow).outerjoin(ClaimRow, ClaimRow.id == EnrolmentRow.claim_id).where(EnrolmentRow.id == after)
    if groups is not None:
        query = query.where(ClaimRow.group.in_(sorted(groups)))
    last = session.scalars(query).first()
    if last is None:
        raise InvalidError(f"the cursor {after[:40]!r} is not one of this list")
    older, same = EnrolmentRow.asked_s < last.asked_s, EnrolmentRow.asked_s == last.asked_s
    behind = or_(older, and_(same, EnrolmentRow.id > last.id))
    if last.state == "pending":
        return or_(EnrolmentRow.state != "pending", behind)
    return and_(EnrolmentRow.state != "pending", behind)


def _entry(row: EnrolmentRow, group: str | None, taken: dict[str, str]) -> Enrolment:
    return Enrolment(
        row.id, row.state, row.reason, row.asked_s, row.decided_s, row.decided_by, row.device_id, row.key_sha256, row.facts,
        row.origin, fingerprint(row.key_sha256), row.serial or str(row.facts.get("serial", "")),
        str(row.facts.get("profile", "")), row.claim_id, row.rule_id, group, row.last_asked_s, taken.get(row.serial, ""),
    )  # fmt: skip
