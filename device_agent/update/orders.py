"""The newest assignment that was believed: judged, kept before it is acted upon, read by whoever keeps a part of it."""

import logging

from device_agent.update.answers import Answers
from device_agent.update.assignment_rule import Accepted, Seen, payload_digest
from device_agent.update.installed import Running
from device_agent.update.ledger import Ledger
from device_agent.update.ports import Clock, Reports, Trust
from device_agent.update.reports import deliver, report_of_refused_answer
from ota.trust.refusal import Refusal
from ota.wire.assignments import Assignment, StateAnswer
from ota.wire.codec import MessageError, decode

log = logging.getLogger("rookery.update")


class Orders:
    """One per device, whatever many updaters read it; it lies in the ledger of the model's. ``device`` is its own id."""

    def __init__(self, device: str, ledger: Ledger, trust: Trust, clock: Clock, reports: Reports) -> None:
        self._ledger, self._clock, self._reports = ledger, clock, reports
        self._answers = Answers(device, trust, clock)
        self._assignment = self._stored()

    @property
    def seen(self) -> Seen:
        """Number and digest of the newest accepted assignment: they go into the next StateRequest."""
        with self._ledger.lock:
            state = self._ledger.state
            return Seen(state.seen_seq, state.seen_digest, state.seen_keyid)

    @property
    def assignment(self) -> Assignment | None:
        """The newest accepted assignment."""
        return self._assignment

    @property
    def refused(self) -> Refusal | None:
        """Why the newest answer was not believed, None when it was."""
        return self._answers.refused

    def poll_answer(self, answer: StateAnswer, nonce: str, running: Running | None) -> Accepted | Refusal:
        """Judge the server's answer to the poll that carried ``nonce``; what is accepted is kept before it is acted upon."""
        judged = self._answers.judge(answer, nonce, self.seen)
        if isinstance(judged, Refusal):
            log.warning("the server's answer was refused (%s): %s", judged.code, judged.detail)
            news = self._answers.news(judged, answer)
            if news is not None:
                deliver(self._reports, report_of_refused_answer(judged, *news, running, self._clock.now_s()))
            return judged
        if judged.assignment is None or judged.payload is None or answer.assignment is None:
            return judged
        digest, keyid = payload_digest(judged.payload), answer.assignment.keyid
        try:
            with self._ledger.lock:
                seq = judged.assignment.seq
                self._ledger.keep(seen_seq=seq, seen_digest=digest, seen_keyid=keyid, assignment=judged.payload)
                self._assignment = judged.assignment
        except OSError as error:
            return Refusal("disk", f"the assignment cannot be kept: {error}")
        return judged

    def _stored(self) -> Assignment | None:
        payload = self._ledger.state.assignment
        try:
            return decode(Assignment, payload.encode()) if payload else None
        except MessageError:
            return None  # of another version of the agent: the server sends it again when the digest differs
