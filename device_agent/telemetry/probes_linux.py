"""What the board says of itself. A file that is missing or unreadable is a reading that is not known, never an error."""

import shutil
from pathlib import Path

from ota.wire.heartbeat import HostHealth

UNIT_BYTES = 1024
"""VmRSS and MemAvailable are in units of 1024 bytes, whatever the page size."""
SANE_C = (-60.0, 150.0)
"""Outside of this a sensor is dead, not hot (a dead apex reports -87.9 °C)."""


def read_host(root: Path, data_folder: Path, own_root: Path = Path("/")) -> HostHealth:
    """Temperature, load and memory below ``root`` (which a test or the demo can lay), free disk of ``data_folder``,
    and this process's own memory from ``own_root``."""
    return HostHealth(
        cpu_temp_c=cpu_temp_c(root),
        load_1m=_number(root / "proc/loadavg"),
        memory_available_bytes=_kib_line(root / "proc/meminfo", "MemAvailable:"),
        disk_free_bytes=_disk_free(data_folder),
        agent_rss_bytes=_kib_line(own_root / "proc/self/status", "VmRSS:"),
        throttled=throttled(root),
    )


def cpu_temp_c(root: Path) -> float | None:
    """The hottest CPU zone in °C; milli-degrees in /sys/class/thermal."""
    found: list[float] = []
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        kind = (_text(zone / "type") or "cpu").lower()
        value = _number(zone / "temp")
        if value is not None and any(word in kind for word in ("cpu", "soc", "x86_pkg", "acpitz")):
            found.append(value / 1000)
    sane = [value for value in found if SANE_C[0] < value < SANE_C[1]]
    return max(sane) if sane else None


def throttled(root: Path) -> int | None:
    """The Raspberry Pi firmware's bits, a hexadecimal number in /sys; None on other boards."""
    for path in sorted((root / "sys/devices/platform").glob("soc*/*firmware/get_throttled")):
        text = _text(path)
        if text:
            try:
                return int(text, 16)
            except ValueError:
                return None
    return None


def _disk_free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ")
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    if not text:
        return None
    try:
        return float(text.split()[0])
    except ValueError:
        return None


def _kib_line(path: Path, key: str) -> int | None:
    for line in (_text(path) or "").splitlines():
        if line.startswith(key):
            words = line.split()
            if len(words) > 1 and words[1].isdigit():
                return int(words[1]) * UNIT_BYTES
    return None
