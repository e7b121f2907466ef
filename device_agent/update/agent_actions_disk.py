"""Performs the actions of the table for the agent's own release: each can be done twice, each answers with its event.

The switch is the launcher's: here the pointer is written and the end of this process is asked for (``leaving``), once the tick is
over and the report is in the spool. The agent that runs then takes the machine up where it stands.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from device_agent.launcher_disk import ALIVE_S, agents_folder
from device_agent.update.actions_disk import told
from device_agent.update.agent_environment_disk import Base, Parts, StoppedError, build_slot, own_base, remove_others
from device_agent.update.agent_formats import Formats, after_commit, problem
from device_agent.update.agent_place_disk import AgentPlace, token_of
from device_agent.update.agent_selftest import AgentSelftestRequest, AgentSelftestResult
from device_agent.update.agent_selftest_process import run_agent_selftest
from device_agent.update.agent_wheel_disk import WheelError
from device_agent.update.conditions_disk import Conditions
from device_agent.update.deployment import Deployment, Event
from device_agent.update.downloads_disk import Downloads, Fetched
from device_agent.update.hooks_process import GO, LATER, POST_COMMIT, POST_ROLLBACK, PRE_INSTALL, STOPPED, Answer, Hooks, facts_of
from device_agent.update.installed import Running
from device_agent.update.policy import Policy
from device_agent.update.ports import Clock, Content, Trust
from device_agent.update.resolving_disk import Resolving, TrustSource, failed
from device_agent.update.selftest import SelftestRequest
from device_agent.update.wanted import AGENT as PART
from ota.bundle.agent_release import board_problem, lock_path, parse_lock, wheels_of
from ota.bundle.errors import BundleError
from ota.bundle.manifest import AGENT, Manifest, Variant
from ota.delta.unpack_disk import unpack_file
from ota.durable_disk import make_folder
from ota.trust.refusal import Refusal
from ota.wire.enrolment import BoardFacts

log = logging.getLogger("rookery.update")


class AgentSelftest(Protocol):
    """Proves an agent in a process of its own; ``agent_selftest_process.run_agent_selftest`` fits."""

    def __call__(
        self, python: Path, request: AgentSelftestRequest, *, should_stop: Callable[[], bool]
    ) -> AgentSelftestResult | Refusal:
        """What the child found."""
        ...


@dataclass(frozen=True, slots=True)
class AgentBench:
    """Everything that these actions touch. ``folder``: downloads; ``config``: agent.toml, which the new agent must read.

    ``model``: the model in use on its golden samples, as the self-test is asked to run it; None where none runs.
    ``seeing``: cameras that give frames now.
    """

    trust: Trust
    content: Content
    conditions: Conditions
    policy: Policy
    clock: Clock
    facts: Callable[[], BoardFacts]
    place: AgentPlace
    folder: Path
    config: Path
    model: Callable[[], SelftestRequest | None]
    seeing: Callable[[], list[str]]
    selftest: AgentSelftest = run_agent_selftest
    alive_s: float = ALIVE_S
    hooks: Hooks | None = None
    base: Callable[[], Base] = own_base


class AgentInstalls:
    """The agents' slots, as far as ``Resolving`` and ``Downloads`` ask."""

    def __init__(self, place: AgentPlace) -> None:
        self._place = place

    def collect_garbage(self, keep: Collection[str] = ()) -> list[str]:
        """Remove slots that nothing points to, and that are not this process's."""
        pointer = self._place.pointer()
        trial = pointer.trial.slot if pointer.trial is not None else None
        named = {pointer.current, pointer.previous, trial, self._place.slot}
        return remove_others(agents_folder(self._place.data), {one for one in named if one} | set(keep))

    def give_up_previous(self) -> bool:
        """The agent before is never given up: it is what runs where the new one does not."""
        return False

    def find_file(self, sha256: str) -> Path | None:
        """Wheels are not kept once they are unpacked: there is no base for a delta."""
        return None


class AgentPerformer:
    """The executor of the machine's actions for the agent itself. ``leaving``: this process should end for the switch."""

    def __init__(self, bench: AgentBench) -> None:
        self._bench, self._place = bench, bench.place
        self.leaving = False
        self._installs = AgentInstalls(bench.place)
        self._downloads = Downloads(bench.folder, bench.facts, self._installs)
        self._resolving = Resolving(
            bench.conditions, self._downloads, self._installs, bench.policy, bench.facts, kind=AGENT
        )  # fmt: skip
        self._by_name: Mapping[str, Callable[[Deployment, int, Callable[[], bool]], Event | None]] = {
            "resolve": self._resolve,
            "download": self._download,
            "verify": self._verify,
            "stage": self._stage,
            "selftest": self._selftest,
            "switch": self._switch,
            "roll_back": self._roll_back,
            "commit": self._commit,
            "discard": self._discard,
        }

    def perform(self, action: str, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        """Do one action (not ``report``); None where no event follows, or where it was stopped. Raises OSError in end states."""
        return self._by_name[action](deployment, floor, should_stop)

    def obstacle(self) -> Event | None:
        """What forbids an update now, as a ``blocked`` event."""
        return self._bench.conditions.obstacle()

    def running(self) -> Running | None:
        """The installed release that this process runs from; None: the factory agent."""
        return self._place.running()

    def latency_budget_ms(self, deployment: Deployment) -> float | None:
        """An agent has none."""
        return None

    def _resolve(self, deployment: Deployment, floor: int, _: Callable[[], bool]) -> Event:
        if not self._place.launched:
            why = "start this agent by `python -m device_agent.launcher --config agent.toml`, as its systemd unit does"
            return Event(kind="failed", reason="launcher", detail=why)
        return self._resolving.resolve(deployment, floor, TrustSource(self._bench.trust, self._bench.policy))

    def _download(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        bench, done = self._bench, Fetched.after(deployment.figures)
        before_bytes = done.fetched_bytes
        try:
            refused = self._downloads.fetch(deployment, bench.content, should_stop, done)
        finally:
            if bench.policy.metered:
                bench.conditions.metered.add(done.fetched_bytes - before_bytes, bench.clock.now_s())
        if refused is not None:
            return msgspec.structs.replace(failed(refused), figures=done.figures())
        return None if should_stop() else Event(kind="downloaded", learned={"refetch": False}, figures=done.figures())

    def _verify(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event:
        refused = self._downloads.verify(deployment)
        return Event(kind="verified") if refused is None else failed(refused)

    def _stage(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        found = self._downloads.manifest(deployment)
        if isinstance(found, Refusal):
            return failed(found)
        data, manifest, variant = found
        hooked = self._hooks(PRE_INSTALL, deployment, should_stop)
        if hooked.outcome != GO:
            kind = "blocked" if hooked.outcome == LATER else "failed"
            return None if hooked.outcome == STOPPED else Event(kind=kind, reason="hook", detail=hooked.words)
        try:
            files = self._unpacked(manifest, variant, should_stop)
            if isinstance(files, Refusal):
                return None if should_stop() else failed(files)
            lock_bytes = files[lock_path(variant)].read_bytes()
            lock = parse_lock(lock_bytes)
            wheels = {name: files[path] for name, path in wheels_of(manifest, variant, lock).items()}
            unfit = board_problem(lock, self._bench.facts())
            if unfit:
                return Event(kind="failed", reason="abi", detail=unfit)
            parts = Parts(data, lock_bytes, lock, wheels)
            build_slot(agents_folder(self._place.data), parts, self._bench.base(), should_stop)
        except StoppedError:
            return None
        except (BundleError, WheelError) as error:
            return Event(kind="failed", reason="wheel", detail=str(error))
        except OSError as error:
            return Event(kind="failed", reason="disk", detail=f"the new agent cannot be installed: {error.strerror or error}")
        return Event(kind="staged")

    def _unpacked(self, manifest: Manifest, variant: Variant, should_stop: Callable[[], bool]) -> dict[str, Path] | Refusal:
        """Path in the release -> its file as it is used; what travelled packed is unpacked beside it."""
        sources, packed = self._downloads.sources(manifest, variant)
        beside = self._bench.folder / "unpacked"
        make_folder(beside)
        for path in packed:
            entry = manifest.files[path]
            target = beside / entry.sha256
            if not target.exists():
                refused = unpack_file(sources[path], entry, target, should_stop=should_stop)
                if refused is not None:
                    return Refusal(refused.code, refused.detail)
            sources[path] = target
        return sources

    def _selftest(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        bench, slot = self._bench, deployment.bundle.sha256
        manifest = self._place.manifest(slot)
        if manifest is None:
            return failed(Refusal("hash", "the staged agent cannot be read again"))
        request = AgentSelftestRequest(
            config=str(bench.config), data=str(self._place.data), version=manifest.version, model=bench.model()
        )
        found = bench.selftest(self._place.folder(slot) / "bin" / "python", request, should_stop=should_stop)
        if should_stop():
            return None
        if isinstance(found, Refusal):
            return failed(found)
        if found.code:
            return Event(kind="failed", reason=found.code, detail=found.detail, figures=found.figures)
        unread = problem(self._place.formats_in_force(), Formats(found.writes, found.oldest_read))
        if unread:
            return Event(kind="failed", reason="format", detail=unread, figures=found.figures)
        return Event(kind="proved", detail=f"agent {found.version} starts here", figures=found.figures)

    def _switch(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        """Ask the launcher for the new agent; in the new agent (after its start, after a power cut) there is nothing to do."""
        slot = deployment.bundle.sha256
        if self._place.slot == slot:
            return None
        pointer, token = self._place.pointer(), token_of(deployment)
        if pointer.trial is None or pointer.trial.token != token:
            self._place.put_on_trial(slot, token, self._bench.alive_s, self._bench.seeing())
        self.leaving = True
        return None

    def _roll_back(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        self._place.take_back(deployment.bundle.sha256)
        if self._place.slot == deployment.bundle.sha256:
            self.leaving = True
        return self._after(POST_ROLLBACK, deployment, should_stop)

    def _commit(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        self._place.commit(deployment.bundle.sha256)
        self._place.raise_formats(after_commit(self._place.formats_in_force()))
        self._downloads.clear()
        self._installs.collect_garbage()
        return self._after(POST_COMMIT, deployment, should_stop)

    def _hooks(self, moment: str, deployment: Deployment, should_stop: Callable[[], bool]) -> Answer:
        hooks = self._bench.hooks
        return Answer(GO) if hooks is None else hooks.run(moment, facts_of(deployment, PART.name), should_stop)

    def _after(self, moment: str, deployment: Deployment, should_stop: Callable[[], bool]) -> Event | None:
        """Hooks after the fact: nothing hangs on them, their words go into the report."""
        answer = self._hooks(moment, deployment, should_stop)
        if answer.outcome == STOPPED:
            raise InterruptedError(f"the agent ends while hooks run ({moment}): they are run again at its next start")
        return told(deployment, answer.words)

    def _discard(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> None:
        if deployment.reason != "download":  # what was fetched before the line failed is not fetched again
            self._downloads.clear()
        self._installs.collect_garbage()
