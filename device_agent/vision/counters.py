"""What one camera counted: for heartbeats, and for the trial of a new model, which asks how often motion led to a detection."""

import threading
from dataclasses import dataclass, field

from device_agent.vision.motion import Brightness


@dataclass(frozen=True, slots=True)
class LightCount:
    """Frames of one brightness that passed the motion gate, and how many of them had a detection."""

    gated_frames: int = 0
    frames_with_detection: int = 0


@dataclass(frozen=True, slots=True)
class CameraCounts:
    """Counts since the start; two of them subtract to those of a window.

    `gated_frames` had motion (frames looked at for other reasons are not among them, so that two models are judged on the same
    frames); `frames_with_detection` of those had a reported detection; `looked` went to the detector for whatever reason.
    `baseline_gated_jpeg_bytes` is what a JPEG (quality 85) of every gated frame would have cost, estimated from a sample.
    """

    frames: int = 0
    looked: int = 0
    gated_frames: int = 0
    frames_with_detection: int = 0
    detections: int = 0
    events: int = 0
    brightness_sum: float = 0.0
    baseline_gated_jpeg_bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    light: dict[Brightness, LightCount] = field(default_factory=dict)

    @property
    def mean_brightness(self) -> float:
        """Mean luma 0..255 over all frames."""
        return self.brightness_sum / self.frames if self.frames else 0.0

    def since(self, before: "CameraCounts") -> "CameraCounts":
        """What was counted after `before`."""
        light: dict[Brightness, LightCount] = {}
        for word, count in self.light.items():
            old = before.light.get(word, LightCount())
            light[word] = LightCount(
                count.gated_frames - old.gated_frames, count.frames_with_detection - old.frames_with_detection
            )
        return CameraCounts(
            self.frames - before.frames,
            self.looked - before.looked,
            self.gated_frames - before.gated_frames,
            self.frames_with_detection - before.frames_with_detection,
            self.detections - before.detections,
            self.events - before.events,
            self.brightness_sum - before.brightness_sum,
            self.baseline_gated_jpeg_bytes - before.baseline_gated_jpeg_bytes,
            {reason: count - before.dropped.get(reason, 0) for reason, count in self.dropped.items()},
            light,
        )


class Counter:
    """Counts of one camera that one thread adds to and others read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = {"frames": 0, "looked": 0, "gated_frames": 0, "frames_with_detection": 0, "detections": 0, "events": 0}
        self._brightness_sum = 0.0
        self._baseline_bytes = 0
        self._dropped: dict[str, int] = {}
        self._light: dict[Brightness, LightCount] = {}

    def frame(self, brightness: float) -> None:
        """A frame came in, with this mean luma."""
        with self._lock:
            self._numbers["frames"] += 1
            self._brightness_sum += brightness

    def answered(self, detections: int) -> None:
        """The detector answered for a frame with this many reported detections."""
        with self._lock:
            self._numbers["looked"] += 1
            self._numbers["detections"] += detections

    def gated(self, light: Brightness, baseline_bytes: int, *, found: bool) -> None:
        """An answered frame had motion; `baseline_bytes` is what sending it whole would have cost."""
        with self._lock:
            self._numbers["gated_frames"] += 1
            self._numbers["frames_with_detection"] += found
            self._baseline_bytes += baseline_bytes
            old = self._light.get(light, LightCount())
            self._light[light] = LightCount(old.gated_frames + 1, old.frames_with_detection + found)

    def events(self, started: int) -> None:
        """This many events started."""
        with self._lock:
            self._numbers["events"] += started

    def drop(self, reason: str, count: int = 1) -> None:
        """Frames that were lost, by reason (a camera's own losses are told here too)."""
        with self._lock:
            self._dropped[reason] = self._dropped.get(reason, 0) + count

    def read(self) -> CameraCounts:
        """The counts now."""
        with self._lock:
            return CameraCounts(
                **self._numbers,
                brightness_sum=self._brightness_sum,
                baseline_gated_jpeg_bytes=self._baseline_bytes,
                dropped=dict(self._dropped),
                light=dict(self._light),
            )
