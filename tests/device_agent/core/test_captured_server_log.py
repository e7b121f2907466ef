"""A captured server does not want to be seen asking: it tries to silence the board's own log first."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.duties.keeping_logs import LogLevels
from device_agent.duties.showing import Showing
from device_agent.logs.debug_session import DebugSessions
from device_agent.logs.handler import RingHandler, set_level
from device_agent.logs.ring_disk import LogRing
from ota.wire.configuration_faults import ConfigurationError, parse
from ota.wire.debug import DebugSession, FrameAnswer


class Board:
    """As much of the agent as writes its log: levels, ring, and what judges requests for pictures."""

    def __init__(self, folder: Path, own_level: str) -> None:
        self.ring = LogRing(folder, 100_000)
        self.handler = RingHandler(self.ring, lambda: 1e9, lambda: 1.0, 50.0)
        logging.getLogger().addHandler(self.handler)
        self.levels = LogLevels(
            DebugSessions(own_level), lambda effective: set_level(effective.level), lambda sessions: None,
            now_s=lambda: 1e9, steady_s=lambda: 1.0,
        )  # fmt: skip
        self.answers: list[FrameAnswer] = []
        self.showing = Showing(
            {}, "this board's policy.toml has no live_view = true", self.answers.append, now_s=lambda: 1e9, steady_s=lambda: 1.0,
            marks={}, keep_marks=lambda marks: None,
        )  # fmt: skip

    def asked(self) -> DebugSession:
        return DebugSession(id="s1", until_s=1e9 + 100, log_level="critical", frames="last", frames_asked=1)

    def log(self) -> str:
        self.ring.flush()
        return "\n".join(line.text for line in self.ring.unsent())


@pytest.fixture
def make(tmp_path: Path) -> Iterator[object]:
    before = {name: logging.getLogger(name).level for name in ("device_agent", "rookery", "ota", "models", "hardware")}
    made: list[Board] = []

    def board(own_level: str) -> Board:
        made.append(Board(tmp_path / "logs", own_level))
        return made[-1]

    yield board
    for one in made:
        logging.getLogger().removeHandler(one.handler)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("level", ["error", "critical"])
def test_no_configuration_makes_a_board_more_silent_than_warnings(level: str) -> None:
    """Validly signed: a level at which requests for pictures would leave no trace. It is refused, with the levels there are."""
    with pytest.raises(ConfigurationError, match="must be one of"):
        parse({"log_level": level})
    assert parse({"log_level": "warning"}).log_level == "warning"


@pytest.mark.parametrize(
    ("own", "servers"), [("info", "critical"), ("info", None), ("critical", None), ("critical", "critical"), ("error", "warning")]
)
def test_who_asked_for_pictures_stands_in_the_boards_log_whatever_the_levels(make, own: str, servers: str | None) -> None:
    """A level that got past the types after all, or an owner who wants errors alone: the request is in the ring all the same."""
    board = make(own)
    board.levels.use(servers)
    board.levels.adopt([board.asked()])
    board.showing.adopt([board.asked()])
    assert [answer.state for answer in board.answers] == ["refused"]
    assert "debug session s1 asks for pictures (last) and is refused" in board.log()


def test_a_level_of_the_server_above_warning_counts_as_warning(make) -> None:
    """Else the board's other warnings (a failing disk, a refused release) would be lost with the server's own."""
    board = make("info")
    board.levels.use("critical")
    assert board.levels.effective().level == "warning"
    board.levels.use(None)
    assert board.levels.effective().level == "info"
