"""An operator's word about a device's identity: revoke it, let its wiped board in again, replace its board, end it for good."""

from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.enrolment import certificates, claims
from fleet_server.enrolment.claims import NewClaim
from fleet_server.errors import ConflictError
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession as devices

GONE = "was decommissioned: it never comes back"


def revoke(session: Session, id_or_name: str, *, reason: str, who: str, origin: str, now_s: float) -> str:
    """The device is not ours any more: every certificate of it ends now. Answers its id; twice is the same as once."""
    device_id = _claims_first(session, id_or_name, who, now_s)
    device = devices.lock(session, device_id)
    if device.revoked_s is not None:
        return device.id
    number = certificates.revoke_all(session, device.id, now_s)
    inventory.record_revoked(session, device.id, now_s)
    audit.record(
        session, who=who, what="device.revoke", target=device.id, before={"state": device.state},
        after={"state": "revoked", "reason": reason, "certificates": number}, origin=origin, now_s=now_s,
    )  # fmt: skip
    return device.id


def readmit(
    session: Session, id_or_name: str, *, ttl_s: float, reason: str, who: str, origin: str, now_s: float
) -> tuple[str, NewClaim]:
    """A claim that lets one new key in *as this device*; its old certificates end when the new one was issued.

    For a board whose card was wiped, for one that was revoked and came back, and for the true one of two clones.
    """
    device_id = _claims_first(session, id_or_name, who, now_s)
    device = devices.lock(session, device_id)
    if device.decommissioned_s is not None:
        raise ConflictError(f"{device.name} {GONE}", "make a claim for a new device: rookery claim create")
    claim = claims.make_for_device(
        session, device.id, purpose="readmit", group=device.group, name=device.name, ttl_s=ttl_s, who=who, now_s=now_s
    )
    audit.record(
        session, who=who, what="device.readmit", target=device.id, origin=origin, now_s=now_s,
        before={"state": device.state, "held": device.held},
        after={"claim": claim.id, "expires_s": claim.expires_s, "reason": reason},
    )  # fmt: skip
    return device.id, claim


def replace(
    session: Session, id_or_name: str, *, serial: str | None, ttl_s: float, reason: str, who: str, origin: str, now_s: float
) -> tuple[str, NewClaim]:
    """A claim that puts a new board in this one's place: name, group, configuration and history pass over, the old one is
    decommissioned when the new one was let in. ``serial``: only that board may use it."""
    device_id = _claims_first(session, id_or_name, who, now_s)
    device = devices.lock(session, device_id)
    if device.decommissioned_s is not None:
        raise ConflictError(f"{device.name} {GONE}", "make a claim for a new device: rookery claim create")
    claim = claims.make_for_device(
        session, device.id, purpose="replace", group=device.group, name=device.name, ttl_s=ttl_s, who=who, now_s=now_s,
        serial=serial,
    )  # fmt: skip
    audit.record(
        session, who=who, what="device.replace", target=device.id, origin=origin, now_s=now_s, before={"state": device.state},
        after={"claim": claim.id, "expires_s": claim.expires_s, "serial": serial, "reason": reason},
    )  # fmt: skip
    return device.id, claim


def decommission(session: Session, id_or_name: str, *, reason: str, who: str, origin: str, now_s: float) -> str:
    """The device is gone for good: its keys are worthless, its name is free, its history stays. Answers its id; twice is once."""
    device_id = _claims_first(session, id_or_name, who, now_s)
    device = devices.lock(session, device_id)
    if device.decommissioned_s is not None:
        return device.id
    number = certificates.revoke_all(session, device.id, now_s)
    name = devices.record_decommissioned(session, device.id, now_s)
    audit.record(
        session, who=who, what="device.decommission", target=device.id, origin=origin, now_s=now_s,
        before={"state": device.state, "name": device.name},
        after={"state": "decommissioned", "name": name, "reason": reason, "certificates": number},
    )  # fmt: skip
    return device.id


def _claims_first(session: Session, id_or_name: str, who: str, now_s: float) -> str:
    """End the device's unused claims before its row is locked: a board that brings one locks in the same order, claim first."""
    device_id = inventory.get(session, id_or_name, now_s).id
    claims.end_for_device(session, device_id, who=who, now_s=now_s)
    return device_id
