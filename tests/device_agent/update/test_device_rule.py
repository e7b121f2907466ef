"""The device rule in its exact order, the board's policy, and what must pass before an update begins."""

import hashlib
from dataclasses import replace

import msgspec
import pytest

from device_agent.update.assignment_rule import Accepted, Seen, judge_answer, judge_manifest, judge_target
from device_agent.update.conditions import Moment, blocked
from device_agent.update.policy import Policy, PolicyError, load_policy, missing_policy
from ota.bundle.manifest import parse_manifest
from ota.trust.refusal import Refusal
from ota.wire.assignments import StateAnswer


def test_every_fault_at_once_is_refused_for_the_first_in_order(world) -> None:
    """An answer with every fault: mending them one by one walks through the rule in its order."""
    bundle = world.publish("2")
    worst = {"device": "cam-8", "nonce": "o" * 32, "expires_s": world.hands.now_s - 5}
    seen = Seen(9, "f" * 64)

    def judged(how: dict, seen: Seen, keys: dict) -> str:
        answer = world.answer(bundle, seq=3, **how)
        said = judge_answer(answer, nonce="n" * 32, device="cam-7", seen=seen, keys=keys, now_s=world.hands.now_s)
        return said.code if isinstance(said, Refusal) else "accepted"

    assert judged(worst, seen, {}) == "signature"
    assert judged(worst, seen, world.keys) == "wrong_device"
    assert judged({**worst, "device": "cam-7"}, seen, world.keys) == "nonce"
    del worst["device"], worst["nonce"]
    assert judged(worst, seen, world.keys) == "sequence"
    assert judged(worst, Seen(2, "f" * 64), world.keys) == "expired"
    assert judged({}, Seen(2, "f" * 64), world.keys) == "accepted"


def test_the_bundles_part_of_the_rule_in_order(world) -> None:
    bundle = world.publish("2", channel="beta", hardware=["rpi-5"], counter=1)
    data = world.hands.documents[bundle.path]
    found = type("Found", (), {"path": bundle.path, "sha256": "0" * 64, "length_bytes": len(data)})()
    tuf = Refusal("signature", "beta: not signed")
    assert judge_target(bundle, tuf, Policy()).code == "signature"
    assert judge_target(bundle, found, Policy()).code == "channel"
    both = Policy(channels=("stable", "beta"))
    assert judge_target(bundle, found, both).code == "mismatch"
    found.sha256 = bundle.sha256
    found.length_bytes += 1
    assert judge_target(bundle, found, both).code == "mismatch"
    found.length_bytes -= 1
    assert judge_target(msgspec.structs.replace(bundle, channel="stable"), found, both).code == "mismatch"
    assert judge_target(bundle, found, both) is None
    manifest = parse_manifest(data)
    facts = world.hands.facts_now
    assert judge_manifest(bundle, manifest, facts, floor=5).code == "hardware"
    fitting = msgspec.structs.replace(manifest, hardware=["rpi-4"])
    assert judge_manifest(bundle, fitting, facts, floor=5).code == "counter"
    assert judge_manifest(bundle, fitting, facts, floor=1) is None
    other = msgspec.structs.replace(bundle, path="beta/yard/3/manifest.json")
    assert judge_manifest(other, fitting, facts, floor=1).code == "mismatch"


def test_a_state_that_names_another_assignment_than_it_carries_is_refused(world) -> None:
    """Mix and match: a fresh state with an old assignment."""
    fresh, old = world.answer(world.publish("3")), world.answer(world.publish("2"))
    mixed = StateAnswer(state=fresh.state, assignment=old.assignment)
    said = judge_answer(mixed, nonce="n" * 32, device="cam-7", seen=Seen(), keys=world.keys, now_s=world.hands.now_s)
    assert said.code == "sequence"


def test_a_server_that_names_a_new_assignment_and_does_not_send_it(world) -> None:
    small = StateAnswer(state=world.state(5, "a" * 64))
    keys, now_s = world.keys, world.hands.now_s
    said = judge_answer(small, nonce="n" * 32, device="cam-7", seen=Seen(4, "b" * 64), keys=keys, now_s=now_s)
    assert said.code == "sequence"
    held = judge_answer(small, nonce="n" * 32, device="cam-7", seen=Seen(5, "a" * 64), keys=keys, now_s=now_s)
    assert isinstance(held, Accepted)
    nothing = StateAnswer(state=world.state(0, hashlib.sha256(b"").hexdigest()))
    first = judge_answer(nothing, nonce="n" * 32, device="cam-7", seen=Seen(), keys=keys, now_s=now_s)
    assert isinstance(first, Accepted)


def test_a_policy_tells_all_its_faults_at_once() -> None:
    with pytest.raises(PolicyError) as caught:
        load_policy('channels = []\nlocal_install = "on"\nchanels = ["beta"]\nwindow_utc = ["25:00", "1:00"]\nmax_temp_c = true')
    assert len(caught.value.faults) == 5
    assert "chanels" in str(caught.value)


@pytest.mark.parametrize("text", ["channels =", "[[" * 20000, "x" * 200_000, "channels = 'stable'"])
def test_a_broken_policy_is_an_error_of_its_own_kind(text: str) -> None:
    with pytest.raises(PolicyError):
        load_policy(text)


def test_a_policy_that_is_read_and_one_that_is_missing() -> None:
    found = load_policy('channels = ["stable", "beta"]\nlocal_install = true\nwindow_utc = ["22:00", "04:30"]')
    assert (found.channels, found.local_install, found.window_utc) == (("stable", "beta"), True, (1320, 270))
    assert missing_policy().channels == ("stable",)
    assert missing_policy().note


MIDNIGHT_S = 1_800_057_600.0  # a multiple of 86,400 s


@pytest.mark.parametrize(("hour", "waits_h"), [(23, 0), (3, 0), (5, 17), (21.5, 0.5), (22, 0), (4.5, 17.5)])
def test_a_window_over_midnight(hour: float, waits_h: float) -> None:
    policy = Policy(window_utc=(22 * 60, 4 * 60 + 30))
    now_s = MIDNIGHT_S // 86400 * 86400 + hour * 3600
    found = blocked(policy, Moment(now_s))
    if waits_h == 0:
        assert found is None
    else:
        assert found.reason == "window"
        assert found.until_s - now_s == pytest.approx(waits_h * 3600)


def test_every_obstacle_has_a_word_and_a_sentence() -> None:
    policy = Policy()
    calm = Moment(0.0, 50.0)
    assert blocked(policy, calm) is None
    for moment, word in (
        (replace(calm, temperature_c=91.0), "heat"),
        (replace(calm, inhibited=""), "inhibit"),
        (replace(calm, metered_spent_bytes=10), "metered"),
    ):
        found = blocked(replace(policy, metered=True, metered_bytes_per_month=10), moment)
        assert found.reason == word
        assert found.detail
