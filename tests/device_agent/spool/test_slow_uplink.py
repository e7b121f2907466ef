"""A slow uplink: what goes through late is waited for, what never goes through holds up nothing else."""

import hashlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3

from device_agent.duties.keeping_logs import LogSender
from device_agent.errors import AgentError, BrokenOffError, ServerUnavailableError
from device_agent.link import pool_http
from device_agent.link.api_http import DeviceApi
from device_agent.link.pool_http import body_s, patient
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.logs.batches import LEAST_BATCH_BYTES
from device_agent.logs.ring_disk import LogRing
from device_agent.spool.entry import Crop
from device_agent.spool.slow_line import CROP_TRIED_S
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.stills import StillInfo
from device_agent.spool.upload_http import BATCH_ENTRIES, Sender, Standing
from ota.wire.deployments import ReportBatch
from ota.wire.events import Event, EventBatch, Stored, UploadRequest, UploadSlot
from ota.wire.logs import LogBatch
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.facts import FACTS, make_event


class Line:
    """A door behind a line that breaks whatever is longer than it can carry, and a clock that every try moves on."""

    def __init__(self, carries_bytes: int, *, try_s: float = 60.0) -> None:
        self.carries_bytes, self.try_s, self.now_s = carries_bytes, try_s, 0.0
        self.events: dict[str, Event] = {}
        self.tries: list[str] = []
        self.most_events = 1000
        self.outage: Callable[[], Exception] | None = None

    def upload_slot(self, request: UploadRequest) -> UploadSlot:
        self.tries.append(request.name)
        return UploadSlot(key=f"cam/{request.purpose}/{request.sha256}", present=False, url="https://fleet.example/blob")

    def put_blob(self, slot: UploadSlot, data: bytes) -> None:
        self.now_s += self.try_s
        if self.outage is not None:
            raise self.outage()
        if len(data) > self.carries_bytes:
            raise BrokenOffError("the server did not answer in time")

    def send_events(self, batch: EventBatch) -> Stored:
        if len(batch.events) > self.most_events:
            raise BrokenOffError("the server did not answer in time")
        self.events |= {event.id: event for event in batch.events}
        return Stored(stream="events", sequence=batch.events[-1].sequence)

    def send_reports(self, batch: ReportBatch) -> Stored:
        return Stored(stream="reports", sequence=0)


def picture(length_bytes: int, number: int) -> Crop:
    jpeg = number.to_bytes(4, "big") * (length_bytes // 4)
    return Crop("first", hashlib.sha256(jpeg).hexdigest(), len(jpeg), 0.9, 1.0, (0.0, 0.0, 1.0, 1.0), jpeg)


def board(folder: Path, line: Line) -> tuple[Outbox, Sender]:
    box = Outbox(folder, max_bytes=2**24, min_free_bytes=0)
    standing = Standing(0, {}, {}, FACTS)
    return box, Sender(box, line, boot_id="b", standing=lambda: standing, steady_s=lambda: line.now_s)


def try_until_empty(box: Outbox, one: Sender, *, tries: int = 60) -> int:
    for count in range(1, tries + 1):
        try:
            one.step()
        except ServerUnavailableError:
            continue
        if not sum(box.count(stream) for stream in ("events", "stills")):
            return count
    raise AssertionError(f"{box.count('events')} events still wait")


def test_one_crop_that_the_line_cannot_carry_holds_up_nothing_for_ever(tmp_path: Path) -> None:
    """The first of 20 events has a crop that breaks off at every try: after some its event goes without it, counted."""
    line = Line(60 * 1024, try_s=110.0)
    box, one = board(tmp_path, line)
    for n in range(20):
        box.add_event(make_event(n), [picture(90 * 1024 if n == 0 else 8 * 1024, n)])
    try_until_empty(box, one)
    assert len(line.events) == 20
    assert [event.id for event in line.events.values() if not event.crops] == ["ev0"]
    assert box.health().evicted == {"slow_line": 1}
    assert line.tries.count("ev0") == 4, "tried at 0, 110, 220 and 330 s"


def test_a_store_that_restarts_or_is_away_costs_no_crop(tmp_path: Path) -> None:
    """Three connections break within seconds, later the store says 503 for an hour: every crop arrives in the end."""
    line = Line(2**20, try_s=2.0)
    box, one = board(tmp_path, line)
    box.add_event(make_event(1), [picture(8 * 1024, 1)])
    line.outage = lambda: BrokenOffError("the connection broke")
    for _ in range(5):
        with pytest.raises(BrokenOffError):
            one.step()
    line.outage, line.try_s = lambda: ServerUnavailableError("503"), 900.0
    for _ in range(5):
        with pytest.raises(ServerUnavailableError):
            one.step()
    line.outage = None
    try_until_empty(box, one)
    assert line.events["ev1"].crops
    assert box.health().evicted == {}


def test_a_batch_that_breaks_off_is_halved_until_it_goes_and_grows_again(tmp_path: Path) -> None:
    """The line carries ten events at once, the outbox has forty: they go as 40, 20, 10; on a good line as before."""
    line = Line(2**20)
    line.most_events = 10
    box, one = board(tmp_path, line)
    for n in range(BATCH_ENTRIES):
        box.add_event(make_event(n), [])
    assert try_until_empty(box, one, tries=30) > 4
    assert len(line.events) == BATCH_ENTRIES


def test_what_has_its_crops_in_the_store_is_told_before_a_slow_line_has_put_them_all(tmp_path: Path) -> None:
    """Each crop takes half a minute: three events are told after the first step, not forty after twenty minutes of silence."""
    line = Line(2**20, try_s=30.0)
    box, one = board(tmp_path, line)
    for n in range(BATCH_ENTRIES):
        box.add_event(make_event(n), [picture(1024, n)])
    assert one.step()
    assert len(line.events) == 3


def test_a_still_that_the_line_cannot_carry_is_forgotten_and_counted(tmp_path: Path) -> None:
    """A debug picture breaks off again and again: it makes way for the next."""
    line = Line(4 * 1024, try_s=CROP_TRIED_S)
    box, one = board(tmp_path, line)
    for number, size in ((1, 40 * 1024), (2, 1024)):
        box.add_still(StillInfo("debug", "s1"), picture(size, number).jpeg or b"", at_s=1.0)
    try_until_empty(box, one)
    assert box.health().evicted == {"slow_line": 1}


def test_logs_go_in_smaller_batches_after_one_that_broke_off(tmp_path: Path) -> None:
    """400 KiB never get through: the batches are halved until they do, and grow again afterwards."""
    sizes: list[int] = []

    class Door:
        def send_logs(self, lines: LogBatch) -> Stored:
            sizes.append(sum(len(line.text) for line in lines.lines))
            if sizes[-1] > 20_000:
                raise BrokenOffError("the server did not answer in time")
            return Stored(stream="logs", sequence=lines.lines[-1].sequence)

    ring = LogRing(tmp_path, 2**22)
    for n in range(400):
        ring.append(float(n), "warning", "x", "w" * 1000, None)
    one = LogSender(ring, Door(), boot_id="b", upload_level="info")
    for _ in range(200):
        try:
            if not one.step():
                break
        except BrokenOffError:
            continue
    assert not ring.unsent()
    assert min(sizes[:-1]) >= LEAST_BATCH_BYTES // 2


def test_the_time_for_a_request_grows_with_its_bytes() -> None:
    """96 KiB may take the 192 s that the server allows a device at 512 bytes a second; nothing may take for ever."""
    base = urllib3.Timeout(connect=10.0, read=20.0)
    assert patient(base, 0).read_timeout == 20.0
    assert patient(base, 96 * 1024).read_timeout == pytest.approx(20.0 + 192.0)
    assert body_s(2**30) == pool_http.LONGEST_BODY_S
    assert 10.0 + 20.0 + 2 * pool_http.LONGEST_BODY_S < 600.0, "the sending duty may not look dead"


def test_the_socket_itself_is_given_that_time_for_sending_and_for_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """urllib3 gives sending no more than connecting may take (10 s): a crop that leaves in a minute broke off at every try."""
    sending: list[tuple[int, float | None]] = []
    reading: list[float | None] = []
    sendall, recv_into = ssl.SSLSocket.sendall, ssl.SSLSocket.recv_into

    def spied_sendall(sock: ssl.SSLSocket, data: bytes, flags: int = 0) -> None:
        if not sock.server_side:
            sending.append((len(data), sock.gettimeout()))
        sendall(sock, data, flags)

    def spied_recv_into(sock: ssl.SSLSocket, *arguments: object) -> int | None:
        if not sock.server_side:
            reading.append(sock.gettimeout())
        return recv_into(sock, *arguments)  # type: ignore[arg-type]

    with DeviceDoor(tmp_path / "door") as door:
        api = DeviceApi(door.url, context(door.ca_file), ByteCount(), timeout_s=20.0)
        monkeypatch.setattr(ssl.SSLSocket, "sendall", spied_sendall)
        monkeypatch.setattr(ssl.SSLSocket, "recv_into", spied_recv_into)
        with pytest.raises(AgentError):  # no such slot: what is looked at is the time that it was given
            api.put_blob(UploadSlot(key="k", present=False, url=f"{door.url}/blob"), bytes(96 * 1024))
        api.close()
    assert dict(sending)[96 * 1024] == pytest.approx(10.0 + 192.0)
    assert reading[-1] == pytest.approx(20.0 + 192.0)
