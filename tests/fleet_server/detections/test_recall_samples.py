"""Recall samples on the server: frames on which nothing was found must not look like something that was seen."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.detections import listing, service
from ota.wire.events import CropRef, Event, EventBatch

NOW_S = 1_790_000_000.0
JPEG = b"\xff\xd8\xff\xe0 a yard with nobody in it"


def crop(device: str, event: str) -> CropRef:
    data = JPEG + event.encode()
    digest = hashlib.sha256(data).hexdigest()
    return CropRef(
        kind="first", key=f"{device}/crop/{event}/{digest}", sha256=digest, length_bytes=len(data), score=0, at_s=NOW_S,
        box=(0, 0, 9, 9),
    )  # fmt: skip


def event(device: str, sequence: int, **more: Any) -> Event:
    values: dict[str, Any] = {
        "sequence": sequence, "id": f"e{sequence}", "camera": "yard", "track": 1, "label": "walker", "rule": "gate",
        "rule_kind": "zone", "started_at_s": NOW_S + sequence, "start_frame": 1, "end_frame": 9, "score": 0.8, "threshold": 0.5,
        "box": (0, 0, 10, 10), "frame_width_px": 320, "frame_height_px": 240, "bundle_sha256": "a" * 64, "release": "yard@1",
        "crops": [crop(device, f"e{sequence}")],
    }  # fmt: skip
    return Event(**(values | more))


def sample(device: str, sequence: int, **more: Any) -> Event:
    values = {"label": "none", "rule": "recall", "rule_kind": "sample", "score": 0.0, "weight": 1841.0}
    return event(device, sequence, **(values | more))


def store(database: Database, device: str, *events: Event) -> None:
    with database.write() as session:
        service.store_events(session, device, EventBatch(boot_id="b", events=list(events)), now_s=NOW_S)


@pytest.fixture
def seen(server: Context, enrol_device: Callable[..., Any], clock: Any) -> str:
    """A device with two visits and two samples, all crops delivered; answers its id. The queue took what was to be verified."""
    device = str(enrol_device().device_id)
    store(server.database, device, event(device, 1), sample(device, 2), event(device, 3), sample(device, 4))
    for number in (1, 2, 3, 4):
        one = crop(device, f"e{number}")
        data = JPEG + f"e{number}".encode()
        server.blobs.put(one.key, content_type="image/jpeg", length_bytes=len(data), sha256=one.sha256, chunks=[data])  # type: ignore[attr-defined]
    with server.database.write() as session:
        found = service.look_up(server.blobs, service.crops_to_check(session, now_s=clock()))
        queued = service.mark_checked(session, found, now_s=clock())
    assert sorted(queued) == sorted((crop(device, f"e{n}").key, "walker") for n in (1, 3)), "no second look at a sample"
    return device


def test_no_count_and_no_list_holds_a_sample(server: Context, seen: str, sign_in: Callable[[str], FlaskClient]) -> None:
    """A board sends two visits and two samples: two events, two crops, everywhere; four would be a lie."""
    with server.database.read() as session:
        assert listing.counts(session, 0.0) == listing.Counts(events=2, crops=2, verdicts=0)
        assert listing.count_events(session, [seen], "a" * 64, 0.0) == 2
    client = sign_in("viewer")
    assert [one["id"] for one in client.get("/api/v1/detections").json["items"]] == ["e3", "e1"]
    assert [one["id"] for one in client.get(f"/api/v1/detections?device={seen}&verdict=unverified").json["items"]] == ["e3", "e1"]
    assert client.get("/api/v1/detections?label=none").json["items"] == []
    assert client.get("/api/v1/overview").json["events_24h"] == 2


def test_samples_come_when_they_are_asked_for(server: Context, seen: str, sign_in: Callable[[str], FlaskClient]) -> None:
    """Whoever counts what was missed asks for them: each with its weight and a picture that can be fetched."""
    client = sign_in("viewer")
    items = client.get("/api/v1/detections?rule_kind=sample").json["items"]
    assert [(one["id"], one["label"], one["weight"]) for one in items] == [("e4", "none", 1841.0), ("e2", "none", 1841.0)]
    assert client.get(items[0]["crops"][0]["url"]).data == JPEG + b"e4"
    assert client.get("/api/v1/detections/e2").json["rule_kind"] == "sample"
    assert [one["id"] for one in client.get("/api/v1/detections?rule_kind=zone").json["items"]] == ["e3", "e1"]
    assert client.get("/api/v1/detections?rule_kind=dwell").json["items"] == []
    page = client.get("/api/v1/detections?rule_kind=sample&limit=1").json
    more = client.get("/api/v1/detections", query_string={"rule_kind": "sample", "cursor": page["next"]}).json
    assert [one["id"] for one in page["items"] + more["items"]] == ["e4", "e2"]


def test_an_event_that_becomes_a_sample_leaves_the_lists(server: Context, seen: str) -> None:
    """A hostile board turns an event into a sample with a higher revision: what it says last holds."""
    store(server.database, seen, sample(seen, 5, id="e3", revision=2))
    with server.database.read() as session:
        assert [one["id"] for one in listing.detections(session)] == ["e1"]
        assert listing.counts(session, 0.0).events == 1


def test_a_trigger_with_its_whole_burst_is_stored_and_a_flood_is_not(server: Context, enrol_device: Callable[..., Any]) -> None:
    """First, best and eleven pictures of a burst fit an event; a board that names a hundred pictures is told so."""
    device = str(enrol_device().device_id)
    burst = [crop(device, f"b{number}") for number in range(13)]
    flood = [crop(device, f"f{number}") for number in range(100)]
    store(server.database, device, event(device, 1, rule_kind="trigger", crops=burst))
    with server.database.write() as session:
        batch = EventBatch(boot_id="b", events=[event(device, 2, crops=flood)])
        assert list(service.store_events(session, device, batch, now_s=NOW_S).refused) == ["2"]
    with server.database.read() as session:
        assert [len(one["crops"]) for one in listing.detections(session)] == [13]
