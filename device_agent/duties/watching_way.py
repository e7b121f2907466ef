"""Whether the way to the server got worse since a release was switched to. Pure apart from what is handed in."""

from collections.abc import Callable

from device_agent.duties.turn import Stop
from device_agent.link.way_linux import Way

BASELINE_S = 600.0
"""How often the way is looked at while no release is on trial: what was known last is what a trial is compared with."""
TRIAL_S = 60.0


class WatchingWay:
    """A duty. ``worse`` is for the trial's judge: the server is out of reach, and so is a step that worked before the switch.

    ``reached``: the last poll was answered. ``on_trial``: a release is on trial. After a restart in the midst of a trial there is
    nothing to compare with, and nothing is called worse.
    """

    def __init__(self, look: Callable[[], Way], *, reached: Callable[[], bool], on_trial: Callable[[], bool]) -> None:
        self.name = "way"
        self.silence_s = 3 * BASELINE_S
        self.worse = False
        self._look, self._reached, self._on_trial = look, reached, on_trial
        self._before = Way()

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Look until told to stop."""
        while not stop.is_set():
            wait_s = self.once()
            progress()
            stop.wait(wait_s)

    def once(self) -> float:
        """One look where one is due; the seconds until the next."""
        if not self._on_trial():
            self.worse = False
            found = self._look()
            if self._on_trial():
                return TRIAL_S  # the switch came while it was looked: that is not the way as it was before
            self._before = found
            return BASELINE_S
        self.worse = not self._reached() and self._look().worse_than(self._before)
        return TRIAL_S
