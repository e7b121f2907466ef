"""``doctor``: looks at everything that the agent needs on this board, and says what to do. Changes nothing."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from device_agent.errors import AgentError, OwnerError
from device_agent.facts_linux import probe_runtimes
from device_agent.link.api_http import DeviceApi
from device_agent.link.clock_disk import read_floor
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.own_folder_disk import read_policy, read_settings
from device_agent.settings import CameraSection, Settings
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.types import CameraError
from hardware.detect_linux import detect
from ota.wire.enrolment import TimeRequest

CAMERA_DEADLINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: ``detail`` is what was found, ``advice`` what to do where it is not well."""

    what: str
    ok: bool
    detail: str
    advice: str = ""

    def line(self) -> str:
        """For a terminal."""
        mark = "✓" if self.ok else "✗"
        return f"{mark} {self.what:<12} {self.detail}" + (f"\n  → {self.advice}" if self.advice and not self.ok else "")


def examine(config: Path) -> list[Finding]:
    """All checks in order; only the settings are a condition of the others."""
    try:
        settings = read_settings(config)
        policy = read_policy(settings.policy)
    except OwnerError as error:
        return [Finding("settings", False, error.message, error.hint)]
    findings = [Finding("settings", True, f"{config}; channels {', '.join(policy.channels)}")]
    checks: list[Callable[[], Finding]] = [
        lambda: _board(settings),
        _runtime,
        lambda: _accelerator(settings),
        lambda: _disk(settings),
        lambda: _clock(settings),
        lambda: _identity(settings),
        lambda: _server(settings),
    ]
    findings += [check() for check in checks]
    return findings + [_camera(camera) for camera in settings.cameras]


def _board(settings: Settings) -> Finding:
    board = detect(settings.agent.board_root)
    known = board.profile != "unknown"
    return Finding("board", known, f"{board.board_model} ({board.profile})", "copy the nearest of hardware/profiles for it")


def _runtime() -> Finding:
    found, why = probe_runtimes()
    words = ", ".join(f"{name} {version}" for name, version in found.items())
    return Finding("runtime", bool(found), words or why, "install ai-edge-litert into the agent's environment")


def _accelerator(settings: Settings) -> Finding:
    found = detect(settings.agent.board_root).accelerators
    if not found:
        return Finding("accelerator", True, "none on this board: models run on the CPU")
    broken = [one for one in found if not one.usable]
    detail = "; ".join(f"{one.kind}: {one.reason or 'ready'}" for one in found)
    return Finding("accelerator", not broken, detail, "install the Edge TPU library (libedgetpu1-std) for this system")


def _disk(settings: Settings) -> Finding:
    folder = settings.agent.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    wanted = settings.spool.min_free_bytes
    return Finding("disk", free > wanted, f"{free // 2**20} MiB free for {settings.agent.data_dir}", "free some space")


def _clock(settings: Settings) -> Finding:
    floor_s = read_floor(settings.agent.data_dir / "state" / "clock", 0.0)
    right = time.time() >= floor_s
    return Finding("clock", right, time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "let the board reach a time server (NTP)")


def _identity(settings: Settings) -> Finding:
    claim = settings.server.claim_file
    if not (settings.agent.data_dir / "identity" / "current").exists():
        there = claim is not None and claim.exists()
        return Finding("identity", there, "not enrolled yet" + (", a claim is here" if there else ""), "put a claim on the board")
    try:
        identity = IdentityStore(settings.agent.data_dir / "identity").load()
    except AgentError as error:
        return Finding("identity", False, error.message, error.hint)
    assert identity is not None
    days = (identity.not_after_s - time.time()) / 86400
    return Finding("identity", days > 0, f"{identity.device}, certificate good for {days:.0f} days", "start the agent to renew")


def _server(settings: Settings) -> Finding:
    try:
        api = DeviceApi(settings.server.url, context(settings.server.ca_file), ByteCount(), timeout_s=5.0)
        try:
            api.time(TimeRequest(nonce="doctor-asks-the-time"))
        finally:
            api.close()
    except AgentError as error:
        return Finding("server", False, error.message, error.hint)
    return Finding("server", True, f"{settings.server.url} answers")


def _camera(camera: CameraSection) -> Finding:
    what = f"camera {camera.name}"
    try:
        source = open_camera(CameraSettings(camera.name, camera.source, camera.pacing, no_frame_timeout_s=CAMERA_DEADLINE_S))
        try:
            frame = next(iter(islice(source.frames(), 1)), None)
        finally:
            source.close()
    except CameraError as error:
        return Finding(what, False, error.message, "check the camera, its cable and its settings")
    if frame is None:
        return Finding(what, False, "it gave no frame", "check the source")
    return Finding(what, True, f"{frame.width_px}x{frame.height_px} px")
