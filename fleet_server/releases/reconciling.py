"""After a restore from backup the server is behind its devices: what they have seen, and how much of it is believed. Pure.

A device's word is only a device's word: a captured one would count up to where no number is left. So one device alone moves the
server by at most ``ALONE_STEP`` versions (and that once in ``ALONE_EVERY_S``, which the caller keeps), several that agree by
``AGREED_STEP``. What the server cannot sign itself it names: those who hold the keys must push it again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

ONLINE_ROLES = ("snapshot", "timestamp")
ALONE_STEP = 1000
"""Two timestamps a day and a few pushes: more than a year of them."""
ALONE_EVERY_S = 86_400.0
AGREED_STEP = 1_000_000
WITNESSES = 3
"""So many devices must have seen it for more than ``ALONE_STEP``; in a smaller fleet all of them, and never fewer than two."""
LEAST_WITNESSES = 2


@dataclass(frozen=True, slots=True)
class Behind:
    """Metadata signed offline that devices have seen in a newer version than this server has."""

    role: str
    ours: int
    seen: int
    devices: int
    text: str


@dataclass(frozen=True, slots=True)
class Standing:
    """``state`` is ``well`` or ``reconcile``: then devices that are ahead keep what they run until the rest is done."""

    lift: dict[str, int] = field(default_factory=dict)
    """Online role -> the version that is to be signed above."""
    alone: bool = False
    """The lift rests on the word of fewer devices than ``WITNESSES``."""
    behind: list[Behind] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    """What is claimed and not believed, in words."""

    @property
    def state(self) -> str:
        """In a word."""
        return "reconcile" if self.lift or self.behind else "well"

    @property
    def texts(self) -> list[str]:
        """What a person should know and do."""
        lifted = ", ".join(f"{role} {version}" for role, version in sorted(self.lift.items()))
        first = [f"devices have seen {lifted}: the server signs above that by itself"] if lifted else []
        return first + [one.text for one in self.behind] + self.doubted


def is_ahead(claimed: Mapping[str, int], ours: Mapping[str, int]) -> bool:
    """Whether a device has seen metadata that is newer than what this server publishes: it would refuse ours as a roll-back."""
    return any(claimed.get(role, 0) > version for role, version in ours.items())


def judge(ours: Mapping[str, int], claims: Mapping[str, Mapping[str, int]], fleet: int) -> Standing:
    """What follows from ``claims`` (device -> role -> version) for a server that publishes ``ours`` to ``fleet`` devices."""
    # One device's word is never "agreed", however small the fleet: alone it moves the numbers a little, once a day.
    witnesses = max(LEAST_WITNESSES, min(WITNESSES, fleet))
    lift: dict[str, int] = {}
    behind: list[Behind] = []
    doubted: list[str] = []
    alone = False
    for role, version in sorted(ours.items()):
        above = sorted((seen for claim in claims.values() if (seen := claim.get(role, 0)) > version), reverse=True)
        if not above:
            continue
        believed, by_one = _believed(above, version, witnesses)
        if above[0] > believed:
            who = f"{sum(seen > believed for seen in above)} of {fleet} devices say"
            doubted.append(f"{who} that they have seen {role} {above[0]}, this server has {version}: not believed")
        if believed <= version:
            continue
        if role in ONLINE_ROLES:
            lift[role], alone = believed, alone or by_one
        else:
            behind.append(_behind(role, version, believed, len(above)))
    return Standing(lift, alone, behind, doubted)


def _believed(above: Iterable[int], ours: int, witnesses: int) -> tuple[int, bool]:
    """The highest version that is believed, and whether it rests on fewer than ``witnesses`` devices."""
    agreed = [seen for seen in above if seen <= ours + AGREED_STEP][witnesses - 1 : witnesses]
    lone = [seen for seen in above if seen <= ours + ALONE_STEP][:1]
    best = max([ours, *agreed, *lone])
    return best, not agreed or agreed[0] < best


def _behind(role: str, ours: int, seen: int, devices: int) -> Behind:
    who = "its signers" if role in ("root", "targets") else f"whoever signs {role}"
    numbers = f"version {seen}" if seen == ours + 1 else f"versions {ours + 1} to {seen}"
    what = numbers if role == "root" else f"version {seen}"
    other = "" if role == "root" else f", or sign version {seen + 1}"
    text = f"{role}: {devices} devices have seen version {seen}, this server has {ours}: {who} must push {what} again{other}"
    return Behind(role, ours, seen, devices, text)
