"""Starts the agent and starts it again: chooses its slot, checks it, counts the starts of a trial, falls back, forwards signals.

Standard library only, never updated by itself: whatever an update of the agent breaks, this still runs. What it goes by lies in
the agent's data folder (formats: docs/agent-updates.md):

    agent-slot.json            the pointer, written by the agent (and here, to count and to fall back)
    agents/<sha256>/           one installed agent each, with files.sha256: what every file of it must be
    agent-alive                the agent on trial writes the number of its start there once it works
    launcher.json              what was done here, told by the agent that runs then

Without a pointer, and where nothing else can be started, the agent runs in the launcher's own environment: the factory agent.
"""

import argparse
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent import launcher_disk as disk
from device_agent.launcher_disk import Pointer, Trial

HEALTHY_S = 60.0
"""An agent that ran this long has started well; earlier ends count as failed starts."""
FALL_BACK_AFTER = 3
"""Failed starts of one slot in a row before the previous one is taken."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
TRIAL_WAIT_S = 1.0
"""Between two starts of an agent on trial: they are counted, so there is nothing to wait for but a board that is busy."""
JUDGED_S = 26 * 3600.0
"""Longer than any trial lasts by the agent's own rules (25 h): one that has not come to a verdict by then cannot judge itself."""
FINAL_CODES = (0, 2, 3)
"""The agent ended on purpose, or a person has to act (settings, claim): starting it again would change nothing."""
EXIT_FOR_SWITCH = 75
"""The agent has changed the pointer and asks for what it names now. With the pointer as it was it is an outage, as ever."""
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


@dataclass(frozen=True, slots=True)
class Choice:
    """What is started: a command without the agent's own words, the slot (empty: factory agent), and its trial."""

    command: tuple[str, ...]
    slot: str = ""
    trial: Trial | None = None


class Launcher:
    """One agent process at a time. ``data_folder`` is the agent's; None where its settings cannot be read."""

    def __init__(self, config: Path, data_folder: Path | None) -> None:
        self._config, self._data = config, data_folder
        self._ending = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._ended = ("", "")  # why the last start of a trial failed: reason code and words

    def run(self) -> int:
        """Start, wait, start again; signals go to the agent."""
        before = {number: signal.signal(number, self._forward) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        try:
            with disk.alone(self._data) as alone:
                if not alone:
                    _say(f"launcher: another launcher runs over {self._data}, stop it first: two would count each other's starts")
                    return 2
                return self._loop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loop(self) -> int:
        failed, slot = 0, ""
        while True:
            choice = self._choose(failed)
            if choice.slot != slot:
                failed, slot = 0, choice.slot
            started_s = time.monotonic()
            code = self._once(choice)
            if self._ending.is_set():
                return code
            ran_s = time.monotonic() - started_s
            if code == EXIT_FOR_SWITCH and self._moved(choice):
                failed = 0
                continue
            if choice.trial is not None:
                # Whatever ends an agent on trial, even settings that it finds wrong: the one before ran with them.
                failed, wait_s = 0, TRIAL_WAIT_S
                if not self._ended[0]:
                    self._ended = ("start", f"it ended with {code} after {ran_s:.0f} s")
            else:
                if code in FINAL_CODES:
                    return code
                failed = 0 if ran_s >= HEALTHY_S else failed + 1
                wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failed, 8))
            _say(f"launcher: the agent ended with {code}; again in {wait_s:.0f} s (failed starts: {failed})")
            if self._ending.wait(wait_s):
                return code

    # -- which agent ------------------------------------------------------------------------------------------------------

    def _choose(self, failed: int) -> Choice:
        """The agent to start now. A trial's start is counted, durably, before it is made."""
        pointer = disk.read_pointer(self._data) if self._data is not None else Pointer()
        if pointer.python is not None:
            return _of_before(pointer, fall_back=failed >= FALL_BACK_AFTER)
        trial = pointer.trial
        if self._data is not None and trial is not None:
            fault = self._fault_of_trial(self._data, trial)
            counted = Pointer(current=pointer.current, previous=pointer.previous, trial=trial.started())
            if fault is None:
                if self._write(counted):
                    self._ended = ("", "")
                    return Choice(self._python(trial.slot), trial.slot, counted.trial)
                _say("launcher: this start of a trial cannot be counted, so it is not made: the agent before runs")
            else:
                self._fall(pointer, trial.slot, trial.token, *fault)
        return self._standing(failed)

    def _fault_of_trial(self, data: Path, trial: Trial) -> tuple[str, str] | None:
        """Why this trial is over before it could be judged: reason code and words."""
        if trial.starts >= min(trial.limit, disk.MAX_STARTS):
            reason, words = self._ended
            words = words or "the board or the launcher ended before the trial was judged"
            return reason or "boots", f"started {trial.starts} times; the last time {words}"
        fault = disk.slot_fault(disk.agents_folder(data) / trial.slot)
        return ("hash", fault) if fault else None

    def _standing(self, failed: int) -> Choice:
        """The agent that stays: current, else previous, else our own environment."""
        if self._data is None:
            return Choice((sys.executable,))
        pointer = disk.read_pointer(self._data)
        current = pointer.current
        if current is None:
            return Choice((sys.executable,))
        fault = disk.slot_fault(disk.agents_folder(self._data) / current)
        if not fault and failed < FALL_BACK_AFTER:
            return Choice(self._python(current), current)
        self._fall(pointer, current, "", "hash" if fault else "start", fault or f"{failed} starts in a row failed")
        back = pointer.previous
        if back is not None and back != current and not disk.slot_fault(disk.agents_folder(self._data) / back):
            return Choice(self._python(back), back)
        return Choice((sys.executable,))

    def _fall(self, pointer: Pointer, slot: str, token: str, reason: str, detail: str) -> None:
        """Leave a slot for good: first written down what happened, then the pointer, so that no cut loses the reason."""
        assert self._data is not None
        back = pointer.current if pointer.trial is not None else pointer.previous
        if pointer.trial is None and back is not None and disk.slot_fault(disk.agents_folder(self._data) / back):
            back = None
        _say(f"launcher: agent {slot[:12]} is left ({reason}): {detail}; {back[:12] if back else 'the factory agent'} runs")
        done = {"slot": slot, "token": token, "reason": reason, "detail": detail, "at_s": time.time(), "to": back}
        try:
            disk.write_done(self._data, done)
        except OSError as error:
            _say(f"launcher: what happened cannot be written down: {error.strerror}")
            return
        kept = pointer.previous if pointer.trial is not None else None
        self._write(Pointer(current=back, previous=kept, trial=None))

    def _write(self, pointer: Pointer) -> bool:
        assert self._data is not None
        try:
            disk.write_pointer(self._data, pointer)
        except OSError as error:
            _say(f"launcher: the pointer cannot be written: {error.strerror}")
            return False
        return True

    def _moved(self, choice: Choice) -> bool:
        """Whether the pointer names another agent than the one that ended."""
        if self._data is None:
            return False
        now = disk.read_pointer(self._data)
        wanted = now.trial.slot if now.trial is not None else now.current or ""
        return wanted != choice.slot

    def _python(self, slot: str) -> tuple[str, ...]:
        assert self._data is not None
        # -I: nothing of the surroundings (PYTHONPATH, the user's own packages) gets in; -B: nothing is written into the slot.
        return str(disk.agents_folder(self._data) / slot / "bin" / "python"), "-I", "-B"

    # -- the process ------------------------------------------------------------------------------------------------------

    def _once(self, choice: Choice) -> int:
        nonce = secrets.token_hex(8)
        command = [*choice.command, "-m", "device_agent", "run", "--config", str(self._config)]
        environment = {**os.environ, "ROOKERY_LAUNCHER": "1", "ROOKERY_SLOT": choice.slot, "ROOKERY_START": nonce}
        try:
            # A group of its own: Ctrl-C at a terminal reaches the agent once, through us, and not twice.
            self._child = subprocess.Popen(
                command, env=environment, start_new_session=True, preexec_fn=_end_with(os.getpid())
            )
        except OSError as error:
            _say(f"launcher: {choice.command[0]} cannot be started: {error.strerror}")
            self._ended = ("start", f"{choice.command[0]} cannot be started: {error.strerror}")
            return 126
        if self._ending.is_set():
            self._child.terminate()
        looks = [] if choice.trial is None else sorted([(choice.trial.alive_s, False), (JUDGED_S, True)])
        started_s = time.monotonic()
        while True:
            try:
                code = self._child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if looks and time.monotonic() - started_s > looks[0][0] and not self._ending.is_set():
                    self._look(*looks.pop(0), nonce, choice)
                continue
            return code if code >= 0 else 128 - code

    def _look(self, after_s: float, verdict: bool, nonce: str, choice: Choice) -> None:
        """Kill an agent on trial that has not said in time that it works, or (``verdict``) has not come to one."""
        assert self._data is not None
        assert self._child is not None
        if verdict:
            trial = disk.read_pointer(self._data).trial
            if trial is not None and trial.slot == choice.slot:
                self._ended = ("deadline", f"it did not judge itself within {after_s:.0f} s, and was killed")
                self._child.kill()
        elif disk.alive_nonce(self._data) != nonce:
            self._ended = ("alive", f"it did not say within {after_s:.0f} s that it works, and was killed")
            self._child.kill()

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


def _of_before(pointer: Pointer, *, fall_back: bool) -> Choice:
    """The pointer of the first agents names interpreters: {"python": …, "previous": …}."""
    chosen = (pointer.python_before if fall_back else pointer.python) or sys.executable
    if not os.access(chosen, os.X_OK):
        _say(f"launcher: {chosen} is not there; the launcher's own environment is used")
        chosen = sys.executable
    return Choice((chosen,))


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
