"""Who can be asking: an operator or a device. Values only; ``accounts`` and ``enrolment`` find them out."""

from dataclasses import dataclass

SCOPES: dict[str, frozenset[str]] = {
    "viewer": frozenset({"viewer"}),
    "operator": frozenset({"viewer", "operator"}),
    "releaser": frozenset({"viewer", "operator", "releaser"}),
    "security": frozenset({"viewer", "security"}),
    "admin": frozenset({"viewer", "operator", "releaser", "security", "admin"}),
}
"""Role -> what it may do; a route asks for one scope."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Who is signed in, and by what (``kind``: session or token; ``token_id`` ends it)."""

    name: str
    role: str
    scopes: frozenset[str]
    kind: str
    token_id: str


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A device whose certificate was verified by TLS and is not revoked at this moment."""

    device_id: str
    certificate_serial: str
    """Hexadecimal, lower case."""
