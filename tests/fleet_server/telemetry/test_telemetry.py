"""Heartbeats: counted once however they come, summed per release, bytes through restarts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.alerts import service as alerts
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.ingest.conditions_disk import gather
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import CertificateSummary
from fleet_server.telemetry import service
from ota.wire import codec
from ota.wire.enrolment import BoardFacts
from ota.wire.heartbeat import CameraHealth, ConfigurationHealth, Heartbeat, Running
from ota.wire.topics import HEARTBEATS

NOW_S = 1_790_000_000.0
RUNNING = Running(name="yard", version="1", bundle_sha256="a" * 64, variant="cpu", slot="current")
FACTS = BoardFacts(profile="rpi-4", board_model="Pi", machine="aarch64", memory_bytes=2**30, python="3.11", agent_version="0.1")


def beat(sequence: int, boot_id: str = "b1", **more: Any) -> Heartbeat:
    cameras = [CameraHealth(camera="yard", frames=100, gated_frames=20, frames_with_detection=5, detections=7)]
    values: dict[str, Any] = {
        "at_s": NOW_S,
        "uptime_s": 1.0,
        "window_s": 30.0,
        "state": "idle",
        "running": RUNNING,
        "cameras": cameras,
    }
    return Heartbeat(sequence=sequence, boot_id=boot_id, **(values | more))


@pytest.fixture
def fleet(database: Database) -> Database:
    with database.write() as session:
        for name in ("cam-1", "cam-2"):
            inventory.record_enrolled(
                session, device_id=name, name=name, group="g", facts=FACTS,
                certificate=CertificateSummary("1", NOW_S, "ab" * 32), now_s=NOW_S,
            )  # fmt: skip
    return database


def store(database: Database, *received: tuple[str, Heartbeat, float]) -> int:
    with database.write() as session:
        return service.store_heartbeats(session, received)


def test_one_that_comes_by_broker_and_by_https_is_counted_once(fleet: Database) -> None:
    one = ("cam-1", beat(1), NOW_S)
    assert store(fleet, one, one) == 1
    assert store(fleet, one, ("cam-1", beat(2), NOW_S + 30)) == 1
    with fleet.read() as session:
        assert [each.heartbeat["sequence"] for each in service.heartbeats(session, "cam-1")] == [2, 1]
        seen = service.seen(session, ["cam-1", "cam-2"], "a" * 64, NOW_S)
        assert (seen.frames, seen.gated_frames, seen.frames_with_detection, seen.detections) == (200, 40, 10, 14)
        assert service.seen(session, ["cam-2"], "a" * 64, NOW_S).frames == 0
        assert inventory.get(session, "cam-1", NOW_S + 30).heartbeat is not None


def test_a_stranger_and_a_revoked_device_are_passed_over(fleet: Database) -> None:
    with fleet.write() as session:
        inventory.record_revoked(session, "cam-2", NOW_S)
    assert store(fleet, ("nobody", beat(1), NOW_S), ("cam-2", beat(1), NOW_S), ("cam-1", beat(1), NOW_S)) == 1


def test_bytes_are_the_whole_story_through_restarts_and_reordering(fleet: Database) -> None:
    """Counters begin at nought with each start; one heartbeat is overtaken by the next."""
    store(fleet, ("cam-1", beat(1, bytes_sent=100, bytes_baseline_gated_jpeg=1000), NOW_S))
    store(fleet, ("cam-1", beat(3, bytes_sent=300, bytes_baseline_gated_jpeg=3000), NOW_S + 2))
    store(fleet, ("cam-1", beat(2, bytes_sent=200, bytes_baseline_gated_jpeg=2000), NOW_S + 3))
    store(fleet, ("cam-1", beat(4, "b2", bytes_sent=50, bytes_baseline_gated_jpeg=500), NOW_S + 4))
    store(fleet, ("cam-2", beat(1, bytes_sent=7, bytes_baseline_gated_jpeg=70), NOW_S + 4))
    with fleet.read() as session:
        assert service.bytes_of_all(session) == service.Bytes(sent=357, baseline_gated_jpeg=3570)


def test_numbers_without_end_do_not_break_the_sums(fleet: Database) -> None:
    """A hostile board says the largest numbers again and again, and counts anew each time: the overview still adds up."""
    most = 2**53 - 1
    cameras = [CameraHealth(camera="c", frames=most, gated_frames=most, frames_with_detection=most, detections=most)] * 2000
    for number in range(1, 9):
        with fleet.write() as session:
            sent = most if number % 2 else 0
            one = beat(number, cameras=cameras, bytes_sent=sent, bytes_baseline_gated_jpeg=sent)
            service.store_heartbeats(session, [("cam-1", one, NOW_S + number)])
    with fleet.read() as session:
        assert service.bytes_of_all(session).sent == most
        assert service.seen(session, ["cam-1"], "a" * 64, 0).frames == most


def test_old_and_far_too_many_rows_go(fleet: Database) -> None:
    store(fleet, *(("cam-1", beat(n), NOW_S + n) for n in range(1, 21)), ("cam-2", beat(1), NOW_S - service.KEEP_S))
    with fleet.write() as session:
        service.prune(session, NOW_S + 30, max_rows=5)
        assert [each.heartbeat["sequence"] for each in service.heartbeats(session, "cam-1")] == [20, 19, 18, 17, 16]
        assert service.heartbeats(session, "cam-2") == []


def test_the_doors(device_door: Any, enrolled: Any, server: Context, sign_in: Callable[[str], FlaskClient]) -> None:
    device_door.certificate = enrolled.der
    answer = device_door.client.post(HEARTBEATS, data=codec.encode(beat(1)), content_type="application/json")
    assert answer.status_code == 204
    items = sign_in("viewer").get(f"/api/v1/devices/{enrolled.device_id}/heartbeats?limit=5").json["items"]
    assert [one["heartbeat"]["sequence"] for one in items] == [1]


def test_a_camera_that_sees_nothing_is_an_alert_until_it_sees_again(fleet: Database) -> None:
    """Somebody hangs a coat over the lens: the board is online and well, and its picture shows nothing."""
    states = {"gate": "covered", "yard": "ok", "film": "ended"}
    covered = [CameraHealth(camera=camera, state=state) for camera, state in states.items()]
    refused = ConfigurationHealth(digest="c" * 64, state="refused", reason="cameras.gate.zones[0].polygon: crosses itself")
    store(fleet, ("cam-1", beat(1, cameras=covered, configuration=refused), NOW_S))
    with fleet.write() as session:
        holding = [one for one in gather(session, data_dir=Path("/"), now_s=NOW_S + 1, within_s=90.0) if one.kind == "trouble"]
        assert [(one.subject, one.text) for one in holding] == [
            ("cam-1", "cam-1: camera gate: covered; configuration refused: cameras.gate.zones[0].polygon: crosses itself")
        ]
        alerts.reconcile(session, holding, NOW_S + 1, kinds=["trouble"])
    store(fleet, ("cam-1", beat(2), NOW_S + 30))
    with fleet.write() as session:
        holding = [one for one in gather(session, data_dir=Path("/"), now_s=NOW_S + 31, within_s=90.0) if one.kind == "trouble"]
        alerts.reconcile(session, holding, NOW_S + 31, kinds=["trouble"])
        assert [one.resolved_s for one in alerts.alerts(session)] == [NOW_S + 31]
