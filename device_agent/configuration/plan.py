"""What the parts of the agent are told: agent.toml with the server's configuration over it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from device_agent.vision.pipeline import PipelineSettings
from ota.wire.polygons import Point


@dataclass(frozen=True, slots=True)
class CameraPlan:
    """One camera. ``fps`` None: as the source has.

    ``masks`` and ``blur`` come on top of the board's policy and never replace it. ``triggers`` is a table as
    ``vision.rule_file.make_triggers`` takes it; empty means none. ``recall_per_day``: before the policy's word on it.
    """

    camera: str
    pipeline: PipelineSettings
    enabled: bool = True
    fps: float | None = None
    timezone: str = "UTC"
    masks: tuple[tuple[Point, ...], ...] = ()
    blur: tuple[str, ...] = ()
    triggers: Mapping[str, Any] = field(default_factory=dict)
    recall_per_day: int = 0


@dataclass(frozen=True, slots=True)
class BoardPlan:
    """What is not of one camera. ``shadow_duty``: share of the detector's time, None as agent.toml says.

    ``silenced``: local outputs (mqtt, webhook, gpio) that the server switched off. ``log_level``: None as agent.toml says.
    """

    shadow_duty: float | None = None
    silenced: frozenset[str] = frozenset()
    log_level: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole: one plan for each camera of the board, in the order of agent.toml."""

    cameras: tuple[CameraPlan, ...]
    board: BoardPlan = BoardPlan()
