"""A fleet in one process: a few threads take the turns of many virtual devices, spread over time so that none come in bursts."""

import argparse
import heapq
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from device_agent.duties.turn import Stop
from device_agent.errors import AgentError, OwnerError, SettingsError
from device_agent.facts_linux import agent_version
from device_agent.simulated.behaviour import draw
from device_agent.simulated.device_http import Surroundings, VirtualDevice

WORKERS = 8
KEPT_CONNECTIONS = 200
"""Above this many devices connections are closed after each turn: a server keeps a thread or a slot for each."""
TELL_EVERY_S = 10.0


class Fleet:
    """Turns of all devices, each every ``pace_s`` seconds with jitter. ``faults`` counts what went wrong, in words."""

    def __init__(self, devices: Sequence[VirtualDevice], pace_s: float, stop: Stop, *, workers: int = WORKERS) -> None:
        self.devices, self.faults = devices, Counter[str]()
        self._pace_s, self._stop, self._workers = pace_s, stop, min(workers, max(1, len(devices)))
        start_s = time.monotonic()
        self._due = [(start_s + pace_s * number / max(1, len(devices)), number) for number in range(len(devices))]
        heapq.heapify(self._due)
        self._changed = threading.Condition()

    def run(self, duration_s: float | None = None) -> None:
        """Until told to stop, or for so long."""
        stop_waiting = self._wake
        self._stop.on_set(stop_waiting)
        threads = [threading.Thread(target=self._work, name=f"simulated-{n}", daemon=True) for n in range(self._workers)]
        for thread in threads:
            thread.start()
        end_s = None if duration_s is None else time.monotonic() + duration_s
        while not self._stop.is_set():
            left_s = TELL_EVERY_S if end_s is None else min(TELL_EVERY_S, end_s - time.monotonic())
            if left_s <= 0:
                self._stop.set()
            elif not self._stop.wait(left_s):
                sys.stdout.write(self.summary() + "\n")
                sys.stdout.flush()
        for thread in threads:
            thread.join(30.0)
        for device in self.devices:
            device.close()

    def summary(self) -> str:
        """One line for people."""
        enrolled = sum(device.identity is not None for device in self.devices)
        releases = Counter(device.release for device in self.devices)
        said = ", ".join(f"{count} × {release}" for release, count in releases.most_common(4))
        faults = ", ".join(f"{count} × {fault}" for fault, count in self.faults.most_common(3))
        return (
            f"{len(self.devices)} devices, {enrolled} enrolled; {sum(d.events for d in self.devices)} events, "
            f"{sum(d.heartbeats for d in self.devices)} heartbeats; running {said}" + (f"; faults: {faults}" if faults else "")
        )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _work(self) -> None:
        while (number := self._next()) is not None:
            device = self.devices[number]
            wait_s = self._pace_s * random.uniform(0.8, 1.2)
            try:
                device.turn()
                if device.identity is None:
                    wait_s = min(wait_s, 2.0)
            except OwnerError as error:
                self.faults[error.message] += 1
                wait_s *= 10
            except AgentError as error:
                self.faults[error.message] += 1
            if len(self.devices) > KEPT_CONNECTIONS:
                device.rest()
            with self._changed:
                heapq.heappush(self._due, (time.monotonic() + wait_s, number))
                self._changed.notify()

    def _next(self) -> int | None:
        with self._changed:
            while not self._stop.is_set():
                now_s = time.monotonic()
                if self._due and self._due[0][0] <= now_s:
                    return heapq.heappop(self._due)[1]
                self._changed.wait(self._due[0][0] - now_s if self._due else None)
        return None


def simulate(options: argparse.Namespace) -> int:
    """The verb: build the fleet of the options and run it. Raises SettingsError for options that cannot be."""
    claims, root = _read(options)
    stop = Stop()
    with ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rookery-simulated-")))
        around = Surroundings(options.server, options.ca, root, tuple(options.channel or ("stable",)), stop)
        version = agent_version()
        devices = [
            VirtualDevice(
                draw(number, options.seed, version, failing_share=options.failing),
                claims[number] if number < len(claims) else "",
                folder / f"{number:05d}",
                around,
            )
            for number in range(options.devices)
        ]
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before = signal.signal(number, lambda *_: threading.Thread(target=stop.set, daemon=True).start())
                stack.callback(signal.signal, number, before)
        fleet = Fleet(devices, options.pace, stop)
        fleet.run(options.duration)
        sys.stdout.write(fleet.summary() + "\n")
    return 0 if all(device.identity is not None for device in devices) else 4


def _read(options: argparse.Namespace) -> tuple[list[str], bytes | None]:
    faults = []
    claims: list[str] = []
    root: bytes | None = None
    if options.devices < 1:
        faults.append("--devices must be at least 1")
    if options.pace <= 0:
        faults.append("--pace must be above 0 seconds")
    try:
        claims = options.claims.read_text().split()
        root = None if options.root is None else options.root.read_bytes()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(str(error))
    known = options.folder is not None and options.folder.exists()
    if not faults and len(claims) < options.devices and not known:
        faults.append(f"{options.claims} holds {len(claims)} claims for {options.devices} devices")
    if faults:
        raise SettingsError("rookery-agent simulate", faults)
    return claims, root
