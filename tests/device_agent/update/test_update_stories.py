"""Accidents in the life of an update, told whole: power, link, nights, two updates at once, state files of other versions."""

import hashlib
import json
from dataclasses import dataclass, field

import msgspec
import pytest

from device_agent.update.deployment import Deployment, Event
from device_agent.update.health import HealthWindow, Seen
from device_agent.update.installed import Running
from device_agent.update.state_disk import AGENT_STATE_FILE, StateFile
from device_agent.update.updater import Updater
from device_agent.update.wanted import AGENT
from ota.bundle.manifest import encode_manifest, parse_manifest, target_path
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle


def see(world, seconds: float = 10.0, *, link: bool = True, worse: bool = False, **light: tuple[float, float]) -> None:
    world.hands.pass_s(seconds)
    seen = {word: Seen(*counts) for word, counts in light.items()}
    world.updater.on_window(HealthWindow(seconds, seen, fps=10.0, camera_fps=15.0, latency_ms=20.0, link=link, link_worse=worse))


def days_of_history(world) -> None:
    """Days and nights of the factory release, so that a trial has something to be held to."""
    for _ in range(60):
        see(world, 3600.0, bright=(40.0, 35.0), dark=(40.0, 30.0))


def test_power_lost_three_times_in_a_trial_costs_nothing(world) -> None:
    """Somebody pulls the plug of the shop every evening. Each start goes on with the trial, with the new model; what was seen
    since is judged; it is committed, and the report says how it went."""
    world.assign(world.publish("2"))
    world.ticks()
    for _ in range(3):
        world.restart()
        world.ticks()
        assert (world.updater.status.state, world.runs()) == ("trial", "yard@2")
    see(world, 60.0, bright=(60.0, 50.0))
    world.ticks()
    assert (world.states()[-1], world.runs()) == ("committed", "yard@2")


def test_a_link_lost_in_a_trial_is_unknown_and_not_a_failure(world) -> None:
    """The provider's mast is down for a night. The model sees well: the trial waits for the link, and passes when it is back."""
    days_of_history(world)
    world.assign(world.publish("2"))
    world.ticks()
    for _ in range(8):
        see(world, 3600.0, link=False, bright=(40.0, 35.0), dark=(40.0, 30.0))
        world.ticks()
        assert world.updater.status.state == "trial"
    see(world, 10.0, link=True, bright=(40.0, 35.0), dark=(40.0, 30.0))
    world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].behaviour_unseen) == ("committed", False)


def test_a_link_lost_for_more_than_a_day_commits_unseen_unless_the_network_got_worse_here(world) -> None:
    """A board in a field of which the mast is gone: that is not the model's doing. But where the gateway itself cannot be
    reached any more since the switch, the release goes back: perhaps it is."""
    days_of_history(world)
    world.assign(world.publish("2"))
    world.ticks()
    for _ in range(26):
        see(world, 3600.0, link=False, bright=(40.0, 35.0), dark=(40.0, 30.0))
        world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].behaviour_unseen) == ("committed", True)
    world.assign(world.publish("3", counter=3))
    world.ticks()
    for _ in range(26):
        see(world, 3600.0, link=False, worse=True, bright=(40.0, 35.0), dark=(40.0, 30.0))
        world.ticks()
    assert (world.states()[-1], world.runs()) == ("rolled_back", "yard@2")


def test_a_night_without_motion_commits_behaviour_unseen(world) -> None:
    """A Sunday in a warehouse: nothing moves by day nor by night. The trial ends in its time, openly: "behaviour unseen"."""
    days_of_history(world)
    world.assign(world.publish("2"))
    world.ticks()
    for _ in range(25):
        see(world, 3600.0, dark=(0.0, 0.0))
        world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.behaviour_unseen, world.runs()) == ("committed", True, "yard@2")


def test_expired_metadata_is_nobodys_release_fault_and_is_tried_again(world) -> None:
    """The timestamp key's machine was down over the weekend: refused(expired) on every board, and what runs goes on. On Monday
    the server signs its word anew, and the same release is installed."""
    two = world.publish("2")
    world.hands.refuse["refresh"] = Refusal("expired", "timestamp expired on Saturday")
    world.assign(two)
    world.ticks(60, 30.0)
    assert (world.states()[-1], world.hands.reports[-1].reason, world.runs()) == ("refused", "expired", "yard@1")
    del world.hands.refuse["refresh"]
    world.assign(two)
    world.ticks()
    assert world.updater.status.state == "trial"


def test_an_agents_release_assigned_as_a_model_is_refused(world) -> None:
    """A captured server swaps the two fields of an assignment: both bundles are rightly signed, and neither is run as the
    other."""
    two = world.publish("2")
    manifest = parse_manifest(world.hands.documents[two.path])
    nothing = {"accelerator": "", "runtimes": [], "model": "", "card": ""}
    wheels = [msgspec.structs.replace(manifest.variants[0], abi="cp311", machines=["aarch64"], **nothing)]
    agent = msgspec.structs.replace(manifest, kind="agent", variants=wheels, golden=type(manifest.golden)(), labels=[])
    data = encode_manifest(agent)
    path = target_path("stable", "yard", "2")
    world.hands.documents[path] = data
    sha256 = hashlib.sha256(data).hexdigest()
    world.assign(AssignedBundle(path=path, sha256=sha256, length_bytes=len(data), channel="stable", release="yard@2"))
    world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("refused", "mismatch")


@dataclass
class HandActions:
    """The agent's own side, held in the hand: every action succeeds at once."""

    done: list[str] = field(default_factory=list)
    now: Running | None = None

    def perform(self, action: str, deployment: Deployment, floor: int, should_stop) -> Event | None:
        self.done.append(action)
        if action == "switch":
            self.now = Running(deployment.bundle.sha256, deployment.bundle.release)
        events = {"resolve": "resolved", "download": "downloaded", "verify": "verified", "stage": "staged", "selftest": "proved"}
        return Event(kind=events[action]) if action in events else None

    def obstacle(self) -> Event | None:
        return None

    def running(self) -> Running | None:
        return self.now

    def latency_budget_ms(self, deployment: Deployment) -> float | None:
        return None


class HandJudge:
    note = ""
    said: Event | None = None

    def switched(self, steady_s: float) -> None: ...

    def add(self, window, steady_s: float, *, trial: bool) -> None: ...

    def keep(self, steady_s: float) -> None: ...

    def verdict(self, in_state_s: float, budget_ms: float | None) -> Event | None:
        return self.said


class Pair:
    """The model's updater and the agent's own over one board and one assignment."""

    def __init__(self, world) -> None:
        self.world, self.model = world, world.updater
        self.actions, self.judge = HandActions(), HandJudge()
        hand = world.performer._bench
        self.agent = Updater(
            "cam-7", memory=StateFile(world.folder / "state", AGENT_STATE_FILE), actions=self.actions, trust=hand.trust,
            clock=hand.clock, reports=hand.board, watch=self.judge, part=AGENT, orders=self.model.orders,
        )  # fmt: skip
        self.model.stand_beside(lambda: self.agent.busy)
        self.agent.stand_beside(lambda: self.model.busy)

    def ticks(self, count: int = 1) -> None:
        for _ in range(count):
            self.world.hands.pass_s(1.0)
            self.model.tick()
            self.agent.tick()


def agent_release(version: str) -> AssignedBundle:
    return AssignedBundle(
        path=f"stable/agent/{version}/manifest.json", sha256=version * 64, length_bytes=10, channel="stable",
        release=f"agent@{version}",
    )  # fmt: skip


def test_two_updates_at_once_take_turns(world) -> None:
    """The assignment names a new model and a new agent. One goes first; the other says what it waits for; both end, and their
    reports tell them apart."""
    pair = Pair(world)
    world.assign(world.publish("2"), agent=agent_release("7"))
    pair.ticks(3)
    assert pair.model.status.state == "trial"
    status = pair.agent.status
    assert (status.state, status.reason) == ("waiting", "other_update")
    assert "yard@2" in status.detail
    assert "stage" not in pair.actions.done
    see(world, 60.0, bright=(60.0, 50.0))
    pair.ticks(3)
    assert pair.model.status.state == "committed"
    assert pair.agent.status.state == "trial"
    pair.judge.said = Event(kind="good")
    pair.ticks(2)
    assert pair.agent.status.state == "committed"
    kinds = {(report.kind, report.target) for report in world.hands.reports}
    assert kinds == {("model", "yard@2"), ("agent", "agent@7")}
    assert [report.running for report in world.hands.reports if report.kind == "agent"][-1] == "agent@7"


def test_two_that_wait_do_not_wait_for_each_other(world) -> None:
    """A lock holds both. When it goes, one begins and then the other: nobody waits for somebody who waits."""
    inhibit = world.folder / "inhibit"
    inhibit.write_text("wait")
    pair = Pair(world)
    obstacle = pair.model._loop._actions.obstacle
    pair.actions.obstacle = obstacle
    pair.agent._loop._actions.obstacle = obstacle
    world.assign(world.publish("2"), agent=agent_release("7"))
    pair.ticks(3)
    assert pair.model.status.state == "waiting"
    inhibit.unlink()
    pair.judge.said = Event(kind="good")
    for _ in range(5):
        see(world, 60.0, bright=(60.0, 50.0))
        pair.ticks(3)
    assert (pair.model.status.state, pair.agent.status.state) == ("committed", "committed")


def test_the_server_changes_the_agent_alone_and_the_model_stays_on_trial(world) -> None:
    """A newer assignment with the same model and another agent is no newer word for the model."""
    pair = Pair(world)
    two = world.publish("2")
    world.assign(two)
    pair.ticks(2)
    world.assign(two, agent=agent_release("7"))
    pair.ticks(2)
    assert pair.model.status.state == "trial"
    assert pair.agent.status.reason == "other_update"


def test_an_older_agents_state_is_read_and_its_trial_goes_on(world) -> None:
    """The first start after the agent's own update: the file is the one that version 0.1 wrote, word for word."""
    two = world.publish("2")
    world.assign(two)
    world.ticks()
    file = world.folder / "state" / "update.json"
    kept = json.loads(file.read_bytes())
    for later in ("overridden",):
        kept.pop(later, None)
    for later in ("asked",):
        kept["deployment"].pop(later, None)
    file.write_text(json.dumps(kept))
    world.restart()
    world.ticks()
    assert (world.updater.status.state, world.runs()) == ("trial", "yard@2")


def test_what_this_agent_writes_the_one_before_reads(world) -> None:
    """The new agent goes back in its trial: version 0.1 ignores what it does not know, and finds the words that it does."""

    class OldDeployment(msgspec.Struct):
        assignment_seq: int
        bundle: AssignedBundle
        state: str
        in_state_s: float
        transitions: int
        attempts: dict[str, int]
        boots: int
        settled: bool

    class OldState(msgspec.Struct):
        v: int
        deployment: OldDeployment | None
        seen_seq: int
        seen_digest: str
        assignment: str
        floor: int

    world.assign(world.publish("2"))
    world.ticks()
    old = msgspec.json.decode((world.folder / "state" / "update.json").read_bytes(), type=OldState)
    assert (old.v, old.deployment.state, old.floor) == (1, "trial", 0)


def test_a_later_agents_state_is_kept_and_nothing_below_its_floor_comes_back(world) -> None:
    """Version 9 of the file: its words are not known here. It is set aside whole, said so; its floor and number hold."""
    file = world.folder / "state" / "update.json"
    file.write_text(json.dumps({"v": 9, "floor": 5, "seen_seq": 3, "deployment": {"odd": True}}))
    world.restart()
    assert "version 9" in world.updater.status.sentences[0]
    assert world.updater.seen.seq == 3
    assert (world.folder / "state" / "update.json.v9").exists()
    world.seq = 3
    world.assign(world.publish("2", counter=2))
    world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("refused", "counter")
    assert world.assign(None, seq=2).code == "sequence"


def test_a_state_that_cannot_be_written_says_so_and_begins_nothing(world, monkeypatch) -> None:
    """The card went read-only. The status says it, nothing is begun, what runs goes on; with a new card it goes on."""
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    world.assign(world.publish("2"))
    monkeypatch.setattr("device_agent.update.state_disk.write_whole", refuse)
    world.ticks(3)
    status = world.updater.status
    assert status.reason == "disk"
    assert "Read-only file system" in status.sentences[0]
    assert world.hands.fetched == []
    assert world.runs() == "yard@1"
    monkeypatch.undo()
    world.ticks(2)
    assert (world.updater.status.state, world.updater.status.reason) == ("trial", "")


@pytest.mark.parametrize("what", ["stage", "download", "document"])
def test_a_disk_that_fills_up_while_an_update_writes_ends_as_disk_with_the_old_model(world, monkeypatch, what: str) -> None:
    """ENOSPC in the middle of one kind of write, again and again: refused(disk), the old model runs, nothing half is left.
    (Every single change in turn: tests/faults/test_disk_fails.py.)"""
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if what == "stage":
        for name in ("copy_new", "copy_known", "unpack_new"):
            monkeypatch.setattr(f"ota.slots.files_disk.Files.{name}", refuse)
    elif what == "download":
        world.hands.refuse["content"] = Refusal("disk", "No space left on device")
    else:
        monkeypatch.setattr("device_agent.update.downloads_disk.write_whole", refuse)
    world.assign(world.publish("2"))
    world.ticks(60, 30.0)
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", "disk", "yard@1")
    assert not (world.folder / "downloads").exists() or not list((world.folder / "downloads").iterdir())
    assert [path.name for path in (world.folder / "slots").iterdir() if path.name.startswith((".staging", ".new"))] == []
