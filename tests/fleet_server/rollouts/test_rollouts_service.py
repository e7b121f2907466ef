"""A release on its way through real tables, on SQLite and PostgreSQL."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fleet_server.alerts import service as alerts
from fleet_server.database import Database
from fleet_server.errors import ConflictError, InvalidError, NotFoundError
from fleet_server.ingest.conditions_disk import gather
from fleet_server.inventory import service as inventory
from fleet_server.rollouts import service, targets
from fleet_server.rollouts.explain import explain
from fleet_server.rollouts.orders import Order, Timing
from fleet_server.rollouts.reports import release_hold, reports, store_reports
from ota.wire.deployments import DeploymentReport, ReportBatch

NOW_S = 1_790_000_000.0
TIMING = Timing(within_s=90.0, lost_after_s=600.0)
Make = Callable[..., Any]


def report(sequence: int, target: str, sha256: str, state: str, **more: Any) -> DeploymentReport:
    values = {"at_s": NOW_S + sequence, "assignment_seq": 1} | more
    return DeploymentReport(sequence=sequence, target_sha256=sha256, target=target, state=state, **values)


def batch(*said: DeploymentReport, counter: int = 1, boot_id: str = "b1") -> ReportBatch:
    return ReportBatch(boot_id=boot_id, counter=counter, highest_seq=1, reports=list(said))


class World:
    """A fleet of n devices, two releases, and what devices do."""

    def __init__(self, database: Database, enrol: Make, publish: Make, count: int = 3) -> None:
        self.database, self.now_s = database, NOW_S
        with database.write() as session:
            self.ids = enrol(session, count, NOW_S)
            self.sha = publish(session, "1", "2")
        self.sequences = dict.fromkeys(self.ids, 0)

    def create(self, release: str = "yard@1", **more: Any) -> str:
        self.now_s += 1.0
        with self.database.write() as session:
            made = service.create(session, Order(release, **more), who="ann", now_s=self.now_s)
        assert made.id is not None
        return made.id

    def tick(self, fence: int = 1) -> int:
        with self.database.write() as session:
            return service.tick(session, self.now_s, fence, TIMING)

    def heard(self, *devices: str) -> None:
        with self.database.write() as session:
            for device in devices or self.ids:
                inventory.record_seen(session, device, self.now_s)

    def say(self, device: str, release: str, *states: str, **more: Any) -> None:
        said = []
        for state in states:
            self.sequences[device] += 1
            said.append(report(self.sequences[device], release, self.sha[release], state, **more))
        with self.database.write() as session:
            store_reports(session, device, batch(*said, counter=self.sequences[device]), now_s=self.now_s)

    def commit(self, device: str, release: str) -> None:
        self.say(device, release, "downloading", "trial", "committed", running=release, running_sha256=self.sha[release])

    def view(self, rollout_id: str) -> Any:
        with self.database.read() as session:
            return service.rollout(session, rollout_id)

    def wanted(self) -> dict[str, str | None]:
        with self.database.read() as session:
            return {device: one.release for device, one in targets.targets(session, self.ids).items()}


@pytest.fixture
def world(database: Database, enrol: Make, publish: Make) -> World:
    return World(database, enrol, publish)


def run_through(world: World, release: str) -> str:
    rollout = world.create(release)
    for _ in range(4):
        world.tick()
        for one in world.view(rollout).devices:
            if one.state == "offered":
                world.commit(one.device, release)
    return rollout


def test_a_release_reaches_everybody_in_stages(world: World) -> None:
    rollout = world.create()
    assert world.wanted() == {}
    world.tick()
    assert len(world.wanted()) == 1, "a third of three devices first"
    assert world.tick() == 0, "nothing has happened since: a second tick changes nothing"
    first = next(iter(world.wanted()))
    world.commit(first, "yard@1")
    world.tick()
    assert len(world.wanted()) == 3
    for device in set(world.ids) - {first}:
        world.commit(device, "yard@1")
    world.tick()
    found = world.view(rollout)
    assert (found.state, found.counts.committed) == ("finished", 3)
    assert [stage.state for stage in found.stages] == ["done", "done", "done"]


def test_a_bad_release_pauses_itself_alerts_and_leaves_the_rest_of_the_fleet_alone(world: World) -> None:
    """`night` is blind in the dark: the first device rolls it back, and nobody has to be awake for the other two."""
    run_through(world, "yard@1")
    rollout = world.create("yard@2")
    world.tick()
    bad = next(device for device, release in world.wanted().items() if release == "yard@2")
    world.say(bad, "yard@2", "downloading", "trial", "rolled_back", reason="detection_rate", detail="saw 2 % where it saw 61 %",
              running="yard@1", running_sha256=world.sha["yard@1"])  # fmt: skip
    world.tick()
    found = world.view(rollout)
    assert found.state == "paused"
    assert "detection_rate" in found.reason
    assert sorted(release for device, release in world.wanted().items() if device != bad) == ["yard@1", "yard@1"]
    with world.database.write() as session:
        conditions = gather(session, data_dir=Path("/"), now_s=world.now_s, within_s=90.0)
        alerts.reconcile(session, conditions, world.now_s)
        assert [(one.kind, one.subject) for one in alerts.alerts(session)] == [("rollout_paused", rollout)]
        reason = explain(session, bad, now_s=world.now_s, within_s=90.0)
    assert (reason.state, reason.reason, reason.wanted, reason.running) == ("rolled_back", "detection_rate", "yard@2", "yard@1")
    assert any("saw 2 %" in sentence for sentence in reason.sentences)
    assert any("paused" in sentence for sentence in explain_for(world, other(world, bad)))


def other(world: World, not_this: str) -> str:
    return next(device for device in world.ids if device != not_this)


def explain_for(world: World, device: str) -> list[str]:
    with world.database.read() as session:
        return explain(session, device, now_s=world.now_s, within_s=90.0).sentences


def test_pausing_stops_at_once_whoever_has_not_begun_and_resuming_offers_again(world: World) -> None:
    run_through(world, "yard@1")
    rollout = world.create("yard@2", stages=(1.0,))
    world.tick()
    begun, waiting, _ = world.ids
    world.say(begun, "yard@2", "downloading")
    world.say(waiting, "yard@2", "offered")
    with world.database.write() as session:
        service.pause(session, rollout, who="ann", now_s=world.now_s)
    assert world.wanted() == {begun: "yard@2", waiting: "yard@1", world.ids[2]: "yard@1"}
    world.say(begun, "yard@2", "committed", running="yard@2", running_sha256=world.sha["yard@2"])
    world.tick()
    assert world.view(rollout).state == "paused"
    with world.database.write() as session:
        service.resume(session, rollout, who="ann", now_s=world.now_s)
    world.tick()
    assert set(world.wanted().values()) == {"yard@2"}
    assert world.view(rollout).counts.committed == 1


def test_a_withdrawn_offer_that_was_already_taken_does_not_make_the_device_flap(world: World) -> None:
    """The pause and the commit cross on the wire: the device trusts the release now, so it keeps it."""
    run_through(world, "yard@1")
    rollout = world.create("yard@2", stages=(1.0,))
    world.tick()
    with world.database.write() as session:
        service.pause(session, rollout, who="ann", now_s=world.now_s)
    world.commit(world.ids[0], "yard@2")
    assert world.wanted()[world.ids[0]] == "yard@2"
    world.say(world.ids[1], "yard@2", "downloading", "cancelled")
    states = {one.device: one.state for one in world.view(rollout).devices}
    assert states[world.ids[0]] == "committed"
    assert states[world.ids[1]] == "pending", "it is to be offered the release again when the rollout goes on"


def test_a_newer_rollout_takes_the_devices_over(world: World) -> None:
    older = world.create("yard@1", stages=(1.0,))
    world.tick()
    newer = world.create("yard@2", stages=(1.0,))
    found = world.view(older)
    assert found.state == "superseded"
    assert newer in found.reason
    world.tick()
    assert set(world.wanted().values()) == {"yard@2"}
    with world.database.write() as session:
        service.abort(session, newer, who="ann", now_s=world.now_s)
    assert set(world.wanted().values()) == {None}, "yard@1 was never committed, so nobody goes back to it"
    with world.database.write() as session, pytest.raises(ConflictError):
        service.resume(session, newer, who="ann", now_s=world.now_s)


def test_a_device_that_was_away_gets_the_release_when_it_returns(world: World) -> None:
    world.now_s += 1000.0
    world.heard(*world.ids[:2])
    rollout = world.create(stages=(1.0,))
    world.tick()
    for device in world.ids[:2]:
        world.commit(device, "yard@1")
    world.tick()
    found = world.view(rollout)
    assert (found.state, found.counts.pending_offline, found.counts.committed) == ("finished", 1, 2)
    assert world.wanted()[world.ids[2]] == "yard@1"
    world.commit(world.ids[2], "yard@1")
    assert world.view(rollout).counts.committed == 3


def test_a_device_that_goes_silent_in_the_download_is_lost_and_may_come_back(world: World) -> None:
    rollout = world.create(stages=(1.0,))
    world.tick()
    world.say(world.ids[0], "yard@1", "downloading")
    world.now_s += 601.0
    world.heard(*world.ids[1:])
    world.tick()
    found = world.view(rollout)
    assert (found.state, found.counts.lost) == ("paused", 1)
    assert "fell silent" in found.reason
    world.say(world.ids[0], "yard@1", "committed")
    assert world.view(rollout).counts.lost == 0


def test_devices_that_run_it_already_are_counted_and_asked_nothing(world: World) -> None:
    run_through(world, "yard@1")
    again = world.create("yard@1", stages=(1.0,))
    world.tick()
    world.tick()
    assert world.view(again).state == "finished"


def test_a_ticker_whose_lease_ran_out_changes_nothing(world: World) -> None:
    world.create(stages=(1.0,))
    assert world.tick(fence=7) == 1
    world.say(world.ids[0], "yard@1", "downloading", "rolled_back", reason="crashes")
    assert world.tick(fence=6) == 0
    assert world.tick(fence=7) == 1


def test_what_makes_no_sense_is_refused_in_words(world: World) -> None:
    for order, kind in (
        (Order("yard@9"), NotFoundError),
        (Order("yard@1", stages=(0.5,)), InvalidError),
        (Order("yard@1", devices=["nobody"]), InvalidError),
        (Order("yard@1", group="roof"), InvalidError),
    ):
        with world.database.write() as session, pytest.raises(kind):
            service.create(session, order, who="ann", now_s=NOW_S)
    with world.database.read() as session:
        assert service.rollouts(session) == []


def test_a_dry_run_says_the_stages_and_changes_nothing(world: World) -> None:
    with world.database.read() as session:
        found = service.create(session, Order("yard@1"), who="ann", now_s=NOW_S, dry_run=True)
        assert found.id is None
        assert [stage.devices for stage in found.stages] == [1, 0, 2]
        assert service.rollouts(session) == []


def test_a_yanked_release_is_not_rolled_out(world: World, publish: Make) -> None:
    with world.database.write() as session:
        publish(session, "2")
    with world.database.write() as session, pytest.raises(ConflictError, match="taken out"):
        service.create(session, Order("yard@1"), who="ann", now_s=NOW_S)


def test_a_lost_answer_costs_nothing_and_overlapping_batches_are_stored_once(world: World) -> None:
    """The server stored three reports, the answer was lost, the device sends them again with a fourth."""
    rollout = world.create(stages=(1.0,))
    world.tick()
    device, sha = world.ids[0], world.sha["yard@1"]
    three = [report(n, "yard@1", sha, state) for n, state in enumerate(("downloading", "verifying", "selftest"), 1)]
    with world.database.write() as session:
        assert store_reports(session, device, batch(*three, counter=1), now_s=NOW_S).sequence == 3
    with world.database.write() as session:
        four = [*three, report(4, "yard@1", sha, "committed")]
        assert store_reports(session, device, batch(*four, counter=2), now_s=NOW_S).sequence == 4
    with world.database.write() as session:
        assert store_reports(session, device, batch(*three, counter=3), now_s=NOW_S).sequence == 4, "it is cumulative"
        assert store_reports(session, device, batch(counter=4), now_s=NOW_S).sequence == 4
    assert {one.device: one.state for one in world.view(rollout).devices}[device] == "committed"
    with world.database.read() as session:
        assert len(reports(session, device)) == 4


def test_a_commit_without_enough_seen_says_so_wherever_it_is_shown(world: World) -> None:
    """A yard at night: the trial ended at its deadline with two frames of motion. Committed, but nobody saw how it behaves."""
    rollout = world.create(stages=(1.0,))
    world.tick()
    blind, seen = world.ids[0], world.ids[1]
    world.say(blind, "yard@1", "downloading", "trial")
    world.say(blind, "yard@1", "committed", behaviour_unseen=True)
    world.commit(seen, "yard@1")
    devices = {one.device: one for one in world.view(rollout).devices}
    assert (devices[blind].state, devices[blind].behaviour_unseen) == ("committed", True)
    assert not devices[seen].behaviour_unseen
    with world.database.read() as session:
        assert inventory.get(session, blind, NOW_S).deployment.behaviour_unseen  # type: ignore[union-attr]
        assert not inventory.get(session, seen, NOW_S).deployment.behaviour_unseen  # type: ignore[union-attr]


def test_a_board_with_a_wiped_disk_is_heard_from_its_first_report_on(world: World) -> None:
    """The spool was lost; 150 reports wait under numbers that the server has seen of the old disk: none may go unsent."""
    device, sha = world.ids[0], world.sha["yard@1"]
    with world.database.write() as session:
        old = [report(n, "yard@1", sha, "trial", at_s=1.0) for n in range(1, 101)]
        assert store_reports(session, device, batch(*old, counter=7), now_s=NOW_S).sequence == 100
    anew = [report(n, "yard@1", sha, "downloading", at_s=2.0) for n in range(1, 151)]
    for first in (0, 50, 100):
        with world.database.write() as session:
            part = anew[first : first + 50]
            answer = store_reports(session, device, batch(*part, counter=first, boot_id="b2"), now_s=NOW_S)
            assert answer.sequence == first + 50, "what lies behind this batch was never sent"
            assert inventory.get(session, device, NOW_S).deployment.state == "downloading"  # type: ignore[union-attr]
    with world.database.read() as session:
        assert len(reports(session, device, 1000)) == 250


def test_a_cloned_card_is_held_back_until_an_operator_decides(world: World) -> None:
    """The card was copied: two boards with one identity report in turn."""
    device = world.ids[0]
    rollout = world.create(stages=(1.0,))
    for counter, boot in ((5, "a"), (6, "b"), (6, "a")):
        with world.database.write() as session:
            store_reports(session, device, batch(counter=counter, boot_id=boot), now_s=NOW_S)
    with world.database.read() as session:
        held = inventory.get(session, device, NOW_S).held
    assert held is not None
    assert "two cards" in held
    world.tick()
    assert {one.device: one.state for one in world.view(rollout).devices}[device] == "pending_offline"
    assert device not in world.wanted()
    with world.database.write() as session:
        release_hold(session, device, who="ann", now_s=NOW_S)
    world.tick()
    assert world.wanted()[device] == "yard@1"
