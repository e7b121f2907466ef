"""The eyes of the agent: the detector, and for each camera all that its picture goes through."""

import functools
import logging
import random
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from device_agent.assemble_base import Base
from device_agent.blur_process import BlurDetector
from device_agent.board_orders import BoardOrders
from device_agent.camera_place import CameraPlace, Parts
from device_agent.configuration.keeper import Keeper
from device_agent.configuration.kept_disk import KeptFile
from device_agent.configuration.plan import CameraPlan, Plan
from device_agent.configuration.translate import translated
from device_agent.detector_start import low_memory, start_detector
from device_agent.duties.configuring import sights_of
from device_agent.duties.keeping_stills import KeepingStills
from device_agent.duties.seeing import Seeing, Sinks
from device_agent.duties.shadowing import Shadowing
from device_agent.duties.whole_frames import WholeFrames
from device_agent.duties.wire_events import EventTranslator, SeenBy
from device_agent.factory_disk import install_factory
from device_agent.local.open_linux import open_local
from device_agent.local.output import LocalOutput
from device_agent.settings import CameraSection
from device_agent.settings_rules import BoardRules, configuration_of
from device_agent.telemetry.window import Window
from device_agent.update.installed import Installed
from device_agent.vision.best_crop import SMALL_BOARD, CropSettings
from device_agent.vision.cutter import Cutter
from device_agent.vision.detector import Detector
from device_agent.vision.fair_turn import FairTurn, Seat
from device_agent.vision.live_view import LiveView
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.privacy import camera_privacy
from device_agent.vision.recall import RecallSampler, RecallSettings
from device_agent.vision.tiles import TiledDetector, TileSettings
from device_agent.vision.types import EventUpdate
from device_agent.vision.zones import unknown_classes
from models.card import UNUSED_LABELS
from ota.slots.slots_disk import Slots
from ota.wire.configuration_faults import parse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Eyes:
    """The detector that all cameras share, the release that it started with, what stands beside. ``basis``: by agent.toml.

    ``blur``: the board's own detector for what must be blurred, where its policy names one.
    """

    detector: Detector
    installed: Installed
    slots: Slots
    cameras: list[CameraSection]
    basis: Plan
    local: LocalOutput
    stills: KeepingStills
    window: Window
    blur: BlurDetector | None


def open_eyes(base: Base, stack: ExitStack) -> Eyes:
    """The detector with its first model, and what every camera needs. Raises BoardError where no release can be run."""
    settings = base.settings
    slots = Slots(base.data / "slots")
    install_factory(slots, settings.factory.bundle, settings.factory.root, base.facts, base.data / "downloads")
    detector, installed = start_detector(slots, base.facts, settings.detector, settings.agent.board_root)
    stack.callback(detector.close)
    log.info("running %s, variant %s (%s)", installed.release, installed.variant, installed.variant_reason)
    rules = [rule for board in settings.rules.values() for rule in board.all]
    silent = unknown_classes(rules, detector.card.labels)
    if silent:
        log.warning("agent.toml has rules for %s, which %s does not know: they are silent", ", ".join(silent), installed.release)
    name = settings.agent.name or socket.gethostname()
    local = open_local(settings.local, name=name, now_s=base.clock.now_s, steady_s=base.clock.steady_s)
    crops = SMALL_BOARD if low_memory(base.facts) else CropSettings()
    basis = Plan(tuple(_plan(camera, settings.rules.get(camera.name, BoardRules()), crops) for camera in settings.cameras))
    window = Window(base.boot_id, base.clock.steady_s())
    stills = KeepingStills(base.outbox, base.clock.now_s)
    blur = None
    if base.policy.blur_model:
        blur = BlurDetector.of_files(Path(base.policy.blur_model), Path(base.policy.blur_card))
        stack.callback(blur.close)
    return Eyes(detector, installed, slots, list(settings.cameras), basis, local, stills, window, blur)


def look_out(
    base: Base, eyes: Eyes, shadow: Shadowing, running: Callable[[], Installed], timings: Callable[[dict[str, float]], None]
) -> list[CameraPlace]:
    """Every camera in its place. ``running`` names the release that an event was seen by."""
    turns = FairTurn(eyes.detector, base.clock.steady_s) if len(eyes.cameras) > 1 else None
    whole = WholeFrames(base.clock.steady_s)
    places = []
    for camera, plan in zip(eyes.cameras, eyes.basis.cameras, strict=True):
        seat = turns.seat(camera.name, camera.weight) if turns is not None else None
        sinks = Sinks(whole.before(_keeper(base, eyes, running), base.outbox.count_unsent), timings)
        places.append(_place(base, eyes, shadow, camera, plan, seat, sinks))
    return places


def keeper_of(
    base: Base, eyes: Eyes, places: Sequence[CameraPlace], board: BoardOrders, *, told: Callable[[], None]
) -> Keeper:
    """What decides which configuration is in force, over these places and this board."""

    def apply(plan: Plan) -> None:
        for place, camera in zip(places, plan.cameras, strict=True):
            place.use(camera)
        board.use(plan.board)

    def labels() -> list[str]:
        return [label for label in eyes.detector.card.labels if label not in UNUSED_LABELS]

    pipelines = [place.parts.pipeline for place in places]
    return Keeper(
        KeptFile(base.data / "configuration"), eyes.basis, apply, lambda: sights_of(pipelines), labels, base.clock.steady_s,
        told=told,
    )  # fmt: skip


def _plan(camera: CameraSection, rules: BoardRules, crops: CropSettings) -> CameraPlan:
    settings = PipelineSettings(camera.name, zones=rules.zones, lines=rules.lines, crops=crops)
    plan = CameraPlan(
        camera.name, settings, fps=camera.fps, timezone=camera.timezone, triggers=camera.triggers,
        recall_per_day=camera.recall_per_day,
    )  # fmt: skip
    return translated(parse(configuration_of(camera)), Plan((plan,))).cameras[0]


def _place(
    base: Base, eyes: Eyes, shadow: Shadowing, camera: CameraSection, plan: CameraPlan, seat: Seat | None, sinks: Sinks
) -> CameraPlace:
    policy = base.policy
    privacy = camera_privacy(policy.masks, policy.blur, camera.name, policy.blur_by)
    cutter = Cutter(privacy, look=eyes.blur.look if eyes.blur is not None else None)
    detector: Detector = seat or eyes.detector
    if camera.tiles != (1, 1):
        detector = TiledDetector(detector, TileSettings(*camera.tiles))
    pipeline = Pipeline(plan.pipeline, detector, _new_id, cutter=cutter)
    sampler = RecallSampler(camera.name, RecallSettings(), cutter, _new_id, draw=random.random, refused=pipeline.counter.drop)
    view = LiveView(camera.name, cutter, eyes.stills.keep, eyes.stills.answer, time.monotonic)
    shape, (columns, rows) = eyes.detector.card.input, camera.tiles
    source = CameraSettings(
        camera.name, camera.source, camera.pacing, camera.loop, camera.fps,
        detector_px=(shape.width_px * columns, shape.height_px * rows),
        low_memory=low_memory(base.facts), size_px=camera.size_px, sensor_mode=camera.sensor_mode,
    )  # fmt: skip
    seeing = Seeing(camera.name, functools.partial(open_camera, source), pipeline, sinks, seat=seat)
    recall, burst = ("recall" in policy.upload_classes, "burst" in policy.upload_classes)
    parts = Parts(pipeline, cutter, privacy, sampler, view, seeing, recall=recall, burst=burst)
    return CameraPlace(parts, eyes.local, shadow, _new_id)


def _keeper(base: Base, eyes: Eyes, running: Callable[[], Installed]) -> Callable[[EventUpdate], None]:
    translator = EventTranslator()

    def keep(update: EventUpdate) -> None:
        eyes.local.tell(update)
        installed = running()
        event, crops = translator.translate(update, seen_by(installed, eyes.detector.accelerator))
        base.outbox.add_event(event, crops)

    return keep


def seen_by(installed: Installed, accelerator: str) -> SeenBy:
    """Who saw it: ``accelerator`` is the one in use, so that a fall to the CPU's variant shows."""
    fallen = installed.fallback is not None and accelerator != installed.accelerator
    model = installed.fallback.model_sha256 if fallen and installed.fallback is not None else installed.model_sha256
    return SeenBy(installed.sha256, installed.release, model)


def _new_id() -> str:
    return uuid.uuid4().hex
