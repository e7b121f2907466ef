"""Claims: made one by one or by the thousand, listed in pages, ended. One claim lets one key in, once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, insert, or_, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.enrolment import claims_csv, tokens_linux
from fleet_server.enrolment.claims_csv import NAME, NAME_RULE, WantedClaim
from fleet_server.enrolment.tables import ClaimRow, EnrolmentRow
from fleet_server.errors import ConflictError, FaultyError, ForbiddenError, InvalidError, NotFoundError
from fleet_server.inventory import succession as devices
from ota.wire.enrolment import BoardFacts

MAX_CLAIMS = claims_csv.MAX_ROWS
"""In one request."""
STATES = ("unused", "used", "expired", "ended")
NEW_CLAIM = "make a new one: rookery claim create"


@dataclass(frozen=True, slots=True)
class NewClaim:
    """A claim with its token, which is shown once and kept nowhere, and what it is bound to."""

    id: str
    token: str
    expires_s: float
    serial: str | None = None
    profile: str | None = None
    group: str = "default"
    device_name: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim as it is listed: ``state`` is unused, used, expired or ended; ``device``: who got in with it.

    ``purpose``: enrol, or readmit or replace the device ``for_device``.
    """

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
    purpose: str
    for_device: str | None
    ended_s: float | None
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class ClaimTerms:
    """What a claim is bound to; None binds to nothing. ``accept`` False: a person decides about each request."""

    profile: str | None = None
    serial: str | None = None
    group: str = "default"
    device_name: str | None = None
    accept: bool = True


def make_claims(
    session: Session, *, count: int, terms: ClaimTerms, ttl_s: float, who: str, now_s: float, origin: str = "",
    groups: Collection[str] | None = None,
) -> list[NewClaim]:  # fmt: skip
    """Fresh claims. InvalidError for a bad name; several claims with one device name get numbers behind it.

    ``groups``: the only ones that whoever asks may put boards into (ForbiddenError); None: any.
    """
    if terms.device_name is not None and not NAME.fullmatch(terms.device_name):
        raise InvalidError(f"device_name {NAME_RULE}")
    if not NAME.fullmatch(terms.group):
        raise InvalidError(f"group {NAME_RULE}")
    if groups is not None and terms.group not in groups:
        raise ForbiddenError(f"{terms.group!r} is not one of your groups", f"yours: {', '.join(sorted(groups))}")
    wanted = []
    for number in range(1, count + 1):
        name = terms.device_name if terms.device_name is None or count == 1 else f"{terms.device_name}-{number}"
        wanted.append(WantedClaim(terms.serial, terms.profile, terms.group, name, now_s + ttl_s))
    return _add(session, wanted, accept=terms.accept, ttl_s=ttl_s, who=who, now_s=now_s, origin=origin)


def make_claims_of_csv(
    session: Session, text: str, *, accept: bool, ttl_s: float, who: str, now_s: float, origin: str = "",
    groups: Collection[str] | None = None,
) -> list[NewClaim]:  # fmt: skip
    """A claim for each line, all or none: FaultyError lists every line that is wrong (``claims_csv``).

    ``groups``: the only groups that whoever asks may put boards into; None: any.
    """
    sheet = claims_csv.read(text, now_s=now_s, names_taken=devices.names(session, groups))
    faults = sheet.faults or [
        {"path": f"claim {number}, group", "problem": f"{one.group!r} is not one of your groups"}
        for number, one in enumerate(sheet.claims, start=1)
        if groups is not None and one.group not in groups
    ]
    if faults:
        raise FaultyError("no claim was made: the file is wrong in these lines", faults, "mend them and try again")
    return _add(session, sheet.claims, accept=accept, ttl_s=ttl_s, who=who, now_s=now_s, origin=origin)


def make_for_device(
    session: Session, device_id: str, *, purpose: str, group: str, name: str | None, ttl_s: float, who: str, now_s: float,
    serial: str | None = None,
) -> NewClaim:  # fmt: skip
    """A claim that lets one key in as, or in the place of, this device; unused ones of before end. The caller audits it."""
    end_for_device(session, device_id, who=who, now_s=now_s)
    claim = NewClaim(tokens_linux.new_id("c"), tokens_linux.new_token(), now_s + ttl_s, serial, None, group, name)
    session.add(ClaimRow(**_values(claim, accept=True, who=who, now_s=now_s, purpose=purpose, device_id=device_id)))
    session.flush()
    note_change(session, "claims")
    return claim


def end_for_device(session: Session, device_id: str, *, who: str, now_s: float) -> None:
    """Unused claims for this device are void from now on."""
    query = select(ClaimRow).where(ClaimRow.device_id == device_id, ClaimRow.used_s.is_(None), ClaimRow.ended_s.is_(None))
    for row in session.scalars(query.order_by(ClaimRow.id).with_for_update()):
        row.ended_s, row.ended_by = now_s, who


def end_of_maker(session: Session, maker: str, *, who: str, origin: str, now_s: float) -> None:
    """The account ``maker`` is disabled or removed: what it gave out and nobody has used lets nobody in any more."""
    query = select(ClaimRow).where(ClaimRow.created_by == maker, ClaimRow.used_s.is_(None), ClaimRow.ended_s.is_(None))
    rows = session.scalars(query.where(ClaimRow.expires_s >= now_s).order_by(ClaimRow.id).with_for_update()).all()
    if not rows:
        return
    for row in rows:
        row.ended_s, row.ended_by = now_s, who
    audit.record(
        session, who=who, what="claim.end", target=rows[0].id, origin=origin, now_s=now_s, before={"state": "unused"},
        after={"state": "ended", "count": len(rows), "ids": [row.id for row in rows[:20]], "account_left": maker},
    )  # fmt: skip
    note_change(session, "claims")


def end_claim(
    session: Session, claim_id: str, *, who: str, origin: str, now_s: float, groups: Collection[str] | None = None
) -> None:
    """Make a claim worthless before it is used. ConflictError for a used one: revoke the device instead. Twice is once."""
    row = session.get(ClaimRow, claim_id, with_for_update=True)
    if row is None or (groups is not None and row.group not in groups):
        raise NotFoundError(f"there is no claim {claim_id!r}", "`rookery claim list` shows them")
    if row.used_s is not None:
        raise ConflictError("this claim was used already", "to shut its device out: rookery device revoke")
    if row.ended_s is not None:
        return
    audit.record(
        session, who=who, what="claim.end", target=row.id, origin=origin, now_s=now_s,
        before={"state": _state(row, now_s)}, after={"state": "ended"},
    )  # fmt: skip
    row.ended_s, row.ended_by = now_s, who
    note_change(session, "claims")


def claims(
    session: Session, now_s: float, limit: int = 1000, *, state: str | None = None, text: str = "", after: str = "",
    groups: Collection[str] | None = None,
) -> list[Claim]:  # fmt: skip
    """Newest first. ``text``: part of an id, serial, name or group; ``after``: the id of the last one of the page before."""
    query = select(ClaimRow, EnrolmentRow.device_id).outerjoin(EnrolmentRow, EnrolmentRow.id == ClaimRow.request_id)
    if state:
        query = query.where(_in_state(state, now_s))
    if groups is not None:
        query = query.where(ClaimRow.group.in_(sorted(groups)))
    if text:
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = (ClaimRow.id, ClaimRow.serial, ClaimRow.device_name, ClaimRow.group)
        query = query.where(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
    if after:
        last = session.get(ClaimRow, after)
        if last is None or (groups is not None and last.group not in groups):
            raise InvalidError(f"the cursor {after[:40]!r} is not one of this list")
        older, same = ClaimRow.created_s < last.created_s, ClaimRow.created_s == last.created_s
        query = query.where(or_(older, and_(same, ClaimRow.id > last.id)))
    rows = session.execute(query.order_by(ClaimRow.created_s.desc(), ClaimRow.id).limit(limit))
    return [
        Claim(
            row.id, _state(row, now_s), row.created_s, row.created_by, row.expires_s, row.profile, row.serial, row.group,
            row.device_name, row.used_s, row.request_id, device, row.purpose, row.device_id, row.ended_s, row.ended_by,
        )
        for row, device in rows
    ]  # fmt: skip


def find_locked(session: Session, token: str) -> ClaimRow:
    """The claim of this token, locked: of two boards that bring it at the same moment one waits for the other."""
    return find(session, token, lock=True)


def find(session: Session, token: str, *, lock: bool = False) -> ClaimRow:
    """The claim of this token; ForbiddenError for an unknown one."""
    query = select(ClaimRow).where(ClaimRow.token_hash == tokens_linux.hash_of(token))
    row = session.scalars(query.with_for_update() if lock else query).first()
    if row is None:
        raise ForbiddenError("this claim is not known here", NEW_CLAIM)
    return row


def check_terms(claim: ClaimRow, facts: BoardFacts, now_s: float) -> None:
    """ForbiddenError unless this board may use the claim now."""
    if claim.ended_s is not None:
        raise ForbiddenError("an operator has ended this claim", NEW_CLAIM)
    if claim.expires_s < now_s:
        raise ForbiddenError("this claim has expired", NEW_CLAIM)
    if claim.serial is not None and claim.serial != facts.serial:
        raise ForbiddenError("this claim is bound to a board with another serial number")
    if claim.profile is not None and claim.profile != facts.profile:
        raise ForbiddenError(f"this claim is bound to boards of profile {claim.profile!r}; this one is {facts.profile!r}")


def _add(
    session: Session, wanted: Sequence[WantedClaim], *, accept: bool, ttl_s: float, who: str, now_s: float, origin: str
) -> list[NewClaim]:
    made = [
        NewClaim(
            tokens_linux.new_id("c"), tokens_linux.new_token(), one.expires_s or now_s + ttl_s, one.serial, one.profile,
            one.group, one.device_name,
        )
        for one in wanted
    ]  # fmt: skip
    session.execute(insert(ClaimRow), [_values(one, accept=accept, who=who, now_s=now_s) for one in made])
    groups = sorted({one.group for one in made})
    audit.record(
        session, who=who, what="claim.create", target=made[0].id, origin=origin, now_s=now_s,
        after={"count": len(made), "groups": groups[:20], "serial": made[0].serial if len(made) == 1 else None, "accept": accept,
               "expires_s": max(one.expires_s for one in made)},
    )  # fmt: skip
    note_change(session, "claims")
    return made


def _values(
    claim: NewClaim, *, accept: bool, who: str, now_s: float, purpose: str = "enrol", device_id: str | None = None
) -> dict[str, Any]:
    return {
        "id": claim.id, "token_hash": tokens_linux.hash_of(claim.token), "created_s": now_s, "created_by": who,
        "expires_s": claim.expires_s, "profile": claim.profile, "serial": claim.serial, "group": claim.group,
        "device_name": claim.device_name, "accept": accept, "used_s": None, "used_by_key": None, "request_id": None,
        "purpose": purpose, "device_id": device_id, "ended_s": None, "ended_by": None,
    }  # fmt: skip


def _state(row: ClaimRow, now_s: float) -> str:
    if row.used_s is not None:
        return "used"
    if row.ended_s is not None:
        return "ended"
    return "expired" if row.expires_s < now_s else "unused"


def _in_state(state: str, now_s: float) -> ColumnElement[bool]:
    # The same rule as _state, in SQL.
    unused, open_ = ClaimRow.used_s.is_(None), ClaimRow.ended_s.is_(None)
    table = {
        "used": ClaimRow.used_s.is_not(None), "ended": and_(unused, ClaimRow.ended_s.is_not(None)),
        "expired": and_(unused, open_, ClaimRow.expires_s < now_s), "unused": and_(unused, open_, ClaimRow.expires_s >= now_s),
    }  # fmt: skip
    if state not in table:
        raise InvalidError(f"state {state[:40]!r} is not one of {', '.join(STATES)}")
    return table[state]
