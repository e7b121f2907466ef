"""A configuration from the server to the running cameras of a whole agent: put in, refused, rolled back, kept over a restart."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import device_agent.vision.pipeline
from device_agent.vision.camera_rules import CameraRules
from ota.wire.assignments import Assignment
from ota.wire.configuration import digest_of
from ota.wire.heartbeat import ConfigurationHealth
from tests.device_agent.core.test_whole_agent import Board
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet

pytestmark = pytest.mark.system
PATIENCE_S = 100.0
WHOLE = [[0, 0], [1, 0], [1, 1], [0, 1]]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as running:
        running.state.poll_s = 1.0
        yield running


@pytest.fixture
def board(tmp_path: Path, door: DeviceDoor) -> Iterator[Board]:
    fleet = ReleaseFleet(tmp_path / "fleet")
    fleet.attach(door)
    bundle, _ = fleet.publish("1")
    made = Board(tmp_path / "board", door, fleet, bundle)
    yield made
    made.stop()


class BrokenRules(CameraRules):
    """Rules that fall over a zone of a certain name on the first frame: a fault of ours that no judge can see."""

    def __init__(self, zones: Any, *others: Any) -> None:
        super().__init__(zones, *others)
        self._breaks = any(zone.name == "breaks" for zone in zones)

    def step(self, *seen: Any) -> Any:
        if self._breaks:
            raise ZeroDivisionError("this zone divides by nothing")
        return super().step(*seen)


def zone(name: str, **more: Any) -> dict[str, Any]:
    return {"cameras": {"yard": {"zones": [{"name": name, "polygon": WHOLE, **more}]}}}


def said_of(door: DeviceDoor, content: dict[str, Any], state: str) -> ConfigurationHealth:
    """What the board says of this configuration, once it has come to this state."""
    found: list[ConfigurationHealth] = []

    def there() -> bool:
        for beat in door.state.heartbeats[-3:]:
            said = beat.configuration
            if said is not None and said.digest == digest_of(content) and said.state == state:
                found.append(said)
        return bool(found)

    assert door.wait(there, PATIENCE_S), [beat.configuration for beat in door.state.heartbeats[-3:]]
    return found[-1]


def test_a_zone_of_the_server_raises_the_events_and_a_bad_one_goes_back(
    board: Board, door: DeviceDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator moves a zone, then makes two mistakes: one is refused, one breaks the pipeline. The moved zone stays."""
    monkeypatch.setattr(device_agent.vision.pipeline, "CameraRules", BrokenRules)
    board.start()
    assert door.wait(lambda: bool(door.state.devices), PATIENCE_S), board.failure
    device, seq = board.device, 0

    def assign(content: dict[str, Any]) -> None:
        nonlocal seq
        seq, now_s = seq + 1, time.time()
        door.state.assignments[device] = Assignment(
            device=device, seq=seq, issued_s=now_s, expires_s=now_s + 3600, configuration=content
        )

    def begun(rule: str) -> int:
        return sum(event.rule == rule for event in door.state.shown(device).values())

    moved, refused, broken = zone("moved"), zone("odd", classes=["unicorn"]) | {"log_level": "loud"}, zone("breaks")
    assert door.wait(lambda: begun("everywhere") > 0, PATIENCE_S), "the zone of agent.toml"
    assign(moved)
    assert said_of(door, moved, "applied").running == digest_of(moved)
    assert door.wait(lambda: begun("moved") > 0, PATIENCE_S)

    assign(refused)
    said = said_of(door, refused, "refused")
    assert said.running == digest_of(moved)
    assert "cameras.yard.zones[0].classes[0]" in said.reason
    assert "log_level" in said.reason

    assign(broken)
    said = said_of(door, broken, "rolled_back")
    assert (said.running, "divides by nothing" in said.reason) == (digest_of(moved), True)
    before = begun("moved")
    assert door.wait(lambda: begun("moved") > before, PATIENCE_S), "the last good zone raises events again"
    assert begun("odd") == begun("breaks") == 0

    board.stop()
    door.state.heartbeats.clear()
    board.start()
    assert said_of(door, broken, "rolled_back").running == digest_of(moved)
    board.stop()
    assert board.failure is None
