"""Heartbeats: the newest into the inventory, recent ones as rows, hourly sums per release, bytes per device.

Idempotent: a heartbeat that comes twice (MQTT and HTTPS, or again after a reconnect) is counted once.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.database import upsert
from fleet_server.inventory import service as inventory
from fleet_server.inventory.reach import within
from fleet_server.telemetry.tables import TelemetryBytesRow, TelemetryHourRow, TelemetryRow
from ota.wire import codec
from ota.wire.heartbeat import Heartbeat

KEEP_S = 48 * 3600.0
"""Whole heartbeats are kept this long."""
MAX_ROWS_PER_DEVICE = 10_000
KEEP_HOURS_S = 400 * 86_400
HOUR_S = 3600
MAX_COUNT = 2**53 - 1
"""Where a sum over what one device said ends: it may say any number again and again, and every database must still hold it."""

Received = tuple[str, Heartbeat, float]
"""Device id, message, when it was received (seconds since 1970, the server's clock)."""


@dataclass(frozen=True, slots=True)
class HeartbeatEntry:
    """One heartbeat as it came, and when."""

    received_s: float
    heartbeat: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a set of devices saw with one release."""

    frames: int
    gated_frames: int
    frames_with_detection: int
    detections: int


@dataclass(frozen=True, slots=True)
class Bytes:
    """What all devices sent, and what a JPEG of every motion-gated frame would have cost."""

    sent: int
    baseline_gated_jpeg: int


def store_heartbeats(session: Session, received: Sequence[Received]) -> int:
    """Store many at once; answers how many were new. Heartbeats of devices that are unknown or revoked are passed over."""
    active = inventory.active_ids(session, {device_id for device_id, _, _ in received})
    keyed = {(device_id, beat.boot_id, beat.sequence): (beat, at_s) for device_id, beat, at_s in received if device_id in active}
    fresh = _without_known(session, keyed)
    if not fresh:
        return 0
    inventory.record_heartbeats(session, _newest_last(fresh))
    rows = [
        {"device_id": key[0], "boot_id": key[1], "sequence": key[2], "at_s": beat.at_s, "received_s": at_s,
         "body": codec.to_builtins(beat)}
        for key, (beat, at_s) in sorted(fresh.items())
    ]  # fmt: skip
    upsert(session, TelemetryRow, rows, keys=("device_id", "boot_id", "sequence"), update=["received_s"])
    _add_hours(session, fresh)
    _add_bytes(session, fresh)
    return len(fresh)


_Keyed = dict[tuple[str, str, int], tuple[Heartbeat, float]]


def _without_known(session: Session, keyed: _Keyed) -> _Keyed:
    devices = {key[0] for key in keyed}
    sequences = {key[2] for key in keyed}
    query = select(TelemetryRow.device_id, TelemetryRow.boot_id, TelemetryRow.sequence).where(
        TelemetryRow.device_id.in_(devices), TelemetryRow.sequence.in_(sequences)
    )
    known = {(row[0], row[1], row[2]) for row in session.execute(query)}
    return {key: value for key, value in keyed.items() if key not in known}


def _newest_last(fresh: _Keyed) -> list[Received]:
    # The inventory keeps the last of each device in this list.
    ordered = sorted(fresh.items(), key=lambda item: (item[1][1], item[0][2]))
    return [(key[0], beat, at_s) for key, (beat, at_s) in ordered]


def _add_hours(session: Session, fresh: _Keyed) -> None:
    sums: dict[tuple[str, str, int], list[int]] = {}
    for (device_id, _, _), (beat, at_s) in fresh.items():
        if beat.running is None:
            continue
        into = sums.setdefault((device_id, beat.running.bundle_sha256, int(at_s) // HOUR_S * HOUR_S), [0, 0, 0, 0])
        for camera in beat.cameras:
            for index, value in enumerate((camera.frames, camera.gated_frames, camera.frames_with_detection, camera.detections)):
                into[index] += value
    for key, (frames, gated, detected, detections) in sorted(sums.items()):
        row = session.get(TelemetryHourRow, key, with_for_update=True)
        if row is None:
            row = TelemetryHourRow(
                device_id=key[0],
                bundle_sha256=key[1],
                hour_s=key[2],
                frames=0,
                gated_frames=0,
                frames_with_detection=0,
                detections=0,
            )
            session.add(row)
        row.frames = min(row.frames + frames, MAX_COUNT)
        row.gated_frames = min(row.gated_frames + gated, MAX_COUNT)
        row.frames_with_detection = min(row.frames_with_detection + detected, MAX_COUNT)
        row.detections = min(row.detections + detections, MAX_COUNT)
    session.flush()


def _add_bytes(session: Session, fresh: _Keyed) -> None:
    for (device_id, boot_id, sequence), (beat, _) in sorted(fresh.items(), key=lambda item: (item[0][0], item[1][1], item[0][2])):
        row = session.get(TelemetryBytesRow, device_id)
        if row is None:
            row = TelemetryBytesRow(
                device_id=device_id,
                past_sent_bytes=0,
                past_baseline_bytes=0,
                sent_bytes=0,
                baseline_bytes=0,
                boot_id=boot_id,
                sequence=0,
            )
            session.add(row)
            session.flush()
        if boot_id == row.boot_id and sequence < row.sequence:
            continue  # an older one came late; its bytes are in the newer one's count
        if beat.bytes_sent < row.sent_bytes or beat.bytes_baseline_gated_jpeg < row.baseline_bytes:
            # The agent began to count anew: what it had counted before is kept.
            row.past_sent_bytes = min(row.past_sent_bytes + row.sent_bytes, MAX_COUNT)
            row.past_baseline_bytes = min(row.past_baseline_bytes + row.baseline_bytes, MAX_COUNT)
        row.sent_bytes, row.baseline_bytes = beat.bytes_sent, beat.bytes_baseline_gated_jpeg
        row.boot_id, row.sequence = boot_id, sequence


def heartbeats(session: Session, device_id: str, limit: int = 100) -> list[HeartbeatEntry]:
    """The newest heartbeats of a device, newest first."""
    query = select(TelemetryRow).where(TelemetryRow.device_id == device_id)
    found = session.scalars(query.order_by(TelemetryRow.received_s.desc(), TelemetryRow.sequence.desc()).limit(limit))
    return [HeartbeatEntry(row.received_s, row.body) for row in found]


def seen(session: Session, devices: Collection[str], bundle_sha256: str, since_s: float) -> Seen:
    """What these devices saw with one release since (the beginning of the hour of) then."""
    row = TelemetryHourRow
    query = select(
        func.sum(row.frames), func.sum(row.gated_frames), func.sum(row.frames_with_detection), func.sum(row.detections)
    )
    query = query.where(
        row.device_id.in_(list(devices)), row.bundle_sha256 == bundle_sha256, row.hour_s >= int(since_s) // HOUR_S * HOUR_S
    )
    return Seen(*(int(value or 0) for value in session.execute(query).one()))


def bytes_of_all(session: Session, groups: Collection[str] | None = None) -> Bytes:
    """Bytes of the whole fleet since the beginning, or of the devices in these groups."""
    row = TelemetryBytesRow
    sent = func.sum(row.past_sent_bytes + row.sent_bytes)
    baseline = func.sum(row.past_baseline_bytes + row.baseline_bytes)
    found = session.execute(within(select(sent, baseline), row.device_id, groups)).one()
    return Bytes(int(found[0] or 0), int(found[1] or 0))


def prune(session: Session, now_s: float, max_rows: int = MAX_ROWS_PER_DEVICE) -> None:
    """Forget old heartbeats, and those of a device that sends far more than it should."""
    session.execute(delete(TelemetryRow).where(TelemetryRow.received_s < now_s - KEEP_S))
    session.execute(delete(TelemetryHourRow).where(TelemetryHourRow.hour_s < int(now_s) - KEEP_HOURS_S))
    many = select(TelemetryRow.device_id).group_by(TelemetryRow.device_id).having(func.count() > max_rows)
    for device_id in list(session.scalars(many)):
        newest = (
            select(TelemetryRow.received_s).where(TelemetryRow.device_id == device_id).order_by(TelemetryRow.received_s.desc())
        )
        border = session.scalar(newest.offset(max_rows - 1).limit(1))
        session.execute(delete(TelemetryRow).where(TelemetryRow.device_id == device_id, TelemetryRow.received_s < border))
