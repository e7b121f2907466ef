"""Several cameras on one detector, each with its share. Pure but for the waiting of threads; the clock is handed in.

Start-time fair queueing: each camera has a virtual time that advances by what its looks cost, divided by its weight; of those
that wait, the one that is furthest behind is next. Whoever did not ask gains no claim by that, and holds nobody up. So a camera
with 30 frames a second takes what others leave, and one with 5 gets its 5.

A live camera whose turn comes when a newer frame is ready drops the old one (`stale`); its turn is kept for a moment, so that the
newer frame is looked at right away instead of growing old in its turn. Recorded cameras wait: they lose nothing. The turn is also
kept for a camera that was served, is still the one furthest behind, and has its next frame ready: it comes back within
milliseconds, and without that two cameras would just alternate, whatever their weights and costs.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent.vision.detector import Answer, Detector, DetectorError, ModelSpec
from device_agent.vision.types import Frame, Picture
from models.card import ModelCard
from models.inference.types import Detections

KEPT_S = 0.1
"""How long a turn is kept for a camera that has a newer frame: it comes back within a gate's time, or not at all."""
LEAST_COST_S = 1e-4
"""A look that cost nothing (a detector that is being started again) is a turn all the same."""


@dataclass(slots=True)
class _Place:
    """One camera: its weight, its virtual time, and since which number it waits (None: it does not)."""

    weight: float
    virtual_s: float = 0.0
    waiting: int | None = None


class Turns:
    """Who is next. Pure: not for several threads at a time, times in seconds are handed in."""

    def __init__(self) -> None:
        self._places: dict[str, _Place] = {}
        self._asked = 0
        self._now_s = 0.0  # the virtual time of the last one that was served
        self._serving: str | None = None
        self._kept: tuple[str, float] | None = None

    def join(self, name: str, weight: float = 1.0) -> None:
        """A camera takes part; raises ValueError for a weight that is not above 0, and for a name that is taken."""
        if not 0 < weight < float("inf"):
            raise ValueError(f"camera {name}: a weight must be above 0, not {weight:g}")
        if name in self._places:
            raise ValueError(f"two cameras are called {name!r}")
        self._places[name] = _Place(weight)

    def ask(self, name: str) -> None:
        """A camera has a frame to be looked at."""
        place = self._places[name]
        place.virtual_s = max(place.virtual_s, self._now_s)
        self._asked += 1
        place.waiting = self._asked

    def next(self, now_s: float) -> str | None:
        """Whose turn it is: that camera is served from now on. None while one is served, a turn is kept, or nobody waits."""
        if self._serving is not None:
            return None
        if self._kept is not None:
            name, until_s = self._kept
            if self._places[name].waiting is None and now_s < until_s:
                return None
            self._kept = None
            if self._places[name].waiting is not None:
                return self._serve(name)
        waiting = [(place.virtual_s, place.waiting, name) for name, place in self._places.items() if place.waiting is not None]
        return self._serve(min(waiting)[2]) if waiting else None

    def done(self, name: str, cost_s: float, back_until_s: float | None = None) -> None:
        """The camera that was served is through, after so long; `back_until_s`: it has its next frame and is back before that."""
        place = self._places[name]
        place.virtual_s += max(LEAST_COST_S, cost_s) / place.weight
        self._serving = None
        others = [other.virtual_s for other in self._places.values() if other.waiting is not None]
        if back_until_s is not None and others and place.virtual_s < min(others):
            self._kept = (name, back_until_s)

    def keep(self, name: str, until_s: float) -> None:
        """The camera that is served dropped its frame: its turn is kept until then."""
        self._serving = None
        self._kept = (name, until_s)

    def give_up(self, name: str) -> bool:
        """The kept turn is not needed after all (the newer frame has nothing to look at); True where there was one."""
        kept = self._kept is not None and self._kept[0] == name
        if kept:
            self._kept = None
        return kept

    @property
    def kept_until_s(self) -> float | None:
        """When a kept turn ends; None where there is none."""
        return None if self._kept is None else self._kept[1]

    def _serve(self, name: str) -> str:
        place = self._places[name]
        place.waiting = None
        self._now_s = max(self._now_s, place.virtual_s)
        self._serving = name
        return name


class FairTurn:
    """One detector for several cameras: `seat` gives each its own Detector. `clock_s` is monotonic."""

    def __init__(self, detector: Detector, clock_s: Callable[[], float]) -> None:
        self.detector = detector
        self._clock_s = clock_s
        self._turns = Turns()
        self._changed = threading.Condition()
        self._granted: str | None = None
        self._dropped: set[str] = set()

    def seat(self, camera: str, weight: float = 1.0) -> "Seat":
        """A camera's place; raises ValueError for a weight that is not above 0 and for a camera that has one."""
        with self._changed:
            self._turns.join(camera, weight)
        return Seat(self, camera)

    def look(self, camera: str, picture_bgr: Picture, newer: Callable[[], bool] | None, *, begun: bool = False) -> Answer:
        """Wait for the camera's turn and look; raises DetectorError: `stale` when a newer frame of it is ready by then.

        `begun`: another part of this frame was looked at already (tiles), so it is not dropped any more.
        """
        self._wait(camera)
        started_s, stale = self._clock_s(), False
        try:
            # Never two in a row: a camera faster than any detector would be looked at never.
            stale = newer is not None and not begun and camera not in self._dropped and newer()
            if stale:
                raise DetectorError("stale", f"camera {camera} has a newer frame than the one whose turn it is")
            return self.detector.look(picture_bgr)
        finally:
            with self._changed:
                self._granted = None
                if stale:
                    self._dropped.add(camera)
                    self._turns.keep(camera, self._clock_s() + KEPT_S)
                else:
                    self._dropped.discard(camera)
                    now_s = self._clock_s()
                    back = newer is None or newer()
                    self._turns.done(camera, now_s - started_s, now_s + KEPT_S if back else None)
                self._pass_on()

    def give_up(self, camera: str) -> None:
        """The camera's kept turn, if there is one, goes to the others."""
        with self._changed:
            if self._turns.give_up(camera):
                self._pass_on()

    def _wait(self, camera: str) -> None:
        with self._changed:
            self._turns.ask(camera)
            self._pass_on()
            while self._granted != camera:
                until_s = self._turns.kept_until_s
                self._changed.wait(None if until_s is None else max(1e-3, until_s - self._clock_s()))
                self._pass_on()

    def _pass_on(self) -> None:
        """Let the next one go. The lock is held."""
        if self._granted is None:
            self._granted = self._turns.next(self._clock_s())
        self._changed.notify_all()


class Seat:
    """One camera's view of the shared detector: a Detector whose `look` waits for its turn."""

    def __init__(self, turns: FairTurn, camera: str) -> None:
        self.camera = camera
        self._turns = turns
        self._newer: Callable[[], bool] | None = None
        self._looked = False

    def follow(self, newer: Callable[[], bool] | None) -> None:
        """Say how to find out whether this camera, a live one, has a newer frame; None for recorded ones."""
        self._newer = newer

    def passed(self) -> None:
        """A frame is through. Where it asked for no look, a turn that is kept for this camera goes to the others."""
        if self._looked:
            self._looked = False
        else:
            self._turns.give_up(self.camera)

    @property
    def card(self) -> ModelCard:
        """As the shared detector's."""
        return self._turns.detector.card

    @property
    def restarts(self) -> int:
        """As the shared detector's."""
        return self._turns.detector.restarts

    @property
    def runtime(self) -> str:
        """As the shared detector's."""
        return self._turns.detector.runtime

    @property
    def accelerator(self) -> str:
        """As the shared detector's."""
        return self._turns.detector.accelerator

    @property
    def accelerator_reason(self) -> str:
        """As the shared detector's."""
        return self._turns.detector.accelerator_reason

    def look(self, picture_bgr: Picture) -> Answer:
        """Detections in a picture, when it is this camera's turn; raises DetectorError."""
        begun, self._looked = self._looked, True
        return self._turns.look(self.camera, picture_bgr, self._newer, begun=begun)

    def detect(self, frame: Frame) -> Detections:
        """The detections of a frame alone; raises DetectorError."""
        return self.look(frame.picture_bgr).detections

    @property
    def last_error(self) -> str:
        """As the shared detector's."""
        return self._turns.detector.last_error

    def switch(
        self, model_path: Path, card_path: Path, *, threads: int = 1, delegate_library: str | None = None,
        fallback: ModelSpec | None = None,
    ) -> None:
        """Change the shared detector's model, for all cameras; raises ModelError."""
        switch = self._turns.detector.switch
        switch(model_path, card_path, threads=threads, delegate_library=delegate_library, fallback=fallback)

    def close(self) -> None:
        """Nothing: the detector belongs to whoever made it."""
