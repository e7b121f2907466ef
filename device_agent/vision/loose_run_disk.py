"""Without a server: run a model on a film and write its events, or on pictures and write its boxes (contracts, section 8)."""

import contextlib
import dataclasses
import itertools
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.vision.camera_disk import list_pictures, read_picture
from device_agent.vision.detector import Detector, ModelSpec
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.open_model_tflite import open_model
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import CameraError, Event, EventUpdate, Frame, box_xywh
from device_agent.vision.zones import WHOLE_PICTURE, Zone, ZoneError, load_zones, unknown_classes
from models.card import UNUSED_LABELS, CardError, ModelCard, load_card, parse_labels
from models.inference.runtime_tflite import infer_card_for

MAX_TEXT_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model as a person names it. Without a card one is inferred; `labels` replaces the card's own names.

    `child` False runs it in this process. `delegate_library` names an Edge TPU library.
    """

    model: Path
    labels: Path | None = None
    card: Path | None = None
    threads: int = 1
    child: bool = True
    delegate_library: str | None = None


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A film, or any other source, to run a model on. `max_frames` ends sources that have no end."""

    source: str
    choice: ModelChoice
    zone: Path | None = None
    events: Path | None = None
    name: str = "camera"
    fps: float | None = None
    max_frames: int | None = None
    settings: PipelineSettings | None = None


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


def card_of(choice: ModelChoice) -> ModelCard:
    """The card of a chosen model; raises CardError or ModelError with what is wrong and what to do."""
    labels = parse_labels(_text(choice.labels, "label file")) if choice.labels is not None else None
    if choice.card is None:
        return infer_card_for(choice.model, labels)
    card = load_card(_text(choice.card, "model card"))
    return card if labels is None else dataclasses.replace(card, labels=labels)


@contextlib.contextmanager
def open_detector(choice: ModelChoice) -> Iterator[Detector]:
    """A running detector, closed at the end; raises CardError or ModelError."""
    spec = ModelSpec(choice.model, card_of(choice), choice.threads, choice.delegate_library)
    detector: Detector = ProcessDetector(spec) if choice.child else InProcessDetector(spec, open_model)
    try:
        yield detector
    finally:
        detector.close()


def run_film(request: RunRequest, on_update: Callable[[EventUpdate], None] | None = None) -> RunSummary:
    """Run a model on a source to its end and write one line for each event to `request.events`.

    Ctrl-C counts as the source's end. Raises CameraError, ModelError, CardError, ZoneError; then nothing is written.
    """
    zones = _zones(request.zone)
    camera = open_camera(CameraSettings(request.name, _with_kind(request.source), fps=request.fps))
    try:
        with open_detector(request.choice) as detector:
            strangers = unknown_classes(zones, detector.card.labels)
            if strangers:
                raise ZoneError([f"the model knows no class {', '.join(strangers)}"])
            settings = dataclasses.replace(request.settings or PipelineSettings(request.name), camera=request.name, zones=zones)
            counter = itertools.count(1)
            pipeline = Pipeline(settings, detector, lambda: f"{request.name}-{next(counter)}")
            run = _Run(pipeline, on_update)
            interrupted = run.play(itertools.islice(camera.frames(), request.max_frames))
            summary = run.summary(detector, interrupted=interrupted)
    finally:
        camera.close()
    if request.events is not None:
        write_whole(request.events, "".join(json.dumps(event_line(event)) + "\n" for event in summary.events).encode())
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
        "best": {"frame": event.best_frame, "bbox": _bbox(event.box), "score": round(event.score, 4)},
    }


def detect_pictures(pictures: Path, choice: ModelChoice, out: Path | None = None) -> list[dict[str, object]]:
    """Every box above the card's lowest threshold in a picture, or in all of a folder (of its `images/` where it has one).

    Raises CameraError, ModelError, CardError; then nothing is written.
    """
    folder = pictures / "images" if (pictures / "images").is_dir() else pictures
    paths = [pictures] if pictures.is_file() else list_pictures(folder)
    found: list[dict[str, object]] = []
    with open_detector(choice) as detector:
        for path in paths:
            answer = detector.look(read_picture(path))
            lowest, labels = answer.card.thresholds.lowest, answer.card.labels
            kept = answer.detections[answer.detections.confidence >= lowest]
            for box, score, class_id in zip(kept.xyxy.tolist(), kept.confidence.tolist(), kept.class_id.tolist(), strict=True):
                label = labels[class_id] if 0 <= class_id < len(labels) else "n/a"
                if label not in UNUSED_LABELS:
                    entry = {"file_name": path.name, "category": label, "bbox": _bbox(tuple(box)), "score": round(score, 4)}
                    found.append(entry)
    if out is not None:
        write_whole(out, (json.dumps(found, indent=1) + "\n").encode())
    return found


def write_whole(path: Path, content: bytes) -> None:
    """The whole file or none of it; raises CameraError `missing` where it cannot be written (OSError's reason in its message)."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise CameraError("missing", f"{path} cannot be written: {error.strerror}") from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise CameraError("missing", f"{path} cannot be written: {error.strerror}") from error


def _bbox(box: tuple[float, ...]) -> list[float]:
    x, y, width, height = box_xywh((box[0], box[1], box[2], box[3]))
    return [round(x, 1), round(y, 1), round(width, 1), round(height, 1)]


def _zones(path: Path | None) -> tuple[Zone, ...]:
    return (Zone("picture", WHOLE_PICTURE),) if path is None else load_zones(_text(path, "zone file"))


def _with_kind(source: str) -> str:
    """A bare path is a film, or a folder of pictures."""
    if Path(source).is_dir():
        return f"pictures:{source}"
    return f"film:{source}" if Path(source).exists() or (":" not in source and source != "picamera2") else source


def _text(path: Path, what: str) -> str:
    try:
        if path.stat().st_size > MAX_TEXT_BYTES:
            raise CardError([f"the {what} {path} is larger than {MAX_TEXT_BYTES} bytes"])
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CardError([f"the {what} {path} cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise CardError([f"the {what} {path} is not text"]) from error
