"""What a run without a server saw and lost. Pure."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run saw; its events were told one by one and are not kept. `timings_ms` sums each stage over all frames.

    `visits` counts those of zones by label, `crossings` those of lines by (label, line, direction), `triggers` by rule.
    `dropped` and `camera_dropped` are what the pipeline and the source lost, by reason; `restarts` are the detector's.
    """

    frames: int
    looked: int
    gated_frames: int
    frames_with_detection: int
    visits: dict[str, int]
    crossings: dict[tuple[str, str, str], int]
    triggers: dict[str, int]
    dropped: dict[str, int]
    camera_dropped: dict[str, int]
    restarts: int
    runtime: str
    accelerator: str
    duration_s: float
    interrupted: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)
