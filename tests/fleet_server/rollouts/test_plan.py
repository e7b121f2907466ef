"""Stages: never empty where they need not be, sticky, and every device in exactly one."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.rollouts.plan import shares_problem, stage_size, stages

shares_lists = st.lists(st.integers(1, 99), unique=True, max_size=5).map(lambda found: [n / 100 for n in sorted(found)] + [1.0])


@given(st.sets(st.text("abcdef0123456789", min_size=3, max_size=8), max_size=80), shares_lists)
def test_every_device_is_in_one_stage_and_no_stage_is_larger_than_it_may_be(devices: set[str], shares: list[float]) -> None:
    found = stages("r-1", devices, shares)
    flat = [device for stage in found for device in stage]
    assert sorted(flat) == sorted(devices)
    begun, count = 0, len(devices)
    for share, stage in zip(shares, found, strict=True):
        begun += len(stage)
        allowed = max(math.ceil(Fraction(str(share)) * count), min(10, math.ceil(count / 3)))
        assert begun <= allowed


@given(st.sets(st.integers(0, 500), min_size=1, max_size=60))
def test_the_same_rollout_gives_the_same_stages_in_whatever_order_it_is_asked(numbers: set[int]) -> None:
    devices = [f"d{number}" for number in numbers]
    assert stages("r", devices, [0.2, 1.0]) == stages("r", reversed(devices), [0.2, 1.0])


@pytest.mark.parametrize(("share", "count", "size"), [
    (0.05, 3, 1), (0.25, 3, 1), (1.0, 3, 3), (0.05, 100, 10), (0.25, 100, 25), (0.07, 100, 10), (0.01, 1000, 10),
    (0.07, 1000, 70), (0.29, 100, 29), (0.05, 1, 1), (0.5, 0, 0), (0.05, 12, 4),
])  # fmt: skip
def test_sizes_of_contracts_section_6(share: float, count: int, size: int) -> None:
    """A small fleet starts with a third; 0.07 of 1000 is 70 although floating point says 71."""
    assert stage_size(share, count) == size


@pytest.mark.parametrize("shares", [[], [0.0, 1.0], [0.5], [0.5, 0.5, 1.0], [0.5, 0.2, 1.0], [1.5], [0.1] * 30])
def test_shares_that_are_no_stages_are_refused_in_words(shares: list[float]) -> None:
    assert shares_problem(shares)
    with pytest.raises(ValueError):
        stages("r", ["a"], shares)
