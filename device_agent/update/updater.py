"""The thin shell around the update machine: the agent's loop calls it, it asks the machine and has the actions performed.

Order for every event: the machine decides, the new state is written down, its actions are performed, each action's answer is the
next event. ``tick`` may take as long as a download and belongs in a thread of its own; the other methods return at once and may
be called from any thread.
"""

import logging
import threading

import msgspec

from device_agent.update.answers import Answers
from device_agent.update.assignment_rule import Accepted, Seen, payload_digest
from device_agent.update.deployment import Deployment, Event
from device_agent.update.expiry import Renewal, begins_late, past_end
from device_agent.update.health import HealthWindow
from device_agent.update.installed import Installed
from device_agent.update.machine import age, begin, overdue, retry_over, step
from device_agent.update.ports import Actions, Clock, Memory, Reports, Trust
from device_agent.update.reports import deliver, report_of, report_of_refused_answer
from device_agent.update.states import STATES
from device_agent.update.status import Status
from device_agent.update.trial import TrialWatch
from device_agent.update.wanted import interrupting, should_begin, to_run
from device_agent.update.why_not import Situation, sentences
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment, StateAnswer
from ota.wire.codec import MessageError, decode

EVENTS_PER_TICK = 40
"""More than a whole deployment has: a tick always comes back."""
END_RETRY_S = 30.0
"""Between attempts at the actions of an end state (the disk refused to switch back, say)."""
TRIAL_SAVE_S = 300.0
"""How often the length of a trial is written down while nothing else changes."""

log = logging.getLogger("rookery.update")


class Updater:
    """Keeps this device at what its assignment says, by the rules of the board. ``device`` is its own id."""

    def __init__(
        self, device: str, *, memory: Memory, actions: Actions, trust: Trust, clock: Clock, reports: Reports, watch: TrialWatch
    ) -> None:
        self._memory, self._actions = memory, actions
        self._clock, self._reports, self._watch = clock, reports, watch
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._state = memory.load()
        self._assignment = self._stored_assignment()
        self._running = actions.running()
        self._interrupted = self._active() is not None
        self._steady_s = self._saved_s = clock.steady_s()
        self._end_retry_s: float | None = None
        self._answers, self._renewal = Answers(device, trust, clock), Renewal()
        if memory.note:
            log.error("%s", memory.note)

    # -- what the rest of the agent asks and tells ------------------------------------------------------------------------

    @property
    def seen(self) -> Seen:
        """Number and digest of the newest accepted assignment: they go into the next StateRequest."""
        with self._lock:
            return Seen(self._state.seen_seq, self._state.seen_digest)

    @property
    def assignment(self) -> Assignment | None:
        """The newest accepted assignment: configuration and debug sessions are read from it."""
        return self._assignment

    @property
    def running(self) -> Installed | None:
        """What runs on this board."""
        return self._running

    @property
    def status(self) -> Status:
        """Where things stand, with the reasons in sentences."""
        with self._lock:
            deployment, assignment = self._state.deployment, self._assignment
            wanted = None if assignment is None else to_run(assignment)
            running = self._running
            situation = Situation(
                now_s=self._clock.now_s(),
                running="" if running is None else running.release,
                running_sha256=None if running is None else running.sha256,
                wanted=wanted,
                expires_s=None if assignment is None else assignment.expires_s,
                deployment=deployment,
                refused_answer=self._answers.refused,
                trial_note=self._watch.note,
                state_note=self._memory.note,
            )
        return Status(
            state="idle" if deployment is None else deployment.state,
            reason="" if deployment is None else deployment.reason,
            detail="" if deployment is None else deployment.detail,
            target="" if deployment is None else deployment.bundle.release,
            running=running,
            wanted="" if wanted is None else wanted.release,
            sentences=sentences(situation),
        )

    def poll_answer(self, answer: StateAnswer, nonce: str) -> Accepted | Refusal:
        """Judge the server's answer to the poll that carried ``nonce``; what is accepted is kept before it is acted upon."""
        judged = self._answers.judge(answer, nonce, self.seen)
        if isinstance(judged, Refusal):
            log.warning("the server's answer was refused (%s): %s", judged.code, judged.detail)
            news = self._answers.news(judged, answer)
            if news is not None:
                deliver(self._reports, report_of_refused_answer(judged, *news, self._running, self._clock.now_s()))
            return judged
        if judged.assignment is None or judged.payload is None:
            return judged
        digest = payload_digest(judged.payload)
        try:
            with self._lock:
                self._keep(seen_seq=judged.assignment.seq, seen_digest=digest, assignment=judged.payload)
                self._assignment = judged.assignment
        except OSError as error:
            return Refusal("disk", f"the assignment cannot be kept: {error}")
        return judged

    def on_window(self, window: HealthWindow) -> None:
        """What was counted since the window before; whether a trial or the history takes it is decided here."""
        with self._lock:
            deployment = self._active()
            trial = deployment is not None and deployment.state == "trial"
            self._watch.add(window, self._clock.steady_s(), trial=trial)

    def stop(self) -> None:
        """The agent ends: a download in progress stops, and the history is written down."""
        self._stopped.set()
        with self._lock:
            self._watch.keep(self._clock.steady_s())

    # -- the loop ---------------------------------------------------------------------------------------------------------

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
            late = begins_late(self._active(), self._assignment, event, self._clock.now_s())
            event = self._apply(self._overruled() or late or event)
        return True

    def _unless_late(self, deployment: Deployment, event: Event) -> Event | None:
        return self._renewal.go_on(event, past_end(deployment, self._assignment, self._clock.now_s()), self._clock.steady_s())

    def _active(self) -> Deployment | None:
        deployment = self._state.deployment
        return None if deployment is None or deployment.settled else deployment

    def _overruled(self) -> Event | None:
        """A newer assignment goes before anything that the deployment itself came to."""
        with self._lock:
            deployment = self._active()
            if deployment is None or self._assignment is None:
                return None
            running = None if self._running is None else self._running.sha256
            return interrupting(deployment, to_run(self._assignment), running)

    def _next_event(self) -> Event | None:
        deployment = self._active()
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
        if deployment.retry_at_s is None and (obstacle := self._actions.obstacle()) is not None:
            return None if obstacle.reason == deployment.reason else obstacle
        over = retry_over(deployment, self._clock.now_s())
        return self._unless_late(deployment, Event(kind="clear")) if over else None

    def _begin(self) -> Event | None:
        assignment = self._assignment
        if assignment is None or self._active() is not None:
            return None
        running = None if self._running is None else self._running.sha256
        now_s = self._clock.now_s()
        bundle = should_begin(assignment, self._state.seen_digest, self._state.deployment, running, now_s)
        if bundle is None:
            self._forget_overtaken(to_run(assignment))
            return None
        fresh = begin(self._state.seen_seq, self._state.seen_digest, bundle, now_s)
        # Not written down before it is ``offered``: idle has nothing to resume.
        self._state = msgspec.structs.replace(self._state, deployment=fresh, deployments=self._state.deployments + 1)
        return Event(kind="assigned")

    def _forget_overtaken(self, wanted: AssignedBundle | None) -> None:
        """Another release was wanted in between: the last one may be tried again when it is wanted again."""
        last = self._state.deployment
        if wanted is not None and last is not None and last.state != "committed" and last.bundle.sha256 != wanted.sha256:
            self._keep(deployment=None)

    def _apply(self, event: Event) -> Event | None:
        with self._lock:
            deployment = self._state.deployment
            assert deployment is not None
            before = deployment.state
            done = step(deployment, event, self._clock.now_s())
            changes: dict[str, object] = {"deployment": done.deployment}
            if done.deployment.state == "committed":
                changes["floor"] = max(self._state.floor, done.deployment.min_counter)
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
                    deliver(self._reports, report_of(deployment, self._running, self._clock.now_s()))
                    continue
                answer = self._actions.perform(action, deployment, self._state.floor, self._should_stop) or answer
                if action in ("switch", "roll_back"):
                    self._running = self._actions.running()
                    with self._lock:
                        self._watch.switched(self._clock.steady_s())
        except OSError as error:
            log.error("%s: %s", deployment.state, error)
            if not ended:
                return Event(kind="failed", reason="disk", detail=str(error))
            self._end_retry_s = self._clock.steady_s() + END_RETRY_S
            return None
        if ended and actions:
            self._end_retry_s = None
            return Event(kind="settled")
        return answer

    def _should_stop(self) -> bool:
        with self._lock:
            deployment = self._active()
            if self._stopped.is_set() or deployment is None or self._overruled() is not None:
                return True
            return overdue(age(deployment, self._clock.steady_s() - self._steady_s)) is not None

    def _grow_older(self) -> None:
        steady_s = self._clock.steady_s()
        passed_s, self._steady_s = steady_s - self._steady_s, steady_s
        deployment = self._active()
        if deployment is None:
            return
        self._state = msgspec.structs.replace(self._state, deployment=age(deployment, passed_s))
        if deployment.state in ("trial", "waiting") and steady_s - self._saved_s >= TRIAL_SAVE_S:
            self._keep()

    def _keep(self, **changes: object) -> None:
        fresh = msgspec.structs.replace(self._state, **changes)
        self._memory.save(fresh)
        self._state = fresh
        self._saved_s = self._clock.steady_s()

    def _stored_assignment(self) -> Assignment | None:
        try:
            return decode(Assignment, self._state.assignment.encode()) if self._state.assignment else None
        except MessageError:
            return None  # of another version of the agent: the server sends it again when the digest differs
