"""Logs on the device: a bounded ring, numbers that are never reused, levels that fall back by themselves, no secrets."""

import errno
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.logs import ring_disk
from device_agent.logs.batches import RateLimit, batch, wanted
from device_agent.logs.debug_session import DebugSessions
from device_agent.logs.handler import RingHandler
from device_agent.logs.ring_disk import LogRing
from device_agent.logs.sessions_disk import read_sessions, write_sessions
from ota.redaction import redact
from ota.wire.debug import DebugSession
from ota.wire.logs import LogLine


def fill(ring: LogRing, count: int) -> None:
    for n in range(count):
        ring.append(float(n), "info", "test", f"line {n}", None)


def test_lines_survive_a_restart_and_numbers_are_not_reused(tmp_path: Path) -> None:
    """Power fails after a burst was written: the lines wait for the server, the next one has a new number."""
    ring = LogRing(tmp_path, 2**20)
    fill(ring, 5)
    ring.flush()
    ring.stored(3)
    again = LogRing(tmp_path, 2**20)
    assert [line.sequence for line in again.unsent()] == [4, 5]
    fill(again, 1)
    again.flush()
    assert again.unsent()[-1].sequence == 6


def test_a_line_is_offered_to_the_server_only_when_it_is_on_disk(tmp_path: Path) -> None:
    """Otherwise a crash would give its number to another line."""
    ring = LogRing(tmp_path, 2**20)
    fill(ring, 1)
    assert ring.unsent() == []
    ring.flush()
    assert len(ring.unsent()) == 1


def test_a_torn_line_swallows_no_other(tmp_path: Path) -> None:
    """The card kept half a line: it is skipped, and the next burst is whole."""
    ring = LogRing(tmp_path, 2**20)
    fill(ring, 3)
    ring.flush()
    path = next(tmp_path.glob("log-*.jsonl"))
    path.write_bytes(path.read_bytes()[:-10])
    again = LogRing(tmp_path, 2**20)
    assert [line.sequence for line in again.unsent()] == [1, 2]
    fill(again, 1)
    again.flush()
    assert [line.text for line in LogRing(tmp_path, 2**20).unsent()] == ["line 0", "line 1", "line 0"]


def test_the_ring_stays_within_its_bytes(tmp_path: Path) -> None:
    """A month of lines: the disk holds no more than it was given."""
    ring = LogRing(tmp_path, 64 * 1024)
    for _ in range(50):
        fill(ring, 100)
        ring.flush()
    assert sum(path.stat().st_size for path in tmp_path.glob("log-*")) <= 64 * 1024 + 20_000
    assert ring.unsent()


def test_a_full_disk_costs_lines_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while logging: nobody who logs notices, the loss is counted, the file stays whole."""
    ring = LogRing(tmp_path, 2**20)
    fill(ring, 2)
    ring.flush()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ring_disk.os, "fsync", full)
    fill(ring, 3)
    ring.flush()
    monkeypatch.undo()
    assert ring.take_dropped() == 3
    assert len(LogRing(tmp_path, 2**20).unsent()) == 2


SESSION = DebugSession(id="s1", until_s=1060.0, log_level="debug")


def test_the_level_falls_back_by_itself_even_offline() -> None:
    """A minute of debug, then the network is gone for good: the level is info again after the minute."""
    sessions = DebugSessions("info")
    sessions.adopt([SESSION], now_s=1000.0, monotonic_s=50.0)
    assert sessions.effective().level == "debug"
    assert sessions.effective().session == "s1"
    assert sessions.expire(109.0) == []
    assert sessions.expire(110.0) == ["s1"]
    assert sessions.effective() == DebugSessions("info").effective()
    # The server's old word is read again: an ended session does not come back.
    sessions.adopt([SESSION], now_s=1000.0, monotonic_s=111.0)
    assert sessions.effective().level == "info"


def test_a_session_goes_on_after_a_restart_and_ends_at_its_time(tmp_path: Path) -> None:
    """The board restarts in the middle of a session; then again after its end."""
    write_sessions(tmp_path / "s.json", [SESSION])
    restarted = DebugSessions("info")
    restarted.adopt(read_sessions(tmp_path / "s.json"), now_s=1030.0, monotonic_s=5.0)
    assert restarted.effective().level == "debug"
    assert restarted.expire(35.0) == ["s1"]
    late = DebugSessions("info")
    late.adopt(read_sessions(tmp_path / "s.json"), now_s=2000.0, monotonic_s=5.0)
    assert late.effective().level == "info"


def test_a_closed_session_ends_at_once_and_none_makes_the_log_silent() -> None:
    """The operator closes it: the assignment no longer names it. A session of level error changes nothing."""
    sessions = DebugSessions("info")
    sessions.adopt([SESSION], now_s=1000.0, monotonic_s=0.0)
    assert sessions.adopt([], now_s=1001.0, monotonic_s=1.0)
    assert sessions.effective().level == "info"
    sessions.adopt([DebugSession(id="s2", until_s=1e9, log_level="critical")], now_s=1000.0, monotonic_s=0.0)
    assert sessions.effective().level == "info"
    assert sessions.expire(25 * 3600.0) == ["s2"]


def test_damaged_sessions_mean_the_base_level(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{half")
    assert read_sessions(tmp_path / "s.json") == []


@pytest.mark.parametrize(
    "line",
    [
        "claim: rk_9f8a7b6c5d4e3f2a1b",
        "using token=abcdef123456789",
        "PUT https://x/blobs/k?sig=SECRETSECRET&expires=99",
        "open rtsp://admin:SECRET99@10.0.0.5/stream",
        "open rtsp://admin:ab?SECRET@10.0.0.5/stream",
        "open http://admin:ab/SECRET@10.0.0.5/stream",
        "open rtsp://admin:ab@SECRET@10.0.0.5/stream",
        "open rtsp://10.0.0.5:554/user=admin_password=SECRET_channel=1.sdp",
        "open /user=admin_password=SECRET_channel=1.sdp",
        "Authorization: Bearer SECRETSECRETSECRET",
        "key -----BEGIN EC PRIVATE KEY-----\nSECRET\n-----END EC PRIVATE KEY-----",
        "password SECRETSECRET",
    ],
)
def test_secrets_leave_the_line(line: str) -> None:
    cleaned = redact(line)
    assert "redacted" in cleaned or "[private key]" in cleaned
    for secret in ("SECRET", "9f8a7b6c", "abcdef123456789"):
        assert secret not in cleaned


def test_ordinary_lines_are_left_alone() -> None:
    assert redact("camera yard: 15 frames, token bucket ok") == "camera yard: 15 frames, token bucket ok"


def test_a_storm_of_lines_is_limited_but_errors_pass_longer() -> None:
    """A loop that logs as fast as it can fills no card."""
    limit = RateLimit(10)
    passed = sum(limit.allows("info", 0.0) for _ in range(1000))
    assert passed == 100
    assert limit.allows("error", 0.0)
    assert sum(limit.allows("info", 10.0) for _ in range(1000)) < 101


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=40))
def test_a_batch_is_never_empty_and_never_reordered(sizes: list[int]) -> None:
    lines = [
        LogLine(sequence=n, at_s=0, level="info", logger="x", text="ü" * (size // 2)) for n, size in enumerate(sizes, start=1)
    ]
    made = batch(lines, "boot", 3)
    assert made.lines
    assert made.lines == lines[: len(made.lines)]
    assert made.dropped == 3


def test_what_goes_to_the_server() -> None:
    quiet = LogLine(sequence=1, at_s=0, level="info", logger="x", text="t")
    assert not wanted(quiet, "warning")
    assert wanted(LogLine(sequence=1, at_s=0, level="info", logger="x", text="t", session="s"), "warning")
    assert wanted(LogLine(sequence=1, at_s=0, level="error", logger="x", text="t"), "warning")


def test_the_handler_writes_redacted_lines_with_their_session(tmp_path: Path) -> None:
    """Python's logging ends in the ring; an exception is one sentence, not a stack."""
    ring = LogRing(tmp_path, 2**20)
    handler = RingHandler(ring, lambda: 5.0, lambda: 1.0, 50)
    logger = logging.getLogger("device_agent.test_handler")
    logger.addHandler(handler)
    sessions = DebugSessions("info")
    sessions.adopt([SESSION], now_s=1000, monotonic_s=0)
    handler.follow(sessions.effective())
    try:
        raise ValueError("claim=0123456789abcdef")
    except ValueError:
        logger.exception("it broke")
    logger.removeHandler(handler)
    ring.flush()
    line = ring.unsent()[0]
    assert (line.level, line.session) == ("error", "s1")
    assert line.text == "it broke: ValueError: claim=[redacted]"
    assert any(tmp_path.iterdir())
