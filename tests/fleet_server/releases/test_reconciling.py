"""How much of what devices claim is believed: enough to come back after a restore, too little to be led astray."""

from hypothesis import given
from hypothesis import strategies as st

from fleet_server.releases.reconciling import AGREED_STEP, ALONE_STEP, LEAST_WITNESSES, WITNESSES, is_ahead, judge

OURS = {"root": 1, "targets": 2, "stable": 6, "snapshot": 40, "timestamp": 100}


def test_nothing_is_claimed_or_all_of_it_is_known() -> None:
    assert judge(OURS, {}, 5).state == "well"
    assert judge(OURS, {"a": OURS, "b": {"timestamp": 3}}, 5).state == "well"
    assert not is_ahead(OURS, OURS)
    assert is_ahead({"timestamp": 101}, OURS)
    assert not is_ahead({"a role that nobody knows": 9}, OURS)


def test_the_server_was_restored_from_yesterdays_copy() -> None:
    """One of three devices polls first: its word suffices for a day's worth of timestamps."""
    standing = judge(OURS, {"a": {**OURS, "timestamp": 103, "snapshot": 41}}, 3)
    assert standing.lift == {"timestamp": 103, "snapshot": 41}
    assert standing.alone
    assert standing.behind == []


def test_what_people_signed_is_named_with_who_must_push_it() -> None:
    claims = {name: {**OURS, "stable": 8, "targets": 3, "root": 3} for name in "abcd"}
    standing = judge(OURS, claims, 4)
    assert standing.lift == {}
    assert [(one.role, one.ours, one.seen, one.devices) for one in standing.behind] == [
        ("root", 1, 3, 4), ("stable", 6, 8, 4), ("targets", 2, 3, 4),
    ]  # fmt: skip
    root, stable, _ = standing.texts
    assert "its signers must push versions 2 to 3 again" in root
    assert stable.endswith("whoever signs stable must push version 8 again, or sign version 9")


def test_a_captured_device_wants_to_count_to_the_end_of_numbers() -> None:
    """It alone says 2^31: nothing moves, and people are told. With two accomplices of three honest ones it gets no further."""
    standing = judge(OURS, {"evil": {"timestamp": 2**31, "stable": 2**31}}, 50)
    assert (standing.lift, standing.behind) == ({}, [])
    assert "1 of 50 devices say that they have seen stable 2147483648" in standing.doubted[0]
    three = judge(OURS, {name: {"timestamp": 2**31} for name in "abc"}, 50)
    assert three.lift == {}


def test_the_only_device_of_a_fleet_is_still_one_device() -> None:
    """A fleet of one, and that one is captured: its word moves the numbers as little as anybody's who is alone."""
    near, far = ({"evil": {"timestamp": OURS["timestamp"] + step}} for step in (ALONE_STEP, ALONE_STEP + 1))
    assert judge(OURS, near, 1).alone
    assert judge(OURS, far, 1).lift == {}


def test_a_captured_device_among_honest_ones_does_not_hide_what_they_say() -> None:
    claims = {"evil": {"timestamp": 10**9}, "a": {"timestamp": 5000}, "b": {"timestamp": 5001}, "c": {"timestamp": 5002}}
    standing = judge(OURS, claims, 4)
    assert standing.lift == {"timestamp": 5000}
    assert not standing.alone
    assert len(standing.doubted) == 1


versions = st.integers(0, 3 * AGREED_STEP)


@given(ours=st.integers(1, 10**6), claimed=st.lists(versions, max_size=8), fleet=st.integers(1, 20))
def test_never_further_than_the_bounds(ours: int, claimed: list[int], fleet: int) -> None:
    claims = {str(index): {"timestamp": version} for index, version in enumerate(claimed)}
    standing = judge({"timestamp": ours}, claims, max(fleet, len(claimed)))
    believed = standing.lift.get("timestamp", ours)
    supporters = sum(version >= believed for version in claimed)
    assert believed <= ours + AGREED_STEP
    if believed > ours + ALONE_STEP:
        assert supporters >= max(LEAST_WITNESSES, min(WITNESSES, max(fleet, len(claimed))))
    if believed > ours:
        assert believed in claimed
        assert standing.alone or supporters >= max(LEAST_WITNESSES, min(WITNESSES, max(fleet, len(claimed))))
