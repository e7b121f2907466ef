"""Which configuration is in force: the wanted one once it is seen to run, else the last good one. Pure but for what is given.

One step at a time: judge, write down that it is tried, put it in, watch the cameras, write down that it is good. Whatever ends
the agent in between, the next start begins with the last good one.
"""

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from device_agent.configuration.kept import Kept, Rejected
from device_agent.configuration.plan import Plan
from device_agent.configuration.tightened import hides, tightened
from device_agent.configuration.translate import judge, translated, unknown_classes
from device_agent.configuration.trial import DEADLINE_S, Sight, Trial, judged
from ota.wire.configuration import digest_of
from ota.wire.configuration_faults import ConfigurationError, parse
from ota.wire.heartbeat import ConfigurationHealth
from ota.wire.typed_faults import monstrous

MAX_ATTEMPTS = 2
"""An agent that ended so often while it tried the same configuration does not try it again."""
RETRY_AFTER_S = 15.0
"""After a start that follows such an end, and after a disk that could not be written."""
REASON_CHARS = 3000
STILL_HIDDEN = "; its masks and blur hold all the same"
NO_DIGEST = "0" * 64
"""Of something so deep or large that no digest is taken of it."""
log = logging.getLogger(__name__)


class Memory(Protocol):
    """What is remembered across a power cut."""

    note: str

    def load(self) -> Kept:
        """What was saved last."""
        ...

    def save(self, kept: Kept) -> None:
        """Durable when it returns; OSError."""
        ...


class Keeper:
    """``apply`` puts a plan into the running cameras; ``sights`` tells how they are doing; ``labels`` are the present model's.

    ``want`` may be called from any thread, ``start`` and ``step`` from one. ``told`` is called after each change of ``health``.
    """

    def __init__(
        self,
        memory: Memory,
        basis: Plan,
        apply: Callable[[Plan], None],
        sights: Callable[[], Sequence[Sight]],
        labels: Callable[[], Collection[str]],
        steady_s: Callable[[], float],
        *,
        told: Callable[[], None] = lambda: None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._memory, self._basis, self._apply, self._sights = memory, basis, apply, sights
        self._labels, self._steady_s, self._told, self._deadline_s = labels, steady_s, told, deadline_s
        self._lock = threading.Lock()
        self._incoming: dict[str, Any] | None = None
        self._kept = Kept()
        self._running = ""
        self._trial: Trial | None = None
        self._doubt: Trial | None = None
        self._in_force: Plan | None = None
        self._judged_by: frozenset[str] = frozenset()
        self._note = self._monster = ""
        self._not_before_s = 0.0
        self._health: ConfigurationHealth | None = None

    def start(self) -> None:
        """Before the first frame: the last good configuration, whatever the agent was doing when it ended."""
        kept = self._kept = self._memory.load()
        if self._memory.note:
            log.error("%s", self._memory.note)
        if kept.trying:
            self._not_before_s = self._steady_s() + RETRY_AFTER_S
            log.warning("the agent ended while a new configuration was tried (%d of %d)", kept.attempts, MAX_ATTEMPTS)
            if kept.attempts >= MAX_ATTEMPTS:
                self._reject(kept.trying, "rolled_back", f"the agent ended {kept.attempts} times while it was tried")
        self._judged_by = frozenset(self._labels())
        self._put_good()
        self._tell()

    def want(self, content: Mapping[str, Any]) -> None:
        """The newest word of the server; ``step`` looks at it."""
        with self._lock:
            self._incoming = dict(content)

    @property
    def busy(self) -> bool:
        """Whether something is being tried: then ``step`` should be called every second or so."""
        return self._trial is not None or self._doubt is not None

    @property
    def health(self) -> ConfigurationHealth | None:
        """For the heartbeat; None before the server named any."""
        return self._health

    def step(self) -> None:
        """Do what is due."""
        self._take_in()
        self._look_at_labels()
        if self._trial is not None:
            self._watch(self._trial)
        elif self._due():
            self._try()
        if self._doubt is not None:
            self._reconsider(self._doubt)
        self._tell()

    # -- what is wanted ---------------------------------------------------------------------------------------------------

    def _take_in(self) -> None:
        with self._lock:
            incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        odd = monstrous(incoming)
        self._monster = "" if odd is None else str(odd)
        if odd is not None:
            log.warning("what the server wants %s: it is not looked at, and what runs goes on", odd)
            return
        if self._kept.wanted is not None and digest_of(incoming) == digest_of(self._kept.wanted):
            return
        # An unfinished trial of another one counts for nothing: the last good one stays what it was.
        self._trial = self._doubt = None
        self._not_before_s = 0.0
        self._kept = msgspec.structs.replace(self._kept, wanted=incoming, trying="", attempts=0, rejected=None)
        self._save()

    def _look_at_labels(self) -> None:
        """Another model may know what the one before did not, and the other way round."""
        labels = frozenset(self._labels())
        if labels == self._judged_by:
            return
        self._judged_by = labels
        rejected = self._kept.rejected
        if rejected is not None and rejected.state == "refused":
            self._kept = msgspec.structs.replace(self._kept, rejected=None)
        self._silent()

    def _due(self) -> bool:
        wanted = self._kept.wanted
        if wanted is None or self._kept.rejected is not None or self._steady_s() < self._not_before_s:
            return False
        return digest_of(wanted) != self._running

    # -- a trial ----------------------------------------------------------------------------------------------------------

    def _try(self) -> None:
        wanted = self._kept.wanted
        assert wanted is not None
        digest = digest_of(wanted)
        if digest == digest_of(self._kept.good):
            self._put_good()
            return
        try:
            plan = judge(wanted, self._basis, self._judged_by)
        except ConfigurationError as error:
            self._reject(digest, "refused", "; ".join(str(fault) for fault in error.faults))
            self._put_good(again=False)
            return
        self._kept = msgspec.structs.replace(self._kept, trying=digest, attempts=self._kept.attempts + 1)
        if not self._save():
            # What cannot be written down is not tried: a crash in it would be forgotten.
            self._kept = msgspec.structs.replace(self._kept, trying="", attempts=self._kept.attempts - 1)
            self._not_before_s = self._steady_s() + RETRY_AFTER_S
            self._put_good(again=False)
            return
        before = {sight.camera: sight for sight in self._sights()}
        self._trial = Trial(digest, plan, self._steady_s(), before, self._patience_s(plan))
        self._running = digest
        try:
            self._put(plan)
        except Exception as error:
            # Whatever a room says to its new settings, the cameras go on with the old ones.
            log.exception("configuration %s could not be put in", digest[:12])
            self._roll_back(f"{type(error).__name__}: {error}")

    def _watch(self, trial: Trial) -> None:
        verdict = judged(trial, self._sights(), self._steady_s())
        if verdict.over and verdict.reason:
            self._roll_back(verdict.reason, doubtful=verdict.doubtful)
        elif verdict.over:
            self._commit(trial)

    def _commit(self, trial: Trial) -> None:
        wanted = self._kept.wanted
        assert wanted is not None
        self._trial = None
        self._kept = msgspec.structs.replace(self._kept, good=wanted, trying="", attempts=0)
        self._save()
        self._silent()
        log.info("configuration %s is in force", trial.digest[:12])

    def _roll_back(self, reason: str, *, doubtful: bool = False) -> None:
        trial, self._trial = self._trial, None
        assert trial is not None
        self._reject(trial.digest, "rolled_back", reason)
        before = {sight.camera: sight for sight in self._sights()}
        self._put_good()
        if doubtful:
            self._doubt = Trial(trial.digest, trial.plan, self._steady_s(), before, trial.patience_s)

    def _patience_s(self, plan: Plan) -> float:
        return self._deadline_s + 2 * max((camera.pipeline.gate.keep_alive_s for camera in plan.cameras), default=0.0)

    def _reconsider(self, doubt: Trial) -> None:
        """Was it the configuration that nobody answered, or the detector? The last good one shows it."""
        if not any(sight.looked > doubt.before[sight.camera].looked for sight in self._sights() if sight.camera in doubt.before):
            return
        self._doubt = None
        if self._steady_s() - doubt.since_s < doubt.patience_s:
            return
        log.info("the last good configuration was not answered either: the wanted one gets another trial")
        self._kept = msgspec.structs.replace(self._kept, rejected=None)
        self._save()

    def _put(self, plan: Plan) -> None:
        self._in_force = None
        self._apply(plan)
        self._in_force = plan

    def _put_good(self, *, again: bool = True) -> None:
        """The last good one, agent.toml alone where even that fits no more; what the wanted one hides is hidden all the same."""
        good, wanted = self._kept.good, self._kept.wanted
        try:
            plan = translated(parse(good, [camera.camera for camera in self._basis.cameras]), self._basis)
        except ConfigurationError as error:
            log.error("the last good configuration does not fit this board any more, agent.toml alone holds: %s", error)
            self._kept = msgspec.structs.replace(self._kept, good={})
            good, plan = {}, self._basis
        plan = tightened(plan, wanted)
        if plan == self._in_force and not again:
            return
        self._running = digest_of(good)
        try:
            self._put(plan)
        except Exception:
            log.exception("the last good configuration could not be put back, agent.toml alone holds")
            self._running = digest_of({})
            self._put(tightened(self._basis, wanted))
        self._silent()

    # -- what is remembered and told --------------------------------------------------------------------------------------

    def _reject(self, digest: str, state: str, reason: str) -> None:
        reason = reason[:REASON_CHARS]
        if hides(self._basis, self._kept.wanted):
            reason += STILL_HIDDEN
        log.warning("configuration %s %s: %s", digest[:12], state, reason)
        rejected = Rejected(digest=digest, state=state, reason=reason)
        self._kept = msgspec.structs.replace(self._kept, trying="", attempts=0, rejected=rejected)
        self._save()

    def _save(self) -> bool:
        try:
            self._memory.save(self._kept)
        except OSError as error:
            log.error("configurations cannot be written down: %s", error.strerror)
            self._note = f"cannot be written down: {error.strerror}"
            return False
        return True

    def _silent(self) -> None:
        """What the configuration in force asks for and the present model does not know."""
        running = self._kept.good if self._trial is None else {}
        self._note = "; ".join(str(fault) for fault in unknown_classes(running, self._judged_by))[:REASON_CHARS]

    def _tell(self) -> None:
        wanted, rejected = self._kept.wanted, self._kept.rejected
        if self._monster:
            self._say(ConfigurationHealth(digest=NO_DIGEST, state="refused", reason=self._monster, running=self._running))
            return
        if wanted is None:
            return
        digest = digest_of(wanted)
        state, reason = "applied", self._note
        if rejected is not None:
            state, reason = rejected.state, rejected.reason
        elif self._trial is not None or self._running != digest:
            state = "trying"
        self._say(ConfigurationHealth(digest=digest, state=state, reason=reason, running=self._running))

    def _say(self, health: ConfigurationHealth) -> None:
        if health != self._health:
            self._health = health
            self._told()
