"""Drives the update machine and tells it how the model behaves. Pure apart from what is handed in."""

import threading
from collections.abc import Callable
from typing import Protocol

from device_agent.duties.turn import Bell, Stop
from device_agent.telemetry.latency import StageHistogram
from device_agent.update.health import HealthWindow, Seen
from device_agent.vision.counters import CameraCounts

TICK_S = 1.0
WINDOW_S = 2.0


class Machine(Protocol):
    """The updater, as far as its own loop goes."""

    def tick(self) -> None:
        """Do the next thing; may block while it downloads or tests."""
        ...

    def on_window(self, window: HealthWindow) -> None:
        """What the cameras did in one window."""
        ...


class Updating:
    """A duty: ticks the machine. A ring ticks at once."""

    def __init__(self, machine: Machine, bell: Bell) -> None:
        self.name = "update"
        # A tick may hold a whole download or self-test; the machine has deadlines of its own for those.
        self.silence_s = 3 * 3600.0
        self._machine, self._bell = machine, bell

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Tick until told to stop."""
        while not stop.is_set():
            self._machine.tick()
            progress()
            self._bell.wait(TICK_S)


class Watching:
    """A duty: sums all cameras into one HealthWindow every two seconds. ``invoke`` may be called from any thread."""

    def __init__(
        self,
        machine: Machine,
        counts: Callable[[], list[CameraCounts]],
        *,
        dropped: Callable[[], int],
        crashes: Callable[[], int],
        link: Callable[[], bool],
        link_worse: Callable[[], bool],
        steady_s: Callable[[], float],
        asked: Callable[[], tuple[float, ...]] = tuple,
    ) -> None:
        self.name = "health"
        self.silence_s = 120.0
        self._machine, self._counts, self._dropped, self._crashes = machine, counts, dropped, crashes
        self._link, self._link_worse, self._steady_s, self._asked = link, link_worse, steady_s, asked
        self._lock = threading.Lock()
        self._invoke = StageHistogram()

    def invoke(self, timings_ms: dict[str, float]) -> None:
        """Latencies of one frame; only the bare invoke counts here."""
        value_ms = timings_ms.get("invoke")
        if value_ms is not None:
            with self._lock:
                self._invoke.add(value_ms)

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Watch until told to stop."""
        before, lost, died, at_s = self._counts(), self._dropped(), self._crashes(), self._steady_s()
        asked = self._asked()
        while not stop.wait(WINDOW_S):
            now, now_lost, now_died, now_s = self._counts(), self._dropped(), self._crashes(), self._steady_s()
            now_asked = self._asked()
            with self._lock:
                invoke, self._invoke = self._invoke, StageHistogram()
            deltas = [after.since(old) for after, old in zip(now, before, strict=True)]
            window = window_of(deltas, now_s - at_s, late=now_lost - lost)
            self._machine.on_window(
                HealthWindow(
                    duration_s=window.duration_s,
                    light=window.light,
                    fps=window.fps,
                    camera_fps=window.camera_fps,
                    latency_ms=invoke.percentile_ms(0.5) if invoke.count else None,
                    crashes=now_died - died,
                    link=self._link(),
                    link_worse=self._link_worse(),
                    asked=now_asked if now_asked == asked else None,
                )
            )
            before, lost, died, at_s, asked = now, now_lost, now_died, now_s, now_asked
            progress()


def window_of(deltas: list[CameraCounts], duration_s: float, *, late: int) -> HealthWindow:
    """Counts of all cameras over one window; ``late`` frames came from a camera and were replaced by later ones."""
    light: dict[str, Seen] = {}
    for counts in deltas:
        for word, count in counts.light.items():
            seen = Seen(count.gated_frames, count.frames_with_detection)
            light[word] = light.get(word, Seen()).plus(seen)
    duration_s = max(duration_s, 1e-3)
    frames = sum(counts.frames for counts in deltas)
    return HealthWindow(
        duration_s=duration_s,
        light=light,
        fps=frames / duration_s,
        camera_fps=(frames + late) / duration_s,
    )
