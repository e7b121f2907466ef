"""Assignments: the server's signed word on what one device should run now."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta

from ota.wire.base import Code, Count, DeviceId, Instant, Message, Name, Part, Sha256
from ota.wire.debug import MAX_SESSIONS, DebugSession

ServerUrl = Annotated[str, Meta(max_length=300, pattern=r"^https://[^\s/?#@\\]+\Z")]
Nonce = Annotated[str, Meta(min_length=16, max_length=64)]


class Signed(Message, frozen=True, kw_only=True):
    """A payload with one signature by the online assignment key (ECDSA P-256, sha256, DER, hexadecimal) over its UTF-8 bytes.

    The key's public half stands in the offline-signed top-level targets metadata: a device trusts it from there only.
    """

    LIMIT_BYTES: ClassVar[int] = 256 * 1024

    payload: str
    keyid: Annotated[str, Meta(min_length=8, max_length=128)]
    signature: Annotated[str, Meta(pattern=r"^[0-9a-f]{16,512}\Z")]


class AssignedBundle(Part, frozen=True, kw_only=True):
    """The bundle's manifest as a TUF target. ``path``, ``sha256`` and ``length_bytes`` must equal the offline-signed metadata."""

    path: Annotated[str, Meta(min_length=1, max_length=300)]
    sha256: Sha256
    length_bytes: Count
    channel: Code
    release: Name
    """``name@version``, for people; nothing is decided by it."""


class Assignment(Message, frozen=True, kw_only=True):
    """The payload of a ``Signed`` assignment."""

    device: DeviceId
    seq: Count
    """Rises whenever the content changes; the same number with another digest is refused."""
    issued_s: Instant
    expires_s: Instant
    role: Code = "run"
    """run, shadow or arm (of an experiment)."""
    arm: Name | None = None
    bundle: AssignedBundle | None = None
    """None: keep what runs."""
    agent: AssignedBundle | None = None
    """The agent release that should run; None: keep the one that runs. Agents of before know nothing of it."""
    configuration: dict[str, Any] = {}
    debug: Annotated[list[DebugSession], Meta(max_length=MAX_SESSIONS)] = []


class StateRequest(Message, frozen=True, kw_only=True):
    """The poll: what the device has seen last, and a nonce that the answer must echo."""

    nonce: Nonce
    seq: Count
    digest: Sha256 | None = None
    """sha256 of the assignment payload that the device holds."""
    metadata_versions: dict[Annotated[str, Meta(max_length=60)], Count] = {}
    """Role -> version of the signed metadata that it trusts: a server restored from a backup learns how far it is behind."""


class State(Message, frozen=True, kw_only=True):
    """The payload of the signed part of a StateAnswer: small, fresh, and cheap to make."""

    device: DeviceId
    nonce: Nonce
    now_s: Instant
    seq: Count
    digest: Sha256
    poll_s: float
    """When to ask again; the server shortens it while a rollout or a debug session is open."""
    servers: Annotated[list[ServerUrl], Meta(max_length=8)] = []
    """Addresses of the device door while the server moves, the wanted one first; empty: the one that the device knows."""


class StateAnswer(Message, frozen=True, kw_only=True):
    """Signed state; the signed assignment only when the device does not hold it yet."""

    LIMIT_BYTES: ClassVar[int] = 512 * 1024

    state: Signed
    assignment: Signed | None = None
