"""The second look: a queue that loses nothing, whatever the verifier does."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models
from fleet_server.alerts.parts import parts
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.detections import listing
from fleet_server.detections import service as detections
from fleet_server.ingest.conditions_disk import gather
from fleet_server.ingest.verifying import Verifying
from fleet_server.verification import service
from fleet_server.verification.jpeg import jpeg_size
from fleet_server.verification.local_tflite import CropError, LocalVerifier, VerifierDeadError, _decode
from fleet_server.verification.service import Job, Verdict
from ota.wire.events import CropRef, Event, EventBatch

NOW_S = 1_790_000_000.0


def jpeg(width: int = 40, height: int = 30) -> bytes:
    return cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def queue(database: Database, *keys: str, now_s: float = NOW_S) -> None:
    with database.write() as session:
        service.enqueue(session, [(key, "walker") for key in keys], now_s)


def claim(database: Database, owner: str = "one", now_s: float = NOW_S, limit: int = 8) -> list[Job]:
    with database.write() as session:
        return service.claim(session, owner, now_s=now_s, limit=limit)


def waiting(database: Database, now_s: float = NOW_S) -> int:
    with database.read() as session:
        return service.backlog(session, now_s).waiting


def test_a_crop_is_queued_once_and_claimed_by_one(database: Database) -> None:
    queue(database, "a/1", "a/2")
    queue(database, "a/1")
    assert [job.key for job in claim(database, "one", limit=1)] == ["a/1"]
    assert [job.key for job in claim(database, "two")] == ["a/2"]
    assert claim(database, "three") == []
    assert waiting(database) == 2


def test_a_verifier_that_was_killed_gives_its_crops_to_the_next_and_cannot_answer_late(database: Database) -> None:
    """kill -9 with a crop in its hands; it turns out to live and answers after the next one was asked."""
    queue(database, "a/1")
    claim(database, "one")
    assert claim(database, "two", now_s=NOW_S + service.LEASE_S + 1) != []
    with database.write() as session:
        assert not service.finish(session, "a/1", "one", Verdict("cart", 0.9), verifier="v", now_s=NOW_S)
        assert service.finish(session, "a/1", "two", Verdict("walker", 0.9), verifier="v", now_s=NOW_S)
    assert waiting(database) == 0


def test_a_poisoned_crop_ends_as_unreadable_and_stops_nobody(database: Database) -> None:
    """It kills the verifier each time before anything can be said of it."""
    queue(database, "a/poison")
    for attempt in range(service.MAX_ATTEMPTS):
        assert len(claim(database, "one", now_s=NOW_S + attempt * 100)) == 1
    assert claim(database, "one", now_s=NOW_S + 1000) == []
    assert waiting(database) == 0


def test_a_dead_verifier_costs_no_attempt(database: Database) -> None:
    queue(database, "a/1")
    for _ in range(20):
        jobs = claim(database)
        with database.write() as session:
            service.give_back(session, jobs, "one")
    assert [job.attempts for job in claim(database)] == [1]


class Fake:
    """A verifier that does what the picture says."""

    name = "fake"
    dead = False

    def verify(self, data: bytes) -> Verdict:
        if self.dead:
            raise VerifierDeadError("out of memory")
        if data.startswith(b"bad"):
            raise CropError("not a JPEG picture")
        return Verdict("walker", 0.7)


def deliver(server: Context, *datas: bytes) -> list[str]:
    keys = []
    for number, data in enumerate(datas, 1):
        digest = hashlib.sha256(data).hexdigest()
        key = f"cam-1/crop/e{number}/{digest}"
        crop = CropRef(kind="first", key=key, sha256=digest, length_bytes=len(data), score=0.9, at_s=NOW_S, box=(0, 0, 1, 1))
        event = Event(
            sequence=number, id=f"e{number}", camera="c", track=1, label="walker", rule="r", rule_kind="zone", started_at_s=NOW_S,
            start_frame=0, end_frame=1, score=0.8, threshold=0.5, box=(0, 0, 1, 1), frame_width_px=9, frame_height_px=9,
            bundle_sha256="a" * 64, release="yard@1", crops=[crop],
        )  # fmt: skip
        server.blobs.put(key, content_type="image/jpeg", length_bytes=len(data), sha256=digest, chunks=[data])  # type: ignore[attr-defined]
        with server.database.write() as session:
            detections.store_events(session, "cam-1", EventBatch(boot_id="b", events=[event]), now_s=server.clock())
        keys.append(key)
    return keys


def test_from_the_store_to_a_verdict_through_a_verifier_that_dies_and_comes_back(server: Context, clock: Any) -> None:
    here = replace(server, settings=replace(server.settings, verifier_model="x.tflite", verifier_card="x.toml"))
    deliver(here, jpeg(), b"bad" + b"x" * 50)
    verifying = Verifying(here, "one")
    assert verifying.find_crops() == 2
    assert verifying.verify_some() == 0, "there is no such model: the verifier is dead and the crops wait"
    with here.database.read() as session:
        assert not parts(session)["verifier"].ok
        found = gather(session, data_dir=Path("/"), now_s=clock(), within_s=90.0)
        assert [(one.kind, "2 crops wait" in one.text) for one in found] == [("verifier_dead", True)]
    fake = Fake()
    verifying._verifier = fake  # type: ignore[assignment]
    fake.dead = True
    assert verifying.verify_some() == 0
    assert waiting(here.database) == 2
    fake.dead = False
    verifying._verifier = fake  # type: ignore[assignment]
    for _ in range(service.MAX_ATTEMPTS):
        verifying.verify_some()
    assert waiting(here.database) == 0
    with here.database.read() as session:
        verdicts = {one["id"]: one["crops"][0].verdict for one in listing.detections(session)}
    assert (verdicts["e1"].label, verdicts["e1"].agrees, verdicts["e1"].verifier) == ("walker", True, "fake")
    assert (verdicts["e2"].label, verdicts["e2"].agrees) == ("unreadable", None)


def test_without_a_verifier_crops_stay_unverified_and_nobody_is_alarmed(server: Context, clock: Any) -> None:
    deliver(server, jpeg())
    verifying = Verifying(server, "one")
    verifying.find_crops()
    assert verifying.verify_some() == 0
    clock.forward(10_000)
    with server.database.read() as session:
        assert listing.detections(session)[0]["crops"][0].verdict is None
        assert gather(session, data_dir=Path("/"), now_s=clock(), within_s=90.0) == []


def test_the_verifier_that_is_delivered_judges_a_picture() -> None:
    folder = Path(models.__file__).parent / "rendered" / "verifier"
    verifier = LocalVerifier(folder / "model_int8.tflite", folder / "card.toml")
    verdict = verifier.verify(jpeg())
    assert verdict.label in (folder / "labels.txt").read_text().split()
    assert 0 <= verdict.score <= 1
    with pytest.raises(CropError):
        verifier.verify(jpeg()[:50])


def test_files_that_are_no_verifier_are_named(tmp_path: Path) -> None:
    card = tmp_path / "card.toml"
    with pytest.raises(VerifierDeadError, match=r"card\.toml"):
        LocalVerifier(tmp_path / "m.tflite", card)
    card.write_text("name = 1")
    with pytest.raises(VerifierDeadError, match="cannot be used"):
        LocalVerifier(tmp_path / "m.tflite", card)


def test_a_picture_that_announces_gigapixels_is_never_decoded() -> None:
    """Some hundred bytes that would take four gigabytes of memory."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    assert jpeg_size(bytes(data)) == (65535, 65535)
    with pytest.raises(CropError, match="65535"):
        _decode(bytes(data))


def test_the_size_that_a_picture_announces_is_the_one_it_has() -> None:
    assert jpeg_size(jpeg(123, 45)) == (123, 45)
    assert _decode(jpeg(123, 45)).shape == (45, 123, 3)


@given(st.binary(max_size=300), st.integers(0, 600))
def test_no_bytes_make_it_fall(noise: bytes, cut: int) -> None:
    for data in (noise, b"\xff\xd8" + noise, jpeg()[:cut] + noise):
        size = jpeg_size(data)
        assert size is None or len(size) == 2
