"""The poll: ask the server what this device should run, believe only what verifies. Pure apart from what is handed in."""

import logging
from collections.abc import Callable
from typing import Protocol

from device_agent.duties.turn import Bell, Stop
from device_agent.errors import AgentError
from device_agent.spool.retry import BackOff, after_error
from device_agent.update.assignment_rule import Accepted
from ota.trust.refusal import Refusal
from ota.wire.assignments import Assignment, StateAnswer, StateRequest

log = logging.getLogger(__name__)
SHORTEST_POLL_S, LONGEST_POLL_S = 1.0, 24 * 3600.0
"""Bounds of what a server may ask for: neither a storm nor silence for ever."""
JITTER = 0.15


class Judge(Protocol):
    """The updater, as far as polls go."""

    @property
    def seen(self) -> tuple[int, str]:
        """Number and digest of the newest assignment that is held here (0 and empty: none)."""
        ...

    def poll_answer(self, answer: StateAnswer, nonce: str) -> Accepted | Refusal:
        """Verify an answer and take over its assignment; a refusal says why it is not believed."""
        ...


class Polling:
    """A duty. ``accepted`` hears of every answer that was believed, ``assigned`` of every new assignment.

    ``draw`` gives numbers uniform in [0, 1): they spread the polls of many devices. ``versions`` tells which signed metadata is
    trusted here: a server that was restored from a backup learns from it how far it is behind.
    """

    def __init__(
        self,
        ask: Callable[[StateRequest], StateAnswer],
        judge: Judge,
        bell: Bell,
        *,
        new_nonce: Callable[[], str],
        accepted: Callable[[Accepted], None],
        assigned: Callable[[Assignment], None],
        poll_s: float,
        draw: Callable[[], float],
        versions: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self.name = "poll"
        self.silence_s = 2 * LONGEST_POLL_S
        self.reached = False
        """Whether the last poll was answered (even with something that was not believed)."""
        self._ask, self._judge, self._bell, self._new_nonce = ask, judge, bell, new_nonce
        self._accepted, self._assigned, self._poll_s = accepted, assigned, poll_s
        self._draw, self._told, self._versions = draw, "", versions

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Poll until told to stop; a wake polls at once."""
        back_off = BackOff(base_s=min(1.0, self._poll_s), cap_s=max(self._poll_s, 60.0))
        while not stop.is_set():
            try:
                self._once()
            except AgentError as error:
                self.reached = False
                back_off = after_error(back_off, error, self._draw())
                self._say(error.message)
                # At least the ordinary rhythm holds: a server that polls every 2 s is not away for a minute.
                wait_s = min(back_off.wait_s, max(self._poll_s, 5.0)) if back_off.wait_s < 60 else back_off.wait_s
            else:
                self.reached = True
                back_off = back_off.after_success()
                wait_s = self._poll_s * (1 + JITTER * (2 * self._draw() - 1))
            progress()
            self._bell.wait(wait_s)

    def _once(self) -> None:
        nonce = self._new_nonce()
        seq, digest = self._judge.seen
        asked = StateRequest(nonce=nonce, seq=seq, digest=digest or None, metadata_versions=self._versions())
        answer = self._ask(asked)
        outcome = self._judge.poll_answer(answer, nonce)
        if isinstance(outcome, Refusal):
            self._say(f"the server's answer is not believed: {outcome}")
            return
        if self._told:
            log.info("poll: answered again")
            self._told = ""
        self._poll_s = min(max(outcome.state.poll_s, SHORTEST_POLL_S), LONGEST_POLL_S)
        log.debug("poll: assignment %d holds, next poll in about %.0f s", outcome.state.seq, self._poll_s)
        self._accepted(outcome)
        if outcome.assignment is not None:
            self._assigned(outcome.assignment)

    def _say(self, message: str) -> None:
        level = logging.WARNING if message != self._told else logging.DEBUG
        self._told = message
        log.log(level, "poll: %s", message)
