"""Recall samples and a shadow in the whole agent: from the settings to the server's door, beside the ordinary events."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ota.wire.assignments import Assignment
from tests.device_agent.core.test_whole_agent import Board
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import RELEASES, ReleaseFleet

pytestmark = pytest.mark.system
DEADLINE_S = 90.0


@pytest.fixture
def fleet(tmp_path: Path) -> ReleaseFleet:
    return ReleaseFleet(tmp_path / "fleet")


@pytest.fixture
def door(tmp_path: Path, fleet: ReleaseFleet) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as running:
        running.state.poll_s = 0.5
        fleet.attach(running)
        yield running


@pytest.fixture
def board(tmp_path: Path, door: DeviceDoor, fleet: ReleaseFleet) -> Iterator[Board]:
    """A board whose film runs as fast as it can, a frame a second of its own time; the shadow may take a whole core."""
    bundle, _ = fleet.publish("1")
    made = Board(tmp_path / "board", door, fleet, bundle)
    text = made.config.read_text()
    text = text.replace('pacing = "live"\nfps = 8', 'pacing = "recorded"\nfps = 1\nrecall_per_day = 1000')
    assert "recall_per_day" in text
    made.config.write_text('policy = "policy.toml"\n' + text + f"""
[shadow]
model = "{RELEASES / 'yard-2' / 'model_int8.tflite'}"
card = "{RELEASES / 'yard-2' / 'card.toml'}"
every_n = 2
max_core_share = 1.0
max_temp_c = 120
min_memory_bytes = 0
""")
    (made.folder / "policy.toml").write_text('channels = ["stable"]\nupload_classes = ["crop", "recall"]\n')
    yield made
    made.stop()


def samples(door: DeviceDoor) -> list:
    return [event for device in door.state.devices for event in door.state.shown(device).values() if event.rule_kind == "sample"]


def shadow_of(door: DeviceDoor, release: str, frames: int) -> bool:
    """Whether a heartbeat says that this shadow has compared so many frames."""
    said = [beat.shadow for beat in door.state.heartbeats if beat.shadow is not None]
    return any(shadow.release.startswith(release) and shadow.frames >= frames for shadow in said)


def test_samples_and_shadows_reach_the_server(board: Board, door: DeviceDoor, fleet: ReleaseFleet) -> None:
    """agent.toml asks for samples and has a shadow of its own; then the server assigns another one.

    Samples come as events of their own kind with a picture in the store; the shadow's pairs come as health; the assigned shadow
    is fetched, verified and run beside the factory's release, and never installed.
    """
    board.start()
    assert door.wait(lambda: bool(samples(door)), DEADLINE_S)
    sample = samples(door)[0]
    assert (sample.label, sample.rule, sample.score) == ("none", "recall", 0.0)
    assert sample.weight >= 1
    assert [crop.kind for crop in sample.crops] == ["first"]
    assert door.state.blobs[sample.crops[0].key].startswith(b"\xff\xd8")
    seen = [event for event in door.state.shown(board.device).values() if event.rule_kind != "sample"]
    assert all(event.weight is None for event in seen)

    assert door.wait(lambda: shadow_of(door, "model_int8.tflite", 5), DEADLINE_S)
    shadow = next(beat.shadow for beat in reversed(door.state.heartbeats) if beat.shadow is not None)
    assert sum(pair.both + pair.only_current + pair.only_candidate for pair in shadow.pairs) > 0

    _, bundle = fleet.publish("2", model="yard-2", counter=2)
    now_s = time.time()
    door.state.assignments[board.device] = Assignment(
        device=board.device, seq=1, issued_s=now_s, expires_s=now_s + 3600, role="shadow", bundle=bundle
    )
    assert door.wait(lambda: shadow_of(door, "yard@2", 2), DEADLINE_S)
    last = door.state.heartbeats[-1]
    assert last.running is not None
    assert (last.running.version, last.state) == ("1", "idle")
    places = [path.name for path in (board.folder / "data" / "slots").rglob("*")]
    assert not [name for name in places if name.startswith(bundle.sha256)]


def test_the_policy_keeps_samples_at_home(board: Board, door: DeviceDoor) -> None:
    """agent.toml asks for samples, the policy says nothing of them: the film runs, samples do not come."""
    (board.folder / "policy.toml").write_text('channels = ["stable"]\n')
    board.start()
    # More frames than the first sample takes (a slice is 87 s of the film) went through.
    assert door.wait(lambda: sum(c.frames for beat in door.state.heartbeats for c in beat.cameras) > 120, DEADLINE_S)
    assert samples(door) == []
