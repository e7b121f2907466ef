"""Looks for a newer policy of those whom this board follows; the agent starts anew with it. Pure but for what it is given."""

import logging
from collections.abc import Callable
from typing import Protocol

from device_agent.duties.turn import Stop
from ota.trust.refusal import Refusal

LOOK_EVERY_S = 6 * 3600.0
STEP_S = 30.0
PASSING = ("download", "disk")
"""Refusals that pass by themselves: nobody is told of an outage."""
log = logging.getLogger(__name__)


class Follower(Protocol):
    """``update.policy_target_disk.PolicyFollower`` fits."""

    refused: Refusal | None

    def look(self) -> bool:
        """Whether a newer policy was taken; raises OSError."""
        ...


class Following:
    """A duty. ``busy``: an update is under way, which goes first; ``tell`` reports why a policy was not taken, once for each
    reason; ``leave`` ends the agent, whose next start reads the policy.
    """

    def __init__(
        self,
        follower: Follower,
        *,
        busy: Callable[[], bool],
        tell: Callable[[Refusal], None],
        leave: Callable[[], None],
        every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.name = "policy"
        self.silence_s = 900.0
        self._follower, self._busy, self._tell, self._leave, self._every_s = follower, busy, tell, leave, every_s
        self._told: Refusal | None = None
        self._taken = False

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Look, wait, look again, until told to stop."""
        left_s = 0.0
        while not stop.is_set():
            if left_s <= 0.0 and not self._taken:
                self._look()
                left_s = self._every_s
            if self._taken and not self._busy():
                self._leave()
                return
            progress()
            step_s = 1.0 if self._taken else min(STEP_S, max(0.05, left_s))
            stop.wait(step_s)
            left_s -= step_s

    def _look(self) -> None:
        try:
            self._taken = self._follower.look()
        except OSError as error:
            log.error("a newer policy cannot be kept: %s", error)
            return
        refused = self._follower.refused
        if refused is None or refused.code in PASSING or refused == self._told:
            return
        log.warning("the followed policy was not taken (%s): %s", refused.code, refused.detail)
        self._told = refused
        self._tell(refused)
