"""Child processes: one that is started again after it died, with back-off, and that never outlives the supervisor."""

import contextlib
import ctypes
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
HEALTHY_AFTER_S = 60.0
"""A child that lived this long is restarted at once when it dies."""
STOP_S = 8.0
"""From SIGTERM to SIGKILL."""
LOG_BYTES = 16 * 1024 * 1024
"""What a child's log may hold before it is moved to ``….log.1``, over the one that lay there: twice this per child, for good."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _end_with_parent() -> None:
    # Between fork and exec: the kernel ends the child when the supervisor is killed, even by SIGKILL.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One program that should always run. Its output goes to the end of ``log_file``. Start it from the main thread only."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log_file: Path, pass_fds: Sequence[int] = ()
    ) -> None:
        self.name, self.log_file = name, log_file
        self.starts = 0
        self._command, self._environment, self._pass_fds = list(command), dict(environment), tuple(pass_fds)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = 0.0
        self._delay_s = FIRST_DELAY_S
        self._next_start_s = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def tend(self, now_s: float) -> None:
        """Start it if it does not run and its time has come (``now_s``: monotonic). Turns its log over when that is full."""
        self._turn_log()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._process = None
            healthy = now_s - self._started_s > HEALTHY_AFTER_S
            self._delay_s = FIRST_DELAY_S if healthy else min(self._delay_s * 2, LONGEST_DELAY_S)
            self._next_start_s = now_s + self._delay_s
            log.warning("%s ended with %s; starting it again in %.1f s (see %s)", self.name, code, self._delay_s, self.log_file)
        if now_s >= self._next_start_s:
            self._start(now_s)

    def _start(self, now_s: float) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        self._started_s = now_s
        try:
            with self.log_file.open("ab") as output:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    pass_fds=self._pass_fds, start_new_session=True,
                    preexec_fn=_end_with_parent,
                )  # fmt: skip
        except OSError as error:
            self._delay_s = min(self._delay_s * 2, LONGEST_DELAY_S)
            self._next_start_s = now_s + self._delay_s
            log.error("%s cannot be started: %s", self.name, error)

    def _turn_log(self) -> None:
        # The child holds the file open, for appending: it is copied and emptied, for any program, without a word to it.
        with contextlib.suppress(OSError):
            length_bytes = self.log_file.stat().st_size
            if length_bytes < LOG_BYTES:
                return
            older = self.log_file.with_name(f"{self.log_file.name}.1")
            try:
                with self.log_file.open("rb") as source, older.open("wb") as target:
                    source.seek(max(0, length_bytes - LOG_BYTES))
                    shutil.copyfileobj(source, target)
            except OSError as error:
                log.error("the log of %s is emptied; its copy failed: %s", self.name, error.strerror)
                older.unlink(missing_ok=True)
            os.truncate(self.log_file, 0)

    def send(self, number: int) -> None:
        """Send a signal if it runs."""
        if self.pid is not None and self._process is not None:
            self._process.send_signal(number)


def stop_all(children: Sequence[Child]) -> None:
    """SIGTERM to all, SIGKILL to the groups of those that did not end in time; returns when every one has ended."""
    processes = [child._process for child in children if child._process is not None]
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + STOP_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.05, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):  # a worker may outlive its arbiter: its group is its own session
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
