"""Runs the duties, restarts one that failed, and feeds the systemd watchdog only while all make progress."""

import contextlib
import logging
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.duties.turn import Duty, Stop
from device_agent.errors import AgentError, OwnerError
from device_agent.memory_linux import give_back

log = logging.getLogger(__name__)
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
"""Back-off of a duty that fails again and again; a run of a minute without failure resets it."""
END_S = 8.0
"""All duties end within this after a stop; systemd's own patience is longer."""
LOOK_EVERY_S = 1.0
FIRST_TIDY_S, TIDY_EVERY_S = 10.0, 10.0
"""From the start until most of what starting needed is free again; then what passing work (a download, a new model) left free."""


class Notifier:
    """systemd's notification socket; without one everything here does nothing."""

    def __init__(self, address: str | None, watchdog_s: float | None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls) -> "Notifier":
        """As systemd started us; WATCHDOG_USEC is in microseconds."""
        microseconds = os.environ.get("WATCHDOG_USEC", "")
        return cls(os.environ.get("NOTIFY_SOCKET"), int(microseconds) / 1e6 if microseconds.isdigit() else None)

    def say(self, text: str) -> None:
        """READY=1, WATCHDOG=1, STATUS=…, STOPPING=1."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(text.encode(), address)


@dataclass(slots=True)
class _Running:
    duty: Duty
    thread: threading.Thread | None = None
    progress_s: float = 0.0
    done: bool = False
    failures: int = 0
    last_error: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Supervisor:
    """Owns the threads of all duties. ``run`` returns after a stop; an OwnerError of a duty ends everything."""

    def __init__(
        self, duties: Sequence[Duty], stop: Stop, *, notifier: Notifier | None = None, tidy: Callable[[], None] = give_back,
    ) -> None:
        self._tidy = tidy
        self._running = [_Running(duty) for duty in duties]
        self._stop = stop
        self._notifier = notifier or Notifier(None, None)
        self._fatal: AgentError | None = None

    def run(self) -> None:
        """Run all duties until told to stop; raises the OwnerError that ended them, if one did."""
        for entry in self._running:
            entry.progress_s = time.monotonic()
            entry.thread = threading.Thread(target=self._keep, args=(entry,), name=entry.duty.name, daemon=True)
            entry.thread.start()
        self._notifier.say("READY=1")
        every_s = min(LOOK_EVERY_S, (self._notifier.watchdog_s or LOOK_EVERY_S) / 3)
        tidy_at_s = time.monotonic() + FIRST_TIDY_S
        while not self._stop.wait(every_s):
            self._look()
            if time.monotonic() >= tidy_at_s:
                self._tidy()
                tidy_at_s = time.monotonic() + TIDY_EVERY_S
        self._notifier.say("STOPPING=1")
        self._join()
        if self._fatal is not None:
            raise self._fatal

    def stuck(self) -> list[str]:
        """Names of the duties that have made no progress for longer than they may."""
        now_s = time.monotonic()
        return [e.duty.name for e in self._running if not e.done and now_s - e.progress_s > e.duty.silence_s]

    def _look(self) -> None:
        stuck = self.stuck()
        if stuck:
            self._notifier.say(f"STATUS=no progress: {', '.join(stuck)}")
        else:
            failing = [f"{e.duty.name}: {e.last_error}" for e in self._running if e.failures and not e.done]
            self._notifier.say(f"WATCHDOG=1\nSTATUS={'; '.join(failing) or 'all is well'}")

    def _keep(self, entry: _Running) -> None:
        """One thread: the duty, again and again until it is done."""

        def progress() -> None:
            entry.progress_s = time.monotonic()

        while not self._stop.is_set():
            started_s = time.monotonic()
            try:
                entry.duty.run(self._stop, progress)
            except OwnerError as error:
                self._fatal = self._fatal or error
                self._stop.set()
                return
            except AgentError as error:
                entry.last_error = error.message
                log.warning("%s: %s", entry.duty.name, error.message)
            except Exception as error:  # whatever a duty does, the others go on and it is started again
                entry.last_error = f"{type(error).__name__}: {error}"
                log.exception("%s failed", entry.duty.name)
            else:
                entry.done = True
                return
            progress()
            entry.failures = 1 if time.monotonic() - started_s > LONGEST_WAIT_S else entry.failures + 1
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(entry.failures, 10)) * (0.5 + random.random() / 2)
            self._stop.wait(wait_s)
            progress()

    def _join(self) -> None:
        deadline_s = time.monotonic() + END_S
        for entry in self._running:
            if entry.thread is not None:
                entry.thread.join(max(0.0, deadline_s - time.monotonic()))
                if entry.thread.is_alive():
                    log.warning("%s did not end in time; it is left behind", entry.duty.name)


def stop_on_signals(stop: Stop) -> Callable[[], None]:
    """SIGTERM and SIGINT stop the agent; the returned callable puts the old handlers back. Main thread only."""

    def handle(_number: int, _frame: object) -> None:
        # A thread of its own: the callbacks may wait for locks that the interrupted code holds.
        threading.Thread(target=stop.set, name="stopping", daemon=True).start()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    return restore
