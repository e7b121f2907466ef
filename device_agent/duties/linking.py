"""The way to an identity, and its renewal: enrol, tell the others, renew at two thirds. Pure apart from what is handed in."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from device_agent.duties.turn import Duty, Stop
from device_agent.errors import AgentError, OwnerError, ServerError
from device_agent.link.enrol import EnrolDoor, ask_renewal, enrol_once
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.late_renewal_x509 import Ask, ask_late_renewal
from device_agent.spool.retry import BackOff, after_error
from ota.wire.enrolment import BoardFacts

log = logging.getLogger(__name__)
LOOK_EVERY_S = 600.0
"""How often a certificate's age is looked at."""


class Claim(Protocol):
    """The one-time token of this board."""

    def read(self) -> str:
        """The token, empty for a board that has none and waits to be accepted; raises ClaimRefusedError."""
        ...

    def remove(self) -> None:
        """It was used."""
        ...


class Linking:
    """A duty. ``use`` switches the link to an identity; ``confirm`` makes one call that demands it (raises the link's errors).

    ``draw`` gives numbers uniform in [0, 1): they spread the tries of many devices.
    """

    def __init__(
        self,
        store: IdentityStore,
        door: EnrolDoor,
        claim: Claim,
        facts: Callable[[], BoardFacts],
        *,
        use: Callable[[Identity], None],
        confirm: Callable[[], None],
        learn_time: Callable[[], None],
        now_s: Callable[[], float],
        draw: Callable[[], float],
        renew_late: Ask | None = None,
    ) -> None:
        self.name = "link"
        self.silence_s = 4 * LOOK_EVERY_S
        self.linked = threading.Event()
        self.note = "not enrolled yet"
        """For people: what the way to the server waits for."""
        self._store, self._door, self._claim, self._facts = store, door, claim, facts
        self._use, self._confirm, self._learn_time, self._now_s, self._draw = use, confirm, learn_time, now_s, draw
        self._renew_late = renew_late

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Enrol if need be, then keep the certificate young. Raises OwnerError when only a person can help."""
        identity = self._store.load()
        if identity is not None:
            try:
                self._learn_time()
            except AgentError as error:
                log.warning("the time is not known yet: %s", error.message)
        if identity is None:
            identity = self._enrol(stop, progress)
            if identity is None:
                return
        self._claim.remove()
        identity = self._awake(identity, stop, progress)
        if stop.is_set():
            return
        self._use(identity)
        self.note = f"enrolled as {identity.device}"
        self.linked.set()
        while not stop.is_set():
            try:
                identity = self._renew(identity)
            except OwnerError:
                raise
            except AgentError as error:
                log.warning("renewal of the certificate: %s", _in_full(error))
            progress()
            stop.wait(LOOK_EVERY_S)

    def _awake(self, identity: Identity, stop: Stop, progress: Callable[[], None]) -> Identity:
        """A board that slept through the end of its certificate renews it before anybody else here tries to use it."""
        back_off = BackOff(cap_s=LOOK_EVERY_S)
        while identity.not_after_s <= self._now_s() and self._renew_late is not None and not stop.is_set():
            self.note = f"the certificate ended {(self._now_s() - identity.not_after_s) / 86_400:.0f} days ago; renews it"
            try:
                identity = self._renew(identity)
            except OwnerError:
                raise
            except AgentError as error:
                back_off = after_error(back_off, error, self._draw())
                self.note = _in_full(error)
                log.warning("the certificate has ended and is not renewed yet: %s", self.note)
                progress()
                stop.wait(back_off.wait_s)
        return identity

    def _enrol(self, stop: Stop, progress: Callable[[], None]) -> Identity | None:
        token, facts = self._claim.read(), self._facts()
        back_off = BackOff(cap_s=60.0)
        told = ""
        while not stop.is_set():
            try:
                self._learn_time()
                step = enrol_once(self._door, self._store, token, facts)
            except OwnerError:
                raise
            except AgentError as error:
                back_off = after_error(back_off, error, self._draw())
                if isinstance(error, ServerError):
                    # Before enrolment nothing is lost by asking soon: someone stands beside the board and waits.
                    back_off = BackOff(cap_s=60.0, previous_s=min(back_off.wait_s, 10.0))
                self.note, wait_s = error.message, back_off.wait_s
            else:
                if step.identity is not None:
                    log.info("enrolled as %s", step.identity.device)
                    return step.identity
                without = "" if token else ", for it has no claim"
                key = self._store.fingerprint()
                self.note = f"waits for an operator to accept this board{without}; fingerprint of its key: {key}"
                wait_s = step.retry_after_s
            if self.note != told:
                told = self.note
                log.warning("enrolment: %s (board %s, serial %s)", told, facts.board_model, facts.serial or "unknown")
            progress()
            stop.wait(wait_s)
        return None

    def _renew(self, identity: Identity) -> Identity:
        fresh, now_s = self._store.pending(), self._now_s()
        if fresh is not None and fresh.not_after_s <= now_s:
            fresh = None  # slept through as well: the same key gets another certificate
        if fresh is None:
            if not identity.renewal_due(now_s):
                return identity
            if identity.not_after_s <= now_s and self._renew_late is not None:
                fresh = ask_late_renewal(self._renew_late, self._store, identity, self._facts().serial)
            else:
                fresh = ask_renewal(self._door, self._store, self._facts().serial)
        self._use(fresh)
        try:
            self._confirm()
        except AgentError:
            # It did not work: the old one is still good, and is what we go on with.
            self._use(identity)
            raise
        adopted = self._store.adopt()
        self._use(adopted)
        log.info("certificate renewed")
        return adopted


class AfterLink:
    """A duty that waits until the board is enrolled, then does another."""

    def __init__(self, duty: Duty, linked: threading.Event) -> None:
        self.name, self.silence_s = duty.name, duty.silence_s
        self._duty, self._linked = duty, linked

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Wait, then run."""
        stop.on_set(self._linked.set)
        while not self._linked.wait(5.0):
            progress()
        if not stop.is_set():
            self._duty.run(stop, progress)


def _in_full(error: AgentError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
