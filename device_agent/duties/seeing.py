"""One camera's loop: a frame, all stages, what came of it. Pure apart from what is handed in."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from device_agent.duties.turn import Stop
from device_agent.errors import BoardError, OwnerError
from device_agent.telemetry.window import CameraTotals
from device_agent.vision.camera import CameraSource, Losses, joined
from device_agent.vision.picture_health import HealthSettings, PictureHealth
from device_agent.vision.pipeline import Pipeline
from device_agent.vision.types import CameraError, EventUpdate, Frame
from ota.wire.heartbeat import LineCount

log = logging.getLogger(__name__)
LOST_AFTER = 3
"""Openings in a row of a sensor that has worked in this process and gives nothing any more: then a new process is needed."""
OFF_TURN_S = 5.0
"""A camera that is switched off says so often that it is alive."""
EARLY_SHARE = 0.5
"""Share of a period by which the next frame is due at the earliest."""
WORDS = {
    "black": "shows nothing: is a cap on the lens, is there any light, is the lens whole?",
    "frozen": "gives the same picture again and again: the camera hangs; switch it off and on",
    "covered": "is covered: something lies on the lens or stands right before it",
    "blurred": "is out of focus: clean the lens and set it anew",
}


class CameraLostError(OwnerError):
    """A sensor cannot be had again in this process (each attempt leaks contiguous memory).

    The agent ends, and is started afresh by systemd.
    """

    exit_code = 5


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where a camera's results go. ``event`` must be quick and durable; ``timings`` takes milliseconds by stage."""

    event: Callable[[EventUpdate], None]
    timings: Callable[[dict[str, float]], None]


class Turn(Protocol):
    """What a camera's seat at a shared detector is told (``device_agent.vision.fair_turn.Seat``)."""

    def follow(self, newer: Callable[[], bool] | None) -> None:
        """How to find out whether a newer frame is ready."""
        ...

    def passed(self) -> None:
        """A frame is through."""
        ...


class Seeing:
    """A duty. The camera is opened on each start, so a camera that failed is opened again after the supervisor's wait.

    Its counts, its health and its history last as long as the agent; so do those of a camera that was pulled out and put back.
    """

    def __init__(self, name: str, open_source: Callable[[], CameraSource], pipeline: Pipeline, sinks: Sinks,
                 *, seat: Turn | None = None, fps: float | None = None) -> None:
        self.name = f"camera {name}"
        self.silence_s = 60.0
        self._camera, self._open = name, open_source
        self._pipeline, self._sinks = pipeline, sinks
        self._source: CameraSource | None = None
        self._health: PictureHealth | None = None
        self._failures = Losses()
        self._before: dict[str, int] = {}
        self._state = "ok"
        self._worked, self._bound, self._in_vain = False, False, 0
        self._enabled, self._fps = True, None if fps is None else float(fps)
        self._told, self._cut_short = threading.Event(), False
        self._seat = seat
        if seat is not None:
            seat.follow(self._newer)

    def use(self, *, enabled: bool, fps: float | None) -> None:
        """Go on with this, from the next frame on: switched off, its source is closed; at most so many frames a second are taken.

        May be called from any thread.
        """
        self._enabled, self._fps = enabled, fps
        self._told.set()
        source = self._source
        if not enabled:
            self._cut_short = True
            if source is not None:
                source.close()

    @property
    def asked_fps(self) -> float:
        """What it is asked for: frames a second at most, 0 while it is switched off, -1 for as many as the source has."""
        if not self._enabled:
            return 0.0
        return -1.0 if self._fps is None else self._fps

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """See until the source ends or the agent stops; then open events are closed. While switched off, wait.

        Raises BoardError when the camera fails, and CameraLostError when only a new process can get it back.
        """
        stop.on_set(self._told.set)
        try:
            while not stop.is_set():
                self._told.clear()
                self._cut_short = False  # before the look: whoever switches it off from here on is heard
                if not self._on():
                    self._state = "off"
                    progress()
                    self._told.wait(OFF_TURN_S)
                    continue
                self._run(stop, progress)
                if not self._cut_short:
                    return
        finally:
            stop.forget(self._told.set)

    def _run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """One opening of the source, to its end."""
        try:
            source = self._source = self._open()
        except CameraError as error:
            raise self._failed(error) from None
        stop.on_set(source.close)
        try:
            self._see(source, stop, progress)
        except CameraError as error:
            if not (self._cut_short or stop.is_set()):
                raise self._failed(error) from None
        finally:
            stop.forget(source.close)
            source.close()
            self._before, self._source = joined(self._before, source.dropped), None
            for update in self._pipeline.finish():
                self._sinks.event(update)
        if not (self._cut_short or stop.is_set()):
            self._state = "ended"
            log.info("camera %s: the source has ended", self._camera)

    def totals(self) -> CameraTotals:
        """What this camera counted since the start; callable from any thread."""
        counts, rules = self._pipeline.counts(), self._pipeline.rule_counts()
        source = self._source
        return CameraTotals(
            camera=self._camera,
            state=self._state if self._on() else "off",
            frames=counts.frames,
            gated_frames=counts.gated_frames,
            frames_with_detection=counts.frames_with_detection,
            detections=counts.detections,
            events=counts.events,
            brightness_sum=counts.brightness_sum,
            baseline_bytes=counts.baseline_gated_jpeg_bytes,
            crossed=[
                LineCount(line=line, label=label, direction=direction, count=count)
                for line, labels in rules.crossed.items()
                for label, directions in labels.items()
                for direction, count in directions.items()
            ],
            held_back=dict(rules.held_back),
            unsure=dict(rules.unsure),
            dropped=joined(counts.dropped, self._failures.read(), self._before, source.dropped if source is not None else {}),
        )

    def _see(self, source: CameraSource, stop: Stop, progress: Callable[[], None]) -> None:
        if self._health is None:
            self._health = PictureHealth(HealthSettings(noisy=source.noisy))
        self._health.reopened()
        due_s = float("-inf")
        for frame in source.frames():
            if stop.is_set() or self._cut_short:
                break
            fps = self._fps
            if fps is not None and frame.at_s < due_s:
                continue
            # A little early counts: a source of the same rate must not lose every second frame to its jitter.
            due_s = frame.at_s if fps is None else max(due_s + 1.0 / fps, frame.at_s + EARLY_SHARE / fps)
            self._worked, self._bound, self._in_vain = True, source.process_bound, 0
            self._look_after(self._health, frame)
            result = self._pipeline.step(frame)
            if self._seat is not None:
                self._seat.passed()
            self._sinks.timings(result.timings_ms)
            for update in result.events:
                event = update.event
                log.debug("camera %s: %s of %s in %s (%.2f)", self._camera, update.kind, event.label, event.rule, event.score)
                self._sinks.event(update)
            progress()

    def _look_after(self, health: PictureHealth, frame: Frame) -> None:
        """The state as the picture shows it; said once each time that it changes."""
        before, now = self._state, health.saw(frame)
        self._state = now
        if now != before and now != "ok":
            log.warning("camera %s %s", self._camera, WORDS[now])
        elif now != before:
            log.info("camera %s sees again", self._camera)

    def _failed(self, error: CameraError) -> BoardError | CameraLostError:
        """Count a failure by its reason; what is to be raised."""
        self._state = "no_frames"
        self._failures.add(error.reason)
        self._in_vain += 1
        if self._worked and self._bound and self._in_vain >= LOST_AFTER:
            return CameraLostError(error.message, "the agent ends, and systemd starts it afresh")
        return BoardError(error.message)

    def _on(self) -> bool:
        return self._enabled

    def _newer(self) -> bool:
        source = self._source
        return source is not None and source.newer
