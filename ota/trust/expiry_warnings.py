"""When people are told that signed metadata ends: one place for the command line, the pages and the alerts. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

DAY_S = 86_400.0
WARN_BEFORE_S: Mapping[str, float] = {
    "root": 30 * DAY_S,
    "targets": 30 * DAY_S,
    "snapshot": 2 * DAY_S,
    "timestamp": 6 * 3600.0,
}
"""Root and targets need several people in one month; snapshot and timestamp are renewed by the server at half of their life (3.5
days and 12 hours before their end), so that a warning means that it does not."""
WARN_CHANNEL_BEFORE_S = 14 * DAY_S
"""Of a channel, and of the policy role: one releaser's work."""
WHO_SIGNS: Mapping[str, str] = {
    "root": "its signers must renew it: rookery key renew FOLDER",
    "targets": "its signers must renew it: rookery key renew FOLDER",
    "snapshot": "the server should have signed it anew: is its worker running?",
    "timestamp": "the server should have signed it anew: is its worker running?",
    "policy": "sign it anew: rookery key resign policy FOLDER",
}
_UNITS = ((2 * DAY_S, DAY_S, "days"), (7200.0, 3600.0, "hours"), (0.0, 60.0, "minutes"))


@dataclass(frozen=True, slots=True)
class ExpiryWarning:
    """One role that ends soon, or has ended."""

    role: str
    expires_s: float
    left_s: float
    expired: bool
    text: str
    """A sentence: what, when, and who must do what."""


def warn_before_s(role: str) -> float:
    """How long before its end a role is warned about."""
    return WARN_BEFORE_S.get(role, WARN_CHANNEL_BEFORE_S)


def expiry_warnings(expires_s: Mapping[str, float], now_s: float) -> list[ExpiryWarning]:
    """The roles that have ended or end soon, the most urgent first. ``expires_s``: role -> seconds since 1970."""
    found = []
    for role, at_s in expires_s.items():
        left_s = at_s - now_s
        if left_s >= warn_before_s(role):
            continue
        when = f"has expired {_span(-left_s)} ago" if left_s <= 0 else f"expires in {_span(left_s)}"
        effect = " (nothing new is installed; what runs goes on)" if left_s <= 0 else ""
        todo = WHO_SIGNS.get(role, f"push a release, or sign it anew: rookery key resign {role} FOLDER")
        found.append(ExpiryWarning(role, at_s, left_s, left_s <= 0, f"{role} {when}{effect}; {todo}"))
    return sorted(found, key=lambda one: one.left_s)


def _span(seconds: float) -> str:
    for least_s, unit_s, name in _UNITS:
        if seconds >= least_s:
            return f"{int(seconds // unit_s)} {name}"
    return "0 minutes"
