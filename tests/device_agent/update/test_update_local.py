"""A release that was carried to the board: it goes before the server's word, until the server changes its mind."""

import hashlib
from pathlib import Path

import pytest

from device_agent.update.deployment import LOCAL
from device_agent.update.local_disk import Inbox, opened_from
from device_agent.update.local_trust_disk import LocalTrust
from device_agent.update.policy import Policy
from ota.bundle.manifest import parse_manifest
from ota.bundle.writer_disk import write_bundle
from ota.trust.refusal import Refusal


class HandInbox(Inbox):
    """The real inbox, whose signatures are the test's word (real ones: ../core/test_local_install_verb.py)."""

    refuse: Refusal | None = None

    def prove(self, path: Path, *, learn: bool = False):
        return self.refuse or opened_from(path)


@pytest.fixture
def inbox(world) -> HandInbox:
    trust = LocalTrust(world.folder / "local-trust.json", bytes, world.folder)
    found = HandInbox(world.folder / "inbox", trust, Policy(local_install=True), world.watch)
    world.inbox = found
    world.restart()
    return found


def carry(world, inbox: HandInbox, version: str, **how):
    """A bundle as a person puts it into the inbox: with the bytes of what ``publish`` published, which no line brings."""
    bundle = world.publish(version, **how)
    manifest = parse_manifest(world.hands.documents[bundle.path])
    files = {path: world.hands.content.pop(entry.sha256) for path, entry in manifest.files.items()}
    inbox.folder.mkdir(exist_ok=True)
    write_bundle(world.folder / "new.rookery", manifest, files)
    (world.folder / "new.rookery").rename(inbox.file(bundle.sha256))
    return bundle


def commit(world) -> None:
    world.ticks()
    world.see(3.0, bright=(60.0, 50.0))
    world.ticks()


def test_it_is_installed_like_any_other_and_said_to_be_local(world, inbox) -> None:
    """No byte comes over the line; every report says ``local``; the bundle leaves the inbox when all is done."""
    carry(world, inbox, "2")
    commit(world)
    assert world.states() == ["offered", "downloading", "verifying", "staging", "selftest", "trial", "committed"]
    assert {report.origin for report in world.hands.reports} == {LOCAL}
    assert world.hands.fetched == []
    assert list(inbox.folder.iterdir()) == []
    assert world.runs() == "yard@2"
    assert world.hands.asked.acceptance is None, "a bundle brings no acceptance set: parity alone"


def test_the_servers_word_of_before_does_not_bring_the_old_one_back(world, inbox) -> None:
    """The server wants 2, a person carried 3 here. The server signs its old word anew for a debug session; it adopts what is
    reported; then a rollout wants 4: that is another word, and it is followed."""
    two = world.publish("2")
    world.assign(two)
    commit(world)
    carry(world, inbox, "3", counter=3)
    commit(world)
    assert world.runs() == "yard@3"
    world.assign(two)
    world.ticks(3)
    assert world.runs() == "yard@3"
    world.restart()
    world.ticks(3)
    assert world.runs() == "yard@3"
    assert "carried" in world.updater.status.sentences[0]
    world.assign(world.publish("4", counter=4))
    commit(world)
    assert world.runs() == "yard@4"
    world.assign(two)
    commit(world)
    assert world.runs() == "yard@2", "after another word the old one is a word again"


def test_a_carried_release_that_fails_leaves_the_servers_word_in_force(world, inbox) -> None:
    """It is refused by its golden samples: what the server wants is installed after all."""
    world.hands.selftest = Refusal("parity", "outputs differ")
    carry(world, inbox, "3", counter=3)
    world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("refused", "parity")
    assert list(inbox.folder.iterdir()) == []
    world.hands.selftest = type(world.hands).__dataclass_fields__["selftest"].default_factory()
    world.assign(world.publish("2"))
    commit(world)
    assert world.runs() == "yard@2"


def test_what_the_server_wanted_in_vain_before_a_failed_stick_is_tried_again(world, inbox) -> None:
    """The line failed for the server's 2; the 3 on the stick is bad. When the server renews its word, 2 comes after all."""
    two = world.publish("2")
    world.hands.refuse["content"] = Refusal("download", "the line is dead")
    world.assign(two)
    world.ticks(40, 60.0)
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("refused", "download")
    world.hands.selftest = Refusal("parity", "outputs differ")
    carry(world, inbox, "3", counter=3)
    world.ticks()
    assert [report.reason for report in world.hands.reports if report.target == "yard@3"][-1] == "parity"
    del world.hands.refuse["content"]
    world.hands.selftest = type(world.hands).__dataclass_fields__["selftest"].default_factory()
    world.ticks(3, 60.0)
    commit(world)
    assert world.runs() == "yard@2"


def test_keep_what_runs_and_an_expired_assignment_do_not_stop_it(world, inbox) -> None:
    """The server says nothing of a release, and its word is long past its end: the board's own authority needs neither."""
    world.assign(None, expires_s=world.hands.now_s + 10)
    world.hands.pass_s(1000.0)
    carry(world, inbox, "2")
    commit(world)
    assert world.runs() == "yard@2"


def test_a_stick_that_was_swapped_in_the_middle_is_refused(world, inbox) -> None:
    """The power goes between copying and installing; meanwhile the file in the inbox becomes another release."""
    inhibit = world.folder / "inhibit"
    inhibit.write_text("wait")
    two = carry(world, inbox, "2")
    world.ticks()
    assert world.states()[-1] == "waiting"
    three = carry(world, inbox, "3", counter=3)
    inbox.file(three.sha256).replace(inbox.file(two.sha256))
    inhibit.unlink()
    world.ticks()
    assert (world.states()[-1], world.hands.reports[-1].reason) == ("refused", "mismatch")
    assert world.runs() == "yard@1"


def test_the_power_goes_at_every_step_of_a_carried_install(world, inbox) -> None:
    """Cut after each report in turn: the board resumes from its inbox and ends where it would have ended."""
    for number, state in enumerate(["offered", "downloading", "verifying", "staging", "selftest", "trial"]):
        bundle = carry(world, inbox, f"2.{number}", counter=2 + number)
        world.hands.cut_at = lambda what, state=state: what == f"report-{state}"
        with pytest.raises(BaseException, match=f"report-{state}"):
            world.ticks(3)
        world.hands.cut_at = lambda what: False
        world.restart()
        commit(world)
        assert world.runs() == bundle.release, state


def test_a_metered_line_does_not_hold_up_a_stick(world, inbox) -> None:
    """Nothing of it comes over the line."""
    world.policy = Policy(metered=True)
    world.restart()
    carry(world, inbox, "2")
    commit(world)
    assert world.runs() == "yard@2"


def test_bytes_of_a_carried_bundle_are_hashed_as_ever(world, inbox) -> None:
    """A stick with a bad cell: the file on it changed after it was proved."""
    bundle = carry(world, inbox, "2")
    data = inbox.file(bundle.sha256).read_bytes()
    wanted = hashlib.sha256(b"model.tflite of 2").hexdigest()
    assert wanted.encode() in data
    inbox.file(bundle.sha256).write_bytes(data.replace(b"model.tflite of 2", b"model.tflite of X"))
    world.ticks(60)
    assert world.states()[-1] == "refused"
    assert world.hands.reports[-1].reason in ("hash", "format")
    assert world.runs() == "yard@1"
