"""Three boards laid out as files: what the kernel of each would show in /proc and /sys."""

from dataclasses import dataclass
from pathlib import Path

KIB = 1024


@dataclass(frozen=True, slots=True)
class DemoBoard:
    """One board of the demo: its device's name, its device tree, and whether an accelerator is plugged in."""

    name: str
    model: str
    serial: str
    memory_kib: int
    profile: str
    coral_usb: bool = False
    machine: str = "aarch64"


BOARDS = (
    DemoBoard("gate", "Raspberry Pi 5 Model B Rev 1.0", "d04ad5f1c2a91e01", 8_245_904, "rpi-5"),
    DemoBoard("yard", "Raspberry Pi 4 Model B Rev 1.5", "10000000b77c1e02", 3_884_360, "rpi-4-coral-usb", coral_usb=True),
    DemoBoard("shed", "Raspberry Pi Zero 2 W Rev 1.0", "00000000a1f31e03", 436_972, "rpi-zero-2w"),
)

IMPOSSIBLE = DemoBoard("attic", "Raspberry Pi Zero W Rev 1.1", "00000000c0ffee04", 441_112, "unknown", machine="armv6l")
"""A board that no variant of the releases fits: it must be told so, and why."""


def lay(board: DemoBoard, root: Path) -> None:
    """Write the files of ``board`` below ``root``; the live readings are those of a healthy board."""
    files = {
        "proc/device-tree/model": board.model + "\0",
        "proc/device-tree/serial-number": board.serial + "\0",
        "proc/sys/kernel/arch": board.machine + "\n",
        "proc/meminfo": f"MemTotal:       {board.memory_kib} kB\nMemAvailable:   {board.memory_kib // 2} kB\n",
        "proc/cpuinfo": "".join(f"processor\t: {core}\n" for core in range(4)),
        "proc/loadavg": "0.42 0.40 0.38 1/120 812\n",
        "proc/uptime": "86400.00 300000.00\n",
        "proc/sys/kernel/random/boot_id": f"00000000-0000-4000-8000-{board.serial[-12:]}\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/class/thermal/thermal_zone0/temp": "52300\n",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    }
    if board.coral_usb:
        usb = "sys/bus/usb/devices/2-1"
        files |= {f"{usb}/idVendor": "18d1\n", f"{usb}/idProduct": "9302\n", f"{usb}/speed": "5000\n"}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
