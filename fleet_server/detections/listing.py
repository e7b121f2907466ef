"""Read events with their crops and verdicts, and count them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from fleet_server.detections.cursor import Position
from fleet_server.detections.service import SAMPLE
from fleet_server.detections.tables import CropRow, EventRow
from fleet_server.errors import NotFoundError
from fleet_server.inventory.reach import newest_within, within


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """The second look at one crop; ``agrees`` is None where the picture could not be read."""

    label: str
    score: float
    agrees: bool | None
    verifier: str


@dataclass(frozen=True, slots=True)
class CropEntry:
    """One crop; ``url`` is empty while ``state`` is missing: only what the store has can be fetched."""

    kind: str
    key: str
    url: str
    state: str
    score: float
    at_s: float
    box: list[float]
    length_bytes: int
    verdict: VerdictEntry | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What came since some time."""

    events: int
    crops: int
    verdicts: int


def detections(
    session: Session, *, device: str | Collection[str] | None = None, label: str | None = None, verdict: str | None = None,
    rule_kind: str | None = None, before_s: float | None = None, after: Position | None = None, limit: int = 50,
    groups: Collection[str] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Events, newest first, each as the message was plus ``device``, ``received_s`` and ``crops`` with their verdicts.

    ``device``: an id, or several: a device and those whose place it took.

    Recall samples come only where ``rule_kind`` asks for them (``sample``).

    ``after``: only what stands behind this event in the order of the list; ties of the start are told apart by device and id.
    """
    query = select(EventRow).where(EventRow.rule_kind != SAMPLE if rule_kind is None else EventRow.rule_kind == rule_kind)
    query = newest_within(session, query, EventRow.device_id, groups)
    if device is not None:
        query = query.where(EventRow.device_id == device if isinstance(device, str) else EventRow.device_id.in_(list(device)))
    if label is not None:
        query = query.where(EventRow.label == label)
    if before_s is not None:
        query = query.where(EventRow.started_at_s < before_s)
    if after is not None:
        same_start = EventRow.started_at_s == after.started_at_s
        same_device = EventRow.device_id == after.device
        query = query.where(
            or_(
                EventRow.started_at_s < after.started_at_s,
                and_(same_start, EventRow.device_id > after.device),
                and_(same_start, same_device, EventRow.id > after.event),
            )
        )
    if verdict is not None:
        matching = (CropRow.device_id == EventRow.device_id) & (CropRow.event_id == EventRow.id) & (CropRow.verdict == verdict)
        query = query.where(select(CropRow.key).where(matching).exists())
    order = (EventRow.started_at_s.desc(), EventRow.device_id, EventRow.id)
    rows = list(session.scalars(query.order_by(*order).limit(limit)))
    return _with_crops(session, rows)


def detection(
    session: Session, event_id: str, device: str | None = None, groups: Collection[str] | None = None
) -> dict[str, Any]:
    """One event by its id; where two devices chose the same, the one that was here first: nobody takes over another's link.

    NotFoundError where there is none.
    """
    query = within(select(EventRow).where(EventRow.id == event_id), EventRow.device_id, groups)
    if device is not None:
        query = query.where(EventRow.device_id == device)
    row = session.scalars(query.order_by(EventRow.received_s).limit(1)).first()
    if row is None:
        raise NotFoundError(f"there is no event {event_id}")
    return _with_crops(session, [row])[0]


def crop_is_known(session: Session, key: str, groups: Collection[str] | None = None) -> bool:
    """Whether an event (of a device in the groups) names this crop and the store was seen to have it."""
    query = select(CropRow.key).where(CropRow.key == key, CropRow.state == "delivered")
    return session.execute(within(query, CropRow.device_id, groups)).first() is not None


def crop_keys_in(groups: Collection[str]) -> "Select[str]":
    """A query of the keys of all crops of devices in these groups: for use inside of other queries."""
    return within(select(CropRow.key), CropRow.device_id, groups)


def counts(session: Session, since_s: float, groups: Collection[str] | None = None) -> Counts:
    """Events received, crops delivered and verdicts given since then; recall samples are none of them."""
    seen = EventRow.rule_kind != SAMPLE
    events = select(func.count()).select_from(EventRow).where(EventRow.received_s >= since_s, seen)
    mine = (EventRow.device_id == CropRow.device_id) & (EventRow.id == CropRow.event_id)
    of_samples = select(EventRow.id).where(mine, EventRow.rule_kind == SAMPLE).exists()
    crops = select(func.count()).select_from(CropRow).where(
        CropRow.received_s >= since_s, CropRow.state == "delivered", ~of_samples
    )
    verdicts = select(func.count()).select_from(CropRow).where(CropRow.verified_s >= since_s, CropRow.verdict != "unreadable")
    limited = (
        within(events, EventRow.device_id, groups), within(crops, CropRow.device_id, groups),
        within(verdicts, CropRow.device_id, groups),
    )  # fmt: skip
    return Counts(*(int(session.scalar(query) or 0) for query in limited))


def count_events(session: Session, devices: Collection[str], bundle_sha256: str, since_s: float) -> int:
    """Events that these devices raised with one release since then, recall samples left out."""
    query = (
        select(func.count())
        .select_from(EventRow)
        .where(EventRow.device_id.in_(list(devices)), EventRow.bundle_sha256 == bundle_sha256, EventRow.started_at_s >= since_s)
        .where(EventRow.rule_kind != SAMPLE)
    )
    return int(session.scalar(query) or 0)


def _with_crops(session: Session, rows: Sequence[EventRow]) -> list[dict[str, Any]]:
    crops: dict[tuple[str, str], list[CropEntry]] = {}
    # By device and event, as the index is: by the event's id alone every crop that there is was read for each page.
    named = CropRow.device_id.in_({row.device_id for row in rows}), CropRow.event_id.in_([row.id for row in rows])
    for crop in session.scalars(select(CropRow).where(*named).order_by(CropRow.at_s, CropRow.kind.desc())):
        crops.setdefault((crop.device_id, crop.event_id), []).append(_crop_entry(crop))
    return [
        {**row.body, "device": row.device_id, "received_s": row.received_s, "crops": crops.get((row.device_id, row.id), [])}
        for row in rows
    ]


def _crop_entry(crop: CropRow) -> CropEntry:
    verdict = None
    if crop.verdict != "unverified":
        agrees = None if crop.verdict == "unreadable" else crop.verdict == "agree"
        verdict = VerdictEntry(crop.verdict_label or crop.verdict, crop.verdict_score, agrees, crop.verifier)
    url = f"/api/v1/crops/{crop.key}" if crop.state == "delivered" else ""
    return CropEntry(crop.kind, crop.key, url, crop.state, crop.score, crop.at_s, crop.box, crop.length_bytes, verdict)
