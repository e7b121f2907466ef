"""How much one caller gets of the device door: requests, uploads, and whom it costs when somebody takes more."""

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.errors import ServerUnavailableError
from device_agent.spool.retry import BackOff, after_error
from fleet_server import door_limits
from fleet_server.app import create_device_app
from fleet_server.blobs.quota import DAY_S, LEAST_BYTES, UploadQuota
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.door_limits import Buckets, Rarely, address_key
from fleet_server.enrolment import limited, service
from fleet_server.errors import TooManyError
from fleet_server.ingest.conditions_disk import limited_callers
from ota.wire import topics

STATE = {"v": 1, "nonce": "0123456789abcdef", "seq": 0}
TIME = {"v": 1, "nonce": "0123456789abcdef"}


class Door:
    """The door with small limits."""

    def __init__(self, server: Context, **limits: Any) -> None:
        self.certificate: bytes | None = None
        settings = replace(server.settings, **limits)
        app = create_device_app(replace(server, settings=settings, certificate_of=lambda _environ: self.certificate))
        self.client = app.test_client()

    def post(self, path: str, body: Any, address: str = "192.0.2.1") -> Any:
        return self.client.post(path, json=body, environ_base={"REMOTE_ADDR": address})


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


def upload(number: int, length_bytes: int = 1000) -> dict[str, Any]:
    return {"v": 1, "sha256": f"{number:064x}", "length_bytes": length_bytes, "content_type": "image/jpeg", "name": f"e{number}"}


def test_one_device_that_asks_too_often_is_slowed_and_no_other(server: Context, enrol_device: Any, clock: Any) -> None:
    """A board with a bug polls in a loop: 429 with a time, which its agent keeps to; nobody else notices, a person sees it."""
    a, b = enrol_device(), enrol_device()
    door = Door(server, device_requests_per_minute=20)
    door.certificate = a.der
    answers = [door.post(topics.STATE, STATE) for _ in range(25)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 5
    told = int(answers[-1].headers["Retry-After"])
    assert told == door_limits.RETRY_AFTER_S
    waits = after_error(BackOff(), ServerUnavailableError("429", float(told)), 0.0)
    assert waits.wait_s >= told
    door.certificate = b.der
    assert door.post(topics.STATE, STATE).status_code == 200
    with server.database.read() as session:
        (seen,) = limited.now_limited(session, clock())
        assert (seen.subject, seen.what, seen.times) == (a.device_id, "requests", 1)
        assert any(a.device_id == one.subject for one in limited_callers(session, clock()))
    clock.forward(told)
    door.certificate = a.der
    assert door.post(topics.STATE, STATE).status_code == 200
    clock.forward(limited.FRESH_S + 1)
    with server.database.read() as session:
        assert limited.now_limited(session, clock()) == [], "it is over, and said so"


def test_strangers_are_counted_by_address(server: Context, enrolled: Any) -> None:
    """Somebody guesses claims from one address: slowed there; a board with a certificate behind the same address is not."""
    door = Door(server, stranger_requests_per_minute=5)
    codes = [door.post(topics.TIME, TIME).status_code for _ in range(6)]
    assert codes == [200] * 5 + [429]
    assert door.post(topics.ENROL, {}).status_code == 429
    assert door.post(topics.TIME, TIME, "192.0.2.2").status_code == 200
    assert door.client.get(f"{topics.METADATA}/1.root.json").status_code == 404, "files for all are not counted"
    for host in range(5):
        door.post(topics.TIME, TIME, f"2001:db8::{host:x}")
    assert door.post(topics.TIME, TIME, "2001:db8::ffff").status_code == 429, "who has a /64 has one address"
    door.certificate = enrolled.der
    assert door.post(topics.STATE, STATE).status_code == 200


def test_a_flood_of_refusals_is_one_row(server: Context, clock: Any) -> None:
    """A thousand addresses ask too often, for two minutes: the database hears of it twice."""
    reports = limited.Reports()
    for second in range(120):
        for host in range(3):
            reports.note(server.database, limited.STRANGERS, "requests", f"the last from 192.0.2.{host}", clock() + second)
    with server.database.read() as session:
        (seen,) = limited.now_limited(session, clock() + 120)
        assert (seen.subject, seen.times) == (limited.STRANGERS, 1 + 180)


def test_a_device_fills_its_day_and_not_the_disk(server: Context, enrol_device: Any, clock: Any) -> None:
    """A stolen key uploads without end: 429 after its bytes of the day; asking again for the same blob costs nothing."""
    a, b = enrol_device(), enrol_device()
    door = Door(server, upload_bytes_per_day=10 * LEAST_BYTES)
    door.certificate = a.der
    for _ in range(2):
        assert {door.post(topics.UPLOADS, upload(number)).status_code for number in range(10)} == {200}
    over = door.post(topics.UPLOADS, upload(10))
    assert (over.status_code, over.headers["Retry-After"]) == (429, "300")
    assert "spool" in over.json["hint"]
    door.certificate = b.der
    assert door.post(topics.UPLOADS, upload(10)).status_code == 200
    with server.database.read() as session:
        assert [(one.subject, one.what) for one in limited.now_limited(session, clock())] == [(a.device_id, "uploads")]
    clock.forward(DAY_S)
    door.certificate = a.der
    assert door.post(topics.UPLOADS, upload(10)).status_code == 200


def test_a_million_blobs_of_one_byte_fill_no_disk(sqlite_database: Database) -> None:
    """A stolen key uploads the smallest of all blobs: each takes a block of the disk and an inode, and is counted as that."""
    quota = UploadQuota(100 * LEAST_BYTES)
    for number in range(100):
        quota.take(sqlite_database, "d-1", f"k{number}", 1, 1_790_000_000.0)
    with pytest.raises(TooManyError):
        quota.take(sqlite_database, "d-1", "k100", 1, 1_790_000_000.0)


def test_a_server_that_starts_again_remembers_the_day(database: Database) -> None:
    """Killed and started: what was written down counts on, on both databases; bytes that were not yet are few."""
    now_s, mib = 1_790_000_000.0, 2**20
    first = UploadQuota(100 * mib)
    for number in range(9):
        first.take(database, "d-1", f"k{number}", 8 * mib, now_s)
    again = UploadQuota(100 * mib)
    for number in range(4):
        again.take(database, "d-1", f"l{number}", 8 * mib, now_s)
    refused = 0
    for number in range(1 + 32 // 8):
        try:
            again.take(database, "d-1", f"m{number}", 8 * mib, now_s)
        except TooManyError:
            refused += 1
    assert refused >= 1


def test_a_slot_of_before_opens_nothing_after_a_revocation(server: Context, enrolled: Any, clock: Any) -> None:
    """A thief has asked for places for a thousand pictures; the device is revoked; none of the URLs takes a byte any more."""
    door = Door(server)
    door.certificate = enrolled.der
    body = b"x" * 1000
    slot = door.post(topics.UPLOADS, {**upload(1), "sha256": hashlib.sha256(body).hexdigest()}).json
    with server.database.write() as session:
        service.revoke(session, enrolled.device_id, reason="stolen", who="ada", origin="", now_s=clock())
    door.certificate = None
    clock.forward(1)
    refused = door.client.put(slot["url"], data=body, headers=slot["headers"])
    assert (refused.status_code, "revoked" in refused.json["detail"]) == (403, True)


def test_no_limit_is_no_limit(server: Context, enrolled: Any) -> None:
    """0 switches each of them off."""
    door = Door(server, device_requests_per_minute=0, stranger_requests_per_minute=0, upload_bytes_per_day=0)
    for _ in range(30):
        assert door.post(topics.TIME, TIME).status_code == 200
    door.certificate = enrolled.der
    assert door.post(topics.UPLOADS, upload(1, 16 * 2**20)).status_code == 200


@given(st.integers(1, 500), st.lists(st.floats(-5, 30, allow_nan=False), max_size=300))
def test_buckets_give_what_they_promise_and_no_more(per_minute: int, steps: list[float]) -> None:
    """Whatever the clock does: never more than a full bucket and what ran in since."""
    buckets, now_s, forward_s, given_ = Buckets(per_minute), 1000.0, 0.0, 0
    for step in steps:
        before, now_s = now_s, now_s + step
        forward_s += max(0.0, now_s - before)
        given_ += buckets.take("k", now_s)
    assert given_ <= per_minute * (1 + forward_s / 60) + 1


@given(st.lists(st.text(max_size=3), max_size=200))
def test_the_door_remembers_no_more_callers_than_it_may(keys: list[str]) -> None:
    """A flood from addresses without number costs no memory without number."""
    buckets, rarely = Buckets(5, most=10), Rarely(60.0, most=10)
    for key in keys:
        buckets.take(key, 0.0)
        rarely.count(key, 0.0)
    assert len(buckets._buckets) <= 10
    assert len(rarely._seen) <= 10


def test_one_caller_is_one_address() -> None:
    """IPv4 as it is, also inside IPv6; IPv6 by its /64; anything else cut short."""
    assert address_key("192.0.2.1") == address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:1") == "2001:db8::/64"
    assert len(address_key("x" * 5000)) == 64
