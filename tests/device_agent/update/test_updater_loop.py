"""The updater on a board: what comes from the server, what runs after it, and what was reported."""

import hashlib
from pathlib import Path

import msgspec
import pytest

from device_agent.update.assignment_rule import Accepted
from device_agent.update.state_disk import StateFile
from ota.bundle.manifest import Budget, Variant
from ota.trust.refusal import Refusal
from ota.wire.assignments import StateAnswer
from ota.wire.codec import encode
from ota.wire.deployments import REASONS, ReportBatch

GOOD = {"bright": (60.0, 50.0)}


def history(world) -> None:
    """A day and a night of release 1."""
    for _ in range(10):
        world.see(bright=(50.0, 42.0), dark=(40.0, 30.0))


def test_a_better_release_is_fetched_proved_tried_and_kept(world) -> None:
    """The straight way: one report for each state, the floor raised at commit, only this board's variant fetched."""
    history(world)
    second = world.publish("2", counter=2, min_counter=2)
    assert isinstance(world.assign(second), Accepted)
    world.ticks()
    assert world.updater.status.state == "trial"
    assert world.runs() == "yard@2"
    assert hashlib.sha256(b"tpu.tflite of 2").hexdigest() not in world.hands.fetched
    assert hashlib.sha256(b"tpu of 2").hexdigest() not in world.hands.fetched, "the variant of another board was fetched"
    world.see(5, dark=(60.0, 46.0), bright=(60.0, 50.0))
    world.ticks()
    assert world.states() == ["offered", "downloading", "verifying", "staging", "selftest", "trial", "committed"]
    last = world.hands.reports[-1]
    assert (last.running, last.behaviour_unseen, last.variant) == ("yard@2", False, "cpu-int8")
    assert last.variant_reason.startswith("cpu-int8 fits")
    for figure in ("parity_pairs", "acceptance_ap50", "trial_gated_frames", "trial_rate", "history_rate", "selftest_ms"):
        assert figure in last.figures
    assert StateFile(world.folder / "state").load().floor == 2
    assert not (world.folder / "downloads").exists()
    encode(ReportBatch(boot_id="b", counter=1, highest_seq=1, reports=world.hands.reports))
    assert world.updater.status.sentences == ["It runs yard@2, as it should."]


def test_the_night_release_passes_by_day_and_is_rolled_back_at_night(world) -> None:
    """`night` is as good as ever on bright frames and blind on dark ones: its own history by night gives it away."""
    history(world)
    world.assign(world.publish("3"))
    world.ticks()
    world.see(bright=(200.0, 170.0))
    world.ticks()
    assert world.updater.status.state == "trial", "a day alone must not pass a device that knows nights"
    world.see(dark=(80.0, 2.0))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("rolled_back", "detection_rate", "yard@1")
    assert last.figures["trial_rate.dark"] < 0.1 < last.figures["history_rate.dark"]
    assert "dark frames" in last.detail
    assert world.runs() == "yard@1"
    assert world.hands.used[-1] == "yard@1"


def test_a_release_that_fails_its_golden_samples_never_runs(world) -> None:
    """`boxes` finds the right things in the wrong places: acceptance on the board itself refuses it."""
    from device_agent.update.selftest import SelftestResult

    figures = {"acceptance_ap50": 0.03}
    world.hands.selftest = SelftestResult(code="acceptance", detail="AP50 0.03 stays below 0.70", figures=figures)
    world.assign(world.publish("4"))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", "acceptance", "yard@1")
    assert last.figures["acceptance_ap50"] == 0.03
    assert world.hands.used == []
    assert world.runs() == "yard@1"
    assert any("0.03" in line and "acceptance" in line for line in world.updater.status.sentences)


def test_a_bad_release_is_not_tried_again_when_the_assignment_is_merely_signed_anew(world) -> None:
    """The server renews its signature every few hours, and a debug session opens: the blind model must not come back for that."""
    world.hands.selftest = Refusal("model", "it hangs")
    bad, good = world.publish("5"), world.publish("6", counter=3)
    world.assign(bad)
    world.ticks(3)
    for _ in range(3):
        world.assign(bad)
        world.ticks(2)
    assert world.states().count("refused") == 1
    world.hands.refuse["content"] = Refusal("download", "stopped")
    world.assign(good)
    world.ticks()
    world.assign(bad)
    world.hands.refuse.clear()
    world.ticks(2)
    assert world.states().count("refused") == 2, "after another release was wanted, an operator may insist"


@pytest.mark.parametrize("where", ["refresh", "content"])
def test_an_outage_during_the_fetch_is_waited_out(world, where: str) -> None:
    """The server goes away in the middle: the device waits, visibly, and goes on by itself."""
    world.hands.refuse[where] = Refusal("download", "connection refused")
    world.assign(world.publish("2"))
    world.ticks()
    status = world.updater.status
    assert (status.state, status.reason) == ("waiting", "download")
    assert "waits since" in status.sentences[0]
    world.hands.refuse.clear()
    world.ticks(8)
    assert world.updater.status.state == "trial"


def test_one_flipped_byte_of_content_is_fetched_twice_in_full_and_refused(world) -> None:
    """The server's own store was tampered with: the hash tells, the device keeps what it has."""
    second = world.publish("2")
    flipped = hashlib.sha256(b"model.tflite of 2").hexdigest()
    world.hands.content[flipped] = b"model.tflite oF 2"
    world.assign(second)
    world.ticks(10)
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", "hash", "yard@1")
    assert world.hands.fetched.count(flipped) == 2
    assert world.runs() == "yard@1"


def test_one_flipped_byte_of_metadata_is_refused(world) -> None:
    world.hands.refuse["refresh"] = Refusal("signature", "stable: the signature does not verify")
    world.assign(world.publish("2"))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.target) == ("refused", "signature", "yard@2")


def test_no_variant_fits_an_impossible_board(world) -> None:
    only_tpu = [Variant(id="tpu", accelerator="edgetpu", runtimes=["litert"], model="tpu.tflite", card="card.toml",
                        files=["tpu.tflite", "card.toml", "parity.json"])]  # fmt: skip
    world.assign(world.publish("2", variants=only_tpu))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("refused", "variant")
    assert last.detail.startswith("no variant fits: tpu: ")


def test_a_release_for_other_hardware_another_channel_or_below_the_floor_is_refused(world) -> None:
    for bundle, code in (
        (world.publish("2", hardware=["rpi-5"]), "hardware"),
        (world.publish("3", channel="beta"), "channel"),
    ):
        world.assign(bundle)
        world.ticks()
        assert (world.hands.reports[-1].state, world.hands.reports[-1].reason) == ("refused", code)
    history(world)
    world.assign(world.publish("4", counter=9, min_counter=9))
    world.ticks()
    world.see(dark=(60.0, 46.0), **GOOD)
    world.ticks()
    assert world.hands.reports[-1].state == "committed"
    world.assign(world.publish("5", counter=8))
    world.ticks()
    assert (world.hands.reports[-1].state, world.hands.reports[-1].reason) == ("refused", "counter")


def test_an_assignment_that_disagrees_with_the_signed_metadata_is_refused(world) -> None:
    """A captured server names an allowed path and its own hash."""
    bundle = world.publish("2")
    world.assign(msgspec.structs.replace(bundle, sha256="0" * 64))
    world.ticks()
    assert (world.hands.reports[-1].state, world.hands.reports[-1].reason) == ("refused", "mismatch")


def test_a_newer_assignment_during_a_trial_rolls_back_first(world) -> None:
    world.assign(world.publish("2"))
    world.ticks()
    third = world.publish("3", counter=3)
    world.assign(third)
    world.ticks()
    assert world.states()[5:8] == ["trial", "rolled_back", "offered"]
    back = world.hands.reports[6]
    assert (back.reason, back.running) == ("superseded", "yard@1")
    assert world.updater.status.state == "trial"
    assert world.hands.used == ["yard@2", "yard@1", "yard@3"]


def test_a_debug_session_during_a_trial_changes_nothing(world) -> None:
    """The assignment changes (new number, same release): the trial goes on."""
    second = world.publish("2")
    world.assign(second)
    world.ticks()
    world.assign(second, configuration={"log_level": "debug"})
    world.ticks(3)
    assert world.updater.status.state == "trial"


def test_a_newer_assignment_before_the_trial_supersedes(world) -> None:
    world.hands.refuse["content"] = Refusal("download", "connection refused")
    world.assign(world.publish("2"))
    world.ticks()
    world.hands.refuse.clear()
    world.assign(world.publish("3", counter=3))
    world.ticks()
    assert "superseded" in world.states()
    assert world.runs() == "yard@3"


def test_a_withdrawn_assignment_cancels(world) -> None:
    world.hands.refuse["content"] = Refusal("download", "connection refused")
    world.assign(world.publish("2"))
    world.ticks()
    world.assign(None)
    world.ticks()
    assert world.states()[-1] == "cancelled"
    assert world.runs() == "yard@1"


def test_a_model_that_does_not_start_in_the_pipeline_goes_back_at_once(world) -> None:
    world.hands.refuse["use"] = Refusal("model", "the child died on the first frame")
    world.assign(world.publish("2"))
    world.ticks()
    assert world.states()[-2:] == ["trial", "rolled_back"]
    assert world.hands.reports[-1].reason == "model"
    assert world.runs() == "yard@1"


def test_three_restarts_in_a_trial_and_the_fourth_goes_back(world) -> None:
    world.assign(world.publish("2"))
    world.ticks()
    for _ in range(3):
        world.restart()
        world.ticks()
        assert world.updater.status.state == "trial"
    world.restart()
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("rolled_back", "boots", "yard@1")


def test_an_inhibit_lock_is_waited_for_and_shown(world) -> None:
    (world.folder / "inhibit").write_text("firmware of the camera is being updated")
    world.assign(world.publish("2"))
    world.ticks(3)
    status = world.updater.status
    assert (status.state, status.reason) == ("waiting", "inhibit")
    assert "firmware of the camera" in status.sentences[0]
    (world.folder / "inhibit").unlink()
    world.ticks(2)
    assert world.updater.status.state == "trial"


def test_too_little_was_seen_until_the_end_commits_and_says_so(world) -> None:
    """A camera in an empty warehouse: no motion, no verdict, no eternal trial."""
    history(world)
    world.assign(world.publish("2"))
    world.ticks()
    for _ in range(25):
        world.see(3600.0, bright=(1.0, 1.0))
        world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.behaviour_unseen) == ("committed", True)


def test_a_slow_model_is_refused_by_its_own_signed_budget(world) -> None:
    world.assign(world.publish("2", budget=Budget(latency_ms=5.0)))
    world.ticks()
    assert (world.hands.reports[-1].state, world.hands.reports[-1].reason) == ("refused", "budget")


def test_no_room_on_the_disk_is_waited_for_and_then_refused(world, monkeypatch) -> None:
    import shutil

    from device_agent.update import downloads_disk

    monkeypatch.setattr(downloads_disk, "SPARE_BYTES", shutil.disk_usage(world.folder).total)
    world.assign(world.publish("2"))
    world.ticks(100)
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("refused", "disk")
    assert "MiB are free" in last.detail


def test_an_agent_that_is_stopped_during_a_self_test_blames_nobody_and_goes_on_later(world) -> None:
    """Somebody restarts the service at the wrong moment: the child is ended, the release is not refused for it."""
    world.hands.during_selftest = lambda: world.updater.stop()
    world.hands.selftest, honest = Refusal("model", "was stopped"), world.hands.selftest
    world.assign(world.publish("2"))
    world.ticks()
    assert world.states()[-1] == "selftest"
    world.hands.during_selftest, world.hands.selftest = (lambda: None), honest
    world.restart()
    world.ticks()
    assert world.updater.status.state == "trial"


def test_a_newer_assignment_ends_a_self_test(world) -> None:
    third = world.publish("3", counter=3)

    def arrives() -> None:
        world.hands.during_selftest = lambda: None
        world.assign(third)

    world.hands.during_selftest = arrives
    world.assign(world.publish("2"))
    world.ticks()
    assert "superseded" in world.states()
    assert world.runs() == "yard@3"


# -- answers that are not believed ----------------------------------------------------------------------------------------


def refusal_of(world, answer: StateAnswer) -> str:
    judged = world.updater.poll_answer(answer, "n" * 32)
    assert isinstance(judged, Refusal)
    assert judged.code in REASONS
    world.ticks()
    assert world.updater.status.state == "idle"
    return judged.code


def test_answers_that_are_not_for_us_now_are_refused_with_their_own_code(world) -> None:
    """Foreign device, replayed answer, expired assignment, changed payload: each has its own word, and each is reported once."""
    bundle = world.publish("2")
    assert refusal_of(world, world.answer(bundle, device="cam-8")) == "wrong_device"
    assert refusal_of(world, world.answer(bundle, nonce="o" * 32)) == "nonce"
    assert refusal_of(world, world.answer(bundle, expires_s=world.hands.now_s - 1)) == "expired"
    honest = world.answer(bundle)
    forged = msgspec.structs.replace(honest.assignment, payload=honest.assignment.payload.replace("yard@2", "yard@9"))
    lie = StateAnswer(state=honest.state, assignment=forged)
    assert refusal_of(world, lie) == "signature"
    assert refusal_of(world, lie) == "signature"
    assert [report.reason for report in world.hands.reports] == ["wrong_device", "nonce", "expired", "signature"]
    assert world.updater.seen.seq == 0
    assert "was refused (signature)" in world.updater.status.sentences[0]


def test_an_old_assignment_and_one_with_the_same_number_but_other_content_are_refused(world) -> None:
    first, second = world.publish("2"), world.publish("3", counter=3)
    old = world.answer(first)
    world.assign(second)
    digest = hashlib.sha256(old.assignment.payload.encode()).hexdigest()
    replayed = StateAnswer(state=world.state(1, digest), assignment=old.assignment)
    judged = world.updater.poll_answer(replayed, "n" * 32)
    assert isinstance(judged, Refusal)
    assert judged.code == "sequence"
    twin = world.updater.poll_answer(world.answer(first, seq=2), "n" * 32)
    assert isinstance(twin, Refusal)
    assert (twin.code, "other content" in twin.detail) == ("sequence", True)


def test_the_same_assignment_again_and_the_small_answer_are_accepted(world) -> None:
    answer = world.answer(world.publish("2"))
    assert isinstance(world.updater.poll_answer(answer, "n" * 32), Accepted)
    assert isinstance(world.updater.poll_answer(answer, "n" * 32), Accepted)
    small = StateAnswer(state=world.state(world.updater.seen.seq, world.updater.seen.digest))
    assert isinstance(world.updater.poll_answer(small, "n" * 32), Accepted)


def test_an_assignment_that_expired_while_the_board_was_off_installs_nothing(world) -> None:
    world.assign(world.publish("2"))
    world.hands.pass_s(10_000.0)
    world.restart()
    world.ticks()
    assert world.updater.status.state == "idle"
    assert any("expired" in line for line in world.updater.status.sentences)


def test_what_was_accepted_survives_a_restart(world) -> None:
    world.assign(world.publish("2"))
    seen = world.updater.seen
    world.restart()
    assert world.updater.seen == seen
    world.ticks()
    assert world.updater.status.state == "trial"


def test_a_deployment_that_was_written_down_before_it_began_begins_once(world) -> None:
    """The poll's write came between the decision and the first step, then the power went: no restart is held against it."""
    second = world.publish("2")
    world.assign(second)
    world.updater._loop._begin()
    world.assign(second)
    world.restart()
    world.ticks(3)
    assert world.hands.used == ["yard@2"]
    assert world.updater._ledger.state.deployment.boots == 0


def test_a_torn_state_file_is_set_aside_and_the_model_keeps_running(world, tmp_path: Path) -> None:
    world.assign(world.publish("2"))
    file = world.folder / "state" / "update.json"
    file.write_bytes(file.read_bytes()[:40])
    world.restart()
    assert (world.folder / "state" / "update.json.unreadable").exists()
    assert "could not be read" in world.updater.status.sentences[0]
    world.ticks()
    assert world.runs() == "yard@1"


def test_a_release_whose_assignment_expired_behind_a_lock_is_not_installed(world) -> None:
    """A lock is held for a day, the server falls silent, the lock goes: the assignment of yesterday begins nothing."""
    (world.folder / "inhibit").write_text("stocktaking")
    world.assign(world.publish("2"))
    world.ticks()
    world.hands.pass_s(86_400)
    world.ticks(3)
    assert world.updater.status.state == "waiting", "it waits on: the server may renew the assignment before the lock goes"
    (world.folder / "inhibit").unlink()
    world.ticks()
    assert world.hands.fetched == [], "nothing is begun while the server has a moment to renew it"
    world.ticks(3, seconds=60)
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", "expired", "yard@1")
    assert "not renewed" in last.detail
    assert world.hands.fetched == []
    assert world.runs() == "yard@1"


def test_a_renewed_assignment_goes_on_where_the_expired_one_waited(world) -> None:
    """The same outage, but the server comes back and signs anew: the same release is installed, without a refusal in between."""
    (world.folder / "inhibit").write_text("stocktaking")
    second = world.publish("2")
    world.assign(second)
    world.ticks()
    world.hands.pass_s(86_400)
    (world.folder / "inhibit").unlink()
    world.ticks()
    world.assign(second)
    world.ticks(2)
    assert world.updater.status.state == "trial"
    assert "refused" not in world.states()


def test_a_board_that_was_dark_past_the_assignments_end_does_not_finish_the_install(world) -> None:
    """The power fails between download and self-test and comes back a week later: it is refused, not finished."""
    world.hands.cut_at = lambda what: what == "selftest"
    world.assign(world.publish("2"))
    with pytest.raises(BaseException, match="selftest"):
        world.ticks()
    world.hands.cut_at = lambda what: False
    world.hands.pass_s(7 * 86_400)
    world.restart()
    world.ticks(4, seconds=60)
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("refused", "expired")
    assert world.hands.used == []
    world.assign(world.publish("2"))
    world.ticks()
    assert world.updater.status.state == "trial", "a renewed assignment may bring it all the same"


def test_an_assignment_that_ends_during_the_download_does_not_reach_the_install(world) -> None:
    """A slow line and a silent server: when the last file is there, the assignment is past its end."""
    second = world.publish("2")
    world.assign(second)

    def slow(what: str) -> bool:
        if what == "fetch":
            world.hands.pass_s(3600)
        return False

    world.hands.cut_at = slow
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason) == ("refused", "expired")
    assert world.hands.used == []
