"""The eyes of the agent: the detector, and for each camera its pipeline and its duty."""

import functools
import logging
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from device_agent.assemble_base import Base
from device_agent.detector_start import start_detector
from device_agent.duties.seeing import Seeing, Sinks
from device_agent.duties.wire_events import EventTranslator, SeenBy
from device_agent.factory_disk import install_factory
from device_agent.settings import CameraSection
from device_agent.telemetry.window import Window
from device_agent.update.installed import Installed
from device_agent.vision.detector import Detector
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.pipeline import Pipeline, PipelineSettings
from device_agent.vision.types import EventUpdate
from device_agent.vision.zones import Zone
from ota.slots.slots_disk import Slots

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Eyes:
    """Cameras, pipelines, the detector that they share, and the release that it started with."""

    detector: Detector
    installed: Installed
    slots: Slots
    pipelines: list[Pipeline]
    cameras: list[CameraSection]
    window: Window


def open_eyes(base: Base, stack: ExitStack) -> Eyes:
    """The detector with its first model, and a pipeline for each camera. Raises BoardError where no release can be run."""
    settings = base.settings
    slots = Slots(base.data / "slots")
    install_factory(slots, settings.factory.bundle, settings.factory.root, base.facts, base.data / "downloads")
    detector, installed = start_detector(slots, base.facts, settings.detector)
    stack.callback(detector.close)
    log.info("running %s, variant %s (%s)", installed.release, installed.variant, installed.variant_reason)
    pipelines = []
    for camera in settings.cameras:
        zones = tuple(
            Zone(zone.name, tuple(zone.polygon), frozenset(zone.classes), zone.dwell_s)
            for zone in settings.zones
            if zone.camera == camera.name
        )
        pipelines.append(Pipeline(PipelineSettings(camera.name, zones=zones), detector, lambda: uuid.uuid4().hex))
    window = Window(base.boot_id, base.clock.steady_s())
    return Eyes(detector, installed, slots, pipelines, list(settings.cameras), window)


def look_out(
    base: Base, eyes: Eyes, running: Callable[[], Installed], timings: Callable[[dict[str, float]], None]
) -> list[Seeing]:
    """The duty of each camera. ``running`` names the release that an event was seen by."""
    seeing = []
    for camera, pipeline in zip(eyes.cameras, eyes.pipelines, strict=True):
        translator = EventTranslator()

        def keep(update: EventUpdate, translator: EventTranslator = translator) -> None:
            installed = running()
            event, crops = translator.translate(update, SeenBy(installed.sha256, installed.release))
            base.outbox.add_event(event, crops)

        source = CameraSettings(camera.name, camera.source, camera.pacing, camera.loop, camera.fps)
        seeing.append(Seeing(camera.name, functools.partial(open_camera, source), pipeline, Sinks(keep, timings)))
    return seeing
