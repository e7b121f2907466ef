"""Store events, follow their crops into the blob store, keep what the verifier said."""

from collections.abc import Collection, Sequence

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from fleet_server.blobs.store import BlobStore, check_key
from fleet_server.database import insert_new, note_change, upsert
from fleet_server.detections.tables import CropRow, EventMarkRow, EventRow
from fleet_server.errors import InvalidError
from fleet_server.stream_mark import mark_after
from ota.wire import codec
from ota.wire.events import CropRef, Event, EventBatch, Stored

MAX_CROPS_PER_EVENT = 16
"""First, best, and a burst of three seconds at three frames a second, with room."""
CROP = "crop"
"""The purpose under which every picture of an event is uploaded, those of bursts and samples too."""
SAMPLE = "sample"
"""The rule kind of recall samples: frames on which nothing was found. No event that anybody waits for, and none to be counted."""
RECHECK_S = 20.0
"""How often a missing crop is looked for again."""
FORGET_MISSING_S = 30 * 86_400.0
"""A crop that did not come in this time is no longer looked for."""


def store_events(session: Session, device_id: str, batch: EventBatch, *, now_s: float) -> Stored:
    """Store what is new; a higher revision of an event supersedes. What can never be stored is named in ``refused``.

    The answer is the device's mark after this batch (``stream_mark``).

    Crops begin as missing: they are believed when ``check_crops`` has seen them in the blob store.
    """
    sequences = [event.sequence for event in batch.events]
    if sequences != sorted(set(sequences)):
        raise InvalidError("the events are not in rising order of their sequence")
    mark = session.get(EventMarkRow, device_id)
    if not sequences:
        return Stored(stream="events", sequence=mark.stored if mark else 0)
    refused: dict[str, str] = {}
    newest: dict[str, Event] = {}
    for event in batch.events:
        problem = event_problem(device_id, event)
        if problem is not None:
            refused[str(event.sequence)] = problem
        elif event.id not in newest or event.revision >= newest[event.id].revision:
            newest[event.id] = event
    present = {
        row.id: row for row in session.scalars(select(EventRow).where(EventRow.device_id == device_id, EventRow.id.in_(newest)))
    }
    fresh = [event for event in newest.values() if event.id not in present or event.revision > present[event.id].revision]
    if fresh:
        _write(session, device_id, fresh, {one.id: present[one.id].received_s for one in fresh if one.id in present}, now_s)
        note_change(session, "detections")
    stored = mark_after(mark.stored if mark else 0, sequences[-1], [event.sequence for event in fresh])
    upsert(session, EventMarkRow, [{"device_id": device_id, "stored": stored}], keys=["device_id"], update=["stored"])
    return Stored(stream="events", sequence=stored, refused=refused)


def event_problem(device_id: str, event: Event) -> str | None:
    """Why this event can never be stored, or None."""
    if len(event.crops) > MAX_CROPS_PER_EVENT:
        return f"{len(event.crops)} crops; an event has at most {MAX_CROPS_PER_EVENT}"
    for crop in event.crops:
        try:
            check_key(crop.key)
        except ValueError as error:
            return str(error)
        # Pictures of debug sessions are for operators alone: an event must not show them to everybody who sees events.
        if not crop.key.startswith(f"{device_id}/{CROP}/"):
            return f"the crop {crop.key[:80]!r} does not lie among this device's own crops"
        if not crop.key.endswith(crop.sha256):
            return f"the key of crop {crop.key[:80]!r} does not end in its hash"
    return None


def _write(session: Session, device_id: str, events: Sequence[Event], received_s: dict[str, float], now_s: float) -> None:
    rows = [
        {"device_id": device_id, "id": event.id, "revision": event.revision, "sequence": event.sequence, "label": event.label,
         "rule_kind": event.rule_kind, "started_at_s": event.started_at_s, "bundle_sha256": event.bundle_sha256,
         "body": codec.to_builtins(event), "received_s": received_s.get(event.id, now_s)}
        for event in events
    ]  # fmt: skip
    changing = ("revision", "sequence", "label", "rule_kind", "started_at_s", "bundle_sha256", "body")
    upsert(session, EventRow, rows, keys=("device_id", "id"), update=changing, only_if_newer="revision")
    crops = {crop.key: _crop(device_id, event.id, crop, now_s) for event in events for crop in event.crops}
    insert_new(session, CropRow, list(crops.values()), keys=["key"])


def _crop(device_id: str, event_id: str, crop: CropRef, now_s: float) -> dict[str, object]:
    return {
        "key": crop.key, "device_id": device_id, "event_id": event_id, "kind": crop.kind, "sha256": crop.sha256,
        "length_bytes": crop.length_bytes, "score": crop.score, "at_s": crop.at_s, "box": list(crop.box), "state": "missing",
        "checked_s": 0.0, "received_s": now_s, "verdict": "unverified", "verdict_label": "", "verdict_score": 0.0, "verifier": "",
        "verified_s": None,
    }  # fmt: skip


def crops_to_check(session: Session, *, now_s: float, limit: int = 200) -> list[tuple[str, str, int]]:
    """(key, sha256, length_bytes) of missing crops that were not looked for lately. Look them up OUTSIDE a transaction.

    The devices take turns, each with the crop that has waited longest: one that names crops which never come has its turn alone.
    """
    turn = func.row_number().over(partition_by=CropRow.device_id, order_by=(CropRow.checked_s, CropRow.received_s, CropRow.key))
    waiting = select(CropRow.key, CropRow.sha256, CropRow.length_bytes, CropRow.checked_s, turn.label("turn")).where(
        CropRow.state == "missing", CropRow.checked_s < now_s - RECHECK_S, CropRow.received_s > now_s - FORGET_MISSING_S
    )
    rows = waiting.subquery().c
    query = select(rows.key, rows.sha256, rows.length_bytes).order_by(rows.turn, rows.checked_s, rows.key).limit(limit)
    return [(key, sha256, length_bytes) for key, sha256, length_bytes in session.execute(query)]


def look_up(blobs: BlobStore, wanted: Sequence[tuple[str, str, int]]) -> dict[str, bool]:
    """Key -> whether the blob store has exactly these bytes. Raises UnavailableError when the store does not answer."""
    found: dict[str, bool] = {}
    for key, sha256, length_bytes in wanted:
        stat = blobs.stat(key)
        found[key] = stat is not None and stat.sha256 == sha256 and stat.length_bytes == length_bytes
    return found


def mark_checked(session: Session, found: dict[str, bool], *, now_s: float) -> list[tuple[str, str]]:
    """Take over what ``look_up`` saw; answers (key, edge label) of crops that are delivered since now.

    Those of recall samples are not among them: there is no edge label that a second look could agree with.
    """
    delivered: list[tuple[str, str]] = []
    changed = False
    for row in session.scalars(select(CropRow).where(CropRow.key.in_(list(found)), CropRow.state == "missing")):
        row.checked_s = now_s
        if found[row.key]:
            row.state = "delivered"
            event = session.get(EventRow, (row.device_id, row.event_id))
            changed = True
            if event is None or event.rule_kind != SAMPLE:
                delivered.append((row.key, event.label if event else ""))
    if changed:
        note_change(session, "detections")
    return delivered


def named_keys(session: Session, keys: Collection[str]) -> set[str]:
    """Those of the keys that crops of events bear."""
    return set(session.scalars(select(CropRow.key).where(CropRow.key.in_(list(keys)))))


def crops_before(session: Session, before_s: float, limit: int) -> list[str]:
    """Keys of crops that were named before then and are not expired yet, oldest first."""
    query = select(CropRow.key).where(CropRow.received_s < before_s, CropRow.state != "expired")
    return list(session.scalars(query.order_by(CropRow.received_s, CropRow.key).limit(limit)))


def mark_expired(session: Session, keys: Collection[str]) -> None:
    """These crops were deleted from the store because of their age; what is known about them stays."""
    session.execute(update(CropRow).where(CropRow.key.in_(list(keys))).values(state="expired"))
    note_change(session, "detections")


def set_verdict(session: Session, key: str, *, verdict: str, label: str, score: float, verifier: str, now_s: float) -> bool:
    """Keep what the verifier said (``verdict``: agree, disagree or unreadable); False when the crop is gone."""
    row = session.get(CropRow, key)
    if row is None:
        return False
    row.verdict, row.verdict_label, row.verdict_score, row.verifier, row.verified_s = verdict, label, score, verifier, now_s
    note_change(session, "detections")
    return True
