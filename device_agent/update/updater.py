"""The thin shell around the update machine: the agent's loop calls it, it asks the machine and has the actions performed.

This is what the rest of the agent sees; the work is done in ``loop``. ``tick`` may take as long as a download and belongs in a
thread of its own; the other methods return at once and may be called from any thread.

There are two on a board, over the same table: the model's, and the agent's own. Each has its memory, actions and judge; both
read the same orders, and one waits while the other installs (``stand_beside``). Both tick in the same thread.
"""

import logging
from collections.abc import Callable

from device_agent.update.assignment_rule import Accepted, Seen
from device_agent.update.health import HealthWindow
from device_agent.update.installed import Installed
from device_agent.update.ledger import Ledger
from device_agent.update.loop import Loop
from device_agent.update.orders import Orders
from device_agent.update.ports import Actions, Clock, Judge, Memory, Reports, Trust
from device_agent.update.status import Status, status_of
from device_agent.update.wanted import MODEL, Part, busy_with
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment, StateAnswer

CARRIED = "A release was carried to this board and goes before the server's word, until the server wants another one."

log = logging.getLogger("rookery.update")


class Updater:
    """Keeps one part of this device at what its assignment says, by the rules of the board.

    ``device`` is its own id. ``part`` says which bundle of the assignment is its own. ``orders``: another updater's, to share;
    without them this one judges the server's answers itself and keeps them in its own memory.
    """

    def __init__(
        self,
        device: str,
        *,
        memory: Memory,
        actions: Actions,
        trust: Trust,
        clock: Clock,
        reports: Reports,
        watch: Judge,
        part: Part = MODEL,
        orders: Orders | None = None,
    ) -> None:
        self._clock, self._watch = clock, watch
        self._ledger = Ledger(memory)
        self._lock = self._ledger.lock
        self._orders = orders or Orders(device, self._ledger, trust, clock, reports)
        self._loop = Loop(self._ledger, self._orders, part, actions=actions, clock=clock, reports=reports, watch=watch)
        if self._ledger.note:
            log.error("%s", self._ledger.note)

    # -- what the rest of the agent asks and tells ------------------------------------------------------------------------

    @property
    def orders(self) -> Orders:
        """The assignment and who judges it: for the other updater."""
        return self._orders

    @property
    def seen(self) -> Seen:
        """Number and digest of the newest accepted assignment: they go into the next StateRequest."""
        return self._orders.seen

    @property
    def assignment(self) -> Assignment | None:
        """The newest accepted assignment: configuration and debug sessions are read from it."""
        return self._orders.assignment

    @property
    def running(self) -> Installed | None:
        """The model release that runs on this board; None for the agent's own updater (see ``status``)."""
        running = self._loop.running
        return running if isinstance(running, Installed) else None

    @property
    def busy(self) -> str:
        """What is being installed or on trial here, as words; empty while nothing is, or while it waits."""
        with self._lock:
            return busy_with(self._loop.active())

    @property
    def other_busy(self) -> str:
        """The same of the updater beside this one."""
        return self._loop.beside()

    @property
    def status(self) -> Status:
        """Where things stand, with the reasons in sentences."""
        with self._lock:
            return status_of(
                self._ledger.state.deployment, self.assignment, self._loop.wanted(), self._loop.running,
                now_s=self._clock.now_s(), refused_answer=self._orders.refused, trial_note=self._watch.note,
                state_note=self._ledger.note or (CARRIED if self._ledger.state.overridden else ""), failing=self._ledger.failing,
            )  # fmt: skip

    def stand_beside(self, busy: Callable[[], str]) -> None:
        """Begin nothing while ``busy`` (another updater's, see there) has words."""
        self._loop.beside = busy

    def take_from(self, inbox: Callable[[], AssignedBundle | None]) -> None:
        """Begin what ``inbox`` names (a bundle that was carried to the board, and may be installed) before the server's word."""
        self._loop.inbox = inbox

    def poll_answer(self, answer: StateAnswer, nonce: str) -> Accepted | Refusal:
        """Judge the server's answer to the poll that carried ``nonce``; what is accepted is kept before it is acted upon."""
        return self._orders.poll_answer(answer, nonce, self._loop.running)

    def on_window(self, window: HealthWindow) -> None:
        """What was counted since the window before; whether a trial or the history takes it is decided here."""
        with self._lock:
            deployment = self._loop.active()
            trial = deployment is not None and deployment.state == "trial"
            self._watch.add(window, self._clock.steady_s(), trial=trial)

    def tick(self) -> None:
        """Do what is due now; call it about once a second, from one thread. An error of a programmer passes through."""
        self._loop.tick()

    def stop(self) -> None:
        """The agent ends: a download in progress stops, and the history is written down."""
        self._loop.stop()
        with self._lock:
            self._watch.keep(self._clock.steady_s())
