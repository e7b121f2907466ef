"""The board itself: which one it is, its accelerator, power, heat, memory and clock. Read below a root that a test can lay."""

import os
from collections.abc import Callable
from pathlib import Path

from device_agent.doctor import Finding, bad, note, well
from device_agent.link.clock_disk import read_floor
from device_agent.telemetry.probes_linux import cpu_temp_c, throttled
from device_agent.vision.ladder import SeenAccelerator
from device_agent.vision.usb_linux import accessible, see_accelerators
from hardware.detect_linux import EDGETPU_LIBRARY, detect, library_error

UNDER_VOLTAGE, FREQUENCY_CAPPED, THROTTLED, SOFT_LIMIT = (1 << bit for bit in range(4))
"""Raspberry Pi firmware bits; the same bits from 16 on: since boot (Raspberry Pi documentation, vcgencmd get_throttled)."""
SINCE_BOOT = 16
HOT_C = 80.0
"""A Pi's firmware begins to slow the processor here or at 85 °C."""
LEAST_MEMORY_BYTES = 64 * 2**20
LEAST_CMA_BYTES = 48 * 2**20
"""Six 1080p YUV buffers and as many small ones, as a sensor's stream takes."""
SUPERSPEED_MBIT_S = 5000
APEX_SANE_C = (-40.0, 125.0)
"""Outside of this an apex is dead (a dead one reads -87.9 °C)."""
CORAL_PCI_ID = ("0x1ac1", "0x089a")
SYNCHRONISED_MARKS = (
    "run/systemd/timesync/synchronized", "run/chrony/chronyd.pid", "run/chrony/chronyd.sock", "run/ntpd.pid", "run/openntpd.pid",
)  # fmt: skip
SUPPLY = "use the power supply made for this board and a short cable, and give USB devices a hub with its own supply"


def look_at_board(root: Path) -> Finding:
    """Whether its profile is known."""
    board = detect(root, delegate_error=lambda library: "")
    if board.profile == "unknown":
        advice = "copy the nearest file of hardware/profiles for it"
        return note("board", "unknown_board", f"{board.board_model}: no profile fits", advice)
    return well("board", f"{board.board_model} ({board.profile})")


def look_at_accelerators(
    root: Path,
    delegate_error: Callable[[str], str] = library_error,
    accessible: Callable[[Path], bool] = accessible,
) -> list[Finding]:
    """Every Edge TPU on a bus: driver, permission, port, heat; and the library that drives it."""
    seen = see_accelerators(root, accessible=accessible)
    findings = [] if any(one.kind == "pci" for one in seen) else _pci_without_driver(root)
    findings += [_accelerator(root, one) for one in seen]
    if not seen and not findings:
        return [well("accelerator", "none on this board: models run on the CPU")]
    missing = delegate_error(EDGETPU_LIBRARY) if seen else ""
    if missing:
        advice = "install libedgetpu1-std for this system, in the build that fits the runtime"
        findings.append(bad("accelerator", "library_missing", missing, advice))
    return findings


def _pci_without_driver(root: Path) -> list[Finding]:
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        if (_text(device / "vendor"), _text(device / "device")) == CORAL_PCI_ID:
            detail = f"an Edge TPU is in the PCIe slot ({device.name}) and has no driver"
            advice = "install gasket-dkms in the build for this kernel (6.12 and later need a newer one) and start the board anew"
            return [bad("accelerator", "driver_missing", detail, advice)]
    return []


def _accelerator(root: Path, seen: SeenAccelerator) -> Finding:
    name = f"Edge TPU ({seen.kind}, {Path(seen.sysfs).name})"
    if _text(Path(seen.sysfs) / "authorized") == "0":
        advice = f"write 1 to {seen.sysfs}/authorized as root, or unplug it and plug it in again"
        return bad("accelerator", "not_authorized", f"{name} is switched off at its port", advice)
    if not seen.may_open:
        group = "apex" if seen.kind == "pci" else "plugdev"
        advice = f"add the agent's user to the group {group}, install libedgetpu's udev rule, and start the board anew"
        return bad("accelerator", "permission", f"{name}: {seen.node} may not be opened by this user", advice)
    if seen.temperature_c is not None and not APEX_SANE_C[0] < seen.temperature_c < APEX_SANE_C[1]:
        advice = "switch the board off, seat the module anew and switch it on; if it reads the same, the module is broken"
        return bad("accelerator", "dead", f"{name} reads {seen.temperature_c:.0f} °C: it does not answer", advice)
    if seen.temperature_c is not None and seen.trip_c is not None and seen.temperature_c >= seen.trip_c:
        advice = "give it a heat sink or air: its driver slows it from here on and ends it when it grows hotter"
        return bad("accelerator", "hot", f"{name} is at {seen.temperature_c:.0f} °C", advice)
    if seen.speed_mbit_s is not None and seen.speed_mbit_s < SUPERSPEED_MBIT_S:
        detail = f"{name} is on a USB 2 port ({seen.speed_mbit_s} Mbit/s): about three times slower"
        return bad("accelerator", "usb2", detail, "plug it into a blue USB 3 port with its own short cable")
    heat = "" if seen.temperature_c is None else f", {seen.temperature_c:.0f} °C"
    state = "there, its firmware is loaded at first use" if seen.state == "cold" else "ready"
    return well("accelerator", f"{name} is {state}{heat}")


def look_at_power(root: Path) -> Finding:
    """Under-voltage and throttling, now and since boot; the alarm of the supply where firmware bits are not readable."""
    bits = throttled(root)
    alarm = any(
        _text(monitor / "in0_lcrit_alarm") == "1"
        for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*"))
        if _text(monitor / "name") == "rpi_volt"
    )
    if bits is None and not alarm:
        return well("power", "no alarm" if (root / "sys/class/hwmon").is_dir() else "this board does not say")
    bits = bits or 0
    if alarm or bits & UNDER_VOLTAGE:
        return bad("power", "under_voltage", f"under-voltage now (bits 0x{bits:x})", SUPPLY)
    if bits & (UNDER_VOLTAGE << SINCE_BOOT):
        detail = f"under-voltage since the board was started (bits 0x{bits:x}): USB devices and the disk suffer from it"
        return bad("power", "under_voltage_before", detail, SUPPLY)
    if bits & (FREQUENCY_CAPPED | THROTTLED | SOFT_LIMIT):
        advice = "give the processor a heat sink or a fan, or ask for fewer frames a second"
        return bad("power", "throttled", f"the firmware slows the processor now (bits 0x{bits:x})", advice)
    if bits:
        detail = f"the processor was slowed since the board was started (bits 0x{bits:x})"
        return note("power", "throttled_before", detail, "watch its temperature when the sun is on it")
    return well("power", "no under-voltage, not throttled")


def look_at_heat(root: Path) -> Finding:
    """The processor's temperature."""
    temp_c = cpu_temp_c(root)
    if temp_c is None:
        return well("heat", "this board does not say")
    if temp_c >= HOT_C:
        return bad("heat", "hot", f"the processor is at {temp_c:.0f} °C", "give it a heat sink, a fan or shade")
    return well("heat", f"{temp_c:.0f} °C")


def look_at_memory(root: Path, *, sensor: bool) -> list[Finding]:
    """Available memory; with a camera on the sensor's bus (``sensor``) also the contiguous memory that its buffers come from."""
    known = _meminfo(root)
    findings = []
    free = known.get("MemAvailable")
    if free is not None and free < LEAST_MEMORY_BYTES:
        advice = "end what else runs on this board, or set detector.child = false in agent.toml"
        findings.append(bad("memory", "memory", f"{free // 2**20} MiB available", advice))
    else:
        findings.append(well("memory", "not known" if free is None else f"{free // 2**20} MiB available"))
    cma = known.get("CmaFree")
    if sensor and cma is not None and cma < LEAST_CMA_BYTES:
        advice = "start the board anew; if it comes back, set dtoverlay=vc4-kms-v3d,cma-256 in config.txt"
        total = known.get("CmaTotal", 0) // 2**20
        findings.append(bad("memory", "cma", f"{cma // 2**20} of {total} MiB of contiguous memory free for the camera", advice))
    return findings


def look_at_clock(root: Path, data: Path, now_s: float) -> Finding:
    """Whether it is behind what is known to be past, and whether something keeps it right."""
    floor_s = read_floor(data / "state" / "clock", 0.0)
    if now_s < floor_s:
        days = (floor_s - now_s) / 86400
        advice = "let the board reach a time server (timedatectl set-ntp true), or give it a clock with a battery"
        return bad("clock", "clock_behind", f"{days:.1f} days behind what is known to be past", advice)
    if (root / "run/systemd/system").is_dir() and not _synchronised(root):
        advice = "switch time synchronisation on (timedatectl set-ntp true) and let UDP port 123 out"
        return note("clock", "not_synchronised", "no time server has set it since the board was started", advice)
    return well("clock", "set by a time server" if _synchronised(root) else "not before what is known to be past")


def _synchronised(root: Path) -> bool:
    """systemd-timesyncd's mark; chrony and ntpd keep sockets or drift files of their own there."""
    return any((root / mark).exists() for mark in SYNCHRONISED_MARKS)


def _meminfo(root: Path) -> dict[str, int]:
    found = {}
    for line in _text(root / "proc/meminfo").splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            found[words[0]] = int(words[1]) * 1024
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(100_000)).strip("\0 \n")
    except OSError:
        return ""
