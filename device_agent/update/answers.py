"""The server's answers to polls: which are believed, and which refusals the server should hear of. Pure but for its ports."""

from device_agent.update.assignment_rule import Accepted, Seen, judge_answer, payload_digest
from device_agent.update.ports import Clock, Trust
from ota.trust.refusal import Refusal
from ota.wire.assignments import Assignment, StateAnswer
from ota.wire.codec import MessageError, decode

MAX_TOLD = 200
"""Refusals that are remembered as told; beyond it (a hostile server) the memory starts anew."""


class Answers:
    """Judges answers for one device. ``refused`` is why the newest one was not believed, None when it was."""

    def __init__(self, device: str, trust: Trust, clock: Clock) -> None:
        self._device, self._trust, self._clock = device, trust, clock
        self._told: set[tuple[str, str]] = set()
        self.refused: Refusal | None = None

    def judge(self, answer: StateAnswer, nonce: str, seen: Seen) -> Accepted | Refusal:
        """The answer to the poll that carried ``nonce``."""
        keys = self._trust.assignment_keys()
        signed = (answer.state,) if answer.assignment is None else (answer.state, answer.assignment)
        if any(one.keyid not in keys for one in signed):
            # First contact, or the server's key was rotated: the signed metadata says who may sign.
            refused = self._trust.refresh()
            keys = self._trust.assignment_keys()
            if refused is not None and not keys:
                self.refused = refused
                return refused
        judged = judge_answer(answer, nonce=nonce, device=self._device, seen=seen, keys=keys, now_s=self._clock.now_s())
        self.refused = judged if isinstance(judged, Refusal) else None
        return judged

    def news(self, refusal: Refusal, answer: StateAnswer) -> tuple[Assignment | None, str] | None:
        """What a report of this refusal names (assignment as it was said, digest of its payload); None when told already."""
        if refusal.code in ("download", "disk"):
            return None  # an outage between us and the metadata, not an answer that was wrong
        signed = answer.assignment or answer.state
        digest = payload_digest(signed.payload)
        # A state without assignment differs each time (its nonce): once for each reason is enough.
        key = (refusal.code, digest if answer.assignment is not None else "")
        if key in self._told:
            return None
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told.add(key)
        try:
            said = None if answer.assignment is None else decode(Assignment, signed.payload.encode())
        except (MessageError, UnicodeEncodeError):
            said = None
        return said, digest
