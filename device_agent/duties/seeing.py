"""One camera's loop: a frame, all stages, what came of it. Pure apart from what is handed in."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.telemetry.window import CameraTotals
from device_agent.vision.camera import CameraSource
from device_agent.vision.pipeline import Pipeline
from device_agent.vision.types import CameraError, EventUpdate

log = logging.getLogger(__name__)
DARK_LUMA = 4.0
"""Mean luma (0 to 255) below which a picture shows nothing: a cap on the lens, not a night."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a camera's results go. ``event`` must be quick and durable; ``timings`` takes milliseconds by stage."""

    event: Callable[[EventUpdate], None]
    timings: Callable[[dict[str, float]], None]


class Seeing:
    """A duty. The camera is opened on each start, so a camera that failed is opened again after the supervisor's wait."""

    def __init__(self, name: str, open_source: Callable[[], CameraSource], pipeline: Pipeline, sinks: Sinks) -> None:
        self.name = f"camera {name}"
        self.silence_s = 60.0
        self._camera, self._open = name, open_source
        self._pipeline, self._sinks = pipeline, sinks
        self._source: CameraSource | None = None
        self._dropped_before = 0
        self._state = "ok"

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """See until the source ends or the agent stops; then open events are closed. Raises BoardError when the camera fails."""
        try:
            source = self._source = self._open()
        except CameraError as error:
            self._state = "no_frames"
            raise BoardError(error.message) from None
        stop.on_set(source.close)
        try:
            for frame in source.frames():
                if stop.is_set():
                    break
                result = self._pipeline.step(frame)
                self._state = "ok"
                self._sinks.timings(result.timings_ms)
                for update in result.events:
                    event = update.event
                    log.debug("camera %s: %s of %s in %s (%.2f)", self._camera, update.kind, event.label, event.rule, event.score)
                    self._sinks.event(update)
                progress()
        except CameraError as error:
            self._state = "no_frames"
            raise BoardError(error.message) from None
        finally:
            stop.forget(source.close)
            source.close()
            self._dropped_before += source.dropped
            self._source = None
            for update in self._pipeline.finish():
                self._sinks.event(update)
        if not stop.is_set():
            self._state = "ended"
            log.info("camera %s: the source has ended", self._camera)

    def totals(self) -> CameraTotals:
        """What this camera counted since the start; callable from any thread."""
        counts = self._pipeline.counts()
        source = self._source
        late = self._dropped_before + (source.dropped if source is not None else 0)
        state = self._state
        if state == "ok" and counts.frames and counts.mean_brightness < DARK_LUMA:
            state = "black"
        return CameraTotals(
            camera=self._camera,
            state=state,
            frames=counts.frames,
            gated_frames=counts.gated_frames,
            frames_with_detection=counts.frames_with_detection,
            detections=counts.detections,
            events=counts.events,
            brightness_sum=counts.brightness_sum,
            baseline_bytes=counts.baseline_gated_jpeg_bytes,
            dropped=counts.dropped | ({"late": late} if late else {}),
        )
