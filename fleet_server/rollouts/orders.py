"""What an operator asks of a rollout, and the times that it goes by."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_WAIT_S = 24 * 3600.0
DEADLINE_S = 14 * 86_400.0
DEFAULT_STAGES = (0.05, 0.25, 1.0)


@dataclass(frozen=True, slots=True)
class Order:
    """What an operator asks for. ``group`` None and ``devices`` None: the whole fleet."""

    release: str
    group: str | None = None
    devices: list[str] | None = None
    stages: Sequence[float] = DEFAULT_STAGES
    max_failed: int | None = None
    max_wait_s: float = MAX_WAIT_S
    deadline_s: float = DEADLINE_S
    selector: dict[str, Any] = field(default_factory=dict)
    groups: Collection[str] | None = None
    """The device groups that whoever orders is limited to; None: all."""


@dataclass(frozen=True, slots=True)
class Timing:
    """``within_s``: heard within this time is online; ``lost_after_s``: silent for longer after it began is lost."""

    within_s: float
    lost_after_s: float
