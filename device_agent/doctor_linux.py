"""``doctor``: looks at everything that the agent needs on this board, and says what to do. Changes nothing."""

import os
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from device_agent.doctor import Finding, bad, exit_code, report, well
from device_agent.doctor_board_linux import (
    look_at_accelerators,
    look_at_board,
    look_at_clock,
    look_at_heat,
    look_at_memory,
    look_at_power,
)
from device_agent.doctor_disk import agent_runs, look_at_disk, look_at_factory, look_at_identity, look_at_policy
from device_agent.doctor_link_http import look_at_link
from device_agent.errors import OwnerError
from device_agent.facts_linux import probe_runtimes
from device_agent.own_folder_disk import read_settings
from device_agent.settings import CameraSection, Settings
from device_agent.vision.motion import luma_plane
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.types import CameraError

CAMERA_DEADLINE_S = 10.0
FRAMES = 5
"""A sensor's first pictures may be black: exposure needs a few."""
BLACK_LUMA = 4.0


def run_doctor(config: Path, *, as_json: bool) -> int:
    """Look at everything and print it; returns the exit code, 0 where nothing must be done."""
    findings = examine(config)
    sys.stdout.write(report(findings, as_json=as_json) + "\n")
    return exit_code(findings)


def examine(config: Path) -> list[Finding]:
    """All checks in order; only the settings are a condition of the others."""
    try:
        settings = read_settings(config)
    except OwnerError as error:
        return [bad("settings", "settings", error.message, error.hint)]
    root, data = settings.agent.board_root, settings.agent.data_dir
    sensor = any(camera.source.startswith("picamera2") for camera in settings.cameras)
    checks: list[Callable[[], Finding | list[Finding]]] = [
        lambda: look_at_policy(settings),
        lambda: look_at_board(root),
        look_at_runtime,
        lambda: look_at_accelerators(root),
        lambda: look_at_power(root),
        lambda: look_at_heat(root),
        lambda: look_at_memory(root, sensor=sensor),
        lambda: look_at_disk(settings),
        lambda: look_at_clock(root, data, time.time()),
        lambda: look_at_factory(settings),
        lambda: look_at_identity(settings, time.time()),
        lambda: look_at_link(settings.server),
        lambda: look_at_cameras(settings),
    ]
    findings = [well("settings", str(config))]
    for check in checks:
        found = check()
        findings += found if isinstance(found, list) else [found]
    return findings


def look_at_runtime() -> Finding:
    """Whether an interpreter can be built, tried in a child: an import that works proves nothing (numpy 2 breaks the build)."""
    found, why = probe_runtimes()
    if not found:
        advice = "install ai-edge-litert into the agent's environment, with the numpy that its lock file names"
        return bad("runtime", "no_runtime", why, advice)
    return well("runtime", ", ".join(f"{name} {version}" for name, version in found.items()))


def look_at_cameras(settings: Settings) -> list[Finding]:
    """Each camera's first frames; where the agent runs they are its own, and its heartbeat says how they are."""
    if agent_runs(settings):
        return [well("cameras", "the agent runs and holds them; stop it to have them looked at")]
    return [look_at_camera(camera) for camera in settings.cameras]


def look_at_camera(camera: CameraSection) -> Finding:
    """One camera: opened, a few frames taken, closed."""
    what = f"camera {camera.name}"
    kind = camera.source.partition(":")[0]
    advice = {
        "picamera2": "switch the board off, seat the sensor's cable anew, and see that rpicam-hello --list-cameras names it",
        "opencv": "plug it in again, add the agent's user to the group video, and look whether another program holds it",
        "film": "correct the path in agent.toml",
        "pictures": "correct the path in agent.toml",
    }.get(kind, "correct its source in agent.toml")
    missing = _device_problem(camera.source) if kind == "opencv" else ""
    if missing:
        return bad(what, "missing", missing, advice)
    last, brightness = None, 0.0
    try:
        source = open_camera(CameraSettings(camera.name, camera.source, camera.pacing, no_frame_timeout_s=CAMERA_DEADLINE_S))
        try:
            for last in islice(source.frames(), FRAMES):
                brightness = float(luma_plane(last).mean())
        finally:
            source.close()
    except CameraError as error:
        return bad(what, error.reason, error.message, advice)
    if last is None:
        return bad(what, "no_frames", "it gave no frame", advice)
    if brightness < BLACK_LUMA:
        return bad(what, "black", "its picture is black", "take the cap off the lens, or give it light")
    return well(what, f"{last.width_px}x{last.height_px} px")


def _device_problem(source: str) -> str:
    """Why a camera's device file cannot be opened, where that shows without waiting for it; empty else."""
    name = source.partition(":")[2]
    device = Path(f"/dev/video{name}" if name.isdigit() else name)
    if not str(device).startswith("/dev/"):
        return ""
    if not device.exists():
        return f"there is no {device}"
    return "" if os.access(device, os.R_OK | os.W_OK) else f"{device} may not be opened by this user"
