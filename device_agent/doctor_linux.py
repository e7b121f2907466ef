"""``doctor``: looks at everything that the agent needs on this board, and says what to do. Changes nothing."""

import sys
import time
from collections.abc import Callable
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
from device_agent.doctor_cameras_linux import look_at_camera
from device_agent.doctor_disk import agent_runs, look_at_disk, look_at_factory, look_at_identity, look_at_policy
from device_agent.doctor_link_http import look_at_link
from device_agent.errors import OwnerError
from device_agent.facts_linux import probe_runtimes
from device_agent.own_folder_disk import read_settings
from device_agent.settings import Settings


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
