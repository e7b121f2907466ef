"""Starts the agent and starts it again: chooses its slot, counts failed starts, falls back, forwards signals.

Standard library only, a few dozen lines, never updated by itself: whatever an update of the agent breaks, this still runs.
The slot is a pointer file in the data folder, ``agent-slot.json``: {"python": …, "previous": …}; without it the agent runs in the
launcher's own environment.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

POINTER = "agent-slot.json"
HEALTHY_S = 60.0
"""An agent that ran this long has started well; earlier ends count as failed starts."""
FALL_BACK_AFTER = 3
"""Failed starts of one slot in a row before the previous one is taken."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
FINAL_CODES = (0, 2, 3)
"""The agent ended on purpose, or a person has to act (settings, claim): starting it again would change nothing."""
END_S = 10.0
"""From a signal to the agent's end, then it is killed: longer than its own patience (8 s), and shorter than that of whoever
supervises us (15 s and more), so that nobody kills the launcher while its agent still runs."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


def main(arguments: list[str] | None = None) -> int:
    """Run the agent until it ends for good; returns its exit code."""
    parser = argparse.ArgumentParser(prog="rookery-launcher", description="starts the agent and starts it again")
    parser.add_argument("--config", type=Path, required=True, help="agent.toml")
    config = parser.parse_args(arguments).config
    return Launcher(config, _data_folder(config)).run()


class Launcher:
    """One agent process at a time. ``pointer`` lies in the agent's data folder."""

    def __init__(self, config: Path, data_folder: Path | None) -> None:
        self._config = config
        self._pointer = data_folder / POINTER if data_folder else None
        self._ending = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Start, wait, start again; signals go to the agent."""
        before = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            return self._loop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loop(self) -> int:
        failed = 0
        while True:
            started_s = time.monotonic()
            code = self._once(self._slot(fall_back=failed >= FALL_BACK_AFTER))
            if self._ending.is_set() or code in FINAL_CODES:
                return code
            failed = 0 if time.monotonic() - started_s >= HEALTHY_S else failed + 1
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failed, 8))
            _say(f"launcher: the agent ended with {code}; again in {wait_s:.0f} s (failed starts: {failed})")
            if self._ending.wait(wait_s):
                return code

    def _once(self, python: str) -> int:
        command = [python, "-m", "device_agent", "run", "--config", str(self._config)]
        try:
            # A group of its own: Ctrl-C at a terminal reaches the agent once, through us, and not twice.
            self._child = subprocess.Popen(command, start_new_session=True, preexec_fn=_end_with(os.getpid()))
        except OSError as error:
            _say(f"launcher: {python} cannot be started: {error.strerror}")
            return 126
        if self._ending.is_set():
            self._child.terminate()
        while True:
            try:
                code = self._child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            return code if code >= 0 else 128 - code

    def _forward(self, number: int, _frame: object) -> None:
        if number != signal.SIGHUP:
            self._ending.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal(number)
            if number != signal.SIGHUP:
                timer = threading.Timer(END_S, child.kill)
                timer.daemon = True
                timer.start()

    def _slot(self, *, fall_back: bool) -> str:
        """The interpreter to start: the pointer's, or its previous one after too many failed starts, or our own."""
        if self._pointer is None:
            return sys.executable
        try:
            slots = json.loads(self._pointer.read_text())
            chosen = slots.get("previous" if fall_back else "python") or sys.executable
        except (OSError, ValueError, AttributeError):
            return sys.executable
        if not isinstance(chosen, str) or not os.access(chosen, os.X_OK):
            _say(f"launcher: {chosen} is not there; the launcher's own environment is used")
            return sys.executable
        return chosen


def _end_with(launcher: int) -> Callable[[], None]:
    """What the child does before it becomes the agent: ask the kernel to end it with the launcher, even one killed by SIGKILL.

    SIGKILL, because what the agent acknowledged survives that, and the launcher that is started next must not meet a folder that
    is still in use.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != launcher:
            os._exit(1)  # it ended while we were being made

    return ask


def _say(text: str) -> None:
    """One line on standard error, where systemd's journal takes it from."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _data_folder(config: Path) -> Path | None:
    """``agent.data_dir`` as the agent itself reads it: ~ is the home, the rest is relative to the file's folder.

    None where it cannot be read: the agent says what is wrong with its file.
    """
    try:
        return config.absolute().parent / Path(tomllib.loads(config.read_text())["agent"]["data_dir"]).expanduser()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return None


if __name__ == "__main__":
    sys.exit(main())
