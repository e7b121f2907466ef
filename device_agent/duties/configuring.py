"""The configuration's loop: what the server wants is tried, kept or taken back. Pure apart from what is handed in."""

from collections.abc import Callable, Iterable

from device_agent.configuration.keeper import Keeper
from device_agent.configuration.trial import Sight
from device_agent.duties.turn import Bell, Stop
from device_agent.vision.pipeline import Pipeline
from ota.wire.assignments import Assignment

BUSY_S, IDLE_S = 0.5, 10.0
"""How often the cameras are looked at while something is tried, and how often the model's labels otherwise."""


class Configuring:
    """A duty. The keeper was started before the cameras; the bell is rung when an assignment was believed.

    ``latest`` gives the newest believed assignment, of an earlier run of the agent, too; None before there is any.
    """

    def __init__(self, keeper: Keeper, bell: Bell, latest: Callable[[], Assignment | None]) -> None:
        self.name = "configuration"
        self.silence_s = 120.0
        self._keeper, self._bell, self._latest = keeper, bell, latest
        self._seen: Assignment | None = None

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Step until told to stop."""
        while not stop.is_set():
            latest = self._latest()
            if latest is not None and latest is not self._seen:
                self._seen = latest
                self._keeper.want(latest.configuration)
            self._keeper.step()
            progress()
            self._bell.wait(BUSY_S if self._keeper.busy else IDLE_S)


def sights_of(pipelines: Iterable[Pipeline]) -> list[Sight]:
    """How the cameras are doing, as their pipelines count."""
    found = []
    for pipeline in pipelines:
        counts, camera = pipeline.counts(), pipeline.settings.camera
        found.append(Sight(camera, counts.frames, counts.looked, pipeline.failures, pipeline.failure, pipeline.pending))
    return found
