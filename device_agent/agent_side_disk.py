"""The agent's own update, put together: the second updater over the same table, beside the model's."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device_agent.launcher import EXIT_FOR_SWITCH
from device_agent.update.agent_actions_disk import AgentBench, AgentPerformer
from device_agent.update.agent_place_disk import AgentMemory, AgentPlace, token_of
from device_agent.update.agent_trial import AgentJudge, AgentTrialLimits
from device_agent.update.conditions_disk import Conditions
from device_agent.update.deployment import Deployment
from device_agent.update.health import HealthWindow
from device_agent.update.hooks_process import Hooks
from device_agent.update.installed import Installed
from device_agent.update.policy import Policy
from device_agent.update.ports import Clock, Content, Reports, Trust
from device_agent.update.selftest import SelftestRequest
from device_agent.update.state_disk import AGENT_STATE_FILE, StateFile
from device_agent.update.updater import Updater
from device_agent.update.wanted import AGENT
from ota.slots.slots_disk import SlotInfo
from ota.wire.enrolment import BoardFacts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AgentParts:
    """What the agent's own update is made of. ``frames``: of each camera since this process began; ``model``: the model slot in
    use and what runs from it; ``leave`` ends the process with an exit code."""

    trust: Trust
    content: Content
    conditions: Conditions
    policy: Policy
    clock: Clock
    reports: Reports
    facts: BoardFacts
    place: AgentPlace
    config: Path
    limits: AgentTrialLimits
    alive_s: float
    frames: Callable[[], Mapping[str, int]]
    model: Callable[[], tuple[SlotInfo | None, Installed | None]]
    leave: Callable[[int], None]
    hooks: Hooks | None = None


class AgentSide:
    """Fits ``adapters_disk.Beside``."""

    def __init__(self, device: str, model: Updater, parts: AgentParts) -> None:
        place = parts.place
        self._leave, self._reached = parts.leave, False
        self._memory = AgentMemory(StateFile(place.data / "state", AGENT_STATE_FILE, place.floor), place)
        self._judge = AgentJudge(
            parts.frames, reached=lambda: self._reached, on_trial=self._is_on_trial, before=self._before, limits=parts.limits
        )
        self._place = place
        self._performer = AgentPerformer(
            AgentBench(
                trust=parts.trust, content=parts.content, conditions=parts.conditions, policy=parts.policy, clock=parts.clock,
                facts=lambda: parts.facts, place=place, folder=place.data / "agent-downloads", config=parts.config,
                model=lambda: model_request(*parts.model()), seeing=self._judge.seeing, alive_s=parts.alive_s,
                hooks=parts.hooks,
            )
        )  # fmt: skip
        self.updater = Updater(
            device, memory=self._memory, actions=self._performer, trust=parts.trust, clock=parts.clock, reports=parts.reports,
            watch=self._judge, part=AGENT, orders=model.orders,
        )  # fmt: skip
        model.stand_beside(lambda: self.updater.busy)
        self.updater.stand_beside(lambda: model.busy)

    def tick(self) -> None:
        """Do what is due. The process ends here where another agent is to run: all that was to be reported is in the spool."""
        self.updater.tick()
        if self._performer.leaving:
            log.info("this agent ends, the launcher starts the other one")
            self._leave(EXIT_FOR_SWITCH)

    def on_window(self, window: HealthWindow) -> None:
        """What was counted."""
        self.updater.on_window(window)

    def believed(self) -> None:
        """An answer of the server was believed, in this process."""
        self._reached = True

    def stop(self) -> None:
        """The agent ends."""
        with contextlib.suppress(OSError):
            self.updater.stop()

    def _deployment(self) -> Deployment | None:
        return self._memory.newest.deployment if self._memory.newest is not None else None

    def _is_on_trial(self) -> bool:
        deployment = self._deployment()
        return deployment is not None and deployment.bundle.sha256 == self._place.slot

    def _before(self) -> list[str] | None:
        deployment = self._deployment()
        found = None if deployment is None else self._place.before(token_of(deployment))
        return None if found is None else found.cameras


def model_request(slot: SlotInfo | None, running: Installed | None) -> SelftestRequest | None:
    """The model in use on its golden samples, by the processor: an accelerator belongs to the process that uses it now."""
    if slot is None or running is None or running.sha256 != slot.sha256:
        return None
    of_cpu = running.fallback if running.accelerator == "edgetpu" else running
    variant = next((one for one in slot.manifest.variants if of_cpu is not None and one.id == of_cpu.variant), None)
    if of_cpu is None or variant is None:
        return None
    present, parity = slot.files(), slot.manifest.golden.parity
    return SelftestRequest(
        model=str(of_cpu.model), card=str(of_cpu.card), threads=of_cpu.threads, delegate_library=None,
        parity=str(present[parity]) if parity is not None and parity in present and parity in variant.files else None,
        acceptance=None, pictures={slot.manifest.files[path].sha256: str(file) for path, file in present.items()},
    )  # fmt: skip
