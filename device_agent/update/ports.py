"""What the update part needs from the rest of the agent: one small Protocol each, fitted together in ``assemble``. Pure.

Every method may be called from the thread that calls ``Updater.tick``; none may raise unless it says so. Refusals are values.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from device_agent.update.deployment import Deployment, Event, UpdateState
from device_agent.update.health import HealthWindow
from device_agent.update.installed import Installed, Running
from ota.trust.key_types import Key
from ota.trust.refusal import Refusal
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts


class Clock(Protocol):
    """Time as the board may believe it."""

    def now_s(self) -> float:
        """Seconds since 1970, never before the trusted floor."""
        ...

    def steady_s(self) -> float:
        """Seconds of a clock that is never set: deadlines are measured with it."""
        ...


class SignedTarget(Protocol):
    """A target as verified metadata names it; ``ota.trust.client_http.TargetInfo`` fits."""

    @property
    def path(self) -> str:
        """Target path, for instance ``stable/yard/2/manifest.json``."""
        ...

    @property
    def sha256(self) -> str:
        """Lower-case hexadecimal."""
        ...

    @property
    def length_bytes(self) -> int:
        """Length of the target."""
        ...


class Trust(Protocol):
    """Verified metadata; ``ota.trust.client_http.TrustClient`` fits."""

    def refresh(self) -> Refusal | None:
        """Fetch and verify all metadata anew; None when it is fresh."""
        ...

    def find(self, path: str) -> SignedTarget | Refusal:
        """The signed entry of a target."""
        ...

    def manifest(self, path: str, expected_sha256: str, expected_length: int | None = None) -> bytes | Refusal:
        """The bytes of a manifest or acceptance set, verified against the signed metadata."""
        ...

    def assignment_keys(self) -> Mapping[str, Key]:
        """Keys that may sign state and assignment, by id."""
        ...


class Content(Protocol):
    """Content files by sha256; ``device_agent.update.content_pool_http.PoolContent`` fits."""

    def fetch(
        self, sha256: str, length_bytes: int | None, destination: Path, should_stop: Callable[[], bool]
    ) -> Refusal | None:
        """Bring one file to ``destination``, resuming ``destination.part``; refused with hash, download or disk."""
        ...


class ModelSwitch(Protocol):
    """Changes the model between two frames; the old one stays loaded until the new one has answered."""

    def use(self, installed: Installed) -> Refusal | None:
        """Run this release from the next frame on; on a refusal (code ``model``) the old one goes on as before."""
        ...


class Board(Protocol):
    """The board as it was found."""

    def facts(self) -> BoardFacts:
        """Profile, accelerators, runtimes, memory."""
        ...

    def temperature_c(self) -> float | None:
        """Of the processor; None where it cannot be read."""
        ...


class Reports(Protocol):
    """The spool's stream of reports."""

    def put(self, report: DeploymentReport) -> None:
        """Keep it durably and number it (``sequence`` is 0 here); must not wait for any network."""
        ...


class Memory(Protocol):
    """Where the state is kept; ``device_agent.update.state_disk.StateFile`` fits."""

    note: str

    def load(self) -> UpdateState:
        """What was saved."""
        ...

    def save(self, state: UpdateState) -> None:
        """Durable when it returns; raises OSError."""
        ...


class Judge(Protocol):
    """Who judges a trial; ``device_agent.update.trial.TrialWatch`` fits. The updater holds its lock over every call."""

    note: str
    """What is missing for a verdict, for people."""

    def switched(self, steady_s: float) -> None:
        """A release on trial begins to answer (again): counting starts anew."""
        ...

    def add(self, window: HealthWindow, steady_s: float, *, trial: bool) -> None:
        """What was counted in a window that ended now."""
        ...

    def verdict(self, in_state_s: float, budget_ms: float | None) -> Event | None:
        """``good``, ``bad`` or ``unseen``; None while the trial goes on."""
        ...

    def keep(self, steady_s: float) -> None:
        """The agent ends: write down what is worth keeping; may raise OSError."""
        ...


class Actions(Protocol):
    """The executor; ``device_agent.update.actions_disk.Performer`` fits."""

    def perform(self, action: str, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        """Do one action; the event that it led to, if any."""
        ...

    def obstacle(self) -> Event | None:
        """What forbids an update now."""
        ...

    def running(self) -> Running | None:
        """What runs of this part of the board."""
        ...

    def latency_budget_ms(self, deployment: Deployment) -> float | None:
        """The signed latency budget with this board's allowance."""
        ...
