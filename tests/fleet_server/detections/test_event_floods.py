"""One device's key, eight connections, batches as large as they may be: the database has one writer, and it is for all."""

from typing import Any

from sqlalchemy import event as database_event

from fleet_server.database import Database
from fleet_server.detections import service
from fleet_server.http_wire import one_at_a_time
from ota.wire import codec
from ota.wire.deployments import ReportBatch
from ota.wire.events import CropRef, Event, EventBatch
from ota.wire.logs import LogBatch
from ota.wire.topics import EVENTS, LOGS, REPORTS

NOW_S = 1_790_000_000.0


def crop(device: str, number: int) -> CropRef:
    digest = f"{number:064x}"
    key = f"{device}/crop/e/{digest}"
    return CropRef(kind="first", key=key, sha256=digest, length_bytes=9, score=0.9, at_s=NOW_S, box=(1, 2, 3, 4))


def events(device: str, count: int, crops: int) -> EventBatch:
    """``count`` events of ``crops`` crops each."""
    return EventBatch(boot_id="b", events=[
        Event(
            sequence=n, id=f"e{n}", camera="yard", track=1, label="walker", rule="gate", rule_kind="zone", started_at_s=NOW_S,
            start_frame=1, end_frame=9, score=0.8, threshold=0.5, box=(0, 0, 10, 10), frame_width_px=320, frame_height_px=240,
            bundle_sha256="a" * 64, release="yard@1", crops=[crop(device, n * crops + m) for m in range(crops)],
        ) for n in range(1, count + 1)
    ])  # fmt: skip


def test_thousands_of_rows_are_no_statement_of_megabytes(database: Database) -> None:
    """170 events of 16 crops: to compile one INSERT of all of them took 2.5 s, and meanwhile nobody else could write."""
    longest: list[int] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith("INSERT"):
            longest.append(len(statement))

    database_event.listen(database.engine, "before_cursor_execute", look)
    with database.write() as session:
        stored = service.store_events(session, "cam-1", events("cam-1", 170, 16), now_s=NOW_S)
    assert (stored.sequence, stored.refused) == (170, {})
    assert max(longest) < 2000
    with database.read() as session:
        assert len(service.crops_to_check(session, now_s=NOW_S + 60, limit=5000)) == 2720


def test_a_device_stores_one_batch_at_a_time_and_holds_up_nobody(device_door: Any, enrol_device: Any) -> None:
    """While its first batch is being stored, its second is told to come back; another device's goes in, and so does the next."""
    flooder, other = enrol_device(), enrol_device(serial="another")
    batches = {
        EVENTS: events(flooder.device_id, 1, 0), LOGS: LogBatch(boot_id="b", lines=[]),
        REPORTS: ReportBatch(boot_id="b", counter=1, highest_seq=0, reports=[]),
    }  # fmt: skip

    def post(path: str, der: bytes) -> Any:
        device_door.certificate = der
        return device_door.client.post(path, data=codec.encode(batches[path]), content_type="application/json")

    for path in batches:
        with device_door.client.application.app_context():
            stored_now = one_at_a_time(flooder.device_id, path)
        with stored_now:
            told = post(path, flooder.der)
            assert (told.status_code, told.headers["Retry-After"]) == (429, "2")
            assert post(path, other.der).status_code == 200
        assert post(path, flooder.der).status_code == 200
        assert post(path, flooder.der).status_code == 200, "a batch that was stored is no more in flight"


def test_crops_that_never_come_keep_nobodys_waiting(database: Database) -> None:
    """A stolen key names 480 crops and uploads none; those of two honest boards, named later, are looked for in the same tick."""
    with database.write() as session:
        service.store_events(session, "cam-bad", events("cam-bad", 30, 16), now_s=NOW_S)
        service.store_events(session, "cam-1", events("cam-1", 2, 16), now_s=NOW_S + 1)
        service.store_events(session, "cam-2", events("cam-2", 1, 1), now_s=NOW_S + 2)
    with database.read() as session:
        wanted = service.crops_to_check(session, now_s=NOW_S + 60)
    owners = [key.partition("/")[0] for key, _sha256, _length in wanted]
    assert (len(owners), owners.count("cam-1"), owners.count("cam-2")) == (200, 32, 1)
    assert set(owners[:3]) == {"cam-bad", "cam-1", "cam-2"}
