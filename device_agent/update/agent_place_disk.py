"""Where this agent stands among the board's agents: its own slot, the pointer, the files between it and the launcher."""

import hashlib
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from device_agent.launcher_disk import ALIVE, Pointer, Trial, agents_folder, read_done, read_pointer, write_durably, write_pointer
from device_agent.update.agent_formats import FIRST
from device_agent.update.deployment import Deployment, Event, UpdateState
from device_agent.update.installed import Running
from device_agent.update.machine import step
from device_agent.update.state_disk import StateFile, stays
from ota.bundle.errors import BundleError
from ota.bundle.manifest import Manifest, parse_manifest
from ota.durable_disk import remove_leftovers
from ota.wire.enrolment import BoardFacts

BEFORE_FILE = "agent-trial.json"
FORMATS_FILE = "formats.json"
STARTS_OF_A_TRIAL = 3
"""contracts.md §5: power loss resumes a trial, at most three boots."""

log = logging.getLogger("rookery.update")


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent before the switch knew, for the judge of the one after it. Written by N, read by N + 1 and N - 1."""

    v: int = 1
    token: str = ""
    cameras: list[str] = []
    """Cameras that gave frames in the last minute."""


class _Formats(msgspec.Struct, frozen=True, kw_only=True):
    v: int = 1
    formats: int = FIRST


@dataclass(frozen=True, slots=True)
class AgentPlace:
    """``slot``: digest of the release that this process runs from, empty: the factory agent. ``start``: the launcher's number
    of this start; ``launched``: there is a launcher that will start what the pointer names."""

    data: Path
    slot: str = ""
    start: str = ""
    launched: bool = False

    @classmethod
    def here(cls, data: Path, environment: Mapping[str, str] | None = None) -> "AgentPlace":
        """This process. A slot is believed only when Python itself runs from it."""
        told = os.environ if environment is None else environment
        slot = told.get("ROOKERY_SLOT", "")
        if slot and Path(sys.prefix).resolve() != (agents_folder(data) / slot).resolve():
            log.warning("the launcher says slot %s, Python runs from %s", slot[:12], sys.prefix)
            slot = ""
        return cls(data, slot, told.get("ROOKERY_START", ""), told.get("ROOKERY_LAUNCHER") == "1")

    def folder(self, slot: str) -> Path:
        """Of one slot."""
        return agents_folder(self.data) / slot

    def manifest(self, slot: str) -> Manifest | None:
        """The manifest that a slot was installed from; None where it cannot be read or is another."""
        try:
            data = (self.folder(slot) / "manifest.json").read_bytes()
            return parse_manifest(data) if hashlib.sha256(data).hexdigest() == slot else None
        except (OSError, BundleError):
            return None

    def running(self) -> Running | None:
        """The installed release that this process is; None: the factory agent."""
        if not self.slot:
            return None
        manifest = self.manifest(self.slot)
        return Running(self.slot, manifest.release if manifest is not None else f"agent {self.slot[:12]}")

    def say_alive(self) -> None:
        """Tell the launcher that this start works; raises OSError."""
        if self.start:
            write_durably(self.data / ALIVE, self.start.encode())

    def pointer(self) -> Pointer:
        """As it is now."""
        return read_pointer(self.data)

    def put_on_trial(self, slot: str, token: str, alive_s: float, cameras: list[str]) -> None:
        """The next start is this slot's, on trial; raises OSError."""
        kept = self.pointer()
        write_durably(self.data / "state" / BEFORE_FILE, msgspec.json.encode(Before(token=token, cameras=sorted(cameras))))
        trial = Trial(slot, 0, STARTS_OF_A_TRIAL, token, alive_s)
        write_pointer(self.data, Pointer(current=kept.current, previous=kept.previous, trial=trial))

    def before(self, token: str) -> Before | None:
        """What was known before the switch of this trial; None where it is lost."""
        try:
            found = msgspec.json.decode((self.data / "state" / BEFORE_FILE).read_bytes(), type=Before)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        return found if found.v == 1 and found.token == token else None

    def take_back(self, slot: str) -> None:
        """No trial any more, and nothing that starts this slot; raises OSError. Twice is as once."""
        kept = self.pointer()
        current, previous = kept.current, kept.previous
        if current == slot:
            current, previous = previous, None
        if (current, previous, None) != (kept.current, kept.previous, kept.trial):
            write_pointer(self.data, Pointer(current=current, previous=None if previous == slot else previous))

    def commit(self, slot: str) -> None:
        """The slot on trial stays; what ran before is the previous one. Raises OSError. Twice is as once."""
        kept = self.pointer()
        if kept.current != slot or kept.trial is not None:
            previous = kept.current if kept.current != slot else kept.previous
            write_pointer(self.data, Pointer(current=slot, previous=previous))

    def floor(self, state: UpdateState) -> int:
        """What the installed agents demand, those that were committed: whatever the state's file says."""
        kept = self.pointer()
        found = [self.manifest(slot) for slot in (kept.current, kept.previous) if slot and stays(slot, state)]
        return max((one.min_counter for one in found if one is not None), default=0)

    def formats_in_force(self) -> int:
        """The set of on-disk formats that may be written here."""
        try:
            found = msgspec.json.decode((self.data / "state" / FORMATS_FILE).read_bytes(), type=_Formats)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return FIRST
        return max(FIRST, found.formats)

    def raise_formats(self, to: int) -> None:
        """After a commit; raises OSError."""
        if to != self.formats_in_force():
            write_durably(self.data / "state" / FORMATS_FILE, msgspec.json.encode(_Formats(formats=to)))


def facts_here(facts: BoardFacts, place: AgentPlace) -> BoardFacts:
    """The board's facts with the agent release that runs."""
    running = place.running()
    if running is None:
        return facts
    return msgspec.structs.replace(facts, agent_release=running.release, agent_sha256=running.sha256)


def token_of(deployment: Deployment) -> str:
    """By which launcher and agent know one trial: another attempt at the same release is another trial."""
    return f"{deployment.bundle.sha256[:12]}-{deployment.assignment_seq}-{deployment.started_at_s:.3f}"


class AgentMemory:
    """The agent's update state, read together with what the launcher did since it was written."""

    def __init__(self, file: StateFile, place: AgentPlace) -> None:
        self._file, self._place = file, place
        self.newest: UpdateState | None = None
        """What was loaded or saved last."""
        self.note = ""

    def load(self) -> UpdateState:
        """What was saved; a trial that the launcher ended, or a committed agent that it left, is rolled back here."""
        remove_leftovers(self._place.data)  # of pointer and sign of life; the launcher writes only before it starts us
        self.newest = self._adjusted(self._file.load())
        self.note = self._file.note
        return self.newest

    def _adjusted(self, state: UpdateState) -> UpdateState:
        deployment = state.deployment
        if deployment is None or deployment.bundle.sha256 == self._place.slot:
            return state
        told = _fallen(read_done(self._place.data), deployment)
        if told is None:
            return state
        log.error("the launcher left %s (%s): %s", deployment.bundle.release, *told)
        event = Event(kind="failed", reason=told[0], detail=told[1])
        # Beyond its commit the table knows no way back: what the launcher did then is taken as the end of another trial.
        on_trial = deployment if deployment.state == "trial" else msgspec.structs.replace(
            deployment, state="trial", transitions=0, settled=False
        )  # fmt: skip
        return msgspec.structs.replace(state, deployment=step(on_trial, event, time.time()).deployment)

    def save(self, state: UpdateState) -> None:
        """Durable when it returns; raises OSError."""
        self._file.save(state)
        self.newest = state


def _fallen(done: list[dict[str, Any]], deployment: Deployment) -> tuple[str, str] | None:
    """Reason and words of what the launcher did about this deployment, the newest; None where it did nothing."""
    key, value = ("token", token_of(deployment)) if deployment.state == "trial" else ("slot", deployment.bundle.sha256)
    if deployment.state not in ("trial", "committed"):
        return None
    for one in reversed(done):
        if one.get(key) == value and isinstance(one.get("reason"), str):
            return str(one["reason"]), str(one.get("detail", ""))[:1000]
    return None
