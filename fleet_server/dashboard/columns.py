"""Heartbeats as columns: what the charts of a device draw and the tables below them say. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any


def series(beats: Sequence[tuple[float, dict[str, Any]]]) -> dict[str, list[float | None]]:
    """Columns of equal length, oldest first, from (when received, heartbeat) newest first. None: not known.

    ``at_s`` is the server's clock; ``temperature_c``; ``fps`` frames looked at per second over all cameras; ``latency_ms`` the
    95th percentile of the whole pipeline (or its slowest stage); ``detection_percent`` of frames with motion.
    """
    names = ("at_s", "temperature_c", "fps", "latency_ms", "detection_percent")
    columns: dict[str, list[float | None]] = {name: [] for name in names}
    for received_s, beat in reversed(beats):
        cameras = beat.get("cameras") or []
        gated = _total(cameras, "gated_frames")
        columns["at_s"].append(received_s)
        columns["temperature_c"].append((beat.get("host") or {}).get("cpu_temp_c"))
        columns["fps"].append(_total(cameras, "processed_fps") if cameras else None)
        columns["latency_ms"].append(_latency_ms(beat.get("latency") or {}))
        columns["detection_percent"].append(100 * _total(cameras, "frames_with_detection") / gated if gated else None)
    return columns


def _total(cameras: Iterable[dict[str, Any]], key: str) -> float:
    return float(sum(camera.get(key) or 0 for camera in cameras))


def _latency_ms(stages: dict[str, dict[str, Any]]) -> float | None:
    if "total" in stages:
        return float(stages["total"]["p95_ms"])
    return max((float(stage["p95_ms"]) for stage in stages.values()), default=None)
