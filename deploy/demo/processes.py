"""Processes of the demo: started in groups of their own, their words kept in files, and every one of them ended."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

END_DEADLINE_S = 15.0


class DemoError(Exception):
    """The demo cannot go on; the message says why, and where more can be read."""


class Processes:
    """All processes that this demo started. ``close()`` ends them, the last started first."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def log_file(self, name: str) -> Path:
        """Where a process's words are kept."""
        return self._logs / f"{name}.log"

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a long-running process in a session of its own, so that a Ctrl-C at the terminal reaches this demo alone."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log_file(name).open("ab") as log:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})}, start_new_session=True,
            )  # fmt: skip
        self._running.append((name, process))
        return process

    def check(self) -> None:
        """Raise DemoError when a process has ended that should be running."""
        for name, process in self._running:
            if process.poll() is not None:
                raise DemoError(f"{name} ended with status {process.returncode}: {last_words(self.log_file(name))}")

    def wait_until(self, what: str, ready: Callable[[], bool], deadline_s: float) -> None:
        """Wait for a condition while all processes live; raises DemoError naming what did not happen."""
        end = time.monotonic() + deadline_s
        while not ready():
            self.check()
            if time.monotonic() > end:
                raise DemoError(f"{what} did not happen within {deadline_s:.0f} s (logs: {self._logs})")
            time.sleep(0.2)

    def close(self) -> None:
        """End every process: politely first, then its whole group for good."""
        for _, process in reversed(self._running):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_DEADLINE_S
        for _, process in reversed(self._running):
            try:
                process.wait(timeout=max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._running.clear()


def last_words(path: Path) -> str:
    """The last thing that was said: a line, with the indented ones that belong to it."""
    try:
        lines = [line.rstrip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        lines = []
    words: list[str] = []
    while lines:
        words.insert(0, lines[-1].strip())
        if not lines.pop().startswith((" ", "\t")):
            break
    return "; ".join(words) or "it said nothing"
