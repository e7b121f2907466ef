"""Who can be asking: an operator or a device. Values only; ``accounts`` and ``enrolment`` find them out."""

from dataclasses import dataclass

OWN = "account"
"""The scope over one's own account: password, second factor, sessions, tokens. Each role has it, a token if it was given."""
SCOPES: dict[str, frozenset[str]] = {
    "viewer": frozenset({OWN, "viewer"}),
    "operator": frozenset({OWN, "viewer", "operator"}),
    "releaser": frozenset({OWN, "viewer", "operator", "releaser"}),
    "security": frozenset({OWN, "viewer", "security"}),
    "admin": frozenset({OWN, "viewer", "operator", "releaser", "security", "admin"}),
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
    owes_factor: bool = False
    """The role must have a second factor and this person has none yet: nothing but setting it up is open."""


def groups_in_words(groups: frozenset[str]) -> str:
    """What an account is limited to, as a person says it: "the group north", "the groups north and south", "no group"."""
    named = sorted(groups)
    if len(named) < 2:
        return f"the group {named[0]}" if named else "no group"
    return f"the groups {', '.join(named[:-1])} and {named[-1]}"


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A device that proved to hold the key of its certificate, which is not revoked at this moment."""

    device_id: str
    certificate_serial: str
    """Hexadecimal, lower case."""
    by: str = "tls"
    """How it proved that: tls (to us), proxy (to a proxy that we believe), signature (of this very request)."""
