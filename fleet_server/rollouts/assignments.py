"""The server's signed word to one device: the small state of every poll, and the assignment when it changed."""

import hashlib
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.configuration import service as configuration
from fleet_server.database import upsert
from fleet_server.errors import InvalidError
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.releases import service as releases
from fleet_server.rollouts.gates import ENDED, TERMINAL
from fleet_server.rollouts.tables import AssignmentRow, RolloutDeviceRow, RolloutRow
from fleet_server.rollouts.targets import Target, set_target, target
from ota.bundle.manifest import AGENT, MODEL
from ota.trust.assignment import sign_payload
from ota.trust.key_types import Signer
from ota.wire.assignments import AssignedBundle, Assignment, Signed, State, StateAnswer, StateRequest

MAX_SEQ_JUMP = 1_000_000
"""After a restore the server follows what its devices have seen, but no device can push it further than this at once."""


@dataclass(frozen=True, slots=True)
class Content:
    """What an assignment says, without its number and times."""

    role: str
    arm: str | None
    bundle: AssignedBundle | None
    configuration: dict[str, Any]
    debug: list[Any]
    agent: AssignedBundle | None = None

    @property
    def digest(self) -> str:
        """Equal contents have equal digests."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def content(session: Session, device_id: str, now_s: float, *, ahead: bool = False) -> Content:
    """What the device should be told now. A device that is held back keeps what it runs.

    So does one that is ``ahead``: it knows newer signed metadata than this (restored) server has, and would refuse any offer.
    """
    meant, agent = target(session, device_id), target(session, device_id, AGENT)
    wanted = [one for one in (meant, agent) if one is not None and one.release is not None]
    held = ahead or (bool(wanted) and inventory.get(session, device_id, now_s).held is not None)
    return Content(
        role=meant.role if meant else "run",
        arm=meant.arm if meant else None,
        bundle=None if held else _assigned(session, meant, MODEL),
        agent=None if held else _assigned(session, agent, AGENT),
        configuration=configuration.effective(session, device_id),
        debug=logs.active(session, device_id, now_s),
    )


def _assigned(session: Session, meant: Target | None, kind: str) -> AssignedBundle | None:
    """The target's release as an assignment names it; None where there is none, or none that may be installed."""
    found = releases.find_release(session, meant.release) if meant is not None and meant.release is not None else None
    if found is None or found.yanked or found.advisory or found.kind != kind:
        return None
    return AssignedBundle(
        path=found.path, sha256=found.sha256, length_bytes=found.length_bytes, channel=found.channel, release=found.release
    )


def present(
    session: Session, device_id: str, asked: StateRequest, now_s: float, ttl_s: float, *, ahead: bool = False
) -> AssignmentRow | None:
    """The stored assignment when it still says what should be said; None when a new one must be signed."""
    row = session.get(AssignmentRow, device_id)
    if row is None or row.expires_s - now_s < ttl_s / 2:
        return None
    if asked.seq > row.seq or (asked.seq == row.seq and asked.digest not in (None, row.digest)):
        return None  # the device has seen more than we remember: the database was restored
    return row if row.content_sha256 == content(session, device_id, now_s, ahead=ahead).digest else None


def renew(
    session: Session, device_id: str, asked: StateRequest, *, signer: Signer, now_s: float, ttl_s: float, ahead: bool = False
) -> AssignmentRow:
    """Sign a new assignment if it is still needed, above all that the device has seen. InvalidError for an impossible number."""
    row = session.get(AssignmentRow, device_id, with_for_update=True)
    known = row.seq if row is not None else 0
    if asked.seq > known + MAX_SEQ_JUMP:
        raise InvalidError(f"$.seq: {asked.seq} is far beyond the {known} that this server ever signed")
    unchanged = present(session, device_id, asked, now_s, ttl_s, ahead=ahead)
    if unchanged is not None:
        return unchanged
    if row is not None and asked.seq > known:
        # It has heard more than we remember, so what we remember of its target is of yesterday: it keeps what it runs until
        # somebody says anew what that should be.
        for kind in (MODEL, AGENT):
            if target(session, device_id, kind) is not None:
                set_target(session, device_id, None, source="restore", now_s=now_s, kind=kind)
        after = {"seq": known, "seen": asked.seq}
        audit.record(session, who="server", what="device.restored", target=device_id, after=after, now_s=now_s)
    wanted = content(session, device_id, now_s, ahead=ahead)
    assignment = Assignment(
        device=device_id, seq=max(known, asked.seq) + 1, issued_s=now_s, expires_s=now_s + ttl_s, role=wanted.role,
        arm=wanted.arm, bundle=wanted.bundle, agent=wanted.agent, configuration=wanted.configuration, debug=wanted.debug,
    )  # fmt: skip
    signed = sign_payload(assignment, signer)
    values = {
        "device_id": device_id, "seq": assignment.seq, "content_sha256": wanted.digest, "payload": signed.payload,
        "digest": hashlib.sha256(signed.payload.encode()).hexdigest(), "keyid": signed.keyid, "signature": signed.signature,
        "issued_s": now_s, "expires_s": now_s + ttl_s,
    }  # fmt: skip
    upsert(session, AssignmentRow, [values], keys=["device_id"], update=[key for key in values if key != "device_id"])
    session.expire_all()
    stored = session.get(AssignmentRow, device_id)
    assert stored is not None
    return stored


def is_urgent(session: Session, device_id: str, now_s: float) -> bool:
    """Whether a rollout or a debug session is open for the device: then it should ask again soon."""
    if logs.active(session, device_id, now_s):
        return True
    query = (
        select(RolloutDeviceRow.device_id)
        .join(RolloutRow, RolloutRow.id == RolloutDeviceRow.rollout_id)
        .where(RolloutDeviceRow.device_id == device_id)
        .where(RolloutRow.state.not_in(TERMINAL), RolloutDeviceRow.state.not_in(ENDED))
    )
    return session.execute(query.limit(1)).first() is not None


def state_answer(
    row: AssignmentRow, asked: StateRequest, *, signer: Signer, now_s: float, poll_s: float, servers: list[str] | None = None
) -> StateAnswer:
    """The answer to a poll: signed state with the device's nonce, and the assignment only if the device does not hold it.

    ``servers``: the addresses of this server that devices are told while it moves.
    """
    state = State(
        device=row.device_id, nonce=asked.nonce, now_s=now_s, seq=row.seq, digest=row.digest, poll_s=poll_s, servers=servers or []
    )
    held = asked.digest == row.digest
    assignment = None if held else Signed(payload=row.payload, keyid=row.keyid, signature=row.signature)
    return StateAnswer(state=sign_payload(state, signer), assignment=assignment)
