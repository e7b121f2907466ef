"""The agent's side of one inference child: its process, its socket, and the shared memory that frames lie in."""

import contextlib
import mmap
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from device_agent.vision import detector_wire as wire
from device_agent.vision.types import Picture

END_WAIT_S = 1.0
STDERR_LINES = 40


class ChildHungError(Exception):
    """No reply within the deadline."""


class ChildDiedError(Exception):
    """The process ended, or said what nobody understands; the message holds its last words."""


class FrameSlot:
    """Room for one frame that agent and child both see: anonymous memory (memfd), gone with the last process that holds it.

    No name in /dev/shm, so nothing can be left behind, whoever is killed.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.fd = os.memfd_create(f"rookery-frame-{number}", os.MFD_CLOEXEC)
        self._map: mmap.mmap | None = None

    def write(self, picture_bgr: Picture) -> None:
        """Copy a picture in: the only copy on its way to the detector. The slot grows with the largest picture."""
        if self._map is None or len(self._map) < picture_bgr.nbytes:
            if self._map is not None:
                self._map.close()
            os.ftruncate(self.fd, picture_bgr.nbytes)
            self._map = mmap.mmap(self.fd, picture_bgr.nbytes)
        target = np.frombuffer(self._map, np.uint8, picture_bgr.nbytes).reshape(picture_bgr.shape)
        np.copyto(target, picture_bgr)

    def close(self) -> None:
        """Give the memory back."""
        if self._map is not None:
            with contextlib.suppress(BufferError):  # a view that is still alive unmaps it when it goes
                self._map.close()
            self._map = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class InferenceChild:
    """One running child. Not for two threads at a time."""

    def __init__(self, opener: str, slots: list[FrameSlot], on_line: Callable[[str], None] | None = None) -> None:
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(slot.fd for slot in slots)]
        command = [sys.executable, "-P", "-m", "device_agent.vision.detector_child_linux", "--socket", str(fds[0])]
        command += ["--slots", *map(str, fds[1:]), "--opener", opener, "--parent", str(os.getpid())]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=fds,
                    env=_environment(),
                )
            except OSError as error:
                ours.close()
                raise ChildDiedError(f"the inference process cannot be started: {error}") from error
        self._talk = ours
        self._talk.setblocking(False)
        self._last_lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._on_line = on_line
        self._drain = threading.Thread(target=self._read_stderr, name="detector-stderr", daemon=True)
        self._drain.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ask(self, message: bytes, deadline_s: float) -> tuple[int, bytes]:
        """Send a request and wait for its reply: kind and payload. Raises ChildHungError or ChildDiedError; then `kill` it."""
        until_s = time.monotonic() + deadline_s
        sent = 0
        try:
            while sent < len(message):
                self._wait(select.POLLOUT, until_s)
                sent += self._talk.send(message[sent:])
            length, kind = wire.unpack_header(self._exactly(wire.HEADER.size, until_s))
            return kind, self._exactly(length, until_s)
        except (OSError, ValueError) as error:
            raise ChildDiedError(self._last_words(str(error))) from error

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._talk.close()
        self._process.kill()
        self._reap()

    def close(self) -> None:
        """Let it end by itself, or else kill it."""
        self._talk.close()
        try:
            self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self._process.wait()
        self._drain.join(END_WAIT_S)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _exactly(self, count: int, until_s: float) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            self._wait(select.POLLIN, until_s)
            part = self._talk.recv(count - len(parts))
            if not part:
                raise ChildDiedError(self._last_words("it closed its end"))
            parts += part
        return bytes(parts)

    def _wait(self, event: int, until_s: float) -> None:
        poller = select.poll()
        poller.register(self._talk, event)
        if not poller.poll(max(0.0, until_s - time.monotonic()) * 1e3):
            raise ChildHungError("no reply within the deadline")

    def _last_words(self, cause: str) -> str:
        try:
            status: object = self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            status = "still running"
        self._drain.join(END_WAIT_S)
        words = " | ".join(list(self._last_lines)[-5:])
        return f"the inference process ended ({cause}; exit status {status})" + (f": {words}" if words else "")

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError, OSError):  # closed while reading: the child is being taken down
            for line in self._process.stderr:
                text = line.decode("utf-8", "replace").rstrip()[:500]
                self._last_lines.append(text)
                if self._on_line is not None:
                    self._on_line(text)


def _environment() -> dict[str, str]:
    """The child's environment: the agent's without its settings (no secret is needed there), with the same import path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    kept.setdefault("OMP_NUM_THREADS", "1")
    kept.setdefault("OPENBLAS_NUM_THREADS", "1")
    return kept
