"""What the self-test of an agent is asked, and what it answers. Pure."""

import msgspec

from device_agent.update.selftest import SelftestRequest

DEADLINE_S = 300.0


class AgentSelftestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Paths that the new agent must be able to read, and the model in use on its golden samples (None: none runs here)."""

    config: str
    data: str
    version: str
    """Of the release: the agent's own must be the same."""
    model: SelftestRequest | None = None


class AgentSelftestResult(msgspec.Struct, frozen=True, kw_only=True):
    """``code`` empty: it works here. ``writes`` and ``oldest_read``: see ``agent_formats``."""

    code: str = ""
    detail: str = ""
    version: str = ""
    writes: int = 1
    oldest_read: int = 1
    figures: dict[str, float] = {}
