"""The agent's side of one inference child: its process, its socket, and the shared memory that frames lie in."""

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from device_agent.vision import detector_wire as wire
from device_agent.vision.types import Picture

END_WAIT_S = 1.0
STDERR_LINES = 40
LINE_BYTES = 500
RECEIVE_BYTES = 4096


class ChildHungError(Exception):
    """No reply within the deadline."""


class ChildDiedError(Exception):
    """The process ended, or said what nobody understands; the message holds its last words.

    `signal_number` is the signal that ended it, 0 where it was none (or is not known).
    """

    def __init__(self, message: str, signal_number: int = 0) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class FrameSlot:
    """Room for one frame that agent and child both see: anonymous memory (memfd), gone with the last process that holds it.

    No name in /dev/shm, so nothing can be left behind, whoever is killed. It holds a picture at the size of a model's input:
    its size is bounded by the largest model that was loaded, not by the camera.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.fd = os.memfd_create(f"rookery-frame-{number}", os.MFD_CLOEXEC)
        self._map: mmap.mmap | None = None
        self._view: Picture | None = None

    def room(self, height_px: int, width_px: int) -> Picture:
        """The slot as a picture (H, W, 3) to be written to; it grows with the largest one."""
        view = self._view
        if view is not None and view.shape == (height_px, width_px, 3):
            return view
        needed = height_px * width_px * 3
        if self._map is None or len(self._map) < needed:
            self._unmap()
            os.ftruncate(self.fd, needed)
            self._map = mmap.mmap(self.fd, needed)
        self._view = np.frombuffer(self._map, np.uint8, needed).reshape(height_px, width_px, 3)
        return self._view

    def close(self) -> None:
        """Give the memory back."""
        self._unmap()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _unmap(self) -> None:
        self._view = None
        if self._map is not None:
            with contextlib.suppress(BufferError):  # a view that is still alive unmaps it when it goes
                self._map.close()
            self._map = None


class InferenceChild:
    """One running child. Not for two threads at a time, but for `end`."""

    def __init__(self, opener: str, slots: Sequence[FrameSlot], on_line: Callable[[str], None] | None = None) -> None:
        ours, theirs = socket.socketpair()
        fds = [theirs.fileno(), *(slot.fd for slot in slots)]
        command = [sys.executable, "-P", "-m", "device_agent.vision.inference_main_linux"]
        command += [str(os.getpid()), opener, *map(str, fds)]
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
        self._patience_s = 0.0
        self._inbox = wire.Inbox()
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
        try:
            if deadline_s != self._patience_s:
                self._have_patience(deadline_s)
            self._talk.sendall(message)
            while True:
                part = self._talk.recv(RECEIVE_BYTES)
                if not part:
                    raise self._died("it closed its end")
                if (reply := self._inbox.whole(part)) is not None:
                    return reply
                self._have_patience(max(0.001, until_s - time.monotonic()))
        except BlockingIOError as error:
            raise ChildHungError("no reply within the deadline") from error
        except (OSError, ValueError) as error:
            raise self._died(str(error)) from error

    def _have_patience(self, deadline_s: float) -> None:
        """How long the kernel lets one call wait: Python's own timeouts poll before each call."""
        whole_s = int(deadline_s)
        parts = (whole_s, max(1, int((deadline_s - whole_s) * 1e6)))
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            # A timeval of two longs, or of two 64-bit numbers where a 32-bit board counts time so: the kernel says which.
            size_bytes = len(self._talk.getsockopt(socket.SOL_SOCKET, option, 16)) // 2
            value = b"".join(part.to_bytes(size_bytes, sys.byteorder) for part in parts)
            self._talk.setsockopt(socket.SOL_SOCKET, option, value)
        self._patience_s = deadline_s

    def end(self) -> None:
        """Have it die, whatever it does; from any thread. Who talks to it hears that it died, and must still `kill` it."""
        self._process.kill()

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

    def _died(self, cause: str) -> ChildDiedError:
        """What is known of its end: its exit status and its last words."""
        try:
            status = self._process.wait(END_WAIT_S)
        except subprocess.TimeoutExpired:
            status = None
        self._drain.join(END_WAIT_S)
        words = " | ".join(list(self._last_lines)[-5:])
        ended = "still running" if status is None else f"exit status {status}" if status >= 0 else _signal_words(-status)
        message = f"the inference process ended ({cause}; {ended})" + (f": {words}" if words else "")
        return ChildDiedError(message, -status if status is not None and status < 0 else 0)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError, OSError):  # closed while reading: the child is being taken down
            while line := self._process.stderr.readline(LINE_BYTES):  # a line without an end fills no memory
                text = line.decode("utf-8", "replace").rstrip()
                self._last_lines.append(text)
                if self._on_line is not None:
                    self._on_line(text)


def _signal_words(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _environment() -> dict[str, str]:
    """The child's environment: the agent's without its settings (no secret is needed there), with the same import path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ROOKERY_")}
    kept["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    kept.setdefault("MALLOC_ARENA_MAX", "1")  # one thread works there: memory that was given back is used again
    kept.setdefault("OPENCV_FOR_THREADS_NUM", "1")  # small work spread over all cores costs more CPU than it saves time
    kept.setdefault("OMP_NUM_THREADS", "1")
    kept.setdefault("OPENBLAS_NUM_THREADS", "1")
    return kept
