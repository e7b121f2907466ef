"""One camera's way from a frame to events: every stage in order, nothing hidden."""

import functools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from device_agent.vision.best_crop import CropSettings
from device_agent.vision.camera_rules import CameraRules, RuleCounts
from device_agent.vision.counters import CameraCounts, Counter
from device_agent.vision.cutter import Cutter, encode_jpeg
from device_agent.vision.detector import Answer, Detector, DetectorError
from device_agent.vision.label_numbers import LabelNumbers
from device_agent.vision.motion import GateResult, GateSettings, MotionGate, brightness_of
from device_agent.vision.rules import Moment, RuleSettings
from device_agent.vision.scene import Scene, Watcher
from device_agent.vision.tracker import Tracker, TrackerSettings, TrackerStep
from device_agent.vision.types import EventUpdate, Frame, Track
from device_agent.vision.visit_events import VisitEvents
from device_agent.vision.zones import Line, Zone
from models.card import ModelCard
from models.inference.types import Detections

BASELINE_QUALITY = 85
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """One camera's settings. Neither zone nor line means that the whole picture is a zone.

    `min_score`: labels that are reported only from a higher score on than the model's card says.
    `publish_after_s`: a long visit's better crop is told then.
    `baseline_every`: at most one of so many gated frames is encoded whole, to estimate what sending them all would cost.
    """

    camera: str
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    gate: GateSettings = field(default_factory=GateSettings)
    tracker: TrackerSettings = field(default_factory=TrackerSettings)
    rules: RuleSettings = field(default_factory=RuleSettings)
    crops: CropSettings = field(default_factory=CropSettings)
    min_score: Mapping[str, float] = field(default_factory=dict)
    publish_after_s: float = 10.0
    baseline_every: int = 20


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one frame brought. `detections` are the reported ones, with class ids of `card`; None when nobody looked.

    `dropped` says why the detector gave no answer, None when it did or was not asked. `timings_ms` has one entry for each stage
    that ran: gate, detect (of which invoke), track, rules (with crops), watch.
    """

    events: list[EventUpdate]
    detections: Detections | None
    card: ModelCard | None
    tracks: list[Track]
    gate: GateResult
    dropped: str | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """What the next frame is to be seen with."""

    settings: PipelineSettings
    watchers: tuple[Watcher, ...] | None
    before: Callable[[], None] | None


class Pipeline:
    """All stages of one camera; one thread calls `step`, any thread may call `counts` and `reconfigure`.

    `failures` counts what `step` raised and settings that could not be built, `failure` says the latest of them.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        detector: Detector,
        new_id: Callable[[], str],
        clock_s: Callable[[], float] = time.perf_counter,
        *,
        cutter: Cutter | None = None,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.settings = settings
        self.counter = Counter()
        self._detector, self._new_id, self._clock_s = detector, new_id, clock_s
        self._watchers = tuple(watchers)
        self._cutter = cutter or Cutter()
        self._cutter.refused = self.counter.drop
        self.failures, self.failure = 0, ""
        self._wanted: _Wanted | None = None
        self._gate = MotionGate(settings.gate)
        self._tracker = Tracker(settings.tracker)
        self._labels = LabelNumbers(settings.min_score)
        self._rules, self._events = self._made_rules(settings)
        self._baseline = _Baseline(settings.baseline_every)

    def counts(self) -> CameraCounts:
        """What this camera counted since the start."""
        return self.counter.read()

    def rule_counts(self) -> RuleCounts:
        """How often lines were crossed, and what cool-downs held back, since the start."""
        return self._rules.counts()

    @property
    def pending(self) -> bool:
        """Whether settings wait for a frame."""
        return self._wanted is not None

    def reconfigure(
        self, settings: PipelineSettings, *, watchers: Sequence[Watcher] | None = None, before: Callable[[], None] | None = None
    ) -> None:
        """Go on with other settings from the next frame on; callable from any thread. Tracks live on, visits of old rules end.

        `watchers` replace the present ones (None keeps them); `before` is called in the camera's thread, between two frames.
        Settings that cannot be built are a failure, and the old ones go on.
        """
        self._wanted = _Wanted(settings, None if watchers is None else tuple(watchers), before)

    def step(self, frame: Frame) -> StepResult:
        """Take in one frame; frames must come in order of time. Where the detector fails, this frame alone is lost."""
        ended = self._changed()
        try:
            return self._step(frame, ended)
        except Exception as error:
            self._failed(error)
            raise

    def _step(self, frame: Frame, ended: list[EventUpdate]) -> StepResult:
        marks = [("gate", self._clock_s())]
        gate = self._gate.step(frame, active_track=self._tracker.active, veil=self._cutter.privacy.veil)
        self.counter.frame(gate.brightness)
        answer, dropped = None, None
        if gate.open:
            marks.append(("detect", self._clock_s()))
            answer, dropped = self._look(frame)
        marks.append(("track", self._clock_s()))
        reported: Detections | None = None
        if answer is None:
            followed = TrackerStep(self._tracker.resting(frame.index, self._labels.names), [])
        else:
            sighting, reported = self._labels.sighting(answer)
            followed = self._tracker.step(sighting, frame.index, frame.at_s, self._labels.names, gate.view)
            self._count(frame, gate, reported)
        marks.append(("rules", self._clock_s()))
        moment = Moment(frame.index, frame.at_s, frame.wall_s, frame.width_px, frame.height_px)
        found = self._rules.step(followed.tracks, moment, followed.left)
        events = ended + self._events.step(frame, found, self._labels.threshold)
        if self._watchers:
            marks.append(("watch", self._clock_s()))
            events += self._watch(Scene(frame, gate, answer, reported, followed.tracks, moment, tuple(events)))
        self.counter.events(sum(update.kind == "start" for update in events))
        timings = self._timings(marks)
        if answer is not None:
            timings["invoke"] = answer.invoke_ms
        return StepResult(events, reported, answer.card if answer else None, followed.tracks, gate, dropped, timings)

    def finish(self) -> list[EventUpdate]:
        """The source ended: the ends of all events that were open. The next source may count its frames and time from 0 again."""
        self._tracker.finish(self._labels.names)
        self._gate = MotionGate(self.settings.gate)
        left = self._events.finish(self._rules.finish(), self._labels.threshold)
        return left + [update for watcher in self._watchers for update in self._heard(watcher, watcher.finish)]

    def _look(self, frame: Frame) -> tuple[Answer | None, str | None]:
        """The answer, boxes in px of the source picture, without what lies in a mask; or why there is none."""
        try:
            answer = _in_source_px(self._detector.look(frame.picture_bgr), frame)
        except DetectorError as error:
            self.counter.drop(error.reason)
            return None, error.reason
        return self._cutter.answered(frame, answer), None

    def _made_rules(
        self, settings: PipelineSettings, counted: RuleCounts | None = None
    ) -> tuple[CameraRules, VisitEvents]:
        believed = self._labels.threshold
        rules = CameraRules(settings.zones, settings.lines, self._new_id, settings.rules, counted, believed)
        after_s = settings.publish_after_s
        return rules, VisitEvents(settings.camera, settings.crops, cutter=self._cutter, publish_after_s=after_s)

    def _changed(self) -> list[EventUpdate]:
        """Take over settings that were handed in meanwhile: the ends of what the old rules and watchers had open."""
        wanted = self._wanted
        if wanted is None:
            return []
        ended: list[EventUpdate] = []
        try:
            if wanted.before is not None:
                wanted.before()
            if wanted.settings != self.settings:
                ended += self._take(wanted.settings)
            if wanted.watchers is not None:
                ended += [update for watcher in self._watchers for update in self._heard(watcher, watcher.finish)]
                self._watchers = wanted.watchers
        except Exception as error:
            log.exception("camera %s: these settings cannot be used", self.settings.camera)
            self._failed(error)
        if self._wanted is wanted:  # else still others were handed in while these were built: they wait for the next frame
            self._wanted = None
        return ended

    def _take(self, settings: PipelineSettings) -> list[EventUpdate]:
        gate = self._gate if settings.gate == self.settings.gate else MotionGate(settings.gate)
        tracker = self._tracker if settings.tracker == self.settings.tracker else Tracker(settings.tracker)
        rules, events = self._made_rules(settings, self._rules.counts())
        ended = self._events.finish(self._rules.finish(), self._labels.threshold)
        self._gate, self._tracker, self._rules, self._events = gate, tracker, rules, events
        self._labels.at_least(settings.min_score)
        self.settings = settings
        return ended

    def _failed(self, error: Exception) -> None:
        self.failures, self.failure = self.failures + 1, f"{type(error).__name__}: {error}"

    def _watch(self, scene: Scene) -> list[EventUpdate]:
        heard = [self._heard(watcher, functools.partial(watcher.saw, scene)) for watcher in self._watchers]
        return [update for updates in heard for update in updates]

    def _heard(self, watcher: Watcher, call: Callable[[], Sequence[EventUpdate]]) -> Sequence[EventUpdate]:
        """What a watcher says; one that fails costs its own word alone."""
        try:
            return call()
        except Exception:
            if "watcher_failed" not in self.counter.read().dropped:
                log.exception("camera %s: %s failed on a frame; from now on only counted", self.settings.camera, watcher.name)
            self.counter.drop("watcher_failed")
            return ()

    def _count(self, frame: Frame, gate: GateResult, reported: Detections) -> None:
        self.counter.answered(len(reported))
        if gate.moved:
            whole_bytes = self._baseline.bytes_of(frame, self._cutter)
            self.counter.gated(brightness_of(gate.brightness), whole_bytes, found=len(reported) > 0)

    def _timings(self, marks: list[tuple[str, float]]) -> dict[str, float]:
        ends = [at_s for _, at_s in marks[1:]] + [self._clock_s()]
        return {name: (end_s - start_s) * 1e3 for (name, start_s), end_s in zip(marks, ends, strict=True)}


def _in_source_px(answer: Answer, frame: Frame) -> Answer:
    """The detector saw `picture_bgr`; everything after it speaks of the source picture."""
    height_px, width_px = frame.picture_bgr.shape[:2]
    if (width_px, height_px) == (frame.width_px, frame.height_px):
        return answer
    across, down = frame.width_px / width_px, frame.height_px / height_px
    boxes = answer.detections.xyxy * np.array([across, down, across, down], np.float32)
    return replace(answer, detections=replace(answer.detections, xyxy=boxes))


class _Baseline:
    """The size of a gated frame as JPEG, encoded for one frame in `every` and taken as the same for those between."""

    def __init__(self, every: int) -> None:
        self._every = max(1, every)
        self._seen = 0
        self._last_bytes = 0

    def bytes_of(self, frame: Frame, cutter: Cutter) -> int:
        if self._seen % self._every == 0:
            # Masked: else its size would tell what happens behind a mask.
            self._last_bytes = len(encode_jpeg(cutter.masked(frame.picture_bgr), BASELINE_QUALITY))
        self._seen += 1
        return self._last_bytes
