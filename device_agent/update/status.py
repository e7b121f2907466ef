"""Where the update part stands, for heartbeat, ``doctor`` and the log. Pure."""

from dataclasses import dataclass

from device_agent.update.installed import Installed


@dataclass(frozen=True, slots=True)
class Status:
    """For heartbeat, ``doctor`` and the log. ``state`` is that of the present or last deployment, idle without one."""

    state: str
    reason: str
    detail: str
    target: str
    running: Installed | None
    wanted: str
    sentences: list[str]
