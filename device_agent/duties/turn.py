"""What a loop is to the supervisor: it runs until it is told to stop, says that it makes progress, and can be woken. Pure."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

log = logging.getLogger(__name__)


class Stop:
    """Told once, heard by everybody: waits end, and callbacks (closing a camera, say) run."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.exit_code = 0
        """With which the process ends after this stop; set it before ``set``."""

    def is_set(self) -> bool:
        """Whether the agent is ending."""
        return self._event.is_set()

    def set(self) -> None:
        """End everything; may be called twice and from a signal handler's thread."""
        self._event.set()
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except (RuntimeError, OSError) as error:
                # A camera that was just being opened, say: the others must hear of the end all the same.
                log.debug("while stopping: %s", error)

    def on_set(self, callback: Callable[[], None]) -> None:
        """Call this when told to stop; at once where that has happened already."""
        with self._lock:
            if not self._event.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], None]) -> None:
        """The callback is not needed any more."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until told to stop; True then."""
        return self._event.wait(timeout_s)


class Bell:
    """A wait that ends early when somebody rings, or when the agent stops."""

    def __init__(self, stop: Stop) -> None:
        self._rung = threading.Event()
        stop.on_set(self._rung.set)
        self._stop = stop

    def ring(self) -> None:
        """End the present wait, or the next one if nobody waits now."""
        self._rung.set()

    def wait(self, timeout_s: float) -> bool:
        """True when rung (or stopping), False when the time is over."""
        rung = self._rung.wait(max(0.0, timeout_s))
        if not self._stop.is_set():
            self._rung.clear()
        return rung


class Duty(Protocol):
    """One loop. It returns when it is done or told to stop, and raises when it failed: it is started again then."""

    @property
    def name(self) -> str:
        """For logs and the watchdog's line."""
        ...

    @property
    def silence_s(self) -> float:
        """Without progress for longer than this, it counts as stuck."""
        ...

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Work until told to stop; call ``progress`` whenever something moved on."""
        ...
