"""The whole fleet in one answer."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.orm import Session

from fleet_server.alerts import service as alerts
from fleet_server.alerts.parts import parts
from fleet_server.detections import listing as detections
from fleet_server.inventory import listing as device_lists
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import RunningCount
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.views import Rollout
from fleet_server.telemetry import service as telemetry
from fleet_server.verification import service as verification

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class DevicesByState:
    """Devices that are not revoked."""

    total: int
    online: int
    offline: int
    pending: int


@dataclass(frozen=True, slots=True)
class BrokerState:
    """How the server's own connection to the broker is."""

    connected: bool
    note: str


@dataclass(frozen=True, slots=True)
class VerifierState:
    """How the verifier is, and what waits for it."""

    ok: bool
    note: str
    waiting: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    """GET /overview (0002 §5). Bytes are of all devices since the beginning. Of limited accounts: all of their groups alone."""

    devices: DevicesByState
    rollouts: list[Rollout]
    alerts: list[alerts.Alert]
    events_24h: int
    crops_24h: int
    verdicts_24h: int
    bytes_sent: int
    bytes_baseline_gated_jpeg: int
    broker: BrokerState
    verifier: VerifierState
    releases_running: list[RunningCount]


def overview(session: Session, *, now_s: float, within_s: float, groups: Collection[str] | None = None) -> Overview:
    """Everything that the first page shows; of the devices in these groups alone where some are named."""
    devices = inventory.counts(session, now_s, within_s, groups)
    seen = detections.counts(session, now_s - DAY_S, groups)
    sent = telemetry.bytes_of_all(session, groups)
    known = parts(session)
    broker, verifier = known.get("broker"), known.get("verifier")
    backlog = verification.backlog(session, now_s, groups)
    has_broker = broker is not None and broker.ok and not broker.note.startswith("no broker")
    return Overview(
        devices=DevicesByState(devices.total, devices.online, devices.offline, devices.pending),
        rollouts=rollouts.rollouts(session, limit=10, groups=groups),
        alerts=alerts.alerts(session, only_open=True, limit=50, groups=groups),
        events_24h=seen.events,
        crops_24h=seen.crops,
        verdicts_24h=seen.verdicts,
        bytes_sent=sent.sent,
        bytes_baseline_gated_jpeg=sent.baseline_gated_jpeg,
        broker=BrokerState(has_broker, broker.note if broker else "the worker has not said yet"),
        verifier=VerifierState(
            verifier.ok if verifier else True, verifier.note if verifier else "the worker has not said yet",
            backlog.waiting, backlog.oldest_age_s,
        ),
        releases_running=[one for one in device_lists.running_counts(session, groups) if one.release],
    )  # fmt: skip
