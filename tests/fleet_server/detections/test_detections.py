"""Events: stored once, superseded by revision, and a crop counts only when the store has it."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.detections import listing, service
from fleet_server.errors import InvalidError
from ota.wire import codec
from ota.wire.events import CropRef, Event, EventBatch, Stored
from ota.wire.topics import EVENTS

NOW_S = 1_790_000_000.0
JPEG = b"\xff\xd8\xff\xe0 a picture, nearly"


def crop(device: str, event: str, data: bytes = JPEG, kind: str = "first", key: str | None = None) -> CropRef:
    digest = hashlib.sha256(data).hexdigest()
    key = key or f"{device}/crop/{event}/{digest}"
    return CropRef(kind=kind, key=key, sha256=digest, length_bytes=len(data), score=0.9, at_s=NOW_S, box=(1, 2, 3, 4))


def event(sequence: int, identifier: str | None = None, **more: Any) -> Event:
    values: dict[str, Any] = {
        "sequence": sequence, "id": identifier or f"e{sequence}", "camera": "yard", "track": 1, "label": "walker", "rule": "gate",
        "rule_kind": "zone", "started_at_s": NOW_S + sequence, "start_frame": 1, "end_frame": 9, "score": 0.8, "threshold": 0.5,
        "box": (0, 0, 10, 10), "frame_width_px": 320, "frame_height_px": 240, "bundle_sha256": "a" * 64, "release": "yard@1",
    }  # fmt: skip
    return Event(**(values | more))


def store(database: Database, *events: Event, device: str = "cam-1", now_s: float = NOW_S) -> Stored:
    with database.write() as session:
        return service.store_events(session, device, EventBatch(boot_id="b", events=list(events)), now_s=now_s)


def listed(database: Database, **filters: Any) -> list[dict[str, Any]]:
    with database.read() as session:
        return listing.detections(session, **filters)


def test_a_batch_whose_answer_was_lost_is_shown_once(database: Database) -> None:
    assert store(database, event(1), event(2)).sequence == 2
    assert store(database, event(1), event(2), event(3)).sequence == 3
    assert store(database, event(1), event(2)).sequence == 3, "a copy that was on the way all the time: the mark does not go back"
    assert store(database).sequence == 3
    assert [one["id"] for one in listed(database)] == ["e3", "e2", "e1"]


def test_a_higher_revision_supersedes_and_a_late_lower_one_does_not_come_back(database: Database) -> None:
    """The visit ended and a better crop was found; then the first message arrives a second time."""
    first, best = crop("cam-1", "v"), crop("cam-1", "v", JPEG + b"!", "best")
    store(database, event(1, "v", crops=[first]))
    store(database, event(2, "v", revision=1, score=0.95, ended_at_s=NOW_S + 9, crops=[first, best]), now_s=NOW_S + 5)
    store(database, event(1, "v", crops=[first]), now_s=NOW_S + 6)
    found = listed(database)
    assert len(found) == 1
    assert (found[0]["revision"], found[0]["score"], found[0]["received_s"]) == (1, 0.95, NOW_S)
    assert sorted(one.kind for one in found[0]["crops"]) == ["best", "first"]


def test_a_board_with_a_wiped_disk_is_told_to_forget_only_what_it_sent(database: Database) -> None:
    """The old disk had sent up to 100; the new one counted to 150 before it had a connection, and sends 50 at a time."""
    store(database, event(100, "old"))
    for first in (1, 51, 101):
        events = [event(n, f"new{n}") for n in range(first, first + 50)]
        assert store(database, *events).sequence == first + 49
        assert store(database, *events).sequence == first + 49
    assert len(listed(database, limit=1000)) == 151


def test_two_revisions_in_one_batch_and_the_same_id_of_two_devices(database: Database) -> None:
    store(database, event(1, "v"), event(2, "v", revision=1, score=0.99))
    store(database, event(1, "v", score=0.1), device="cam-2")
    assert sorted((one["device"], one["score"]) for one in listed(database)) == [("cam-1", 0.99), ("cam-2", 0.1)]


def test_a_link_to_an_event_is_not_taken_over(database: Database) -> None:
    """A hostile board learns the id of another board's event and raises one of its own under it, with higher revisions."""
    store(database, event(1, "v"), now_s=NOW_S)
    store(database, event(1, "v", revision=7, score=0.1), device="cam-2", now_s=NOW_S + 1)
    with database.read() as session:
        assert listing.detection(session, "v")["device"] == "cam-1"
        assert listing.detection(session, "v", "cam-2")["device"] == "cam-2"


def test_an_event_shows_no_picture_of_a_debug_session(database: Database) -> None:
    """Those are for operators, each look is audited, and they are deleted after a week. A board that names one as the crop of an
    event would show it to every viewer, unaudited, for as long as crops are kept. So are samples that are no event's."""
    for number, purpose in enumerate(("debug", "recall", "crops"), start=1):
        one = crop("cam-1", "s1")
        stolen = crop("cam-1", "s1", key=f"cam-1/{purpose}/s1/{one.sha256}")
        answer = store(database, event(number, crops=[stolen]))
        assert "does not lie among this device's own crops" in answer.refused[str(number)]
    assert listed(database) == []
    with database.read() as session:
        assert service.crops_to_check(session, now_s=NOW_S + 1000) == []


@pytest.mark.parametrize("key", ["cam-2/crop/e1/" + "0" * 64, "../cam-1/x", "cam-1/crop/e1/" + "0" * 64])
def test_a_crop_under_a_strange_key_is_refused_by_name_and_the_rest_stored(database: Database, key: str) -> None:
    """A device points at another device's picture, out of the folder, or at other bytes than it says."""
    bad = event(1, crops=[crop("cam-1", "e1", key=key)])
    answer = store(database, bad, event(2))
    assert (answer.sequence, list(answer.refused)) == (2, ["1"])
    assert [one["id"] for one in listed(database)] == ["e2"]


def test_events_out_of_order_are_refused(database: Database) -> None:
    with pytest.raises(InvalidError):
        store(database, event(2), event(1))


def test_a_crop_is_missing_until_the_store_has_exactly_these_bytes(server: Context, clock: Any) -> None:
    """The event overtakes its picture: the page says missing, looks again, and then it is there."""
    database, one = server.database, crop("cam-1", "e1")
    store(database, event(1, crops=[one]), now_s=clock())

    def check() -> list[tuple[str, str]]:
        with database.read() as session:
            wanted = service.crops_to_check(session, now_s=clock())
        with database.write() as session:
            return service.mark_checked(session, service.look_up(server.blobs, wanted), now_s=clock())

    assert check() == []
    assert listed(database)[0]["crops"][0].state == "missing"
    server.blobs.put(one.key, content_type="image/jpeg", length_bytes=len(JPEG), sha256=one.sha256, chunks=[JPEG])  # type: ignore[attr-defined]
    assert check() == [], "it was looked for a moment ago"
    clock.forward(30)
    assert check() == [(one.key, "walker")]
    clock.forward(30)
    assert check() == []
    with database.read() as session:
        assert listing.counts(session, 0.0) == listing.Counts(events=1, crops=1, verdicts=0)


def test_filters_and_verdicts(database: Database) -> None:
    keys = [crop("cam-1", f"e{n}", JPEG + bytes([n])) for n in (1, 2)]
    store(database, event(1, crops=[keys[0]]), event(2, label="cart", crops=[keys[1]]), event(3))
    with database.write() as session:
        service.set_verdict(session, keys[0].key, verdict="agree", label="walker", score=0.7, verifier="v1", now_s=NOW_S)
        assert not service.set_verdict(session, "no/such", verdict="agree", label="", score=0, verifier="", now_s=NOW_S)
    assert [one["id"] for one in listed(database, verdict="agree")] == ["e1"]
    assert [one["id"] for one in listed(database, verdict="unverified")] == ["e2"]
    assert [one["id"] for one in listed(database, label="cart")] == ["e2"]
    assert [one["id"] for one in listed(database, before_s=NOW_S + 2)] == ["e1"]
    verdict = listed(database, verdict="agree")[0]["crops"][0].verdict
    assert (verdict.label, verdict.agrees, verdict.verifier) == ("walker", True, "v1")


def test_pages_follow_each_other_and_end_also_where_many_events_began_at_once(
    server: Context, enrol_device: Callable[..., Any], sign_in: Callable[[str], FlaskClient]
) -> None:
    """A power cut ends and every camera raises events in the same second: a client that follows ``next`` sees each once."""
    devices = [enrol_device().device_id for _ in range(3)]
    for device in devices:
        store(server.database, *(event(n, started_at_s=NOW_S) for n in range(1, 5)), device=device)
    store(server.database, event(5, started_at_s=NOW_S - 1e-6), device=devices[0])
    client, seen, cursor = sign_in("viewer"), [], ""
    for _ in range(20):
        page = client.get("/api/v1/detections", query_string={"limit": 2, "cursor": cursor}).json
        seen += [(item["device"], item["id"]) for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    wanted = [(device, f"e{n}") for device in sorted(devices) for n in range(1, 5)]
    assert seen == [*wanted, (devices[0], "e5")]


@pytest.mark.parametrize("cursor", ["1790000000.0", "W10", "!", "bnVsbA", "WzEsMiwzXQ", "W05hTiwiYSIsImIiXQ", "x" * 399])
def test_a_cursor_that_is_not_ours_is_refused(server: Context, sign_in: Callable[[str], FlaskClient], cursor: str) -> None:
    """An old client sends a time, a curious one a text of its own."""
    answer = sign_in("viewer").get("/api/v1/detections", query_string={"cursor": cursor})
    assert (answer.status_code, "not one of ours" in answer.json["detail"]) == (400, True)


def test_crops_are_served_as_pictures_and_as_nothing_else(
    device_door: Any, enrolled: Any, server: Context, sign_in: Callable[[str], FlaskClient], clock: Any
) -> None:
    """A device stores a page with a script where a picture should be."""
    device_door.certificate = enrolled.der
    good = crop(enrolled.device_id, "e1")
    page = crop(enrolled.device_id, "e2", b"<script>alert(1)</script>")
    for data, one in ((JPEG, good), (b"<script>alert(1)</script>", page)):
        server.blobs.put(one.key, content_type="image/jpeg", length_bytes=len(data), sha256=one.sha256, chunks=[data])  # type: ignore[attr-defined]
    body = codec.encode(EventBatch(boot_id="b", events=[event(1, crops=[good]), event(2, crops=[page])]))
    assert device_door.client.post(EVENTS, data=body, content_type="application/json").status_code == 200
    client = sign_in("viewer")
    url = f"/api/v1/crops/{good.key}"
    assert client.get("/api/v1/detections/e1").json["crops"][0]["url"] == ""
    assert client.get(url).status_code == 404, "nobody has looked yet whether it is there"
    with server.database.write() as session:
        found = service.look_up(server.blobs, service.crops_to_check(session, now_s=clock()))
        service.mark_checked(session, found, now_s=clock())
    answer = client.get(url)
    assert (answer.status_code, answer.data, answer.content_type) == (200, JPEG, "image/jpeg")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert client.get(f"/api/v1/crops/{page.key}").status_code == 404
    assert client.get("/api/v1/crops/../../keys/web-secret").status_code == 404
    items = client.get(f"/api/v1/detections?device={enrolled.device_id}&limit=1").json
    assert items["items"][0]["device_name"]
    assert items["next"] is not None
    assert client.get("/api/v1/detections?verdict=perhaps").status_code == 400
    assert sign_in("").get(url).status_code == 401


def test_a_message_from_a_newer_agent_may_say_more(database: Database) -> None:
    raw = msgspec.to_builtins(EventBatch(boot_id="b", events=[event(1)]))
    raw["events"][0]["mood"] = "sunny"
    batch = codec.decode(EventBatch, msgspec.json.encode(raw))
    with database.write() as session:
        assert service.store_events(session, "cam-1", batch, now_s=NOW_S).sequence == 1
