"""The first detector after a start: what runs, else what ran before, else the factory's. Pure but for what it opens."""

import logging
from dataclasses import replace
from pathlib import Path

from device_agent.adapters_disk import EDGETPU_LIBRARY, fallback_of
from device_agent.errors import BoardError
from device_agent.facts_linux import package_of
from device_agent.golden_picture_disk import golden_picture
from device_agent.settings import DetectorSection
from device_agent.update.installed import Installed, runnable
from device_agent.vision.detector import Detector
from device_agent.vision.detector_in_process import InProcessDetector
from device_agent.vision.detector_process import ProcessDetector, ProcessSettings
from device_agent.vision.model_spec_disk import read_spec
from device_agent.vision.types import Picture
from device_agent.vision.usb_linux import reset_port, see_accelerators
from hardware.profile import all_profiles
from models.inference.errors import ModelError
from ota.slots.slots_disk import Slots
from ota.wire.enrolment import BoardFacts

LOW_MEMORY_BYTES = 512 * 1024 * 1024
"""A board with less (a Zero 2 W is sold with 512 MiB and shows about 426 MB) has no room for a second Python."""
NO_CHILD = "no_child: an accelerator is used from a child process alone; set detector.child = true in agent.toml"
log = logging.getLogger(__name__)


def start_detector(
    slots: Slots, facts: BoardFacts, settings: DetectorSection, root: Path = Path("/")
) -> tuple[Detector, Installed]:
    """A detector with a loaded model, and which release that is. Raises BoardError with every reason where none loads.

    ``root`` is that of /sys, /proc and /dev, where the accelerator is looked after.
    """
    faults = []
    for name, place in (("current", slots.current()), ("previous", slots.previous()), ("factory", slots.factory())):
        installed = None if place is None else runnable(place, facts)
        if place is None or installed is None:
            faults.append(f"{name}: nothing there that this board can run")
            continue
        try:
            return open_detector(installed, facts, settings, root=root, golden=golden_picture(place)), installed
        except ModelError as error:
            log.error("the %s release %s does not load: %s", name, installed.release, error.message)
            faults.append(f"{name} ({installed.release}): {error.message}")
    raise BoardError(f"no release on this board can be run: {'; '.join(faults)}", "run `rookery-agent doctor`")


def low_memory(facts: BoardFacts) -> bool:
    """Whether the board is to be run with the least memory: by what its kernel sees, else by what its profile is sold with."""
    profile = all_profiles().get(facts.profile)
    sold = min(profile.memory_bytes) if profile is not None and profile.memory_bytes else 0
    return 0 < (facts.memory_bytes or sold - 1) < LOW_MEMORY_BYTES


def open_detector(
    installed: Installed, facts: BoardFacts, settings: DetectorSection, *, root: Path = Path("/"),
    golden: Picture | None = None,
) -> Detector:
    """The detector of one release; raises ModelError.

    In a child, unless the settings say otherwise. On a board with little memory a model of the CPU runs in this process, and an
    accelerator (whose library may abort its process at any time) in a child with one slot for frames instead of two.
    """
    small = low_memory(facts)
    library = EDGETPU_LIBRARY if installed.accelerator == "edgetpu" else None
    spec = read_spec(installed.model, installed.card, min(settings.threads, installed.threads), library)
    spec = replace(spec, sha256=installed.model_sha256)
    fallback = fallback_of(installed, settings.threads)
    child = settings.child if settings.child is not None else not small or library is not None
    if not child:
        reason = NO_CHILD if library else ""
        wanted = fallback or spec
        from device_agent.vision.open_model_tflite import open_model  # an agent with a child decodes nothing

        return InProcessDetector(wanted, open_model, runtime=_proved_runtime(facts), accelerator_reason=reason)
    return ProcessDetector(
        spec,
        fallback=fallback,
        settings=ProcessSettings(
            reply_deadline_s=settings.reply_deadline_ms / 1e3,
            load_deadline_s=settings.load_deadline_s,
            accelerator_deadline_s=settings.accelerator_deadline_ms / 1e3,
            slots=1 if small else 2,
            golden=golden,
            on_line=lambda line: log.debug("detector: %s", line),
            see=lambda holders: see_accelerators(root, holders=holders),
            reset=reset_port,
        ),
    )


def _proved_runtime(facts: BoardFacts) -> str:
    """The runtime that built an interpreter in a child when the board was looked at: here one that crashes would be our end."""
    return next((package_of(name) for name in facts.runtimes), "")
