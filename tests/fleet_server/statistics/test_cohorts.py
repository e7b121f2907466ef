"""Cohorts: sticky, monotone, and intervals that hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_server.statistics.cohorts import in_order, in_share, point, rate_interval

names = st.text(min_size=1, max_size=12)


@given(names, names, st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_a_share_stays_in_every_larger_one(salt: str, item: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not in_share(salt, item, small) or in_share(salt, item, large)
    assert 0 <= point(salt, item) < 1


@given(names, st.sets(names), names)
def test_a_new_device_changes_nobody_elses_place(salt: str, items: set[str], extra: str) -> None:
    with_extra = [item for item in in_order(salt, items | {extra}) if item != extra]
    assert with_extra == [item for item in in_order(salt, items) if item != extra]


def test_shares_are_about_as_large_as_they_say() -> None:
    inside = sum(in_share("experiment", f"device-{n}", 0.2) for n in range(5000))
    assert 850 < inside < 1150


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_interval_holds_the_rate(hits: int, more: int) -> None:
    interval = rate_interval(hits, hits + more)
    assert interval is not None
    assert 0 <= interval[0] <= hits / (hits + more) <= interval[1] <= 1


def test_counts_that_cannot_be_are_refused() -> None:
    assert rate_interval(0, 0) is None
    with pytest.raises(ValueError):
        rate_interval(3, 2)
