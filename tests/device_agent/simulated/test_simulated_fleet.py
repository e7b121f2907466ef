"""Virtual devices over the real wire: they enrol, beat, deliver, verify and take releases, cheaply."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.__main__ import main
from device_agent.duties.turn import Stop
from device_agent.simulated.behaviour import draw
from device_agent.simulated.device_http import Surroundings, VirtualDevice
from device_agent.simulated.fleet_http import Fleet
from ota.wire.assignments import Assignment
from ota.wire.deployments import DeploymentReport
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.release_fleet import ReleaseFleet


@pytest.fixture
def releases(tmp_path: Path) -> ReleaseFleet:
    return ReleaseFleet(tmp_path / "fleet")


@pytest.fixture
def door(tmp_path: Path, releases: ReleaseFleet) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as running:
        releases.attach(running)
        yield running


def test_a_seed_is_a_fleet() -> None:
    """The same seed draws the same boards; they differ among each other."""
    first = [draw(n, 7, "0.1") for n in range(50)]
    assert first == [draw(n, 7, "0.1") for n in range(50)]
    assert len({b.facts.profile for b in first}) > 2
    assert len({b.facts.serial for b in first}) == 50


def test_a_fleet_enrols_beats_and_takes_a_release(door: DeviceDoor, releases: ReleaseFleet, tmp_path: Path) -> None:
    """Twelve boards with their own keys; a release is assigned to all; those drawn to fail refuse it or roll it back."""
    _, release = releases.publish("2", counter=2)
    stop = Stop()
    around = Surroundings(door.url, door.ca_file, releases.root_file.read_bytes(), ("stable",), stop)
    devices = [
        VirtualDevice(
            draw(n, 3, "0.1", failing_share=0.3), door.claim(f"claim-number-{n:020d}"), tmp_path / "sim" / str(n), around
        )
        for n in range(12)
    ]
    fleet = Fleet(devices, 0.3, stop)
    running = threading.Thread(target=fleet.run)
    running.start()
    try:
        assert door.wait(lambda: len(door.state.devices) == 12)
        assert door.wait(lambda: len({h.boot_id for h in door.state.heartbeats}) == 12)
        with door.changed:
            for device in door.state.devices:
                door.state.assignments[device] = Assignment(
                    device=device, seq=1, issued_s=time.time(), expires_s=time.time() + 3600, bundle=release
                )
        ended = {"committed", "refused", "rolled_back"}

        def last(device: str) -> DeploymentReport | None:
            return next(reversed((door.state.reports.get(device) or {0: None}).values()))

        assert door.wait(lambda: all(getattr(last(d), "state", "") in ended for d in door.state.devices), 100), fleet.summary()
    finally:
        stop.set()
        running.join(30)
    assert not running.is_alive()
    assert not fleet.faults
    names = {device.identity.device: device for device in devices if device.identity}
    told = Counter((names[d].behaviour.fails, getattr(last(d), "state", "")) for d in door.state.devices)
    assert told[("", "committed")] == sum(d.behaviour.fails == "" for d in devices)
    assert all(state == "committed" for fails, state in told if fails == "")
    assert all(state != "committed" for fails, state in told if fails in ("selftest", "crashes"))


def test_the_verb_runs_for_a_while_and_keeps_its_fleet(
    door: DeviceDoor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three devices for two seconds, then again from the same folder without any claim."""
    claims = tmp_path / "claims"
    claims.write_text("\n".join(door.claim(f"claim-of-the-verb-{n:010d}") for n in range(3)))
    common = ["simulate", "--server", door.url, "--ca", str(door.ca_file), "--devices", "3", "--pace", "0.3"]
    kept = ["--folder", str(tmp_path / "kept")]
    assert main([*common, "--claims", str(claims), *kept, "--duration", "3"]) == 0
    assert "3 devices, 3 enrolled" in capsys.readouterr().out
    claims.write_text("")
    assert main([*common, "--claims", str(claims), *kept, "--duration", "2"]) == 0
    assert len(door.state.devices) == 3


def test_too_few_claims_are_said_at_once(tmp_path: Path, door: DeviceDoor, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "claims").write_text("one-claim-only-0123456789\n")
    asked = ["simulate", "--server", door.url, "--ca", str(door.ca_file), "--claims", str(tmp_path / "claims"), "--devices", "9"]
    assert main(asked) == 2
    assert "holds 1 claims for 9 devices" in capsys.readouterr().err


def test_a_fleet_larger_than_its_connections_goes_on_after_every_turn(
    door: DeviceDoor, releases: ReleaseFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand boards cannot each keep a connection: they give it back after each turn, and the next turn opens another."""
    monkeypatch.setattr("device_agent.simulated.fleet_http.KEPT_CONNECTIONS", 2)
    stop = Stop()
    around = Surroundings(door.url, door.ca_file, releases.root_file.read_bytes(), ("stable",), stop)
    devices = [
        VirtualDevice(draw(n, 5, "0.1"), door.claim(f"claim-number-{n:020d}"), tmp_path / "sim" / str(n), around)
        for n in range(4)
    ]
    fleet = Fleet(devices, 0.1, stop)
    running = threading.Thread(target=fleet.run)
    running.start()
    try:
        assert door.wait(lambda: all(device.heartbeats >= 3 for device in devices), 60), fleet.summary()
    finally:
        stop.set()
        running.join(30)
    assert not fleet.faults
