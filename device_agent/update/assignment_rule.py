"""The device rule of who may tell this board what to run, in its exact order. Pure; refusals are values.

signature → own id → nonce → seq → expiry → the bundle resolves through TUF → in a channel that the policy allows → path, length
and hash equal in both → own hardware id listed → counter at or above the floor. (That all files are as signed is seen after
download.)
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from device_agent.update.policy import Policy
from device_agent.update.ports import SignedTarget
from ota.bundle.manifest import MODEL, Manifest
from ota.bundle.variants import hardware_problem
from ota.trust.assignment import verify_payload
from ota.trust.errors import TrustError
from ota.trust.key_types import Key
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment, Signed, State, StateAnswer
from ota.wire.codec import MessageError, decode
from ota.wire.enrolment import BoardFacts

T = TypeVar("T", State, Assignment)


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest assignment that this device accepted: its number, the sha256 of its payload (empty: none yet), who signed it."""

    seq: int = 0
    digest: str = ""
    keyid: str = field(default="", compare=False)
    """Empty: not known. A number binds only as long as the key that gave it is trusted: else whoever stole one could sign the
    highest number there is, and the board would hear nobody after him."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An answer that passed. ``assignment`` and ``payload`` are None when the device holds the newest one already."""

    state: State
    assignment: Assignment | None = None
    payload: str | None = None


def judge_answer(
    answer: StateAnswer, *, nonce: str, device: str, seen: Seen, keys: Mapping[str, Key], now_s: float
) -> Accepted | Refusal:
    """Signature, own id, nonce, seq, expiry: whether the server's answer to a poll is believed."""
    state = _verified(answer.state, State, keys, "state")
    if isinstance(state, Refusal):
        return state
    assignment = None if answer.assignment is None else _verified(answer.assignment, Assignment, keys, "assignment")
    if isinstance(assignment, Refusal):
        return assignment
    for what, named in (("state", state.device), ("assignment", assignment.device if assignment else device)):
        if named != device:
            return Refusal("wrong_device", f"the {what} is for {named}, this device is {device}")
    if state.nonce != nonce:
        return Refusal("nonce", "the answer does not echo the nonce that was sent: it is an old one, sent again")
    bound = not seen.keyid or seen.keyid in keys
    refused = _judge_sequence(state, assignment, answer.assignment, seen, bound=bound)
    if refused is not None:
        return refused
    if assignment is None:
        return Accepted(state)
    if assignment.expires_s <= now_s:
        return Refusal("expired", f"assignment {assignment.seq} expired {now_s - assignment.expires_s:.0f} s ago")
    assert answer.assignment is not None
    return Accepted(state, assignment, answer.assignment.payload)


def judge_target(bundle: AssignedBundle, found: SignedTarget | Refusal, policy: Policy) -> Refusal | None:
    """Resolved through TUF, in an allowed channel, and the same path, length and hash in assignment and signed metadata."""
    if isinstance(found, Refusal):
        return found
    # The first part of the path is what the delegation is bound to: the channel's own keys have signed it.
    channel = found.path.partition("/")[0]
    if channel not in policy.channels:
        return Refusal("channel", f"channel {channel} is not allowed here; this board's policy allows {_listed(policy.channels)}")
    said = (bundle.path, bundle.sha256, bundle.length_bytes, bundle.channel)
    signed = (found.path, found.sha256, found.length_bytes, channel)
    for name, one, other in zip(("path", "sha256", "length", "channel"), said, signed, strict=True):
        if one != other:
            return Refusal("mismatch", f"{name}: the assignment says {one}, the signed metadata {other}")
    return None


def judge_manifest(
    bundle: AssignedBundle, manifest: Manifest, facts: BoardFacts, floor: int, kind: str = MODEL
) -> Refusal | None:
    """The release that was assigned, of the ``kind`` that belongs here; own hardware listed; not below the releaser's floor."""
    if manifest.kind != kind:
        return Refusal("mismatch", f"{manifest.release} is a release of kind {manifest.kind}, assigned as one of kind {kind}")
    own = f"{manifest.channel}/{manifest.name}/{manifest.version}/manifest.json"
    if own != bundle.path:
        return Refusal("mismatch", f"the manifest is that of {own}, it was assigned as {bundle.path}")
    problem = hardware_problem(manifest, facts)
    if problem is not None:
        return Refusal("hardware", problem)
    if manifest.counter < floor:
        return Refusal("counter", f"{manifest.release} has counter {manifest.counter}, below the floor {floor}")
    return None


def payload_digest(payload: str) -> str:
    """The digest by which an assignment is known: sha256 of its payload."""
    return hashlib.sha256(payload.encode()).hexdigest()


def _verified(signed: Signed, kind: type[T], keys: Mapping[str, Key], what: str) -> T | Refusal:
    try:
        payload = verify_payload(signed, keys)
    except TrustError as error:
        return Refusal("signature", f"{what}: {error}")
    try:
        return decode(kind, payload.encode())
    except MessageError as error:
        return Refusal("format", f"{what}: {error}")


def _judge_sequence(
    state: State, assignment: Assignment | None, signed: Signed | None, seen: Seen, *, bound: bool
) -> Refusal | None:  # fmt: skip
    if assignment is None or signed is None:
        if (state.seq, state.digest) == (seen.seq, seen.digest) or (state.seq == seen.seq == 0 and not seen.digest):
            return None
        return Refusal("sequence", f"the server names assignment {state.seq} without sending it; {seen.seq} is held here")
    digest = payload_digest(signed.payload)
    if (state.seq, state.digest) != (assignment.seq, digest):
        return Refusal("sequence", f"assignment {assignment.seq} is not the one that the fresh state names ({state.seq})")
    if not bound:
        return None  # the key that signed the newest number was taken out of the signed metadata: counting starts anew
    if assignment.seq < seen.seq:
        return Refusal("sequence", f"assignment {assignment.seq} is older than {seen.seq}, which was seen already")
    if assignment.seq == seen.seq and seen.digest and digest != seen.digest:
        return Refusal("sequence", f"assignment {assignment.seq} was seen with other content")
    return None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
