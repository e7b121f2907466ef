"""What is remembered of configurations across a power cut. Pure: ``kept_disk`` writes it."""

from typing import Any

import msgspec


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that this board does not run. ``state``: refused (never begun) or rolled_back."""

    digest: str
    state: str
    reason: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One file, replaced whole at each change, so that no two of its fields can be of different moments.

    ``wanted``: the newest that the server named, None before any. ``good``: the last that was seen to run; {} is agent.toml
    alone.
    ``trying``: digest of the one that was put in and not yet seen to run; ``attempts``: starts of the agent that began to try it.
    ``rejected``: why the wanted one is not tried (again).
    """

    v: int = 1
    wanted: dict[str, Any] | None = None
    good: dict[str, Any] = {}
    trying: str = ""
    attempts: int = 0
    rejected: Rejected | None = None
