"""Strangers write lines into the server's own logs: they fill no disk."""

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http.errors import InvalidRequestLine
from gunicorn.workers.base import Worker

from fleet_server import process_linux
from fleet_server.door_log_gunicorn import DoorLog
from fleet_server.process_linux import Child, stop_all

SECRET = "rks_" + "s" * 40


@pytest.fixture
def door(tmp_path: Path) -> Any:
    """What of gunicorn's worker answers requests that are none, with our log behind it."""
    cfg = Config()
    cfg.set("errorlog", str(tmp_path / "door.log"))
    cfg.set("loglevel", "warning")
    worker = Worker.__new__(Worker)
    worker.cfg, worker.log = cfg, DoorLog(cfg)
    yield worker
    for handler in list(worker.log.error_log.handlers):
        worker.log.error_log.removeHandler(handler)
        handler.close()


def eventually(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def refuse(door: Any, line: str) -> None:
    """gunicorn's own answer to a line that it cannot read."""
    here, there = socket.socketpair()
    with here, there:
        door.handle_error(None, here, ("192.0.2.1", 4711), InvalidRequestLine(line))


def test_a_stranger_does_not_fill_the_disk_through_the_log(door: Any, tmp_path: Path) -> None:
    """GET /AAAA…, and a tab where a space belongs: gunicorn writes down all of it before anybody asks who it was."""
    for _ in range(300):
        refuse(door, "GET /" + "A" * 4000 + "\t HTTP/1.1")
    written = (tmp_path / "door.log").read_text()
    assert written.count("\n") == 1, "one line a minute"
    assert "1 invalid request(s)" in written
    assert "192.0.2.1" in written
    assert len(written) < 400


def test_a_line_that_is_cut_was_redacted_before(door: Any, tmp_path: Path) -> None:
    """Where a secret lies across the cut, no half of it is left."""
    for length in range(200, 290, 3):
        door.log.error("a" * length + " " + SECRET)
    written = (tmp_path / "door.log").read_text()
    assert "sss" not in written
    assert max(map(len, written.splitlines())) <= 301


def test_a_childs_log_is_turned_over_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that writes without end keeps two files of a bounded length, and goes on writing into the first."""
    monkeypatch.setattr(process_linux, "LOG_BYTES", 100_000)
    fifo, log = tmp_path / "go", tmp_path / "logs" / "child.log"
    os.mkfifo(fifo)
    noisy = f"head -c 300000 /dev/zero | tr '\\0' a; cat {fifo} >/dev/null; printf later; exec cat {fifo}"
    child = Child("child", ["sh", "-c", noisy], {"PATH": os.environ["PATH"]}, log)
    try:
        child.tend(time.monotonic())
        eventually(lambda: log.stat().st_size == 300_000)
        child.tend(time.monotonic())
        assert log.stat().st_size == 0
        assert log.with_name("child.log.1").stat().st_size == 100_000
        fifo.write_text("go on")
        eventually(lambda: log.read_bytes() == b"later")
    finally:
        stop_all([child])
