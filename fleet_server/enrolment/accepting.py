"""A board is let in: as a new device, as the device that it was before its card was wiped, or in the place of a dead one."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.enrolment import certificates, issuing, tokens_linux
from fleet_server.enrolment.authority_x509 import CheckedRequest
from fleet_server.enrolment.issuing import Issuer
from fleet_server.enrolment.tables import EnrolmentRow
from fleet_server.errors import ForbiddenError
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession as devices
from ota.wire.enrolment import BoardFacts


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the board is told: accepted with its certificate, pending (for ``waits_s`` already), or full: come back later."""

    status: str
    device_id: str | None
    certificate_pem: str
    waits_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Who lets the board in, from where and when, and as what. ``purpose`` and ``device_id``: as a claim has them; ``maker``: who
    made that claim."""

    who: str
    now_s: float
    origin: str = ""
    group: str = "default"
    name: str | None = None
    purpose: str = "enrol"
    device_id: str | None = None
    maker: str | None = None


def let_in(session: Session, row: EnrolmentRow, checked: CheckedRequest, issuer: Issuer, decision: Decision) -> Outcome:
    """Certify the key of a request whose row (and claim) this transaction holds; ForbiddenError for a key of before."""
    if issuing.owner_of(session, checked.key_sha256) is not None:
        raise ForbiddenError("this key was certified before", "a board that enrols anew makes a new key")
    facts = msgspec.convert(row.facts, BoardFacts)
    if decision.purpose == "readmit":
        device_id, pem = _readmit(session, facts, checked, issuer, decision)
    else:
        device_id, pem = _new_device(session, row, facts, checked, issuer, decision)
    row.state, row.device_id, row.decided_s, row.decided_by = "accepted", device_id, decision.now_s, decision.who
    # Where the same board waits in the queue besides, there is nothing left to decide about it.
    session.execute(
        delete(EnrolmentRow).where(
            EnrolmentRow.key_sha256 == checked.key_sha256, EnrolmentRow.state == "pending", EnrolmentRow.id != row.id
        )
    )
    note_change(session, "enrolments")
    note_change(session, "claims")
    return Outcome("accepted", device_id, pem)


def _new_device(
    session: Session, row: EnrolmentRow, facts: BoardFacts, checked: CheckedRequest, issuer: Issuer, decision: Decision
) -> tuple[str, str]:
    suffix = tokens_linux.new_suffix()
    device_id = f"d-{suffix}"
    old = _make_room(session, decision) if decision.purpose == "replace" else None
    name, group = (old.name, old.group) if old is not None else (decision.name or f"{facts.profile}-{suffix}", decision.group)
    if not inventory.name_is_free(session, name):
        name = f"{name}-{suffix}"
    issued = issuing.issue(session, issuer, checked, device_id, decision.now_s)
    inventory.record_enrolled(
        session, device_id=device_id, name=name, group=group, facts=facts, certificate=issuing.summary(issued),
        now_s=decision.now_s,
    )  # fmt: skip
    after = {"name": name, "group": group, "claim": row.claim_id, "claim_by": decision.maker, "rule": row.rule_id,
             "profile": facts.profile, "serial": facts.serial}  # fmt: skip
    if old is not None:
        devices.record_replaces(session, device_id, old.id)
        issuer.heirs.replaced(
            session, old.id, device_id, who=decision.who, now_s=decision.now_s, origin=decision.origin
        )
        after["replaces"] = old.id
    audit.record(
        session, who=decision.who, what="enrolment.accept", target=device_id, origin=decision.origin, now_s=decision.now_s,
        before={"request": row.id, "state": row.state}, after=after,
    )  # fmt: skip
    return device_id, issued.pem


def _make_room(session: Session, decision: Decision) -> devices.Locked:
    """The dead board goes for good, and its name is free."""
    assert decision.device_id is not None
    old = devices.lock(session, decision.device_id)
    if old.decommissioned_s is not None:
        raise ForbiddenError("the device that this board was to replace is gone already", "make a claim for a new device")
    number = certificates.revoke_all(session, old.id, decision.now_s)
    devices.record_decommissioned(session, old.id, decision.now_s)
    audit.record(
        session, who=decision.who, what="device.decommission", target=old.id, origin=decision.origin, now_s=decision.now_s,
        before={"state": old.state, "name": old.name},
        after={"state": "decommissioned", "reason": "replaced by another board", "certificates": number,
               "claim_by": decision.maker},
    )  # fmt: skip
    return old


def _readmit(
    session: Session, facts: BoardFacts, checked: CheckedRequest, issuer: Issuer, decision: Decision
) -> tuple[str, str]:
    assert decision.device_id is not None
    device = devices.lock(session, decision.device_id)
    if device.decommissioned_s is not None:
        raise ForbiddenError("the device was decommissioned: it never comes back", "make a claim for a new device")
    issued = issuing.issue(session, issuer, checked, device.id, decision.now_s)
    number = certificates.revoke_all(session, device.id, decision.now_s, but=issued.serial)
    devices.record_readmitted(session, device.id)
    inventory.record_certificate(session, device.id, issuing.summary(issued))
    inventory.record_facts(session, device.id, facts)
    issuer.heirs.begun_anew(session, device.id)
    audit.record(
        session, who=decision.who, what="device.readmitted", target=device.id, origin=decision.origin, now_s=decision.now_s,
        before={"state": device.state, "held": device.held, "serial": device.serial},
        after={"state": "active", "serial": facts.serial, "certificate": issued.serial, "certificates_ended": number,
               "claim_by": decision.maker},
    )  # fmt: skip
    return device.id, issued.pem
