"""Heartbeats: by broker where there is one, thinned by HTTPS where there is none. Pure apart from what is handed in."""

import logging
from collections.abc import Callable
from typing import Protocol

from device_agent.duties.turn import Bell, Stop
from device_agent.errors import AgentError
from device_agent.telemetry.fitting import fitting
from ota.wire.codec import MessageError
from ota.wire.heartbeat import Heartbeat

log = logging.getLogger(__name__)


def summary(heartbeat: Heartbeat) -> str:
    """A heartbeat in a line, for whoever follows the log."""
    cameras = ", ".join(
        f"{camera.camera} {camera.state} {camera.processed_fps:.1f} fps, {camera.frames_with_detection} of "
        f"{camera.gated_frames} motion frames with a detection"
        for camera in heartbeat.cameras
    )
    return f"{cameras}; spool {heartbeat.spool.items}; {heartbeat.bytes_sent} bytes sent"


class Messenger(Protocol):
    """The broker, as far as heartbeats go."""

    @property
    def connected(self) -> bool:
        """Whether it can be used now."""
        ...

    def send_heartbeat(self, heartbeat: Heartbeat) -> bool:
        """Publish; False when it did not go."""
        ...


class Beating:
    """A duty. ``messenger`` gives the broker's connection, None where there is none (yet). A lost heartbeat is not kept.

    One that is too large for the wire is shed until it fits (``telemetry.fitting``).
    """

    def __init__(
        self,
        make: Callable[[], Heartbeat],
        messenger: Callable[[], Messenger | None],
        send_https: Callable[[Heartbeat], None],
        bell: Bell,
        *,
        every_s: float,
        https_every_s: float,
    ) -> None:
        self.name = "heartbeats"
        self._make, self._messenger, self._send_https, self._bell = make, messenger, send_https, bell
        self._every_s, self._https_every_s = every_s, max(every_s, https_every_s)
        self.silence_s = 3 * self._https_every_s + 120.0

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Beat until told to stop. A ring (the release changed, say) beats at once."""
        while not stop.is_set():
            broker = self._messenger()
            by_broker = broker is not None and broker.connected
            self._bell.wait(self._every_s if by_broker else self._https_every_s)
            if stop.is_set():
                return
            heartbeat = fitting(self._make())
            log.debug("heartbeat %d: %s", heartbeat.sequence, summary(heartbeat))
            try:
                if broker is None or not broker.connected or not broker.send_heartbeat(heartbeat):
                    self._send_https(heartbeat)
            except AgentError as error:
                log.debug("a heartbeat was lost: %s", error.message)
            except MessageError as error:
                # Not even without its lists does it fit: the board works all the same, and the next one may.
                log.warning("a heartbeat cannot be sent: %s", error)
            progress()
