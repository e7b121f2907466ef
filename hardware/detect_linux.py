"""Which board is this? Read from /proc and /sys below a root that a test (or the demo) can lay.

Nothing here needs privileges. A file that is missing or unreadable is a fact that is not known, never an error.
"""

import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardware.profile import choose_profile

CORAL_USB_IDS = {("1a6e", "089a"): "cold (no firmware yet)", ("18d1", "9302"): "ready"}
"""USB vendor and product of the Coral accelerator before and after its firmware was loaded (libedgetpu's USB driver)."""
EDGETPU_LIBRARY = "libedgetpu.so.1"
DLOPEN_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class FoundAccelerator:
    """One accelerator on a bus. ``reason`` says why it cannot be used, or what slows it; empty when all is well."""

    kind: str
    present: bool
    usable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Board:
    """What was found. ``profile`` is the id of a board profile or ``unknown``; ``memory_bytes`` is what the kernel sees."""

    profile: str
    board_model: str
    serial: str
    machine: str
    word_bits: int
    cores: int
    memory_bytes: int
    accelerators: tuple[FoundAccelerator, ...]
    os: str


def library_error(library: str) -> str:
    """Why a shared library cannot be loaded, empty when it can: tried in a child, because a broken one can kill its process."""
    code = "import ctypes, sys\ntry:\n ctypes.CDLL(sys.argv[1])\nexcept OSError as error:\n print(error)"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, library], capture_output=True, text=True, timeout=DLOPEN_DEADLINE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{library}: loading it did not end within {DLOPEN_DEADLINE_S:.0f} s"
    if done.returncode != 0:
        return f"{library}: loading it killed the process (status {done.returncode})"
    return done.stdout.strip()


def detect(root: Path = Path("/"), *, delegate_error: Callable[[str], str] = library_error) -> Board:
    """The board below ``root``. ``delegate_error`` tells why the Edge TPU library cannot be loaded (empty: it can)."""
    model = _text(root / "proc/device-tree/model")
    machine = _text(root / "proc/sys/kernel/arch") or platform.machine()
    accelerators = _accelerators(root, delegate_error)
    kind = accelerators[0].kind if accelerators else "none"
    profile = choose_profile(model, machine, kind)
    return Board(
        profile=profile.id if profile else "unknown",
        board_model=(model or _text(root / "sys/class/dmi/id/product_name") or f"generic {machine}")[:100],
        serial=_serial(root),
        machine=machine,
        word_bits=64 if machine.endswith("64") else 32,
        cores=max(1, sum(line.startswith("processor") for line in _text(root / "proc/cpuinfo").splitlines())),
        memory_bytes=_memory_bytes(root),
        accelerators=accelerators,
        os=_os_name(root),
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:100_000].decode("utf-8", "replace").strip("\0 \n")
    except OSError:
        return ""


def _serial(root: Path) -> str:
    serial = _text(root / "proc/device-tree/serial-number")
    if not serial:
        for line in _text(root / "proc/cpuinfo").splitlines():
            if line.startswith("Serial"):
                serial = line.partition(":")[2].strip()
    return serial[:64]


def _memory_bytes(root: Path) -> int:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            words = line.split()
            if len(words) >= 2 and words[1].isdigit():
                return int(words[1]) * 1024
    return 0


def _os_name(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')[:100] or "unknown"
    return "unknown"


def _accelerators(root: Path, delegate_error: Callable[[str], str]) -> tuple[FoundAccelerator, ...]:
    notes = [("edgetpu-pci", "") for _ in sorted((root / "sys/class/apex").glob("apex_*"))]
    for device in sorted((root / "sys/bus/usb/devices").glob("*")):
        ids = (_text(device / "idVendor"), _text(device / "idProduct"))
        if ids in CORAL_USB_IDS:
            notes.append(("edgetpu-usb", _usb_note(_text(device / "speed"))))
    if not notes:
        return ()
    error = delegate_error(EDGETPU_LIBRARY)
    return tuple(
        FoundAccelerator(kind, True, not error, "; ".join(part for part in (error and f"delegate: {error}", note) if part))
        for kind, note in notes
    )


def _usb_note(speed_mbit_s: str) -> str:
    # 5000 = USB 3; on a 480 Mbit/s port an inference takes about three times as long (Coral's and users' figures).
    if speed_mbit_s.isdigit() and int(speed_mbit_s) < 5000:
        return f"on a USB 2 port ({speed_mbit_s} Mbit/s): about three times slower, use a blue port"
    return ""
