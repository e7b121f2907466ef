"""The doctor's look at one camera: opened, a few frames taken, closed, all within a deadline; and what to do, by the fault."""

import contextlib
import os
import re
import socket
import threading
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from device_agent.doctor import Finding, bad, well
from device_agent.settings import CameraSection
from device_agent.vision.camera import CameraSource
from device_agent.vision.motion import luma_plane
from device_agent.vision.open_camera import CameraSettings, open_camera
from device_agent.vision.types import CameraError, Frame

CAMERA_DEADLINE_S = 10.0
CLOSE_S = 2.0
LOOK_S = CAMERA_DEADLINE_S - CLOSE_S
"""To open it and take its first frames: closing what hangs may take the rest."""
PROBE_S = 3.0
"""For a connection to a stream's address; most that do not come at once do not come at all."""
FRAMES = 5
"""A sensor's first pictures may be black: exposure needs a few."""
BLACK_LUMA = 4.0
PORTS: Mapping[str, int] = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "http": 80, "https": 443}
"""Usual ports of addresses that are connected to; what comes by UDP cannot be tried so."""

Kind = Literal["sensor", "usb", "stream", "file", "drawn"]
SOURCE = "correct its source in agent.toml"
ADVICE: Mapping[tuple[Kind, str], str] = {
    ("sensor", "not_installed"): "sudo apt install python3-picamera2; make the agent's environment with --system-site-packages",
    ("sensor", "missing"): "run rpicam-hello --list-cameras: if it does not name the sensor, switch the board off and seat its "
    "ribbon cable anew; if it does, end the program that holds it",
    ("sensor", "*"): "start the board anew and watch its power supply; if it comes back, run rpicam-hello and look into dmesg",
    ("usb", "missing"): "plug its cable in again, and name one of those that ls /dev/video* shows",
    ("usb", "permission"): "add the agent's user to the group video (sudo usermod -aG video USER) and start the agent anew",
    ("usb", "*"): "plug it in again with another cable or port, and look whether another program holds it (fuser -v /dev/video*)",
    ("stream", "network"): "check host and port of its address, that the camera is switched on, and this board's network",
    ("stream", "size_changed"): "set the camera's stream to one fixed size",
    ("stream", "*"): "check path, user and password of its address (ffprobe tells more), and that it lets one more viewer in",
    ("file", "missing"): "correct the path in agent.toml",
    ("file", "*"): "copy or record it again, or name another file in agent.toml",
}  # fmt: skip


def look_at_camera(camera: CameraSection) -> Finding:
    """One camera's first frames, or what is wrong with it and what to do, after `CAMERA_DEADLINE_S` at most."""
    what, kind = f"camera {camera.name}", _kind(camera.source)
    look = _Look(camera, kind)
    if not look.over(LOOK_S):
        return bad(what, "no_frames", f"it gave no frame within {LOOK_S:g} s", _advice(kind, "no_frames"))
    code, detail = look.fault
    if code:
        return bad(what, "unreachable" if code == "network" else code, detail, _advice(kind, code))
    if look.error is not None:
        return bad(what, look.error.reason, look.error.message, _advice(kind, look.error.reason))
    if look.last is None:
        return bad(what, "no_frames", "it gave no frame", _advice(kind, "no_frames"))
    if look.brightness < BLACK_LUMA:
        return bad(what, "black", "its picture is black", "take the cap off the lens, or give it light")
    return well(what, f"{look.last.width_px}x{look.last.height_px} px")


class _Look:
    """Opens a camera and takes its first frames in a thread of its own: neither a driver nor a network keeps to deadlines."""

    def __init__(self, camera: CameraSection, kind: Kind) -> None:
        self.fault = ("", "")
        self.last: Frame | None = None
        self.brightness = 0.0
        self.error: CameraError | None = None
        self._camera, self._kind = camera, kind
        self._source: CameraSource | None = None
        self._late = False
        self._thread = threading.Thread(target=self._look, name=f"doctor-{camera.name}", daemon=True)
        self._thread.start()

    def over(self, within_s: float) -> bool:
        """Whether it came to its end in time; if not, the camera is let go as far as that is possible."""
        self._thread.join(within_s)
        in_time = not self._thread.is_alive()
        self._late = not in_time
        if not in_time and self._source is not None:
            closing = threading.Thread(target=self._source.close, daemon=True)
            closing.start()
            closing.join(CLOSE_S)
        return in_time

    def _look(self) -> None:
        camera = self._camera
        self.fault = _before(camera.source, self._kind)
        if self.fault[0]:
            return
        settings = CameraSettings(camera.name, camera.source, camera.pacing, no_frame_timeout_s=CAMERA_DEADLINE_S)
        try:
            self._source = open_camera(settings)
            try:
                # What opens after the deadline is closed at once.
                for frame in islice(self._source.frames(), 0 if self._late else FRAMES):
                    self.brightness = float(luma_plane(frame).mean())
                    self.last = frame
            finally:
                self._source.close()
        except CameraError as error:
            self.error = error
        except (OSError, RuntimeError, ValueError, TypeError) as error:  # a driver's own: the other checks go on
            self.error = CameraError("failed", f"its driver failed: {type(error).__name__}: {error}")


def _kind(source: str) -> Kind:
    word, _, rest = source.partition(":")
    if word == "picamera2":
        return "sensor"
    if word == "opencv":
        return "stream" if "://" in rest else "usb"
    return "file" if word in ("film", "pictures") else "drawn"


def _advice(kind: Kind, reason: str) -> str:
    if reason == "bad_source":
        return SOURCE
    return ADVICE.get((kind, reason)) or ADVICE.get((kind, "*")) or SOURCE


def _before(source: str, kind: Kind) -> tuple[str, str]:
    """A fault that shows without opening the camera, as its name and words; empty else."""
    if kind == "usb":
        return _device(source.partition(":")[2])
    if kind == "stream":
        return _address(source.partition(":")[2])
    return "", ""


def _device(name: str) -> tuple[str, str]:
    device = Path(f"/dev/video{name}" if name.isdigit() else name)
    if not str(device).startswith("/dev/"):
        return "", ""
    if not device.exists():
        return "missing", f"there is no {device}"
    return ("", "") if os.access(device, os.R_OK | os.W_OK) else ("permission", f"{device} may not be opened by this user")


def _address(address: str) -> tuple[str, str]:
    """Whether anybody takes a connection there. Its user and password are never said."""
    with contextlib.suppress(ValueError):  # an address that cannot be read is the camera's own to refuse
        parts = urlsplit(address)
        port = parts.port or PORTS.get(parts.scheme)
        if parts.hostname and port and parts.scheme in PORTS:
            place = f"{parts.hostname}:{port}"
            try:
                socket.create_connection((parts.hostname, port), timeout=PROBE_S).close()
            except (OSError, UnicodeError) as error:
                words = re.sub(r"^\[.*?\] *", "", getattr(error, "strerror", None) or str(error))
                return "network", f"nothing answers at {place}: {words}"
    return "", ""
