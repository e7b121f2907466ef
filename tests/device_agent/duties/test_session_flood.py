"""The flood of sessions: a captured server names thousands in each assignment, to wear a board's card out and fill its memory."""

import json
import os
from pathlib import Path

import pytest

from device_agent.duties.keeping_stills import KeepingStills
from device_agent.duties.marks_disk import read_marks, write_marks
from device_agent.duties.showing import MOST_TOLD_PER_HOUR, Showing
from device_agent.logs.debug_session import REMEMBERED_ENDED, DebugSessions
from device_agent.spool.spool_disk import Outbox
from ota.wire.assignments import Assignment
from ota.wire.codec import MessageError, decode, encode
from ota.wire.debug import MAX_SESSIONS, DebugSession

NOW_S = 1e9
REFUSAL = "this board's policy.toml has no live_view = true"


class Flooded:
    """A board whose policy allows no pictures, on a disk whose fsyncs are counted."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.syncs, self.folder = 0.0, 0, folder
        self.box = Outbox(folder / "spool", max_bytes=2**26, min_free_bytes=0)
        answers = KeepingStills(self.box, lambda: NOW_S)
        self.showing = Showing(
            {}, REFUSAL, answers.answer, now_s=lambda: NOW_S, steady_s=lambda: self.now_s, marks={},
            keep_marks=lambda marks: write_marks(folder / "marks.json", marks),
        )  # fmt: skip
        fsync = os.fsync

        def counted(descriptor: int) -> None:
            self.syncs += 1
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", counted)


def sessions(asked: int, count: int, prefix: str = "s") -> list[DebugSession]:
    return [
        DebugSession(id=f"{prefix}{n}", until_s=NOW_S + 1e5, log_level="info", frames="last", frames_asked=asked)
        for n in range(count)
    ]  # fmt: skip


def test_an_assignment_with_thousands_of_sessions_is_no_message_of_ours() -> None:
    """207 KB of sessions, validly signed: not believed, nothing is written."""
    made = Assignment(device="cam-7", seq=1, issued_s=1.0, expires_s=2.0, debug=sessions(1, MAX_SESSIONS))
    assert len(decode(Assignment, encode(made)).debug) == MAX_SESSIONS
    raw = json.loads(encode(made))
    raw["debug"] = raw["debug"][:1] * 2000
    with pytest.raises(MessageError, match="debug"):
        decode(Assignment, json.dumps(raw).encode())


def test_a_thousand_assignments_with_new_requests_cost_a_bounded_number_of_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One each second, sixteen sessions in each, all asking anew: the card takes an hour's answers and not one write more."""
    board = Flooded(tmp_path, monkeypatch)
    for turn in range(1, 101):
        board.now_s += 1.0
        board.showing.adopt(sessions(turn, MAX_SESSIONS, prefix=f"t{turn}-"))
    after_100 = board.syncs
    for turn in range(101, 1001):
        board.now_s += 1.0
        board.showing.adopt(sessions(turn, MAX_SESSIONS))
    assert board.box.count("stills") == MOST_TOLD_PER_HOUR
    assert board.syncs == after_100
    assert board.syncs <= 6 * MOST_TOLD_PER_HOUR


def test_more_sessions_than_the_wire_takes_are_not_answered_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hands the duty a longer list gets the first sixteen answered, over one write of what was taken."""
    board = Flooded(tmp_path, monkeypatch)
    board.showing.adopt(sessions(1, 2000))
    assert board.box.count("stills") == MAX_SESSIONS
    assert len(read_marks(tmp_path / "marks.json")) == MAX_SESSIONS


def test_after_the_flood_an_hour_later_requests_are_answered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """The log says once that there was no answer; then the board speaks again."""
    board = Flooded(tmp_path, monkeypatch)
    for turn in range(1, 21):
        board.showing.adopt(sessions(turn, MAX_SESSIONS))
    assert caplog.text.count("no answer") == 1
    before = board.box.health().evicted.get("stills", 0) + board.box.count("stills")
    board.now_s += 3601.0
    board.showing.adopt(sessions(100, 1))
    assert board.box.health().evicted.get("stills", 0) + board.box.count("stills") == before + 1


def test_sessions_that_begin_and_end_without_end_are_not_all_remembered() -> None:
    """A year of floods: what ended long ago is forgotten, what ended lately stays ended."""
    kept = DebugSessions("info")
    for turn in range(200):
        flood = [DebugSession(id=f"{turn}-{n}", until_s=NOW_S + 1.0, log_level="debug") for n in range(MAX_SESSIONS)]
        kept.adopt(flood, now_s=NOW_S, monotonic_s=10.0 * turn)
        assert len(kept.expire(10.0 * turn + 5.0)) == MAX_SESSIONS
    assert len(kept._ended) == REMEMBERED_ENDED
    kept.adopt(flood, now_s=NOW_S, monotonic_s=3000.0)
    assert kept.effective().level == "info"
