"""The ladder of an accelerator that fails: what is wrong, what a person is told, what is done, and when it is tried again. Pure.

One table (`RUNGS`), one reading of the signs (`diagnose`), one small state machine (`Ladder`). Whatever is wrong, the CPU's model
answers meanwhile; the accelerator is tried again beside it and comes back only after it gave the CPU's answers several times.
Waits and signs are those of research/edge-anchors.md §3.7, from libedgetpu's source and its users' threads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Fault = Literal[
    "library_missing", "library_broken", "absent", "permission", "busy", "cold", "wrong_file", "not_mapped", "transfer", "hang",
    "idle_rot", "crashed", "failed", "hot", "dead", "slow_port", "wrong_results", "no_cpu_variant",
]  # fmt: skip
Due = Literal["nothing", "probe", "reset"]
DEAD_BELOW_C, DEAD_ABOVE_C = -40.0, 125.0
"""Outside of these the PCIe driver reads a device that is gone (it then says -87.9 °C or the like)."""
USB3_MBIT_S = 5000
IDLE_S = 5.0
"""A transfer that fails after so long a rest is counted as idle rot."""


@dataclass(frozen=True, slots=True)
class Rung:
    """One row: what a person is told and does, and how the ladder goes on.

    `falls`: the CPU's model takes over. `first_wait_s`: until the first new try; it doubles with each failure. `counts`: it
    counts towards a reset of the USB port.
    """

    sentence: str
    next_step: str
    first_wait_s: float = 2.0
    falls: bool = True
    counts: bool = True


_RARELY_S = 60.0
RUNGS: dict[Fault, Rung] = {
    "library_missing": Rung("the Edge TPU library is not installed", "install libedgetpu1-std", _RARELY_S, counts=False),
    "library_broken": Rung(
        "the Edge TPU library does not work with this runtime", "install the libedgetpu that is built for it", _RARELY_S,
        counts=False,
    ),
    "absent": Rung("no Edge TPU is on any bus of this board", "plug it in, and look at its cable and power supply", 5.0),
    "permission": Rung(
        "this agent may not open the Edge TPU", "let its user into the group plugdev (USB) or apex (PCIe)", _RARELY_S,
        counts=False,
    ),
    "busy": Rung("another process has the Edge TPU, or it does not answer", "end the other program; or unplug it once", 5.0),
    "cold": Rung("the Edge TPU is loading its firmware", "wait: it is tried again in a moment", 4.0, counts=False),
    "wrong_file": Rung(
        "the model's file and the accelerator do not belong together", "publish the release with both variants", _RARELY_S,
        counts=False,
    ),
    "not_mapped": Rung("the Edge TPU does not take this model", "compile it for the library's version", _RARELY_S, counts=False),
    "transfer": Rung("a transfer to the Edge TPU failed and ended its process", "look at its cable, port and power supply"),
    "hang": Rung("the Edge TPU did not answer in time and its process was killed", "look at its cable and power supply"),
    "idle_rot": Rung("the Edge TPU was lost after a rest", "nothing: it is kept busy and tried again"),
    "crashed": Rung("the process of the Edge TPU died", "look at the log of this board"),
    "failed": Rung("the Edge TPU gave up while running", "look at the log of this board"),
    "hot": Rung("the Edge TPU is too warm: fewer frames are looked at", "give it air, or a lower frame rate", falls=False),
    "dead": Rung("the Edge TPU's temperature cannot be true: it is gone from the bus", "start the board again", 30.0),
    "slow_port": Rung("the Edge TPU is on a USB 2 port: about three times slower", "use a blue port", falls=False),
    "wrong_results": Rung("the Edge TPU does not see what the CPU sees on one picture", "replace it if this comes back", 30.0),
    "no_cpu_variant": Rung("there is no CPU variant to fall back to", "publish the release with a CPU variant too", falls=False),
}


@dataclass(frozen=True, slots=True)
class SeenAccelerator:
    """One Edge TPU as the kernel shows it (`usb_linux`): its sysfs folder, and `node`, its device file.

    `state`: cold (a USB device without firmware yet: it changes its id at first use) or ready. `held_by` names another process
    that has it open. `temperature_c`, `trip_c` (the driver's first trip point) and `speed_mbit_s` (USB) are None where unknown.
    """

    kind: Literal["usb", "pci"]
    sysfs: str
    node: str
    state: Literal["cold", "ready"]
    may_open: bool
    may_reset: bool
    held_by: str = ""
    speed_mbit_s: int | None = None
    temperature_c: float | None = None
    trip_c: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """How a child with an accelerator failed.

    `reason`: hung, died, or the reason of a ModelError; `message` holds its last words. `loading`: while it took the model.
    `signal_number` ended it, 0 for none. `rested_s`: since its last answer before.
    """

    reason: str
    message: str
    loading: bool
    signal_number: int = 0
    rested_s: float = 0.0


SIGABRT, SIGSEGV, SIGBUS, SIGILL = 6, 11, 7, 4
_TRANSFER_WORDS = ("usb_driver", "USB transfer", "transfer on tag", "HIB Error", "DeadlineExceeded")
_NO_DEVICE_WORDS, _NO_PLUGIN_WORDS = "gives no accelerator", "not a TFLite delegate"
"""Of `models.inference.interpreter_tflite`'s messages (a test holds the two together)."""


def diagnose(failure: Failure, seen: Sequence[SeenAccelerator]) -> Fault:
    """Which row of the table it is, from how it failed and from what the kernel shows."""
    match failure.reason:
        case "delegate_missing":
            return "library_missing"
        case "needs_edgetpu" | "not_a_model" | "corrupt" | "missing" | "wrong_shape" | "unsupported" | "wrong_hash" | "too_large":
            return "wrong_file"
        case "hung":
            return "cold" if failure.loading and any(one.state == "cold" for one in seen) else "hang"
        case "died":
            return _death(failure)
    if not failure.loading:
        return "failed"
    if _NO_PLUGIN_WORDS in failure.message:
        return "library_broken"
    return _refusal(seen) if _NO_DEVICE_WORDS in failure.message else "not_mapped"


def explain(failure: Failure, seen: Sequence[SeenAccelerator]) -> tuple[Fault, str]:
    """The row, and what is known beyond its sentence: who holds the device, and the child's last words."""
    fault = diagnose(failure, seen)
    holders = [one.held_by for one in seen if one.held_by] if fault == "busy" else []
    return fault, "; ".join([*(f"held by {holder}" for holder in holders), failure.message])


def _death(failure: Failure) -> Fault:
    if failure.signal_number == SIGABRT or any(word in failure.message for word in _TRANSFER_WORDS):
        return "idle_rot" if failure.rested_s >= IDLE_S and not failure.loading else "transfer"
    if failure.loading and failure.signal_number in (SIGSEGV, SIGBUS, SIGILL):
        return "library_broken"
    return "crashed"


def _refusal(seen: Sequence[SeenAccelerator]) -> Fault:
    """The library is there and says no, without a word: the kernel tells why."""
    if not seen:
        return "absent"
    if not any(one.may_open for one in seen):
        return "permission"
    if all(gone(one) for one in seen):
        return "dead"
    return "cold" if all(one.state == "cold" for one in seen) else "busy"


def gone(seen: SeenAccelerator) -> bool:
    """Whether the temperature says that the device is no more."""
    return seen.temperature_c is not None and not DEAD_BELOW_C <= seen.temperature_c <= DEAD_ABOVE_C


def warnings(seen: Sequence[SeenAccelerator]) -> list[Fault]:
    """What is wrong with an accelerator that works: dead, hot, slow_port, in this order."""
    faults: list[Fault] = []
    if seen and all(gone(one) for one in seen):
        faults.append("dead")
    elif any(one.temperature_c is not None and one.trip_c is not None and one.temperature_c >= one.trip_c for one in seen):
        faults.append("hot")
    if any(one.speed_mbit_s is not None and one.speed_mbit_s < USB3_MBIT_S for one in seen):
        faults.append("slow_port")
    return faults


def words(fault: Fault, detail: str = "") -> str:
    """A rung for the heartbeat: its word, what is wrong, what to do, and the detail."""
    rung = RUNGS[fault]
    return f"{fault}: {rung.sentence}; {rung.next_step}" + (f" ({detail[:500]})" if detail else "")


@dataclass(slots=True)
class Ladder:
    """Where one accelerator stands: in use, or replaced by the CPU until a time. Times in seconds of one monotonic clock.

    `reset_after` failures in a row that count, the USB port is reset once, where that is allowed. Failures are forgotten when the
    accelerator has been in use for `trusted_after_s` again.
    """

    reset_after: int = 3
    longest_wait_s: float = 300.0
    trusted_after_s: float = 600.0
    fault: Fault | None = None
    """Why the CPU answers; None while the accelerator does."""
    detail: str = ""
    failures: int = 0
    _next_s: float = 0.0
    _back_s: float = 0.0
    _counted: int = 0
    _reset_done: bool = False

    @property
    def fallen(self) -> bool:
        """Whether the CPU answers."""
        return self.fault is not None

    def fell(self, fault: Fault, detail: str, now_s: float) -> None:
        """It failed, in use or when it was tried."""
        if self.fault is None and self.failures and now_s - self._back_s >= self.trusted_after_s:
            self._forget()
        first_sight_of_cold = fault == "cold" and self.fault != "cold"  # its firmware is being loaded: one retry is free
        self.failures += not first_sight_of_cold
        self._counted += RUNGS[fault].counts
        self.fault, self.detail = fault, detail
        doubled = 2.0 ** min(max(0, self.failures - 1), 20)
        self._next_s = now_s + min(self.longest_wait_s, RUNGS[fault].first_wait_s * doubled)

    def due(self, now_s: float, *, may_reset: bool) -> Due:
        """What is to be done about it now."""
        if self.fault is None or now_s < self._next_s:
            return "nothing"
        return "reset" if may_reset and self._counted >= self.reset_after and not self._reset_done else "probe"

    def was_reset(self, now_s: float, settle_s: float) -> None:
        """The port was reset, or that failed: the next try comes when the device has had time to come back."""
        self._reset_done = True
        self._next_s = now_s + settle_s

    def reason(self, warnings: Sequence[Fault], now_s: float) -> str:
        """What the heartbeat says: why the CPU answers and what comes next, else what is wrong although the accelerator does."""
        if self.fault is None:
            return "; ".join(words(fault) for fault in warnings)
        next_s = max(0.0, self._next_s - now_s)
        return f"{words(self.fault, self.detail)}; failures {self.failures}, next try in {next_s:.0f} s"

    def came_back(self, now_s: float) -> None:
        """It gave good answers and serves again."""
        self.fault, self.detail, self._back_s = None, "", now_s

    def anew(self) -> None:
        """Another accelerator, model or library: nothing is held against it."""
        self.fault, self.detail = None, ""
        self._forget()

    def _forget(self) -> None:
        self.failures = self._counted = 0
        self._reset_done = False
