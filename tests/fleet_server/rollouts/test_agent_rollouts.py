"""Releases of the agent beside those of models, local installs, and refusals that are nobody's failure; on both databases."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fleet_server.database import Database
from fleet_server.inventory import service as inventory
from fleet_server.releases import service as releases
from fleet_server.releases.published_disk import ListedChannel, ListedRelease
from fleet_server.rollouts import assignments, service, targets
from fleet_server.rollouts.explain import explain
from fleet_server.rollouts.orders import Order, Timing
from fleet_server.rollouts.reports import store_reports
from ota.bundle.manifest import AGENT, FileEntry, Manifest, Variant, encode_manifest, target_path
from ota.wire.deployments import DeploymentReport, ReportBatch
from ota.wire.enrolment import BoardFacts

NOW_S = 1_790_000_000.0
TIMING = Timing(within_s=90.0, lost_after_s=600.0)
ALL = [1.0]


class World:
    """Two boards, two releases of a model, two of the agent."""

    def __init__(self, database: Database, enrol: Callable[..., Any], publish: Callable[..., Any]) -> None:
        self.database, self.now_s, self.sequence = database, NOW_S, 0
        with database.write() as session:
            self.ids = enrol(session, 2, NOW_S)
            self.sha = publish(session, "1", "2")
            listed = []
            for counter in (1, 2):
                entry = FileEntry(sha256=str(counter) * 64, length_bytes=5)
                variant = Variant(id="cp311", abi="cp311", machines=["aarch64"], files=["lock.json"])
                one = Manifest(kind=AGENT, name="rookery-agent", version=str(counter), channel="agents", counter=counter,
                               created_s=1, hardware=["*"], variants=[variant], files={"lock.json": entry})  # fmt: skip
                data = encode_manifest(one)
                digest = hashlib.sha256(data).hexdigest()
                self.sha[one.release] = digest
                path = target_path("agents", "rookery-agent", str(counter))
                listed.append(ListedRelease(path, digest, len(data), one, data.decode(), ""))
            releases.take_over(session, [ListedChannel("agents", 1, listed)], NOW_S)

    def create(self, release: str, devices: list[str] | None = None) -> str:
        self.now_s += 1
        with self.database.write() as session:
            made = service.create(session, Order(release, devices=devices, stages=ALL), who="ann", now_s=self.now_s)
            service.tick(session, self.now_s, 1, TIMING)
        assert made.id is not None
        return made.id

    def tick(self) -> None:
        with self.database.write() as session:
            service.tick(session, self.now_s, 1, TIMING)

    def say(self, device: str, release: str, state: str, **more: Any) -> None:
        self.sequence += 1
        facts = more.pop("facts", None)
        said = DeploymentReport(sequence=self.sequence, at_s=self.now_s, assignment_seq=1, target=release,
                                target_sha256=self.sha.get(release, hashlib.sha256(release.encode()).hexdigest()),
                                state=state, **more)  # fmt: skip
        batch = ReportBatch(boot_id="b", counter=self.sequence, highest_seq=1, reports=[said], facts=facts)
        with self.database.write() as session:
            store_reports(session, device, batch, now_s=self.now_s)

    def told(self, device: str) -> tuple[str | None, str | None]:
        """Model and agent that the device's assignment names."""
        with self.database.read() as session:
            content = assignments.content(session, device, self.now_s)
        return (content.bundle.release if content.bundle else None, content.agent.release if content.agent else None)

    def state(self, rollout: str, device: str) -> str:
        with self.database.read() as session:
            return next(one.state for one in service.rollout(session, rollout).devices if one.device == device)

    def rollout(self, rollout: str) -> Any:
        with self.database.read() as session:
            return service.rollout(session, rollout)


@pytest.fixture
def world(database: Database, enrol: Callable[..., Any], publish: Callable[..., Any]) -> World:
    return World(database, enrol, publish)


def test_a_model_and_an_agent_roll_out_side_by_side(world: World) -> None:
    """Neither supersedes the other; a device is told both in one assignment; each ends by its own reports; a newer agent
    supersedes only the older agent."""
    one, two = world.ids
    model, agent = world.create("yard@1"), world.create("rookery-agent@1")
    assert world.told(one) == ("yard@1", "rookery-agent@1")
    assert (world.rollout(model).kind, world.rollout(agent).kind) == ("model", "agent")
    for device in world.ids:
        world.say(device, "yard@1", "committed", running="yard@1", running_sha256=world.sha["yard@1"])
    world.tick()
    assert world.rollout(model).state == "finished"
    assert world.rollout(agent).state == "running"
    newer = world.create("rookery-agent@2", [one])
    assert world.state(agent, one) == "superseded"
    assert world.state(agent, two) == "offered"
    assert world.told(one) == ("yard@1", "rookery-agent@2")
    assert world.told(two) == ("yard@1", "rookery-agent@1")
    world.say(one, "rookery-agent@2", "committed", kind="agent", running="rookery-agent@2")
    world.tick()
    assert world.rollout(newer).state == "finished"


def test_what_an_agent_reports_of_itself_changes_nothing_of_what_its_cameras_see_by(world: World) -> None:
    """The page shows both: the model that runs, and the update of the agent that was rolled back, with its reason."""
    one = world.ids[0]
    world.say(one, "yard@1", "committed", running="yard@1", running_sha256=world.sha["yard@1"])
    world.create("rookery-agent@1")
    world.say(one, "rookery-agent@1", "rolled_back", kind="agent", reason="frames", detail="camera yard gives none", running="")
    with world.database.read() as session:
        device = inventory.get(session, one, world.now_s)
        reason = explain(session, one, now_s=world.now_s, within_s=90.0)
    assert device.running is not None
    assert device.running.release == "yard@1"
    assert device.deployment is not None
    assert device.deployment.target == "yard@1"
    assert device.agent.deployment is not None
    assert (device.agent.deployment.state, device.agent.wanted) == ("rolled_back", "rookery-agent@1")
    said = " ".join(reason.sentences)
    assert "should run rookery-agent@1 and runs the agent that it came with" in said
    assert "camera yard gives none" in said
    assert reason.agent is not None


def test_a_board_that_runs_the_agent_already_is_done(world: World) -> None:
    """Its facts say which agent runs: a rollout of the same asks nothing of it."""
    one, two = world.ids
    with world.database.read() as session:
        facts = msgspec.convert(inventory.get(session, one, NOW_S).facts, BoardFacts)
    runs = msgspec.structs.replace(
        facts, agent_release="rookery-agent@1", agent_sha256=world.sha["rookery-agent@1"], abi="cp311"
    )
    world.say(one, "rookery-agent@1", "idle", kind="agent", facts=runs)
    rollout = world.create("rookery-agent@1")
    assert world.state(rollout, one) == "committed"
    assert world.state(rollout, two) == "offered"


@pytest.mark.parametrize("reason", ["expired", "download"])
def test_a_refusal_that_the_server_is_to_blame_for_is_no_failed_device(world: World, reason: str) -> None:
    """The channel's metadata expired over the weekend: every board refuses. No release is bad, no rollout pauses "by failures";
    it waits, says for what, and goes on when the metadata is renewed."""
    rollout = world.create("yard@1")
    for device in world.ids:
        world.say(device, "yard@1", "refused", reason=reason, detail="metadata of stable expired")
    world.tick()
    found = world.rollout(rollout)
    assert (found.state, {one.state for one in found.devices}) == ("running", {"waiting"})
    with world.database.read() as session:
        said = " ".join(explain(session, world.ids[0], now_s=world.now_s, within_s=90.0).sentences)
    assert "metadata of stable expired" in said
    for device in world.ids:
        world.say(device, "yard@1", "committed", running="yard@1", running_sha256=world.sha["yard@1"])
    world.tick()
    assert world.rollout(rollout).state == "finished"


def test_a_refusal_that_the_release_is_to_blame_for_still_stops_the_rollout(world: World) -> None:
    rollout = world.create("yard@1")
    world.say(world.ids[0], "yard@1", "refused", reason="parity", detail="boxes are shifted")
    world.tick()
    assert world.rollout(rollout).state == "paused"


def test_what_was_installed_by_hand_stays(world: World) -> None:
    """Somebody with authority over the board brought a release on a stick. The server's older word does not undo it at the next
    poll; a rollout that had offered another one lets go of this board; a newer rollout is a newer word."""
    one, two = world.ids
    rollout = world.create("yard@1")
    world.say(one, "yard@2", "committed", origin="local", running="yard@2", running_sha256=world.sha["yard@2"])
    assert world.told(one)[0] == "yard@2"
    assert world.state(rollout, one) == "superseded"
    assert world.told(two)[0] == "yard@1"
    world.say(two, "stranger@7", "committed", origin="local", running="stranger@7", running_sha256="7" * 64)
    assert world.told(two)[0] is None, "a release that is not known here: keep what runs"
    world.create("yard@1")
    assert world.told(one)[0] == "yard@1"


def test_an_agent_installed_by_hand_leaves_the_model_alone(world: World) -> None:
    one = world.ids[0]
    world.create("yard@1")
    world.say(one, "rookery-agent@2", "committed", kind="agent", origin="local", running="rookery-agent@2")
    assert world.told(one) == ("yard@1", "rookery-agent@2")
    with world.database.read() as session:
        meant = targets.target(session, one, AGENT)
    assert meant is not None
    assert meant.source == "local"


def test_a_board_that_is_held_back_is_told_neither(world: World) -> None:
    one = world.ids[0]
    world.create("yard@1")
    world.create("rookery-agent@1")
    with world.database.write() as session:
        inventory.record_held(session, one, "a cloned card")
    assert world.told(one) == (None, None)
