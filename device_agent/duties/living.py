"""Tells the launcher that this start works: what an agent on trial must say in time. Pure apart from what is handed in."""

from collections.abc import Callable

from device_agent.duties.turn import Stop

LOOK_EVERY_S = 60.0


class Living:
    """A duty. ``say`` tells the launcher; it may raise OSError, and is asked again then."""

    def __init__(self, say: Callable[[], None]) -> None:
        self.name = "living"
        self.silence_s = 3 * LOOK_EVERY_S
        self._say = say

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Once is enough; then wait for the end."""
        self._say()
        progress()
        while not stop.wait(LOOK_EVERY_S):
            progress()
