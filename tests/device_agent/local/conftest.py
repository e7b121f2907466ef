"""Events for those who are told on the spot, and loops that are ended whatever happens."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from device_agent.duties.turn import Duty, Stop
from device_agent.vision.types import Crop, Event, EventUpdate

WAIT_S = 60.0


class Heard:
    """What somebody heard, in order; ``until`` waits for it, not for time."""

    def __init__(self) -> None:
        self.items: list = []
        self._changed = threading.Condition()

    def __call__(self, item) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def until(self, what: Callable[[list], bool]) -> list:
        with self._changed:
            assert self._changed.wait_for(lambda: what(self.items), WAIT_S), self.items
            return list(self.items)


def make_update(
    number: int = 1, kind: str = "start", *, rule: str = "gate", rule_kind: str = "zone", camera: str = "yard", revision: int = 0,
    direction: str | None = None,
) -> EventUpdate:  # fmt: skip
    crop = Crop("first", b"\xff\xd8 picture", 32, 24, 0.9, 0.5, 3, 1.0, 1000.0, (1, 2, 3, 4), (0, 0, 9, 9))
    event = Event(
        id=f"ev{number}", revision=revision, camera=camera, track=number, label="person", rule=rule, rule_kind=rule_kind,
        zone=rule, start_frame=1, start_s=0.1, started_wall_s=1000.5, end_frame=9, end_s=0.9, ended_wall_s=1001.5,
        open=kind != "end", score=0.9, threshold=0.5, box=(10.0, 20.0, 40.0, 80.0), best_frame=3, frame_width_px=320,
        frame_height_px=240, direction=direction, crops=(crop,),
    )  # fmt: skip
    return EventUpdate(kind, event)


@contextmanager
def duty_running(duty: Duty) -> Iterator[Stop]:
    """Run a duty in a thread; an error of it fails the test that forgot to expect it."""
    stop, errors = Stop(), []

    def run() -> None:
        try:
            duty.run(stop, lambda: None)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=duty.name, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()
    assert not errors, errors


@pytest.fixture
def update():
    return make_update


@pytest.fixture
def running():
    return duty_running


@pytest.fixture
def heard():
    return Heard


@pytest.fixture
def steady():
    return time.monotonic
