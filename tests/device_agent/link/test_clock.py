"""A board without a clock: time never runs before what is known to be past, and runs on from there."""

from pathlib import Path

from device_agent.link.clock import TrustedClock
from device_agent.link.clock_disk import read_floor, write_floor


class Times:
    """A system clock and a steady clock that the test sets."""

    def __init__(self, now_s: float) -> None:
        self.now_s, self.steady_s = now_s, 0.0
        self.kept: list[float] = []

    def clock(self, floor_s: float, latest_s: float | None = None) -> TrustedClock:
        return TrustedClock(
            floor_s, now=lambda: self.now_s, steady=lambda: self.steady_s, keep=self.kept.append,
            latest_s=None if latest_s is None else lambda: latest_s,
        )  # fmt: skip


def test_a_board_that_wakes_in_1970_uses_the_servers_time_and_it_runs_on() -> None:
    times = Times(now_s=100.0)
    clock = times.clock(floor_s=1_000_000.0)
    assert clock.behind()
    assert clock.now_s() == 1_000_000.0
    clock.verified(2_000_000.0)
    times.steady_s += 60
    assert clock.now_s() == 2_000_060.0
    times.now_s = 3_000_000.0
    assert not clock.behind()
    assert clock.now_s() == 3_000_000.0


def test_an_old_answer_never_sets_it_back_and_the_floor_is_written_rarely() -> None:
    times = Times(now_s=2_000_000.0)
    clock = times.clock(floor_s=1_000_000.0)
    clock.verified(500_000.0)
    assert times.kept == []
    for minute in range(180):
        clock.verified(2_000_000.0 + 60 * minute)
        times.steady_s += 60
        times.now_s += 60
    assert 1 <= len(times.kept) <= 4
    assert times.kept == sorted(times.kept)


def test_a_wrong_2099_does_not_end_the_device() -> None:
    """A server with a broken clock: the floor never passes the earliest expiry of what is trusted."""
    times = Times(now_s=2_000_000.0)
    clock = times.clock(floor_s=1_000_000.0, latest_s=2_500_000.0)
    clock.verified(4_000_000_000.0)
    assert clock.now_s() == 2_500_000.0


def test_the_floor_survives_a_restart_and_a_torn_file(tmp_path: Path) -> None:
    assert read_floor(tmp_path / "clock", 5.0) == 5.0
    write_floor(tmp_path / "clock", 1234.0)
    assert read_floor(tmp_path / "clock", 5.0) == 1234.0
    assert read_floor(tmp_path / "clock", 9999.0) == 9999.0
    (tmp_path / "clock").write_text("12x")
    assert read_floor(tmp_path / "clock", 5.0) == 5.0
