"""Performs the actions of the table: each can be done twice, and each answers with the event that it led to.

Nothing here decides what comes next: that is the machine's. A failure is an event with the wire's reason code.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from device_agent.update.conditions_disk import Conditions, available_memory_bytes
from device_agent.update.deployment import LOCAL, Deployment, Event
from device_agent.update.downloads_disk import Downloads, Fetched
from device_agent.update.hooks_process import GO, LATER, POST_COMMIT, POST_ROLLBACK, PRE_INSTALL, STOPPED, Answer, Hooks, facts_of
from device_agent.update.installed import Installed, runnable
from device_agent.update.local_disk import Inbox, LocalContent, LocalSource
from device_agent.update.metered_disk import FILE as METERED
from device_agent.update.metered_disk import MeteredFile
from device_agent.update.policy import Policy
from device_agent.update.ports import Board, Clock, Content, ModelSwitch, Trust
from device_agent.update.resolving_disk import Resolving, TrustSource, failed
from device_agent.update.selftest import Proof, SelftestRequest, SelftestResult, allowance, prove
from device_agent.update.wanted import MODEL
from models.golden import GoldenError
from ota.slots.errors import SlotError
from ota.slots.slots_disk import Slots
from ota.trust.refusal import Refusal

log = logging.getLogger("rookery.update")


class Selftest(Protocol):
    """Proves a model in a process of its own; ``selftest_process.run_selftest`` fits."""

    def __call__(self, request: SelftestRequest, *, should_stop: Callable[[], bool]) -> SelftestResult | Refusal:
        """What the child found; ends early, with anything, once ``should_stop`` says so."""
        ...



@dataclass(frozen=True, slots=True)
class Bench:
    """Everything that actions touch: verified metadata, content, install places, the running model, the board and its policy.

    ``selftest`` is ``selftest_process.run_selftest``; ``delegate_library`` is the Edge TPU's, for variants built for one.
    ``inhibit`` is a lock file: while it is there no update begins, its text says why.
    """

    trust: Trust
    content: Content
    slots: Slots
    models: ModelSwitch
    board: Board
    policy: Policy
    clock: Clock
    selftest: Selftest
    folder: Path
    inhibit: Path
    delegate_library: str = "libedgetpu.so.1"
    memory_bytes: Callable[[], int | None] = available_memory_bytes
    hooks: Hooks | None = None
    inbox: Inbox | None = None


class Performer:
    """The executor of the machine's actions."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.conditions = Conditions(
            lambda: bench.policy, bench.clock, bench.board.temperature_c, bench.inhibit,
            MeteredFile(bench.folder.with_name(METERED)), bench.memory_bytes,
        )  # fmt: skip
        self._downloads = Downloads(bench.folder, bench.board.facts, bench.slots, bench.slots.hashed)
        self._resolving = Resolving(self.conditions, self._downloads, bench.slots, bench.policy, bench.board.facts)
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
        return self.conditions.obstacle()

    def running(self) -> Installed | None:
        """What the current install place gives on this board; where that is damaged, the previous or the factory's."""
        slots = self._bench.slots
        for place in (slots.current(), slots.previous(), slots.factory()):
            found = None if place is None else runnable(place, self._bench.board.facts())
            if found is not None:
                return found
        return None

    def latency_budget_ms(self, deployment: Deployment) -> float | None:
        """The signed latency budget with this board's allowance."""
        place = self._bench.slots.slot(deployment.bundle.sha256)
        budget = None if place is None else place.manifest.budget.latency_ms
        return None if budget is None else budget * allowance(self._bench.board.facts())

    def _resolve(self, deployment: Deployment, floor: int, _: Callable[[], bool]) -> Event:
        bench = self._bench
        server = TrustSource(bench.trust, bench.policy)
        source = LocalSource(self._inbox(deployment)) if _carried(deployment) else server
        return self._resolving.resolve(deployment, floor, source)

    def _inbox(self, deployment: Deployment) -> Inbox:
        if self._bench.inbox is None:
            raise OSError(f"{deployment.bundle.release} was carried here, and this agent has no inbox")
        return self._bench.inbox

    def _download(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        bench, carried = self._bench, _carried(deployment)
        content = LocalContent(self._inbox(deployment).file(deployment.bundle.sha256)) if carried else bench.content
        done = Fetched.after(deployment.figures)
        before_bytes = done.fetched_bytes
        try:
            refused = self._downloads.fetch(deployment, content, should_stop, done)
        finally:
            if bench.policy.metered and not carried:
                self.conditions.metered.add(done.fetched_bytes - before_bytes, self._bench.clock.now_s())
        for note in done.notes:
            log.warning("%s: %s", deployment.bundle.release, note)
        if refused is not None:
            return msgspec.structs.replace(failed(refused), figures=done.figures())
        if should_stop():
            return None
        return Event(kind="downloaded", learned={"refetch": False}, figures=done.figures())

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
        sources, packed = self._downloads.sources(manifest, variant)
        try:
            self._bench.slots.stage(data, sources, packed)
        except SlotError as error:
            return failed(Refusal(error.code, error.detail))
        return Event(kind="staged")

    def _selftest(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        found = self._downloads.manifest(deployment)
        place = self._bench.slots.slot(deployment.bundle.sha256)
        if isinstance(found, Refusal) or place is None:
            return failed(found if isinstance(found, Refusal) else Refusal("hash", "the staged release cannot be read again"))
        _, manifest, variant = found
        golden = manifest.golden
        acceptance = self._downloads.acceptance(manifest)
        pictures = {manifest.files[path].sha256: str(place.path / path) for path in variant.files}
        try:
            for image in self._downloads.acceptance_pictures(manifest):
                pictures[image] = str(self._downloads.file(image))
        except (OSError, GoldenError) as error:
            return failed(Refusal("hash", f"the acceptance set kept on this board cannot be read again: {error}"))
        facts = self._bench.board.facts()
        parity = golden.parity if golden.parity in variant.files else None
        request = SelftestRequest(
            model=str(place.path / variant.model),
            card=str(place.path / variant.card),
            threads=variant.threads,
            delegate_library=self._bench.delegate_library if variant.accelerator == "edgetpu" else None,
            parity=None if parity is None else str(place.path / parity),
            acceptance=None if acceptance is None else str(acceptance),
            pictures=pictures,
        )
        outcome = self._bench.selftest(request, should_stop=should_stop)
        if should_stop():
            return None  # the agent ends, or another release is wanted: that says nothing about this one
        proof: Proof = prove(outcome, manifest.budget, allowance(facts))
        kind = "failed" if proof.code else "proved"
        return Event(kind=kind, reason=proof.code, detail=proof.detail, figures=proof.figures)

    def _switch(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        try:
            self._bench.slots.switch(deployment.bundle.sha256)
        except SlotError as error:
            return failed(Refusal(error.code, error.detail))
        place = self._bench.slots.slot(deployment.bundle.sha256)
        found = None if place is None else runnable(place, self._bench.board.facts())
        if found is None:
            return failed(Refusal("variant", "the staged release has no variant that fits this board any more"))
        refused = self._bench.models.use(found)
        return None if refused is None else failed(refused)

    def _roll_back(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        """Back to what ran before. Where the board has nothing else the release stays: a camera that sees badly still sees."""
        try:
            self._bench.slots.roll_back(deployment.bundle.sha256)
        except SlotError as error:
            if error.code == "disk":
                raise OSError(error.detail) from None
            log.error("no way back from %s: %s", deployment.bundle.release, error.detail)
        found = self.running()
        refused = None if found is None else self._bench.models.use(found)
        if refused is not None:
            log.error("the release before does not start either: %s", refused)
        return self._after(POST_ROLLBACK, deployment, should_stop)

    def _commit(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> Event | None:
        self._clear(deployment)
        return self._after(POST_COMMIT, deployment, should_stop)

    def _hooks(self, moment: str, deployment: Deployment, should_stop: Callable[[], bool]) -> Answer:
        hooks = self._bench.hooks
        return Answer(GO) if hooks is None else hooks.run(moment, facts_of(deployment, MODEL.name), should_stop)

    def _after(self, moment: str, deployment: Deployment, should_stop: Callable[[], bool]) -> Event | None:
        """Hooks after the fact: nothing hangs on them, their words go into the report."""
        answer = self._hooks(moment, deployment, should_stop)
        if answer.outcome == STOPPED:
            raise InterruptedError(f"the agent ends while hooks run ({moment}): they are run again at its next start")
        if answer.outcome != GO:
            log.warning("%s: %s", deployment.bundle.release, answer.words)
        return told(deployment, answer.words)

    def _discard(self, deployment: Deployment, floor: int, should_stop: Callable[[], bool]) -> None:
        if deployment.reason != "download" or _carried(deployment):
            self._clear(deployment)  # else what was fetched before the line failed is not fetched again

    def _clear(self, deployment: Deployment) -> None:
        self._downloads.clear()
        if _carried(deployment) and self._bench.inbox is not None:
            self._bench.inbox.remove(deployment.bundle.sha256)
        try:
            self._bench.slots.collect_garbage()
        except SlotError as error:
            raise OSError(error.detail) from None


def _carried(deployment: Deployment) -> bool:
    return deployment.origin == LOCAL


def told(deployment: Deployment, words: str) -> Event | None:
    """The words of an end's hooks, for its report; said again after a restart, they stand there once."""
    if not words or words in deployment.detail:
        return None
    return Event(kind="told", learned={"detail": f"{deployment.detail}\n{words}".strip()})
