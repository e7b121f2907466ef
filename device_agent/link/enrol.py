"""The first contact: a claim and a certificate request go up, an identity comes back. One step at a time: a wait can be shown."""

from dataclasses import dataclass
from typing import Protocol

from device_agent.errors import ClaimRefusedError, ServerNonsenseError, ServerRefusedError
from device_agent.link.identity_x509 import Identity, IdentityStore
from ota.wire.enrolment import BoardFacts, EnrolAnswer, EnrolRequest, RenewRequest


class EnrolDoor(Protocol):
    """What enrolment and renewal need of the server."""

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        """Ask for an identity."""
        ...

    def renew(self, request: RenewRequest) -> EnrolAnswer:
        """Ask for the next certificate."""
        ...


@dataclass(frozen=True, slots=True)
class EnrolmentStep:
    """``identity`` once accepted; otherwise pending, and ``retry_after_s`` says when to ask again."""

    identity: Identity | None
    retry_after_s: float = 0.0


def enrol_once(door: EnrolDoor, store: IdentityStore, claim: str, facts: BoardFacts) -> EnrolmentStep:
    """Ask once. The same key is asked for again after a lost answer or a restart, so an answer that was lost costs nothing.

    Raises ClaimRefusedError in the server's words, and the link's errors of outages.
    """
    request = EnrolRequest(claim=claim, csr_pem=store.request(facts.serial), facts=facts)
    try:
        answer = door.enrol(request)
    except ServerRefusedError as refusal:
        raise ClaimRefusedError(
            f"the server does not accept this board: {refusal.detail}",
            refusal.hint or "ask an operator for a new claim (rookery claim create) and put it into the claim file",
        ) from None
    if answer.status == "pending":
        return EnrolmentStep(None, min(max(answer.retry_after_s, 0.05), 600.0))
    if answer.status != "accepted":
        raise ServerNonsenseError(f"enrolment was answered with the unknown status {answer.status!r}")
    store.keep_answer(answer)
    return EnrolmentStep(store.adopt())


def ask_renewal(door: EnrolDoor, store: IdentityStore, serial: str) -> Identity:
    """Ask for the next certificate over the present one's connection. It is kept, but in force only after ``store.adopt``."""
    answer = door.renew(RenewRequest(csr_pem=store.request(serial)))
    if answer.status != "accepted":
        raise ServerNonsenseError(f"renewal was answered with the status {answer.status!r}")
    return store.keep_answer(answer)
