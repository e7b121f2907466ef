"""Two releases on sticky shares: who is on which side, and what each side saw."""

import hashlib
from typing import Any

import pytest

from fleet_server.database import Database
from fleet_server.errors import ConflictError, InvalidError, NotFoundError
from fleet_server.experiments import service
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import CertificateSummary
from fleet_server.releases import service as releases
from fleet_server.releases.published_disk import ListedChannel, ListedRelease
from fleet_server.rollouts.targets import set_target, targets
from fleet_server.telemetry import service as telemetry
from ota.bundle.manifest import FileEntry, Manifest, Variant, encode_manifest, target_path
from ota.wire.enrolment import BoardFacts
from ota.wire.heartbeat import CameraHealth, Heartbeat, Running

NOW_S = 1_790_000_000.0
FACTS = BoardFacts(profile="rpi-4", board_model="Pi", machine="aarch64", memory_bytes=2**30, python="3.11", agent_version="0.1")
IDS = [f"cam-{number:02}" for number in range(20)]


@pytest.fixture
def fleet(database: Database) -> dict[str, str]:
    """Twenty devices, releases yard@1 and yard@2; release -> sha256."""
    listed, found = [], {}
    for version in ("1", "2"):
        one = Manifest(
            name="yard", version=version, channel="stable", counter=int(version), created_s=1, hardware=["*"],
            variants=[Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m", card="c", files=["m", "c"])],
            files={"m": FileEntry(sha256=version * 64, length_bytes=1), "c": FileEntry(sha256="0" * 64, length_bytes=1)},
        )  # fmt: skip
        data = encode_manifest(one)
        found[one.release] = hashlib.sha256(data).hexdigest()
        path = target_path("stable", "yard", version)
        listed.append(ListedRelease(path, found[one.release], len(data), one, data.decode(), ""))
    with database.write() as session:
        releases.take_over(session, [ListedChannel("stable", 1, listed)], NOW_S)
        for name in IDS:
            inventory.record_enrolled(
                session, device_id=name, name=name, group="g", facts=FACTS,
                certificate=CertificateSummary("1", NOW_S, "ab" * 32), now_s=NOW_S,
            )  # fmt: skip
    return found


def create(database: Database, **more: Any) -> service.Experiment:
    asked: dict[str, Any] = {"name": "night", "a": "yard@1", "b": "yard@2", "share_b": 0.4, "group": None, "devices": None} | more
    with database.write() as session:
        return service.create(session, who="ann", now_s=NOW_S, **asked)


def beat(version: str, sha256: str, gated: int, seen: int) -> Heartbeat:
    running = Running(name="yard", version=version, bundle_sha256=sha256, variant="cpu", slot="current")
    cameras = [CameraHealth(camera="c", frames=gated * 5, gated_frames=gated, frames_with_detection=seen)]
    return Heartbeat(sequence=1, boot_id="b", at_s=NOW_S, uptime_s=1, window_s=30, state="idle", running=running, cameras=cameras)


def test_every_device_has_a_side_and_each_side_its_figures(database: Database, fleet: dict[str, str]) -> None:
    made = create(database)
    sizes = {arm.arm: arm.devices for arm in made.arms}
    assert sum(sizes.values()) == 20
    assert min(sizes.values()) > 0
    with database.write() as session:
        meant = targets(session, IDS)
        assert {one.role for one in meant.values()} == {"arm"}
        for device, one in meant.items():
            version = "2" if one.arm == "b" else "1"
            assert one.release == f"yard@{version}"
            telemetry.store_heartbeats(
                session, [(device, beat(version, fleet[f"yard@{version}"], 100, 30 if version == "2" else 10), NOW_S + 1)]
            )
    with database.read() as session:
        a, b = service.experiment(session, made.id).arms
    assert (a.rate, b.rate) == (0.1, 0.3)
    assert a.gated_frames == 100 * sizes["a"]
    assert a.rate_ci90 is not None
    assert b.rate_ci90 is not None
    assert a.rate_ci90[1] < b.rate_ci90[0]


def test_a_device_that_a_rollout_took_over_no_longer_counts(database: Database, fleet: dict[str, str]) -> None:
    made = create(database)
    with database.write() as session:
        set_target(session, IDS[0], "yard@1", source="rollout:r-1", now_s=NOW_S)
    with database.read() as session:
        assert sum(arm.devices for arm in service.experiment(session, made.id).arms) == 19


def test_what_makes_no_comparison_is_refused(database: Database, fleet: dict[str, str]) -> None:
    create(database)
    for more, kind in (
        ({"name": "night"}, ConflictError), ({"name": "x", "share_b": 1.0}, InvalidError),
        ({"name": "x", "b": "yard@1"}, InvalidError),
        ({"name": "x", "b": "yard@9"}, NotFoundError), ({"name": "x", "devices": IDS[:1]}, InvalidError),
    ):  # fmt: skip
        with pytest.raises(kind):
            create(database, **more)
    with database.write() as session:
        service.end(session, service.experiments(session)[0].id, who="ann", now_s=NOW_S + 9)
        service.end(session, service.experiments(session)[0].id, who="bob", now_s=NOW_S + 10)
        assert [(one.state, one.ended_s) for one in service.experiments(session)] == [("ended", NOW_S + 9)]
