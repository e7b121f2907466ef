"""The sender against a real TLS server: outages, lost answers, stores that refuse."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agent.errors import ServerRefusedError, ServerUnavailableError
from device_agent.link.api_http import DeviceApi
from device_agent.link.enrol import EnrolmentStep, enrol_once
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.spool.entry import Crop
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.upload_http import Sender, Standing
from ota import durable_disk
from ota.wire.deployments import DeploymentReport
from tests.fakes.device_door_fake import DeviceDoor
from tests.fakes.facts import FACTS, make_crop, make_event

TOLD = DeploymentReport(
    sequence=0, at_s=1, assignment_seq=1, target_sha256="1" * 64, target="a@1", state="idle", running="a@1"
)  # fmt: skip


class Board:
    """An enrolled device with an outbox and a sender."""

    def __init__(self, folder: Path, door: DeviceDoor) -> None:
        self.door = door
        self.store = IdentityStore(folder / "identity")
        self.api = DeviceApi(door.url, context(door.ca_file), ByteCount(), timeout_s=5)
        step = enrol_once(self.api, self.store, door.claim(), FACTS)
        assert isinstance(step, EnrolmentStep)
        assert step.identity is not None
        self.device = step.identity.device
        self.api.use(context(door.ca_file, step.identity))
        self.outbox = Outbox(folder / "spool", max_bytes=2**24, min_free_bytes=0)
        self.sender = Sender(self.outbox, self.api, boot_id="boot", standing=lambda: Standing(0, {}, {}, FACTS))

    def drain(self) -> None:
        for _ in range(20):
            if not self.sender.step():
                return
        raise AssertionError("the outbox does not get empty")


@pytest.fixture
def door(tmp_path: Path) -> Iterator[DeviceDoor]:
    with DeviceDoor(tmp_path / "door") as running:
        yield running


@pytest.fixture
def board(tmp_path: Path, door: DeviceDoor) -> Iterator[Board]:
    made = Board(tmp_path / "board", door)
    yield made
    made.api.close()


def test_events_arrive_with_their_crops(board: Board, door: DeviceDoor) -> None:
    """The plain way: slot, PUT, batch, stored, forgotten."""
    for n in range(3):
        board.outbox.add_event(make_event(n), [make_crop(n)])
    board.drain()
    shown = door.state.shown(board.device)
    assert sorted(shown) == ["ev0", "ev1", "ev2"]
    assert all(door.state.blobs[e.crops[0].key] for e in shown.values())
    assert board.outbox.health().items == 0


def test_a_server_that_is_away_for_an_hour_gets_every_event_once(board: Board, door: DeviceDoor) -> None:
    """The server vanishes (port closed), events pile up, it comes back: all are there, none twice."""
    door.stop()
    for n in range(90):
        board.outbox.add_event(make_event(n), [make_crop(n)])
    for _ in range(3):
        with pytest.raises(ServerUnavailableError):
            board.sender.step()
    assert board.outbox.count("events") == 90
    door.start()
    board.drain()
    assert len(door.state.shown(board.device)) == 90
    assert len(door.state.events[board.device]) == 90
    assert len(door.state.blobs) == 90


def test_an_answer_lost_after_the_commit_doubles_nothing(board: Board, door: DeviceDoor) -> None:
    """The server commits and the link breaks before the answer: the batch goes again, the page shows each event once."""
    board.outbox.add_report(TOLD)
    door.state.lose_answers = 1
    with pytest.raises(ServerUnavailableError):
        board.sender.step()
    board.drain()
    board.outbox.add_event(make_event(1), [make_crop(1)])
    door.state.lose_answers = 1
    with pytest.raises(ServerUnavailableError):
        board.sender.step()
    board.drain()
    assert door.state.events_received == 2
    assert len(door.state.events[board.device]) == 1
    assert len(door.state.reports[board.device]) == 1
    assert door.state.blob_puts == 1
    counters = [batch.counter for batch in door.state.report_batches]
    assert counters == sorted(set(counters))


def test_a_later_revision_names_the_first_crop_without_sending_it_again(board: Board, door: DeviceDoor) -> None:
    """The visit ends minutes later with a better crop: the first one's bytes are long gone here, but the store has them."""
    first = make_crop(1)
    board.outbox.add_event(make_event(1), [first])
    board.drain()
    bare = Crop(first.kind, first.sha256, first.length_bytes, first.score, first.at_s, first.box, None)
    board.outbox.add_event(make_event(1, revision=1), [bare, make_crop(2, kind="best")])
    board.drain()
    assert [c.kind for c in door.state.shown(board.device)["ev1"].crops] == ["first", "best"]
    assert door.state.blob_puts == 2


def test_a_store_without_room_holds_events_back_until_it_has_some(board: Board, door: DeviceDoor) -> None:
    """No disk space for the blob store (507): events wait with their crops, and go when there is room."""
    board.outbox.add_event(make_event(1), [make_crop(1)])
    door.state.refuse_blobs = 507
    with pytest.raises(ServerUnavailableError):
        board.sender.step()
    assert board.outbox.count("events") == 1
    door.state.refuse_blobs = 0
    board.drain()
    assert len(door.state.shown(board.device)["ev1"].crops) == 1


def test_a_crop_that_is_never_taken_does_not_hold_up_its_event(board: Board, door: DeviceDoor) -> None:
    """The store says 400 to the bytes: the event arrives without a picture, and those behind it too."""
    board.outbox.add_event(make_event(1), [make_crop(1)])
    door.state.refuse_blobs = 400
    board.drain()
    assert door.state.shown(board.device)["ev1"].crops == []


def test_a_revoked_device_keeps_what_it_has(board: Board, door: DeviceDoor) -> None:
    """403: nothing goes out, nothing is forgotten, the words are the server's."""
    board.outbox.add_event(make_event(1), [make_crop(1)])
    door.state.revoked.add(board.device)
    with pytest.raises(ServerRefusedError, match="revoked"):
        board.sender.step()
    assert board.outbox.count("events") == 1


def test_facts_go_once_and_again_only_when_they_change(board: Board, door: DeviceDoor) -> None:
    """The board's facts are told at the start, without any report; then not again."""
    board.drain()
    board.drain()
    assert [batch.facts is not None for batch in door.state.report_batches] == [True]


def test_a_disk_with_nothing_free_still_delivers_its_events(
    board: Board, door: DeviceDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 bytes free since the last start: no report can be numbered, yet the events go, and what they free lets the reports go."""
    board.outbox.add_report(TOLD)
    for n in range(3):
        board.outbox.add_event(make_event(n), [make_crop(n)])

    def full(handle: int, data: bytes) -> int:
        # Room comes back only by what is removed here.
        if board.outbox.count("events") > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    real = os.write
    monkeypatch.setattr(durable_disk.os, "write", full)
    assert board.sender.step() is False, "reports wait without a storm of attempts"
    assert sorted(door.state.shown(board.device)) == ["ev0", "ev1", "ev2"]
    assert (board.outbox.count("events"), board.outbox.count("reports")) == (0, 1)
    board.drain()
    assert len(door.state.reports[board.device]) == 1


class Poisoned:
    """A door that refuses any batch with a certain event."""

    def __init__(self, api: DeviceApi, bad: str) -> None:
        self.api, self.bad = api, bad

    def __getattr__(self, name: str) -> object:
        return getattr(self.api, name)

    def send_events(self, batch: object) -> object:
        if any(e.id == self.bad for e in batch.events):  # type: ignore[attr-defined]
            raise ServerRefusedError(400, "", "$.events[1].score is wrong")
        return self.api.send_events(batch)  # type: ignore[arg-type]


def test_one_event_that_the_server_cannot_take_does_not_hold_up_the_others(board: Board, door: DeviceDoor) -> None:
    """An entry made by an older agent is not understood: it alone goes to quarantine."""
    for n in range(3):
        board.outbox.add_event(make_event(n), [])
    sender = Sender(board.outbox, Poisoned(board.api, "ev1"), boot_id="b", standing=lambda: Standing(0, {}, {}, None))  # type: ignore[arg-type]
    sender.step()
    assert sorted(door.state.shown(board.device)) == ["ev0", "ev2"]
    assert board.outbox.health().quarantined == 1




def test_a_crop_that_was_swept_during_an_outage_is_put_again(
    board: Board, door: DeviceDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link breaks between PUT and batch for a day and the server sweeps the unnamed upload: the event still has its crop."""

    def gone(batch: object) -> object:
        raise ServerUnavailableError("the link is gone")

    board.outbox.add_event(make_event(1), [make_crop(1)])
    with monkeypatch.context() as outage:
        outage.setattr(board.api, "send_events", gone)
        with pytest.raises(ServerUnavailableError):
            board.sender.step()
    assert door.state.blob_puts == 1
    door.state.blobs.clear()
    board.drain()
    (event,) = door.state.shown(board.device).values()
    assert door.state.blobs[event.crops[0].key]
