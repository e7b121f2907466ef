"""A deployment as a value, and what happens to it as values. Pure; also the form in which it lies on the disk."""

from typing import Any

import msgspec

from ota.wire.assignments import AssignedBundle

VERSION = 1
"""Of the state on the disk: written as this, read as this and the one before (``state_disk.READERS``)."""


SERVER, LOCAL = "server", "local"
"""Where a deployment came from: an assignment, or a bundle that was carried to the board."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a deployment.

    ``kind`` is an event of the table, or ``failed``: a failure whose class (``reason``, a code of
    ``ota.wire.deployments.REASONS``) decides whether it means another attempt or the end. ``learned`` are fields of the
    Deployment that became known (variant, counters); ``figures`` what was measured; ``until_s`` the end of a wait, if known.
    """

    kind: str
    reason: str = ""
    detail: str = ""
    figures: dict[str, float] = {}
    learned: dict[str, Any] = {}
    until_s: float | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One release on this device. Times are seconds: ``_at_s`` since 1970, ``in_state_s`` of running time, never of a clock."""

    assignment_seq: int
    assignment_digest: str
    bundle: AssignedBundle
    origin: str = "server"
    state: str = "idle"
    reason: str = ""
    detail: str = ""
    started_at_s: float
    entered_at_s: float
    in_state_s: float = 0.0
    """How long this state has lasted while the agent ran: a clock that jumps cannot end a state."""
    transitions: int = 0
    attempts: dict[str, int] = {}
    """Failed attempts by class of error."""
    asked: int = 0
    """How often a hook said not now."""
    boots: int = 0
    """Restarts in the present state."""
    retry_at_s: float | None = None
    """End of a wait between attempts."""
    until_s: float | None = None
    """When a wait is expected to end, for people."""
    refetch: bool = False
    """The next download starts from nothing: a hash was wrong."""
    variant: str = ""
    variant_reason: str = ""
    counter: int = 0
    min_counter: int = 0
    behaviour_unseen: bool = False
    figures: dict[str, float] = {}
    settled: bool = False
    """All actions of the end state are done; nothing is resumed."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return 1 + sum(self.attempts.values())


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What an event made of a deployment: write ``deployment`` down, then perform ``actions`` in order."""

    deployment: Deployment
    actions: tuple[str, ...]


class UpdateState(msgspec.Struct, frozen=True, kw_only=True):
    """The present (or last) deployment, the newest assignment that was accepted, and the floor of release counters."""

    v: int = VERSION
    deployment: Deployment | None = None
    seen_seq: int = 0
    seen_digest: str = ""
    seen_keyid: str = ""
    """The key that signed it; empty: not known (written by an earlier agent)."""
    assignment: str = ""
    """Payload of the newest accepted assignment; its signature was verified when it came."""
    floor: int = 0
    deployments: int = 0
    """How many began on this device, ever."""
    overridden: str = ""
    """What the server wanted (sha256, or empty) when a local install began: not begun until it wants something else."""
