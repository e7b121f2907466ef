"""The first detector after a start: what runs, else what ran before, else the factory's. Pure but for what it opens."""

import logging

from device_agent.adapters_disk import EDGETPU_LIBRARY
from device_agent.errors import BoardError
from device_agent.settings import DetectorSection
from device_agent.update.installed import Installed, runnable
from device_agent.vision.detector import Detector
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.open_model_tflite import open_model
from models.inference.errors import ModelError
from ota.slots.slots_disk import Slots
from ota.wire.enrolment import BoardFacts

log = logging.getLogger(__name__)


def start_detector(slots: Slots, facts: BoardFacts, settings: DetectorSection) -> tuple[Detector, Installed]:
    """A detector with a loaded model, and which release that is. Raises BoardError with every reason where none loads."""
    faults = []
    for name, place in (("current", slots.current()), ("previous", slots.previous()), ("factory", slots.factory())):
        installed = None if place is None else runnable(place, facts)
        if installed is None:
            faults.append(f"{name}: nothing there that this board can run")
            continue
        try:
            return open_detector(installed, settings), installed
        except ModelError as error:
            log.error("the %s release %s does not load: %s", name, installed.release, error.message)
            faults.append(f"{name} ({installed.release}): {error.message}")
    raise BoardError(f"no release on this board can be run: {'; '.join(faults)}", "run `rookery-agent doctor`")


def open_detector(installed: Installed, settings: DetectorSection) -> Detector:
    """The detector of one release; raises ModelError."""
    library = EDGETPU_LIBRARY if installed.accelerator == "edgetpu" else None
    spec = read_spec(installed.model, installed.card, min(settings.threads, installed.threads), library)
    if settings.child is False:
        return InProcessDetector(spec, open_model)
    return ProcessDetector(
        spec,
        settings=ProcessSettings(
            reply_deadline_s=settings.reply_deadline_ms / 1e3,
            load_deadline_s=settings.load_deadline_s,
            on_line=lambda line: log.debug("detector: %s", line),
        ),
    )
