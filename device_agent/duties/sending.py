"""Empties the outbox whenever something is in it; backs off while the server cannot take it. Pure but for what it is given."""

import logging
from collections.abc import Callable

from device_agent.duties.turn import Bell, Stop
from device_agent.errors import AgentError, OwnerError
from device_agent.spool.retry import BackOff, after_error

log = logging.getLogger(__name__)
IDLE_S = 60.0
"""Without anything to send it looks this often all the same."""


class Sending:
    """A duty around anything with a step that says whether more waits (the outbox, the log ring). ``draw``: uniform in [0, 1)."""

    def __init__(
        self, name: str, step: Callable[[], bool], bell: Bell, *, draw: Callable[[], float], idle_s: float = IDLE_S,
        gather_s: float = 0.0,
    ) -> None:  # fmt: skip
        self.name = name
        # One body may take four minutes to send and four to arrive (link.pool_http), and a batch follows it.
        self.silence_s = 1200.0
        self._step, self._bell, self._idle_s, self._gather_s = step, bell, idle_s, gather_s
        self._draw, self._told = draw, ""

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Send until told to stop."""
        back_off = BackOff()
        while not stop.is_set():
            try:
                more = self._step()
            except OwnerError:
                raise
            except AgentError as error:
                back_off = after_error(back_off, error, self._draw())
                self._say(error.message)
                # A ring does not shorten an outage's wait: a busy camera would else knock at a dead door all day.
                stop.wait(back_off.wait_s)
            else:
                if self._told:
                    log.info("%s: goes again", self.name)
                self._told = ""
                back_off = back_off.after_success()
                if not more and self._bell.wait(self._idle_s) and self._gather_s:
                    # What comes within a moment goes in one batch: fewer requests, fewer bytes.
                    stop.wait(self._gather_s)
            progress()

    def _say(self, message: str) -> None:
        """Once per outage and kind of words."""
        level = logging.WARNING if message != self._told else logging.DEBUG
        self._told = message
        log.log(level, "%s: %s", self.name, message)
