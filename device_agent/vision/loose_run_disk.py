"""Without a server: run a model on a film and write its events (contracts, section 8)."""

import contextlib
import dataclasses
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from device_agent.vision.annotate import Overlay
from device_agent.vision.choice_disk import ModelChoice, card_of, read_text
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Detector, ModelSpec
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector
from device_agent.vision.ending_linux import Ending
from device_agent.vision.events_file_disk import EventsFile, check_writable
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.open_model_tflite import open_model
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.rule_file import RuleFile, load_rules
from device_agent.vision.run_summary import RunSummary
from device_agent.vision.scene import Watcher
from device_agent.vision.show_disk import ShowFilm
from device_agent.vision.tiles import TiledDetector
from device_agent.vision.triggers import Triggers
from device_agent.vision.types import CameraError, Event, EventUpdate, Frame, bbox_of
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


class BrokenOffError(CameraError):
    """The source failed after it had given frames: their events are written, `summary` is what was seen until then."""

    def __init__(self, error: CameraError, summary: RunSummary) -> None:
        super().__init__(error.reason, error.message)
        self.summary = summary


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
    ending: Ending | None = None,
) -> RunSummary:
    """Run a model on a source to its end and write one line for each event to `request.events` as it ends.

    `on_frame` hears how many frames of the source are done, and how many there are where that is known. Ctrl-C, or what `ending`
    hears, counts as the source's end. Raises CameraError, ModelError, CardError, ZoneError before the first frame: then nothing
    is written; BrokenOffError after it.
    """
    if request.events is not None:
        check_writable(request.events, _inputs(request))
    rules = _rules(request.zone)
    cutter = Cutter()
    with contextlib.ExitStack() as stack:
        show = None if request.show is None else ShowFilm(request.show, cutter, _overlay(rules))
        if show is not None:
            stack.callback(show.abort)
        camera = open_camera(CameraSettings(request.name, _with_kind(request.source), fps=request.fps))
        stack.callback(camera.close)
        detector = stack.enter_context(open_detector(request.choice))
        _check_classes(rules, detector.card.labels)
        settings = request.settings or PipelineSettings(request.name)
        settings = dataclasses.replace(settings, camera=request.name, zones=rules.zones, lines=rules.lines)
        if request.zone is not None:
            believe = dataclasses.replace(settings.rules, sure_share=rules.sureness, sure_after_s=rules.sure_after_s)
            settings = dataclasses.replace(settings, rules=believe)
        counter = itertools.count(1)

        def new_id() -> str:
            return f"{request.name}-{next(counter)}"

        watchers: list[Watcher] = []
        if rules.triggers.on:
            # Their bursts are pictures, which nobody keeps here.
            calm = rules.triggers.without_bursts()
            watchers.append(Triggers(request.name, calm, cutter, new_id, min_score=settings.min_score))
        if show is not None:
            watchers.append(show)
        pipeline = Pipeline(settings, detector, new_id, cutter=cutter, watchers=watchers)
        file = None if request.events is None else EventsFile(request.events)
        if file is not None:
            stack.callback(file.close)
        run = _Run(pipeline, file, on_update, ending or Ending())
        frames = _told(itertools.islice(camera.frames(), request.max_frames), on_frame, getattr(camera, "declared_frames", None))
        run.play(frames)
        summary = run.summary(detector, camera.dropped)
        if run.broken is not None:
            raise BrokenOffError(run.broken, summary) from run.broken
        if show is not None:
            show.close()
    return summary


class _Run:
    """One run's state: how many events are over, and the time that each stage took. `broken`: why the source failed."""

    def __init__(
        self, pipeline: Pipeline, file: EventsFile | None, on_update: Callable[[EventUpdate], None] | None, ending: Ending
    ) -> None:
        self._pipeline, self._file, self._on_update, self._ending = pipeline, file, on_update, ending
        self.broken: CameraError | None = None
        self._interrupted = False
        self._visits: Counter[str] = Counter()
        self._crossings: Counter[tuple[str, str, str]] = Counter()
        self._triggers: Counter[str] = Counter()
        self._timings_ms: Counter[str] = Counter()
        self._started_s = time.monotonic()

    def play(self, frames: Iterator[Frame]) -> None:
        """All frames, until the source ends, fails, or somebody asks for the end."""
        try:
            for frame in frames:
                with self._ending.busy():
                    result = self._pipeline.step(frame)
                    self._timings_ms.update(result.timings_ms)
                    self._take(result.events)
        except KeyboardInterrupt:
            self._interrupted = True
        except CameraError as error:
            self.broken = error
        with self._ending.busy(last=True):
            self._take(self._pipeline.finish())

    def summary(self, detector: Detector, camera_dropped: dict[str, int]) -> RunSummary:
        """What was seen and what was lost."""
        counts = self._pipeline.counts()
        return RunSummary(
            counts.frames,
            counts.looked,
            counts.gated_frames,
            counts.frames_with_detection,
            dict(self._visits),
            dict(self._crossings),
            dict(self._triggers),
            counts.dropped,
            camera_dropped,
            detector.restarts,
            detector.runtime,
            detector.accelerator,
            time.monotonic() - self._started_s,
            self._interrupted,
            dict(self._timings_ms),
        )

    def _take(self, updates: list[EventUpdate]) -> None:
        for update in updates:
            if update.kind == "end":
                self._over(update.event)
            if self._on_update is not None:
                self._on_update(update)

    def _over(self, event: Event) -> None:
        if self._file is not None:
            self._file.add(json.dumps(event_line(event)))
        if event.rule_kind == "line":
            self._crossings[event.label, event.rule, event.direction or ""] += 1
        elif event.rule_kind == "trigger":
            self._triggers[event.rule] += 1
        else:
            self._visits[event.label] += 1


def _told(frames: Iterator[Frame], on_frame: Callable[[int, int | None], None] | None, total: int | None) -> Iterator[Frame]:
    """The frames, each told once it was worked on."""
    for frame in frames:
        yield frame
        if on_frame is not None:
            on_frame(frame.index + 1, total or None)


def _overlay(rules: RuleFile) -> Overlay:
    zones = tuple((zone.name, zone.polygon) for zone in rules.zones if zone.polygon != WHOLE_PICTURE)
    return Overlay(zones, rules.lines)


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


def _check_classes(rules: RuleFile, labels: tuple[str, ...]) -> None:
    """Rules that would stay silent for ever are refused: classes that the model does not know, a comparison with nobody."""
    faults = []
    strangers = sorted({*unknown_classes((*rules.zones, *rules.lines), labels), *(rules.triggers.asked - set(labels))})
    if strangers:
        faults.append(f"the model knows no class {', '.join(strangers)}")
    if rules.triggers.disagreement is not None:
        faults.append("triggers.disagreement compares with a shadow model, which only a device of a fleet has")
    if faults:
        raise ZoneError(faults)


def _inputs(request: RunRequest) -> list[Path]:
    """The files that a run reads."""
    choice = request.choice
    named = (Path(request.source.removeprefix("film:")), choice.model, choice.labels, choice.card, request.zone)
    return [path for path in named if path is not None]


def _with_kind(source: str) -> str:
    """A bare path is a film, or a folder of pictures."""
    if Path(source).is_dir():
        return f"pictures:{source}"
    return f"film:{source}" if Path(source).exists() or (":" not in source and source != "picamera2") else source
