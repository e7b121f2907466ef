"""Follows the server to a new address, and finds it again where the old one is dead. Pure but for what it is given.

The agent starts anew with the other address: every part of it is then built upon that one, as after an update of its policy.
"""

import logging
from collections.abc import Callable

from device_agent.duties.turn import Stop
from device_agent.errors import AgentError
from device_agent.link.addresses import Addresses

log = logging.getLogger(__name__)
STEP_S = 5.0
AWAY_S = 600.0
"""The server may be silent so long before another address is tried: most outages are shorter, and end where they began."""
ASK_EVERY_S = 3600.0
"""So long after a place did not answer, or was left, it is tried again."""


class Moving:
    """A duty. ``probe`` asks an address and raises AgentError unless our own fleet answers there; ``reached``: the last poll was
    answered; ``keep`` writes down (raises OSError); ``leave`` ends the agent; ``busy``: an update is under way, which goes first.

    ``draw`` gives numbers uniform in [0, 1): a thousand boards that hear of it do not come within one second.
    """

    def __init__(
        self,
        addresses: Addresses,
        *,
        allows: Callable[[str, int], bool],
        reached: Callable[[], bool],
        probe: Callable[[str], None],
        keep: Callable[[Addresses], None],
        leave: Callable[[], None],
        busy: Callable[[], bool],
        steady_s: Callable[[], float],
        draw: Callable[[], float],
    ) -> None:
        self.name = "address"
        self.silence_s = 900.0
        self.addresses = addresses
        self._allows, self._reached, self._probe, self._keep = allows, reached, probe, keep
        self._leave, self._busy, self._steady_s, self._draw = leave, busy, steady_s, draw
        self._reached_s = steady_s()
        self._next_s = 0.0
        self._heard: tuple[str, ...] | None = None

    def hear(self, told: tuple[str, ...]) -> None:
        """A signed answer of the server names its addresses (called from the poll's thread)."""
        self._heard = told

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Look, wait, look again, until told to stop or until the agent leaves for another address."""
        while not stop.is_set():
            if self.look():
                self._leave()
                return
            progress()
            stop.wait(STEP_S)

    def look(self) -> bool:
        """One step; True when the agent should start anew, at the address that is kept now."""
        now_s = self._steady_s()
        if self._reached():
            self._reached_s = now_s
        if self._take_in():
            self._next_s = now_s + STEP_S * self._draw()
        if now_s < self._next_s or self._busy():
            return False
        away = now_s - self._reached_s >= AWAY_S
        here = self.addresses
        places = here.others() if away else [here.wanted] if here.wanted != here.current else []
        if not places:
            return False
        self._next_s = now_s + (AWAY_S if away else ASK_EVERY_S) * (0.75 + 0.5 * self._draw())
        return any(self._moves_to(place) for place in places)

    def _take_in(self) -> bool:
        if self._heard is None:
            return False
        heard, self._heard = self.addresses.hear(self._heard, self._allows), None
        if heard.told == self.addresses.told:
            return False
        log.info("the server is reached at %s", ", ".join(heard.told) or "one address only, that of before")
        return self._kept(heard)

    def _moves_to(self, place: str) -> bool:
        try:
            self._probe(place)
        except AgentError as error:
            log.warning("no server at %s: %s; this board stays at %s", place, error.message, self.addresses.current)
            return False
        log.warning("the server answers at %s; this board goes there from %s", place, self.addresses.current)
        chosen = "" if place == self.addresses.home else place
        return self._kept(Addresses(self.addresses.home, self.addresses.told, chosen))

    def _kept(self, addresses: Addresses) -> bool:
        try:
            self._keep(addresses)
        except OSError as error:
            log.error("the server's addresses cannot be kept: %s", error)
            return False
        self.addresses = addresses
        return True
