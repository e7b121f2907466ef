"""The sweeper: what no event named and what is too old goes; what an event names stays."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_server.context import Context
from fleet_server.detections import listing
from fleet_server.detections import service as detections
from fleet_server.errors import UnavailableError
from fleet_server.ingest import sweeping
from fleet_server.ingest.sweeping import Sweeping
from ota.wire.events import CropRef, Event, EventBatch

DAY_S = 86_400.0


def put(server: Context, name: str, *, purpose: str = "crop", age_s: float = 0.0, device: str = "d-1") -> str:
    """A picture of its own in the store, as old as asked; answers its key."""
    data = b"\xff\xd8\xff" + name.encode()
    digest = hashlib.sha256(data).hexdigest()
    key = f"{device}/{purpose}/{name}/{digest}"
    server.blobs.put(key, content_type="image/jpeg", length_bytes=len(data), sha256=digest, chunks=[data])  # type: ignore[attr-defined]
    stored_s = server.clock() - age_s
    os.utime(server.settings.data_dir / "blobs" / "by-key" / key, (stored_s, stored_s))
    return key


def name_it(server: Context, sequence: int, key: str, *, age_s: float = 0.0) -> None:
    """The event that names the picture arrived so long ago, and the picture was seen."""
    device, _, name, digest = key.split("/")
    at_s = server.clock() - age_s
    crop = CropRef(kind="first", key=key, sha256=digest, length_bytes=3 + len(name), score=0.9, at_s=at_s, box=(1, 2, 3, 4))
    event = Event(
        sequence=sequence, id=name, camera="yard", track=1, label="walker", rule="gate", rule_kind="zone", started_at_s=at_s,
        start_frame=1, end_frame=9, score=0.8, threshold=0.5, box=(0, 0, 10, 10), frame_width_px=320, frame_height_px=240,
        bundle_sha256="a" * 64, release="yard@1", crops=[crop],
    )  # fmt: skip
    with server.database.write() as session:
        detections.store_events(session, device, EventBatch(boot_id="b", events=[event]), now_s=at_s)
        detections.mark_checked(session, {key: True}, now_s=at_s)


def test_an_upload_that_no_event_named_is_deleted_after_a_day(server: Context) -> None:
    """A board put its picture, then lost power for ever; another is just about to send the event of its picture."""
    orphan, fresh = put(server, "orphan", age_s=DAY_S + 60), put(server, "fresh", age_s=60)
    named = put(server, "named", age_s=2 * DAY_S)
    name_it(server, 1, named)
    assert Sweeping(server).sweep() == 1
    assert [server.blobs.stat(key) is not None for key in (orphan, fresh, named)] == [False, True, True]
    folder = server.settings.data_dir / "blobs" / "by-key" / "d-1" / "crop"
    assert sorted(path.name for path in folder.iterdir()) == ["fresh", "named"], "no empty folder stays behind"


def test_a_large_store_is_walked_in_slices_and_again_after_a_while(
    server: Context, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven orphans of two boards, three looked at in one call; then a new one becomes old."""
    monkeypatch.setattr(sweeping, "SLICE", 3)
    for number in range(7):
        put(server, f"o{number}", age_s=2 * DAY_S, device=f"d-{number % 2}")
    sweeper = Sweeping(server)
    assert [sweeper.sweep() for _ in range(4)] == [3, 3, 1, 0]
    put(server, "late", age_s=2 * DAY_S)
    assert sweeper.sweep() == 0, "the walk has just ended"
    clock.forward(sweeping.WALK_EVERY_S)
    assert sweeper.sweep() == 1


def test_pictures_are_kept_as_long_as_the_operator_says_and_events_stay(server: Context, clock: Any) -> None:
    """Thirty days: the picture goes, the event with its score stays and shows no link to nowhere."""
    old, young = put(server, "old", age_s=31 * DAY_S), put(server, "young", age_s=29 * DAY_S)
    name_it(server, 1, old, age_s=31 * DAY_S)
    name_it(server, 2, young, age_s=29 * DAY_S)
    recall = put(server, "recall", purpose="recall", age_s=29 * DAY_S)
    assert Sweeping(server).sweep() == 1
    with server.database.read() as session:
        crops = {item["id"]: item["crops"][0] for item in listing.detections(session)}
    assert [(crops[name].state, bool(crops[name].url)) for name in ("old", "young")] == [("expired", False), ("delivered", True)]
    assert (server.blobs.stat(old), server.blobs.stat(young) is not None) == (None, True)
    clock.forward(2 * DAY_S)
    assert Sweeping(server).sweep() == 2
    assert (server.blobs.stat(recall), server.blobs.stat(young)) == (None, None)
    assert Sweeping(server).sweep() == 0


def test_nothing_expires_where_the_operator_wants_to_keep_all(server: Context) -> None:
    old, recall = put(server, "old", age_s=900 * DAY_S), put(server, "recall", purpose="recall", age_s=900 * DAY_S)
    name_it(server, 1, old, age_s=900 * DAY_S)
    keeping = replace(server, settings=replace(server.settings, crop_retention_days=0.0))
    assert Sweeping(keeping).sweep() == 0
    assert server.blobs.stat(old) is not None
    assert server.blobs.stat(recall) is not None


def test_pictures_of_a_debug_session_go_after_a_week_whatever_is_kept_of_crops(server: Context) -> None:
    """Somebody looked into a shop for a minute in spring: in summer nobody finds those pictures any more."""
    week_s = sweeping.DEBUG_KEPT_S
    old = put(server, "s1", purpose="debug", age_s=week_s + 60)
    answer = put(server, "s1-answers", purpose="debug", age_s=week_s + 60)
    young = put(server, "s2", purpose="debug", age_s=week_s - 60)
    keeping = replace(server, settings=replace(server.settings, crop_retention_days=0.0))
    assert Sweeping(keeping).sweep() == 2
    assert [server.blobs.stat(key) is not None for key in (old, answer, young)] == [False, False, True]


def test_a_store_that_does_not_answer_loses_no_crop(server: Context) -> None:
    """The object store is away while crops are due: they are not marked, and go when it is back."""
    old = put(server, "old", age_s=31 * DAY_S)
    name_it(server, 1, old, age_s=31 * DAY_S)

    class Away:
        """A store that fails."""

        def delete(self, _key: str) -> bool:
            raise UnavailableError("the object store does not answer: EndpointConnectionError")

    with pytest.raises(UnavailableError):
        Sweeping(replace(server, blobs=Away())).sweep()  # type: ignore[arg-type]
    with server.database.read() as session:
        assert listing.detections(session)[0]["crops"][0].state == "delivered"
    assert Sweeping(server).sweep() == 1


def test_what_a_crash_left_in_the_middle_of_an_upload_goes_too(server: Context) -> None:
    """The server was killed while a picture arrived; a younger one is just arriving."""
    incoming: Path = server.settings.data_dir / "blobs" / "incoming"
    for name, age_s in (("torn", 2 * DAY_S), ("arriving", 5.0)):
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (server.clock() - age_s,) * 2)
    type(server.blobs)(
        server.settings.data_dir / "blobs", secret=b"s", base_url="https://here", clock=server.clock  # type: ignore[call-arg]
    )  # fmt: skip
    assert [path.name for path in incoming.iterdir()] == ["arriving"]
