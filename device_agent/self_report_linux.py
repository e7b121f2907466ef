"""What the device says of itself: the heartbeat's reading and what goes with every batch of reports."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from device_agent.adapters_disk import UpdateSeat
from device_agent.duties.keeping_logs import LogLevels
from device_agent.duties.seeing import Seeing
from device_agent.link.clock import TrustedClock
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.upload_http import Standing
from device_agent.telemetry.probes_linux import read_host
from device_agent.telemetry.window import Reading, Window
from device_agent.vision.detector import Detector
from ota.slots.slots_disk import Slots
from ota.wire.enrolment import BoardFacts
from ota.wire.heartbeat import ConfigurationHealth, Heartbeat, Running, ShadowHealth


@dataclass(frozen=True, slots=True)
class SelfReport:
    """All that it reads. ``versions`` gives the versions of trusted metadata, ``broker_connected`` the broker's state."""

    board_root: Path
    data: Path
    facts: BoardFacts
    clock: TrustedClock
    count: ByteCount
    outbox: Outbox
    levels: LogLevels
    window: Window
    detector: Detector
    slots: Slots
    seat: UpdateSeat
    seeing: list[Seeing]
    versions: Callable[[], dict[str, int]]
    broker_connected: Callable[[], bool]
    configuration: Callable[[], ConfigurationHealth | None] = lambda: None
    shadow: Callable[[], ShadowHealth | None] = lambda: None
    local_dropped: Callable[[], dict[str, int]] = dict

    def standing(self) -> Standing:
        """Replay and clone guards, slots and facts."""
        places = {"current": self.slots.current(), "previous": self.slots.previous(), "factory": self.slots.factory()}
        slots = {name: place.sha256 for name, place in places.items() if place is not None}
        return Standing(self.seat.seen[0], self.versions(), slots, self.facts)

    def heartbeat(self) -> Heartbeat:
        """The heartbeat of the window since the one before."""
        installed, status, level = self.seat.running, self.seat.status, self.levels.effective()
        factory = self.slots.factory()
        running = Running(
            name=installed.name,
            version=installed.version,
            bundle_sha256=installed.sha256,
            variant=installed.variant,
            slot="factory" if factory is not None and factory.sha256 == installed.sha256 else installed.sha256[:12],
            accelerator=self.detector.accelerator,
            runtime=self.detector.runtime or "unknown",
        )
        on_cpu = any(found.present for found in self.facts.accelerators) and self.detector.accelerator == "cpu"
        reading = Reading(
            state=status.state if status is not None else "idle",
            running=running,
            accelerator_reason=self.detector.accelerator_reason or (installed.variant_reason if on_cpu else ""),
            detector_restarts=self.detector.restarts,
            cameras=[one.totals() for one in self.seeing],
            spool=self.outbox.health(),
            host=read_host(self.board_root, self.data),
            bytes_sent=self.count.sent_bytes,
            log_level=level.level,
            log_level_until_s=level.until_s,
            broker_connected=self.broker_connected(),
            configuration=self.configuration(),
            shadow=self.shadow(),
            local_dropped=self.local_dropped(),
        )
        return self.window.close(reading, at_s=self.clock.now_s(), monotonic_s=self.clock.steady_s())
