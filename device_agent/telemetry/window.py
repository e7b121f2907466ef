"""Readings become heartbeats: totals since the start go in, rates and counts of one window come out. Pure."""

import threading
from dataclasses import dataclass, field

from device_agent.telemetry.latency import StageHistogram
from ota.wire.heartbeat import (
    CameraHealth,
    ConfigurationHealth,
    Heartbeat,
    HostHealth,
    LineCount,
    Running,
    ShadowHealth,
    SpoolHealth,
    StageLatency,
)

MOST_LINES, MOST_RULES = 200, 100
"""As many as a heartbeat carries of one camera."""


@dataclass(frozen=True, slots=True)
class CameraTotals:
    """What one camera counted since the agent started. ``frames`` went through the pipeline; ``dropped`` did not, by reason."""

    camera: str
    state: str = "ok"
    frames: int = 0
    gated_frames: int = 0
    frames_with_detection: int = 0
    detections: int = 0
    events: int = 0
    brightness_sum: float = 0.0
    baseline_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    crossed: list[LineCount] = field(default_factory=list)
    held_back: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that a heartbeat says, as the parts of the agent tell it at one moment."""

    state: str
    running: Running | None
    accelerator_reason: str
    detector_restarts: int
    cameras: list[CameraTotals]
    spool: SpoolHealth
    host: HostHealth
    bytes_sent: int
    log_level: str
    log_level_until_s: float | None
    broker_connected: bool
    configuration: ConfigurationHealth | None = None
    shadow: ShadowHealth | None = None
    local_dropped: dict[str, int] = field(default_factory=dict)


class Window:
    """The window since the heartbeat before. ``stage`` may be called from any thread; times are handed in."""

    def __init__(self, boot_id: str, started_monotonic_s: float) -> None:
        self._boot_id = boot_id
        self._started_s = self._opened_s = started_monotonic_s
        self._sequence = 0
        self._before: dict[str, CameraTotals] = {}
        self._stages: dict[str, StageHistogram] = {}
        self._lock = threading.Lock()

    def stage(self, timings_ms: dict[str, float]) -> None:
        """Latencies of one frame, by stage."""
        with self._lock:
            for name, value_ms in timings_ms.items():
                self._stages.setdefault(name, StageHistogram()).add(value_ms)

    def close(self, reading: Reading, *, at_s: float, monotonic_s: float) -> Heartbeat:
        """The heartbeat of this window; the next window begins."""
        window_s = max(1e-3, monotonic_s - self._opened_s)
        with self._lock:
            stages, self._stages = self._stages, {}
        cameras = [_health(now, self._before.get(now.camera), window_s) for now in reading.cameras]
        gated = sum(camera.gated_frames for camera in reading.cameras)
        found = sum(camera.frames_with_detection for camera in reading.cameras)
        self._before = {camera.camera: camera for camera in reading.cameras}
        self._opened_s = monotonic_s
        self._sequence += 1
        return Heartbeat(
            sequence=self._sequence,
            boot_id=self._boot_id,
            at_s=at_s,
            uptime_s=monotonic_s - self._started_s,
            window_s=window_s,
            state=reading.state,
            running=reading.running,
            accelerator_reason=reading.accelerator_reason,
            detector_restarts=reading.detector_restarts,
            cameras=cameras,
            latency=_latency(stages),
            spool=reading.spool,
            host=reading.host,
            bytes_sent=reading.bytes_sent,
            bytes_baseline_gated_jpeg=sum(camera.baseline_bytes for camera in reading.cameras),
            log_level=reading.log_level,
            log_level_until_s=reading.log_level_until_s,
            broker_connected=reading.broker_connected,
            detection_share=found / gated if gated else None,
            configuration=reading.configuration,
            shadow=reading.shadow,
            local_dropped=reading.local_dropped,
        )


def _latency(stages: dict[str, StageHistogram]) -> dict[str, StageLatency]:
    return {name: histogram.summary() for name, histogram in stages.items() if histogram.count}


def _health(now: CameraTotals, before: CameraTotals | None, window_s: float) -> CameraHealth:
    old = before or CameraTotals(now.camera)
    frames = now.frames - old.frames
    dropped = {reason: count - old.dropped.get(reason, 0) for reason, count in now.dropped.items()}
    return CameraHealth(
        camera=now.camera,
        state=now.state if frames or now.state != "ok" else "no_frames",
        camera_fps=(frames + sum(dropped.values())) / window_s,
        processed_fps=frames / window_s,
        frames=frames,
        gated_frames=now.gated_frames - old.gated_frames,
        frames_with_detection=now.frames_with_detection - old.frames_with_detection,
        detections=now.detections - old.detections,
        events=now.events - old.events,
        brightness=(now.brightness_sum - old.brightness_sum) / frames if frames else 0.0,
        dropped={reason: count for reason, count in dropped.items() if count},
        crossed=now.crossed[:MOST_LINES],
        held_back=dict(list(now.held_back.items())[:MOST_RULES]),
        unsure=dict(list(now.unsure.items())[:MOST_RULES]),
    )
