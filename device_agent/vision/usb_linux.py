"""What the kernel says of Edge TPUs on this board: read below a root that a test can lay; and the one thing we do to a USB port.

Facts that cannot be read are None: a missing file is not an error. Sources of the names: libedgetpu's USB driver for the two ids
(before and after its firmware was loaded), Coral's page on PCIe parameters for `/sys/class/apex`.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from device_agent.vision.ladder import SeenAccelerator

COLD_ID, READY_ID = ("1a6e", "089a"), ("18d1", "9302")
MAX_TEXT_BYTES = 200


def accessible(path: Path) -> bool:
    """Whether this process may read and write a device file."""
    return os.access(path, os.R_OK | os.W_OK)


def see_accelerators(
    root: Path = Path("/"), *, holders: bool = False, accessible: Callable[[Path], bool] = accessible
) -> tuple[SeenAccelerator, ...]:
    """The Edge TPUs on the buses of this board, those on PCIe first; with `holders` also who else has them open."""
    found = [_apex(root, sysfs, accessible) for sysfs in sorted((root / "sys/class/apex").glob("apex_*"))]
    for sysfs in sorted((root / "sys/bus/usb/devices").glob("*")):
        ids = (_text(sysfs / "idVendor"), _text(sysfs / "idProduct"))
        if ids in (COLD_ID, READY_ID):
            found.append(_usb(root, sysfs, ids == COLD_ID, accessible))
    if holders:
        found = [replace(seen, held_by=_holder(root, Path(seen.node))) for seen in found]
    return tuple(found)


def reset_port(seen: SeenAccelerator) -> str:
    """Take a USB accelerator off its bus and put it back; returns why that failed, empty where it was done.

    What unplugging does, as far as software can: the kernel lets go of the device and looks at it anew, its firmware is loaded
    again at the next use. Needs a writable `authorized` (root, or a udev rule of the board).
    """
    switch = Path(seen.sysfs) / "authorized"
    try:
        for value in ("0", "1"):
            with switch.open("r+") as file:
                file.write(value)
    except OSError as error:
        return f"{switch}: {error.strerror}"
    return ""


def _apex(root: Path, sysfs: Path, accessible: Callable[[Path], bool]) -> SeenAccelerator:
    node = root / "dev" / sysfs.name
    return SeenAccelerator(
        "pci", str(sysfs), str(node), "ready", accessible(node), may_reset=False,
        temperature_c=_milli(sysfs / "temp"), trip_c=_milli(sysfs / "trip_point0_temp"),
    )


def _usb(root: Path, sysfs: Path, cold: bool, accessible: Callable[[Path], bool]) -> SeenAccelerator:
    bus, device, speed = (_text(sysfs / name) for name in ("busnum", "devnum", "speed"))
    node = root / "dev/bus/usb" / bus.zfill(3) / device.zfill(3)
    return SeenAccelerator(
        "usb", str(sysfs), str(node), "cold" if cold else "ready", accessible(node), accessible(sysfs / "authorized"),
        speed_mbit_s=int(speed) if speed.isdigit() else None,
    )


def _holder(root: Path, node: Path) -> str:
    """Name and id of a process other than ours that has a device file open; empty where none is seen (or may be looked at)."""
    ours = _family(root, os.getpid())
    for process in _processes(root):
        try:
            held = any(str(handle.readlink()) == str(node) for handle in (process / "fd").iterdir())
        except OSError:
            continue  # not ours to look at, or gone meanwhile
        if held and int(process.name) not in ours:
            return f"{_text(process / 'comm') or 'a process'} ({process.name})"
    return ""


def _processes(root: Path) -> Iterator[Path]:
    try:
        yield from (entry for entry in (root / "proc").iterdir() if entry.name.isdigit())
    except OSError:
        return


def _family(root: Path, pid: int) -> set[int]:
    """This process and its children: what they hold is not held by others."""
    children = _text(root / f"proc/{pid}/task/{pid}/children").split()
    return {pid, *(int(child) for child in children if child.isdigit())}


def _milli(path: Path) -> float | None:
    try:
        return int(_text(path)) / 1000.0
    except ValueError:
        return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8", "replace").strip("\0 \n")
    except OSError:
        return ""
