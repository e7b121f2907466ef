"""The inventory: who is online, what runs where, and what late messages must not change."""

from typing import Any

import msgspec
import pytest

from fleet_server.database import Database
from fleet_server.errors import ConflictError, InvalidError, NotFoundError
from fleet_server.inventory import listing, service
from fleet_server.inventory.device import CertificateSummary
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import Accelerator, BoardFacts
from ota.wire.heartbeat import Heartbeat, Running

NOW_S = 1_790_000_000.0
SHA_1, SHA_2 = "1" * 64, "2" * 64
FACTS = BoardFacts(
    profile="rpi-5", board_model="Pi 5", serial="s1", machine="aarch64", memory_bytes=2**33, python="3.11", agent_version="1"
)


def _add(database: Database, number: int, facts: BoardFacts = FACTS, group: str = "default") -> str:
    with database.write() as session:
        service.record_enrolled(
            session, device_id=f"d-{number:03}", name=f"cam {number:03}", group=group, facts=facts,
            certificate=CertificateSummary("ab", NOW_S + 1e6, "ab" * 32), now_s=NOW_S,
        )  # fmt: skip
    return f"d-{number:03}"


def _beat(at: int, sha256: str = SHA_1, **more: Any) -> Heartbeat:
    running = Running(name="yard", version=f"{at}", bundle_sha256=sha256, variant="cpu-int8", slot="a", runtime="litert")
    return Heartbeat(sequence=at, boot_id="b", at_s=0.0, uptime_s=1.0, window_s=30.0, state="idle", running=running, **more)


def _report(sequence: int, state: str, target: str, running: str, **more: Any) -> DeploymentReport:
    return DeploymentReport(
        sequence=sequence, at_s=NOW_S, assignment_seq=1, target_sha256=target, target="yard@2", state=state,
        running_sha256=running, running="yard@2" if running == SHA_2 else "yard@1", **more,
    )  # fmt: skip


def test_a_device_is_pending_then_online_then_offline(database: Database) -> None:
    """The life of a board's lamp, by the server's clock alone; counted in SQL by the same rule."""
    device = _add(database, 1)

    def state(now_s: float) -> str:
        with database.read() as session:
            found = service.get(session, device, now_s).state
            counts = service.counts(session, now_s)
            assert getattr(counts, found) == 1
            assert [each.id for each in service.find(session, now_s, state=found)] == [device]
            return found

    assert state(NOW_S) == "pending"
    with database.write() as session:
        service.record_heartbeats(session, [(device, _beat(1), NOW_S)])
    assert state(NOW_S + 90) == "online"
    assert state(NOW_S + 91) == "offline"
    with database.write() as session:
        service.record_presence(session, device, True, NOW_S + 100)
    assert state(NOW_S + 10_000) == "online"
    with database.write() as session:
        service.forget_presence(session)
    assert state(NOW_S + 10_000) == "offline"
    with database.write() as session:
        service.record_revoked(session, device, NOW_S)
    assert state(NOW_S + 101) == "revoked"


def test_a_late_heartbeat_changes_nothing(database: Database) -> None:
    """Two ingest workers, no order between them: the older message comes second and is passed over."""
    device = _add(database, 1)
    with database.write() as session:
        service.record_heartbeats(session, [(device, _beat(2), NOW_S + 30), ("d-unknown", _beat(1), NOW_S)])
    with database.write() as session:
        service.record_heartbeats(session, [(device, _beat(1), NOW_S)])
    with database.read() as session:
        found = service.get(session, device, NOW_S + 30)
    assert found.running is not None
    assert (found.running.version, found.last_seen_s, found.runtime) == ("2", NOW_S + 30, "litert")


def test_reports_say_what_runs_and_why_this_variant(database: Database) -> None:
    """A board whose accelerator is missing commits the CPU variant: the reason stays visible when heartbeats follow."""
    coral = Accelerator(kind="edgetpu-usb", present=True, usable=False, reason="libedgetpu.so.1 is not installed")
    device = _add(database, 1, msgspec.structs.replace(FACTS, accelerators=[coral]))
    why = "accelerator missing, CPU variant because libedgetpu.so.1 is not installed"
    with database.write() as session:
        report = _report(1, "committed", SHA_2, SHA_2, variant="cpu-int8", variant_reason=why)
        service.record_report(session, device, report, NOW_S)
    with database.write() as session:
        service.record_heartbeats(session, [(device, _beat(2, SHA_2), NOW_S + 1)])
    with database.read() as session:
        found = service.get(session, device, NOW_S + 1)
    assert found.running is not None
    assert found.running.variant_reason == why
    assert (found.accelerator.wanted, found.accelerator.running) == ("edgetpu", "cpu")
    assert "libedgetpu" in found.accelerator.reason


def test_a_refused_release_is_shown_beside_what_runs_on(database: Database) -> None:
    """The tampered release: refused(hash), release 1 keeps running; a repeated or late report changes nothing."""
    device = _add(database, 1)
    with database.write() as session:
        service.record_report(session, device, _report(2, "refused", SHA_2, SHA_1, reason="hash", detail="file x"), NOW_S)
        service.record_report(session, device, _report(1, "downloading", SHA_2, SHA_1), NOW_S + 1)
    with database.read() as session:
        found = service.get(session, device, NOW_S)
        assert [(each.release, each.devices) for each in listing.running_counts(session)] == [("yard@1", 1)]
    assert found.deployment is not None
    assert (found.deployment.state, found.deployment.reason, found.deployment.target) == ("refused", "hash", "yard@2")
    assert found.running is not None
    assert found.running.release == "yard@1"


def test_devices_are_found_and_read_in_pages(database: Database) -> None:
    """Names with characters that mean something to LIKE, groups, pages, and an unknown name."""
    for number in range(5):
        _add(database, number, group="yard" if number % 2 else "shop")
    with database.read() as session:
        first = service.find(session, NOW_S, limit=2)
        assert [each.name for each in first] == ["cam 000", "cam 001"]
        assert [each.name for each in service.find(session, NOW_S, limit=2, after_name="cam 001")] == ["cam 002", "cam 003"]
        assert len(service.find(session, NOW_S, group="yard")) == 2
        assert len(service.find(session, NOW_S, text="CAM 00")) == 5
        assert service.find(session, NOW_S, text="%") == []
        assert service.find(session, NOW_S, text="_") == []
        assert service.select_ids(session, group="shop") == ["d-000", "d-002", "d-004"]
        assert service.select_ids(session, devices=["cam 001", "d-002", "nobody"]) == ["d-001", "d-002"]
        assert set(service.presences(session, ["d-001", "nobody"], NOW_S)) == {"d-001"}
        with pytest.raises(NotFoundError):
            service.get(session, "nobody", NOW_S)
        with pytest.raises(InvalidError):
            service.find(session, NOW_S, state="asleep")
    with pytest.raises(ConflictError):
        _add(database, 1)


def test_the_api_shows_the_whole_device(server: Any, sign_in: Any, enrolled: Any) -> None:
    """The fields that pages and command line rely on (0002 §5)."""
    client = sign_in("viewer")
    found = client.get(f"/api/v1/devices/{enrolled.device_id}").json
    assert set(found) == {
        "replaces", "decommissioned_s",
        "id", "name", "group", "state", "last_seen_s", "profile", "board_model", "serial", "facts", "accelerator", "runtime",
        "running", "deployment", "wanted", "log_level", "log_level_until_s", "heartbeat", "enrolled_s", "certificate", "held",
        "agent",
    }  # fmt: skip
    assert client.get("/api/v1/devices").json["items"] == [found]
    assert client.get("/api/v1/devices/nobody").status_code == 404
    assert client.get("/api/v1/devices?limit=0").status_code == 400
