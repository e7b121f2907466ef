"""The loop of an updater: it asks the machine what follows, writes it down, has the actions performed, and asks again.

Order for every event: the machine decides, the new state is written down, its actions are performed, each action's answer is the
next event.
"""

import logging
import threading
from collections.abc import Callable

import msgspec

from device_agent.update.deployment import LOCAL, Deployment, Event
from device_agent.update.expiry import Renewal, begins_late, past_end
from device_agent.update.installed import Running
from device_agent.update.ledger import Ledger
from device_agent.update.machine import age, begin, overdue, retry_over, step
from device_agent.update.orders import Orders
from device_agent.update.ports import Actions, Clock, Judge, Reports
from device_agent.update.reports import deliver, report_of
from device_agent.update.states import STATES
from device_agent.update.wanted import Part, interrupting, should_begin
from ota.wire.assignments import AssignedBundle

EVENTS_PER_TICK = 40
"""More than a whole deployment has: a tick always comes back."""
END_RETRY_S = 30.0
"""Between attempts at the actions of an end state (the disk refused to switch back, say)."""
TRIAL_SAVE_S = 300.0
"""How often the length of a trial is written down while nothing else changes."""

log = logging.getLogger("rookery.update")


class Loop:
    """Carries deployments of one part of the board to their end. ``beside`` has words while another updater goes first,
    ``inbox`` names a bundle that was carried here."""

    def __init__(
        self, ledger: Ledger, orders: Orders, part: Part, *, actions: Actions, clock: Clock, reports: Reports, watch: Judge
    ) -> None:
        self._ledger, self._orders, self._part, self._lock = ledger, orders, part, ledger.lock
        self._actions, self._clock, self._reports, self._watch = actions, clock, reports, watch
        self.beside: Callable[[], str] = str
        self.inbox: Callable[[], AssignedBundle | None] = lambda: None
        self.running: Running | None = actions.running()
        self._stopped = threading.Event()
        self._interrupted = self.active() is not None
        self._steady_s = self._saved_s = clock.steady_s()
        self._end_retry_s: float | None = None
        self._renewal = Renewal()

    def stop(self) -> None:
        """End what is being done, and begin nothing more."""
        self._stopped.set()

    def tick(self) -> None:
        """Do what is due now; call it about once a second, from one thread. An error of a programmer passes through."""
        try:
            for _ in range(EVENTS_PER_TICK):
                if self._stopped.is_set() or not self._advance():
                    return
        except OSError as error:
            # The state could not be written down, so nothing was begun: the next tick takes up what is on the disk.
            self._interrupted = True
            log.error("the state of updates cannot be written: %s", error)
        except BaseException:
            self._interrupted = True  # whoever restarts this loop resumes as after a power cut
            raise

    def _advance(self) -> bool:
        """One event and all that follows from it; False when nothing is due."""
        with self._lock:
            self._grow_older()
            event = self._next_event() or self._begin()
        if event is None:
            return False
        while event is not None and not self._stopped.is_set():
            late = begins_late(self.active(), self._orders.assignment, self.wanted(), event, self._clock.now_s())
            event = self._apply(self._overruled() or late or event)
        return True

    def _unless_late(self, deployment: Deployment, event: Event) -> Event | None:
        late = past_end(deployment, self._orders.assignment, self.wanted(), self._clock.now_s())
        return self._renewal.go_on(event, late, self._clock.steady_s())

    def wanted(self) -> AssignedBundle | None:
        """The bundle of the newest assignment that is this part's own, unless a local install took its place."""
        said = self._said()
        return None if said is None or said.sha256 == self._ledger.state.overridden else said

    def _said(self) -> AssignedBundle | None:
        assignment = self._orders.assignment
        return None if assignment is None else self._part.wanted(assignment)

    def _obstacle(self) -> Event | None:
        """What forbids to begin: the other updater's work first, then what the board says."""
        other = self.beside()
        if other:
            return Event(kind="blocked", reason="other_update", detail=other)
        found, deployment = self._actions.obstacle(), self._ledger.state.deployment
        carried = deployment is not None and deployment.origin == LOCAL
        return None if carried and found is not None and found.reason == "metered" else found

    def active(self) -> Deployment | None:
        """The deployment that is not over, if any; one over whose end actions remain to be done counts."""
        deployment = self._ledger.state.deployment
        return None if deployment is None or deployment.settled else deployment

    def _overruled(self) -> Event | None:
        """A newer assignment goes before anything that the deployment itself came to."""
        with self._lock:
            deployment = self.active()
            if deployment is None or self._orders.assignment is None:
                return None
            running = None if self.running is None else self.running.sha256
            wanted = self.wanted()
            if deployment.origin == LOCAL and (wanted is None or STATES[deployment.state].ended):
                return None  # whoever carried it here is not overruled by "keep what runs"
            return interrupting(deployment, wanted, running)

    def _next_event(self) -> Event | None:
        deployment = self.active()
        if deployment is None:
            return None
        if deployment.state == "idle":
            self._interrupted = False
            return Event(kind="assigned")
        if self._interrupted:
            again = Event(kind="interrupted")
            resumed = again if deployment.state == "waiting" else self._unless_late(deployment, again)
            self._interrupted = resumed is None
            return resumed
        if STATES[deployment.state].ended:
            due = self._end_retry_s is None or self._clock.steady_s() >= self._end_retry_s
            return Event(kind="interrupted") if due else None
        if (event := self._overruled() or overdue(deployment)) is not None:
            return event
        if deployment.state == "waiting":
            return self._wait_over(deployment)
        if deployment.state == "trial":
            return self._watch.verdict(deployment.in_state_s, self._actions.latency_budget_ms(deployment))
        return None

    def _wait_over(self, deployment: Deployment) -> Event | None:
        if deployment.retry_at_s is None and (obstacle := self._obstacle()) is not None:
            return None if obstacle.reason == deployment.reason else obstacle
        if not retry_over(deployment, self._clock.now_s()):
            return None
        if deployment.reason != "hook":
            return self._unless_late(deployment, Event(kind="clear"))
        return None if self._obstacle() is not None else self._unless_late(deployment, Event(kind="ask"))

    def _begin(self) -> Event | None:
        if self.active() is not None:
            return None
        carried, runs = self.inbox(), None if self.running is None else self.running.sha256
        if carried is not None and carried.sha256 != runs:
            return self._begin_local(carried)
        assignment, said = self._orders.assignment, self._said()
        if assignment is None:
            return None
        if self._ledger.state.overridden and (said is None or said.sha256 != self._ledger.state.overridden):
            self._keep(overridden="")  # the server wants something else by now: its word holds again
        wanted = self.wanted()
        running = None if self.running is None else self.running.sha256
        now_s, seen, state = self._clock.now_s(), self._orders.seen, self._ledger.state
        bundle = should_begin(assignment, wanted, seen.digest, state.deployment, running, now_s)
        if bundle is None:
            self._forget_overtaken(wanted)
            return None
        fresh = begin(seen.seq, seen.digest, bundle, now_s)
        # Not written down before it is ``offered``: idle has nothing to resume.
        self._ledger.hold(deployment=fresh, deployments=state.deployments + 1)
        return Event(kind="assigned")

    def _begin_local(self, bundle: AssignedBundle) -> Event:
        """A person with the board's authority goes before the server, until the server changes its mind."""
        said, seen, state = self._said(), self._orders.seen, self._ledger.state
        fresh = begin(seen.seq, seen.digest, bundle, self._clock.now_s(), origin=LOCAL)
        overridden = "" if said is None or said.sha256 == bundle.sha256 else said.sha256
        self._ledger.hold(deployment=fresh, deployments=state.deployments + 1, overridden=overridden)
        return Event(kind="assigned")

    def _forget_overtaken(self, wanted: AssignedBundle | None) -> None:
        """Another release was wanted in between: the last one may be tried again when it is wanted again."""
        last = self._ledger.state.deployment
        if wanted is not None and last is not None and last.state != "committed" and last.bundle.sha256 != wanted.sha256:
            self._keep(deployment=None)

    def _apply(self, event: Event) -> Event | None:
        with self._lock:
            deployment = self._ledger.state.deployment
            assert deployment is not None
            before = deployment.state
            done = step(deployment, event, self._clock.now_s())
            changes: dict[str, object] = {"deployment": done.deployment}
            if done.deployment.state == "committed":
                changes["floor"] = max(self._ledger.state.floor, done.deployment.min_counter)
            elif STATES[done.deployment.state].ended and done.deployment.origin == LOCAL:
                changes["overridden"] = ""
            self._keep(**changes)
            self._steady_s = self._clock.steady_s()
            if done.deployment.state != before:
                log.info("%s: %s (%s) %s", done.deployment.bundle.release, done.deployment.state, event.kind, event.detail)
        return self._perform(done.deployment, done.actions)

    def _perform(self, deployment: Deployment, actions: tuple[str, ...]) -> Event | None:
        ended = STATES[deployment.state].ended
        answer: Event | None = None
        try:
            for action in actions:
                if action == "report":
                    deliver(self._reports, report_of(deployment, self.running, self._clock.now_s(), self._part.name))
                    continue
                answer = self._do(action, deployment) or answer
                if ended and answer is not None:
                    # An end is an end; what its hooks said belongs into its report.
                    deployment = msgspec.structs.replace(deployment, **answer.learned)
        except OSError as error:
            log.error("%s: %s", deployment.state, error)
            if not ended:
                return Event(kind="failed", reason="disk", detail=str(error))
            self._end_retry_s = self._clock.steady_s() + END_RETRY_S
            return None
        if ended and actions:
            self._end_retry_s = None
            return Event(kind="settled", learned={} if answer is None else answer.learned)
        return answer

    def _do(self, action: str, deployment: Deployment) -> Event | None:
        """One action. What nobody foresaw in it ends the deployment in its turn, and is not met again for ever."""
        try:
            return self._act(action, deployment)
        except OSError:
            raise
        except Exception as error:
            log.exception("%s: %s failed in a way that nobody foresaw", deployment.bundle.release, action)
            if STATES[deployment.state].ended:
                raise OSError(f"{action}: {type(error).__name__}") from error
            words = f"{action} failed in a way that nobody foresaw ({type(error).__name__}); this board's log has the details"
            return Event(kind="failed", reason="fault", detail=words)

    def _act(self, action: str, deployment: Deployment) -> Event | None:
        if action == "resolve" and (held := self._obstacle()) is not None:
            return held
        answer = self._actions.perform(action, deployment, self._ledger.state.floor, self._should_stop)
        if action in ("switch", "roll_back"):
            self.running = self._actions.running()
            with self._lock:
                self._watch.switched(self._clock.steady_s())
        return answer

    def _should_stop(self) -> bool:
        with self._lock:
            deployment = self.active()
            if self._stopped.is_set() or deployment is None or self._overruled() is not None:
                return True
            return overdue(age(deployment, self._clock.steady_s() - self._steady_s)) is not None

    def _grow_older(self) -> None:
        steady_s = self._clock.steady_s()
        passed_s, self._steady_s = steady_s - self._steady_s, steady_s
        deployment = self.active()
        if deployment is None:
            return
        self._ledger.hold(deployment=age(deployment, passed_s))
        if deployment.state in ("trial", "waiting") and steady_s - self._saved_s >= TRIAL_SAVE_S:
            self._keep()

    def _keep(self, **changes: object) -> None:
        self._ledger.keep(**changes)
        self._saved_s = self._clock.steady_s()
