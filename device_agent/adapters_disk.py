"""Where the rooms of the agent meet: small classes that fit one room's port to another room's part. Built in assemble."""

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from device_agent.errors import ClaimRefusedError, DiskFullError
from device_agent.spool.spool_disk import Outbox
from device_agent.telemetry.probes_linux import cpu_temp_c
from device_agent.update.assignment_rule import Accepted
from device_agent.update.health import HealthWindow
from device_agent.update.installed import Installed
from device_agent.update.reports import report_of_first_contact
from device_agent.update.status import Status
from device_agent.update.updater import Updater
from device_agent.vision.detector import Detector, ModelSpec
from device_agent.vision.model_spec_disk import read_spec
from models.inference.errors import ModelError
from ota.durable_disk import fsync_folder
from ota.trust.refusal import Refusal
from ota.wire.assignments import Assignment, StateAnswer
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts

log = logging.getLogger(__name__)
EDGETPU_LIBRARY = "libedgetpu.so.1"
CLAIM_LIMIT_BYTES = 4096
SHORTEST_CLAIM_CHARS = 16


class ClaimFile:
    """The one-time token in a file; the file goes once the board is enrolled. No file named: the board has no claim."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def read(self) -> str:
        """The token, empty where agent.toml names no file. Raises ClaimRefusedError for a file without one."""
        hint = "ask an operator for a claim, write it into the file that server.claim_file names, and start again"
        if self._path is None:
            return ""
        try:
            token = self._path.read_bytes()[:CLAIM_LIMIT_BYTES].decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ClaimRefusedError(f"this board is not enrolled, and {self._path} cannot be read: {why}", hint) from None
        if not SHORTEST_CLAIM_CHARS <= len(token) <= 200:
            raise ClaimRefusedError(f"{self._path} holds no claim ({len(token)} characters)", hint)
        return token

    def remove(self) -> None:
        """The claim was used: nothing that could be stolen stays. A file that cannot be removed is only told."""
        if self._path is None:
            return
        try:
            self._path.unlink()
            fsync_folder(self._path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the used claim %s cannot be removed: %s", self._path, error.strerror)


class SpoolReports:
    """Reports of the update go into the outbox. ``told`` is called after each (the heartbeat follows at once)."""

    def __init__(self, outbox: Outbox, told: Callable[[], None]) -> None:
        self._outbox, self._told = outbox, told

    def first_contact(self, running: Installed, *, factory: bool, now_s: float) -> None:
        """A board that never reported says what it runs and why that variant: the inventory knows it before any update."""
        if self._outbox.untouched("reports"):
            self.put(report_of_first_contact(running, factory=factory, now_s=now_s))

    def put(self, report: DeploymentReport) -> None:
        """Keep it; where not even a report fits the update goes on, and the log says so."""
        try:
            self._outbox.add_report(report)
        except DiskFullError as error:
            log.error("%s: %s %s", error.message, report.target, report.state)
        self._told()


class DetectorSwitch:
    """Changes the model of the one detector between two frames. ``threads`` is the most that the settings allow."""

    def __init__(self, detector: Detector, threads: int) -> None:
        self._detector, self._threads = detector, threads

    def use(self, installed: Installed) -> Refusal | None:
        """Run this release from the next frame on; the old one goes on where the new one does not load."""
        library = EDGETPU_LIBRARY if installed.accelerator == "edgetpu" else None
        try:
            self._detector.switch(
                installed.model, installed.card, threads=min(self._threads, installed.threads), delegate_library=library,
                fallback=fallback_of(installed, self._threads),
            )  # fmt: skip
        except ModelError as error:
            return Refusal("model", f"{installed.release}: {error.message}")
        return None


def fallback_of(installed: Installed, threads: int) -> ModelSpec | None:
    """The release's model for the CPU, for where its accelerator fails; raises ModelError where its card cannot be read."""
    other = installed.fallback
    if other is None:
        return None
    return replace(read_spec(other.model, other.card, min(threads, other.threads), None), sha256=other.model_sha256)


class FoundBoard:
    """The board as it was found at the start, and its heat now."""

    def __init__(self, facts: BoardFacts, root: Path) -> None:
        self._facts, self._root = facts, root

    def facts(self) -> BoardFacts:
        """Profile, accelerators, runtimes, memory."""
        return self._facts

    def temperature_c(self) -> float | None:
        """Of the processor; None where it cannot be read."""
        return cpu_temp_c(self._root)


class Beside(Protocol):
    """The agent's own update, which ticks in the same thread as the model's; ``agent_side_disk.AgentSide`` fits."""

    def tick(self) -> None:
        """Do what is due."""
        ...

    def on_window(self, window: HealthWindow) -> None:
        """What was counted."""
        ...

    def believed(self) -> None:
        """An answer of the server was believed."""
        ...

    def stop(self) -> None:
        """The agent ends."""
        ...


class UpdateSeat:
    """The updaters' place: they need the device's id, which is known only after enrolment. Empty, it does nothing.

    ``make`` builds the model's updater for a device id, ``beside`` the agent's own.
    """

    def __init__(
        self, make: Callable[[str], Updater], started: Installed, beside: Callable[[str, Updater], Beside] | None = None
    ) -> None:
        self._make, self._started, self._make_beside = make, started, beside
        self._lock = threading.Lock()
        self._updater: Updater | None = None
        self._beside: Beside | None = None

    def fill(self, device: str) -> None:
        """The device's id is known; filling twice changes nothing."""
        with self._lock:
            if self._updater is None:
                self._updater = self._make(device)
                if self._make_beside is not None:
                    self._beside = self._make_beside(device, self._updater)

    @property
    def seen(self) -> tuple[int, str]:
        """Number and digest of the newest accepted assignment."""
        if self._updater is None:
            return (0, "")
        seen = self._updater.seen
        return (seen.seq, seen.digest)

    @property
    def running(self) -> Installed:
        """What runs on this board."""
        return (self._updater.running if self._updater is not None else None) or self._started

    @property
    def status(self) -> Status | None:
        """Where the update stands; None before enrolment."""
        return None if self._updater is None else self._updater.status

    @property
    def assignment(self) -> Assignment | None:
        """The newest assignment that was believed, by an earlier run of the agent, too; None before there is any."""
        return None if self._updater is None else self._updater.assignment

    @property
    def on_trial(self) -> bool:
        """Whether a release is on trial."""
        return self._updater is not None and self._updater.status.state == "trial"

    @property
    def busy(self) -> bool:
        """Whether an update, of whatever part of the board, is under way."""
        return self._updater is not None and bool(self._updater.busy or self._updater.other_busy)

    def poll_answer(self, answer: StateAnswer, nonce: str) -> Accepted | Refusal:
        """Judge an answer."""
        assert self._updater is not None, "polls begin after enrolment"
        return self._updater.poll_answer(answer, nonce)

    def tick(self) -> None:
        """Do what is due."""
        if self._updater is not None:
            self._updater.tick()
        if self._beside is not None:
            self._beside.tick()

    def believed(self) -> None:
        """An answer of the server was believed."""
        if self._beside is not None:
            self._beside.believed()

    def on_window(self, window: HealthWindow) -> None:
        """What was counted."""
        if self._updater is not None:
            self._updater.on_window(window)
        if self._beside is not None:
            self._beside.on_window(window)

    def stop(self) -> None:
        """The agent ends."""
        if self._updater is not None:
            with contextlib.suppress(OSError):
                self._updater.stop()
        if self._beside is not None:
            self._beside.stop()
