"""A network stream read by a child process that can be killed, as a connection of `StreamCamera`.

One picture travels at a time, and only when the agent asks for one, so what it gets is always the newest: *latest wins* without a
thread. The picture's memory is anonymous (memfd): whoever is killed, nothing is left behind.
"""

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import time

import numpy as np

from device_agent.vision import camera_stream_wire as wire
from device_agent.vision.camera import Losses
from device_agent.vision.camera_opencv import Got, StreamCamera, StreamSettings

START_S = 30.0
"""To start Python and load OpenCV on the smallest board that has a child at all."""
END_S = 5.0


class ChildConnection:
    """One reader process. A reply that does not come in time kills it: FFmpeg cannot be asked to stop."""

    def __init__(self, target: str, settings: StreamSettings, losses: Losses) -> None:
        self._order = wire.Order(target, settings.open_timeout_s, settings.read_timeout_s)
        self._losses = losses
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._fd = -1
        self._memory: mmap.mmap | None = None
        self.period_s = 0.0
        self.interrupted = False

    def open(self) -> str:
        """Start the reader and wait for its word; what is wrong in words."""
        self._line, theirs = socket.socketpair()
        self._fd = os.memfd_create("rookery-stream", os.MFD_CLOEXEC)
        os.ftruncate(self._fd, wire.MAX_PICTURE_BYTES)
        command = [sys.executable, "-P", "-m", "device_agent.vision.camera_stream_child_opencv"]
        command += ["--socket", str(theirs.fileno()), "--memory", str(self._fd)]
        with theirs:
            try:
                # Its own words go nowhere: FFmpeg prints addresses with their passwords.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), self._fd), env=_environment(),
                )
            except OSError as error:
                return f"its reader cannot be started: {error.strerror}"
        if self.interrupted:
            return "closed"
        with contextlib.suppress(OSError):
            self._line.sendall(wire.order_bytes(self._order))
        said = self._heard(START_S + 2 * self._order.open_timeout_s)
        if said is None:
            return "its reader did not answer in time"
        return "" if said.kind == "opened" else wire.WORDS[said.kind]

    def next(self) -> Got | None:
        """The picture that comes next; None when the stream broke off or hangs."""
        try:
            assert self._line is not None
            self._line.sendall(wire.WANT)
        except OSError:
            return None
        said = self._heard(self._order.read_timeout_s)
        if said is None or said.kind != "picture":
            return None
        if self._memory is None:
            self._memory = mmap.mmap(self._fd, wire.MAX_PICTURE_BYTES, prot=mmap.PROT_READ)
        count = said.width_px * said.height_px * 3
        picture = np.frombuffer(self._memory, np.uint8, count).reshape(said.height_px, said.width_px, 3).copy()
        self._losses.add("broken_frame", said.broken)
        self.period_s = said.period_s
        return Got(picture, said.at_s, said.lost)

    def interrupt(self) -> None:
        """Kill the reader: whoever waits for it is let go."""
        self.interrupted = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Nothing is left: no process, no descriptor, no memory."""
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: it is gone when that lets go of it
                self._process.wait(END_S)
        if self._line is not None:
            self._line.close()
        if self._memory is not None:
            self._memory.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _heard(self, within_s: float) -> wire.Said | None:
        """The reader's next message; None when it is not there in time, or is none."""
        assert self._line is not None
        deadline_s, message = time.monotonic() + within_s, b""
        while len(message) < wire.SAID_BYTES:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return None
            try:
                self._line.settimeout(left_s)
                part = self._line.recv(wire.SAID_BYTES - len(message))
            except OSError:
                return None
            if not part:
                return None
            message += part
        try:
            return wire.said_from(message)
        except ValueError:
            return None


class NetworkCamera(StreamCamera):
    """A stream at an address, read by a child. It keeps the latest picture itself and needs no reader thread."""

    def __init__(self, name: str, address: str, settings: StreamSettings | None = None) -> None:
        super().__init__(name, address, settings, ChildConnection)

    @property
    def newer(self) -> bool:
        """Whether another picture must have come since the last one, by the stream's own rate."""
        connection, last_s = self._connection, self._last_s
        if not isinstance(connection, ChildConnection) or last_s is None or not connection.period_s:
            return False
        return self._settings.monotonic_s() - last_s > 1.5 * connection.period_s


def _environment() -> dict[str, str]:
    """The agent's environment without its settings, with the same import path, and with what FFmpeg is to do."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
    kept["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    # RTSP over TCP: UDP loses packets, and H.264 smears what it lost over seconds.
    kept.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    kept["OPENCV_LOG_LEVEL"] = "SILENT"
    return kept
