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
    groups: frozenset[str] | None = None
    """The device groups that the account (and the token) is limited to; None: all of them."""


def groups_in_words(groups: frozenset[str]) -> str:
    """What an account is limited to, as a person says it: "the group north", "the groups north and south", "no group"."""
    named = sorted(groups)
    if len(named) < 2:
        return f"the group {named[0]}" if named else "no group"
    return f"the groups {', '.join(named[:-1])} and {named[-1]}"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A device whose certificate was verified by TLS and is not revoked at this moment."""

    device_id: str
    certificate_serial: str
    """Hexadecimal, lower case."""
