"""Without a server: run a model on a film and write its events (contracts, section 8)."""

import contextlib
import dataclasses
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.vision.annotate import Overlay
from device_agent.vision.choice_disk import ModelChoice, card_of, read_text, write_result
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Detector, ModelSpec
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.open_model_tflite import open_model
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.rule_file import RuleFile, load_rules
from device_agent.vision.show_disk import ShowFilm
from device_agent.vision.tiles import TiledDetector
from device_agent.vision.types import Event, EventUpdate, Frame, bbox_of
from device_agent.vision.zones import WHOLE_PICTURE, ZoneError, unknown_classes


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A film, or any other source, to run a model on. `max_frames` ends sources that have no end.

    `show` is a film to be made of what was seen.
    """

    source: str
    choice: ModelChoice
    zone: Path | None = None
    events: Path | None = None
    name: str = "camera"
    fps: float | None = None
    max_frames: int | None = None
    settings: PipelineSettings | None = None
    show: Path | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What a run saw. `visits` counts events by label; `timings_ms` sums each stage over all frames."""

    frames: int
    looked: int
    gated_frames: int
    frames_with_detection: int
    visits: dict[str, int]
    events: list[Event]
    dropped: dict[str, int]
    restarts: int
    runtime: str
    accelerator: str
    duration_s: float
    interrupted: bool = False
    timings_ms: dict[str, float] = field(default_factory=dict)


@contextlib.contextmanager
def open_detector(choice: ModelChoice) -> Iterator[Detector]:
    """A running detector, closed at the end; raises CardError or ModelError."""
    spec = ModelSpec(choice.model, card_of(choice), choice.threads, choice.delegate_library)
    detector: Detector = ProcessDetector(spec) if choice.child else InProcessDetector(spec, open_model)
    try:
        yield detector if choice.tiles is None else TiledDetector(detector, choice.tiles)
    finally:
        detector.close()


def run_film(
    request: RunRequest,
    on_update: Callable[[EventUpdate], None] | None = None,
    on_frame: Callable[[int, int | None], None] | None = None,
) -> RunSummary:
    """Run a model on a source to its end and write one line for each event to `request.events`.

    `on_frame` hears how many frames of the source are done, and how many there are where that is known. Ctrl-C counts as the
    source's end. Raises CameraError, ModelError, CardError, ZoneError; then nothing is written.
    """
    rules = _rules(request.zone)
    cutter = Cutter()
    with contextlib.ExitStack() as stack:
        show = None if request.show is None else ShowFilm(request.show, cutter, _overlay(rules))
        if show is not None:
            stack.callback(show.abort)
        camera = open_camera(CameraSettings(request.name, _with_kind(request.source), fps=request.fps))
        stack.callback(camera.close)
        detector = stack.enter_context(open_detector(request.choice))
        strangers = unknown_classes((*rules.zones, *rules.lines), detector.card.labels)
        if strangers:
            raise ZoneError([f"the model knows no class {', '.join(strangers)}"])
        settings = request.settings or PipelineSettings(request.name)
        settings = dataclasses.replace(settings, camera=request.name, zones=rules.zones, lines=rules.lines)
        if request.zone is not None:
            believe = dataclasses.replace(settings.rules, sure_share=rules.sureness, sure_after_s=rules.sure_after_s)
            settings = dataclasses.replace(settings, rules=believe)
        counter = itertools.count(1)
        pipeline = Pipeline(
            settings, detector, lambda: f"{request.name}-{next(counter)}", cutter=cutter,
            watchers=() if show is None else (show,),
        )  # fmt: skip
        run = _Run(pipeline, on_update)
        frames = _told(itertools.islice(camera.frames(), request.max_frames), on_frame, getattr(camera, "declared_frames", None))
        interrupted = run.play(frames)
        summary = run.summary(detector, interrupted=interrupted)
        if show is not None:
            show.close()
    if request.events is not None:
        write_result(request.events, "".join(json.dumps(event_line(event)) + "\n" for event in summary.events).encode())
    return summary


class _Run:
    """One run's state: the events that are over, and the time that each stage took."""

    def __init__(self, pipeline: Pipeline, on_update: Callable[[EventUpdate], None] | None) -> None:
        self._pipeline = pipeline
        self._on_update = on_update
        self._over: list[Event] = []
        self._timings_ms: Counter[str] = Counter()
        self._started_s = time.monotonic()

    def play(self, frames: Iterator[Frame]) -> bool:
        """All frames; True when Ctrl-C ended them."""
        interrupted = False
        try:
            for frame in frames:
                result = self._pipeline.step(frame)
                self._timings_ms.update(result.timings_ms)
                self._take(result.events)
        except KeyboardInterrupt:
            interrupted = True
        self._take(self._pipeline.finish())
        return interrupted

    def summary(self, detector: Detector, *, interrupted: bool) -> RunSummary:
        """What was seen, events in order of their start."""
        counts = self._pipeline.counts()
        events = sorted(self._over, key=lambda event: (event.start_frame, event.track))
        return RunSummary(
            counts.frames,
            counts.looked,
            counts.gated_frames,
            counts.frames_with_detection,
            dict(Counter(event.label for event in events)),
            events,
            counts.dropped,
            detector.restarts,
            detector.runtime,
            detector.accelerator,
            time.monotonic() - self._started_s,
            interrupted,
            dict(self._timings_ms),
        )

    def _take(self, updates: list[EventUpdate]) -> None:
        for update in updates:
            if update.kind == "end":
                self._over.append(update.event)
            if self._on_update is not None:
                self._on_update(update)


def _told(frames: Iterator[Frame], on_frame: Callable[[int, int | None], None] | None, total: int | None) -> Iterator[Frame]:
    """The frames, each told once it was worked on."""
    for frame in frames:
        yield frame
        if on_frame is not None:
            on_frame(frame.index + 1, total or None)


def _overlay(rules: RuleFile) -> Overlay:
    zones = tuple((zone.name, zone.polygon) for zone in rules.zones if zone.polygon != WHOLE_PICTURE)
    return Overlay(zones, tuple((line.name, *line.points) for line in rules.lines))


def event_line(event: Event) -> dict[str, object]:
    """An event as one object of an events file."""
    return {
        "camera": event.camera,
        "track": event.track,
        "category": event.label,
        "rule": event.rule,
        "rule_kind": event.rule_kind,
        "direction": event.direction,
        "start_frame": event.start_frame,
        "end_frame": event.end_frame,
        "start_s": round(event.start_s, 3),
        "end_s": round(event.end_s, 3),
        "open": event.open,
        "best": {"frame": event.best_frame, "bbox": bbox_of(event.box), "score": round(event.score, 4)},
    }


def _rules(path: Path | None) -> RuleFile:
    """The zones and lines of a file; without one there are none, and the whole picture is a zone."""
    return RuleFile((), ()) if path is None else load_rules(read_text(path, "zone file"))


def _with_kind(source: str) -> str:
    """A bare path is a film, or a folder of pictures."""
    if Path(source).is_dir():
        return f"pictures:{source}"
    return f"film:{source}" if Path(source).exists() or (":" not in source and source != "picamera2") else source
