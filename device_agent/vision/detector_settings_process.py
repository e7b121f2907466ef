"""How a detector in a process of its own is run: deadlines, waits, and the seams that a test may lay. Pure."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.vision.ladder import SeenAccelerator
from device_agent.vision.types import Picture

TFLITE_OPENER = "device_agent.vision.open_model_tflite:open_model"


def nothing_seen(holders: bool) -> tuple[SeenAccelerator, ...]:
    """A board whose buses nobody looks at."""
    return ()


def python_with(code: str) -> Sequence[str]:
    """The command that runs code in a Python of its own."""
    return (sys.executable, "-c", code)


@dataclass(frozen=True, slots=True)
class TendingSettings:
    """How an accelerator is looked after.

    `turn_s`: seconds between two turns of the thread that does it (0: no thread, `ProcessDetector.tend` is called by others).
    `idle_s`: an accelerator without work is asked about the golden picture after so long (it rots when it rests).
    `check_every_s`: it is asked, busy or not, so often (silent corruption).
    `watch_every_s`: between two readings of buses and temperature.
    `probe_looks`: good answers before it comes back. `hot_interval_s`: the least time between two looks while it is too warm.
    `settle_s`: from a reset of its port to the next try (its firmware is loaded anew).
    """

    turn_s: float = 1.0
    idle_s: float = 20.0
    check_every_s: float = 300.0
    watch_every_s: float = 10.0
    probe_looks: int = 5
    hot_interval_s: float = 0.5
    settle_s: float = 5.0


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """`reply_deadline_s` for one frame, `load_deadline_s` for loading a model and its first answer; accelerators have their own.

    `slots`: frames in shared memory (two: the next is fitted while the child works). `golden`: a picture that the CPU and the
    accelerator must see alike; where there is none, the first frame with something on it is kept. `see` looks at the buses (with
    True also at who holds a device), `reset` resets a USB port and says why it failed. `probe_command` runs Python code.
    """

    reply_deadline_s: float = 2.0
    load_deadline_s: float = 30.0
    accelerator_deadline_s: float = 1.0
    accelerator_load_deadline_s: float = 15.0
    slots: int = 2
    golden: Picture | None = None
    tending: TendingSettings = field(default_factory=TendingSettings)
    opener: str = TFLITE_OPENER
    monotonic_s: Callable[[], float] = time.monotonic
    on_line: Callable[[str], None] | None = None
    see: Callable[[bool], Sequence[SeenAccelerator]] = nothing_seen
    reset: Callable[[SeenAccelerator], str] | None = None
    probe_command: Callable[[str], Sequence[str]] = python_with
