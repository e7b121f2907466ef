"""Stills: few, the first to go, forgotten when the store has them; and what the board's policy lets out, whoever asks."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from device_agent.duties.keeping_stills import KeepingStills
from device_agent.errors import ServerRefusedError, ServerUnavailableError
from device_agent.spool.entry import Crop
from device_agent.spool.retention import Candidate, choose, value
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.stills import MAX_STILLS, StillInfo, surplus
from device_agent.spool.upload_http import Sender, Standing
from device_agent.spool.upload_rule import UploadRule, class_of
from device_agent.vision.types import Still
from ota.wire.codec import decode
from ota.wire.debug import ANSWER_TYPE, FrameAnswer
from ota.wire.deployments import ReportBatch
from ota.wire.events import Event, EventBatch, Stored, UploadRequest, UploadSlot
from tests.fakes.facts import FACTS, make_crop, make_event

OWN = ("fleet.example", 8443)


class Door:
    """A server in memory. ``url`` is where its slots lead; ``refuse`` raises for a request, or does not."""

    def __init__(self, url: str = "https://fleet.example:8443/blob") -> None:
        self.url = url
        self.puts: list[tuple[str, str, str, bytes]] = []
        self.events: list[Event] = []
        self.refuse: Callable[[UploadRequest], None] = lambda _request: None
        self._asked: UploadRequest | None = None

    def upload_slot(self, request: UploadRequest) -> UploadSlot:
        self.refuse(request)
        self._asked = request
        return UploadSlot(key=f"cam/{request.purpose}/{request.name}/{request.sha256}", present=False, url=self.url)

    def put_blob(self, slot: UploadSlot, data: bytes) -> None:
        assert self._asked is not None
        self.puts.append((self._asked.purpose, self._asked.name, self._asked.content_type, data))

    def send_events(self, batch: EventBatch) -> Stored:
        self.events += batch.events
        return Stored(stream="events", sequence=batch.events[-1].sequence)

    def send_reports(self, batch: ReportBatch) -> Stored:
        return Stored(stream="reports", sequence=0)


def outbox(folder: Path, **options) -> Outbox:
    return Outbox(folder, **({"max_bytes": 2**24, "min_free_bytes": 0} | options))


def sender(box: Outbox, door: Door, rule: UploadRule | None = None) -> Sender:
    return Sender(box, door, boot_id="b", standing=lambda: Standing(0, {}, {}, FACTS), rule=rule)


def drain(one: Sender) -> None:
    for _ in range(50):
        if not one.step():
            return
    raise AssertionError("the outbox does not get empty")


def crop(number: int, kind: str) -> Crop:
    return make_crop(number, kind=kind)


def test_pictures_and_their_answer_go_up_in_order_under_the_session_and_are_forgotten(tmp_path: Path) -> None:
    """A debug session asked; the board was off line and restarted in between: pictures first, then what became of it."""
    keeping = KeepingStills(outbox(tmp_path), lambda: 1000.0)
    for number in range(3):
        assert keeping.keep(Still("debug", "s1", f"jpeg {number}".encode(), 8, 8, "yard", number, 0.0, 1000.0))
    keeping.answer(FrameAnswer(session="s1", asked=1, camera="yard", frames="burst", state="done"))
    box, door = outbox(tmp_path), Door()
    assert box.health().items == 4
    drain(sender(box, door))
    assert [(purpose, name) for purpose, name, _, _ in door.puts] == [("debug", "s1")] * 3 + [("debug", "s1-answers")]
    assert [data for *_, data in door.puts[:3]] == [b"jpeg 0", b"jpeg 1", b"jpeg 2"]
    assert door.puts[3][2] == ANSWER_TYPE
    assert decode(FrameAnswer, door.puts[3][3]).state == "done"
    assert box.count("stills") == 0
    assert outbox(tmp_path).count("stills") == 0
    assert not list((tmp_path / "stills").glob("*.entry"))


def test_an_outage_forgets_nothing_and_a_refusal_holds_up_nobody(tmp_path: Path) -> None:
    """The server is away: both wait. It is back and never takes the first one: that goes, counted, the second is stored."""
    box, door = outbox(tmp_path), Door()
    for number in (1, 2):
        box.add_still(StillInfo("debug", f"s{number}"), f"jpeg {number}".encode(), at_s=1.0)

    def away(_request: UploadRequest) -> None:
        raise ServerUnavailableError("the server is away")

    door.refuse = away
    with pytest.raises(ServerUnavailableError):
        sender(box, door).step()
    assert box.count("stills") == 2

    def picky(request: UploadRequest) -> None:
        if request.name == "s1":
            raise ServerRefusedError(403, "forbidden", "no such session")

    door.refuse = picky
    drain(sender(box, door))
    assert [name for _, name, _, _ in door.puts] == ["s2"]
    assert box.health().evicted == {"refused": 1}


def test_stills_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    """A server asks for bursts while the link is down: the disk holds the newest few, counted, whatever else waits stays."""
    box = outbox(tmp_path, max_bytes=2**30)
    box.add_event(make_event(1), [make_crop(1)])
    for number in range(MAX_STILLS + 7):
        box.add_still(StillInfo("debug", "s1"), f"jpeg {number}".encode(), at_s=1.0)
    assert box.count("stills") == MAX_STILLS
    assert box.waiting("stills", 1)[0].crops[0].jpeg == b"jpeg 7"
    assert box.count("events") == 1
    assert box.health().evicted == {"stills": 7}
    assert surplus([(1, 10), (2, 10), (3, 10)], 5, 8 * 26) == [1]


def test_stills_make_room_for_events_and_never_the_other_way_round(tmp_path: Path) -> None:
    """The outbox is full of stills: an event comes, and they go. It is full of events: a still finds no room."""
    box = outbox(tmp_path / "a", max_bytes=40_000)
    for _ in range(4):
        box.add_still(StillInfo("debug", "s1"), b"x" * 1000, at_s=1.0)
    for number in range(30):
        assert box.add_event(make_event(number), [make_crop(number, size=500)]) is not None
        if box.count("stills") == 0:
            break
    assert box.count("stills") == 0
    events = box.count("events")
    while box.add_event(make_event(events + 1, score=0.1), [make_crop(9, size=500)]) == events + 1:
        events += 1
    before = box.count("events")
    assert box.add_still(StillInfo("debug", "s1"), b"x" * 4000, at_s=1.0) is None
    assert box.count("events") == before


def test_the_least_of_events_is_worth_more_than_a_still() -> None:
    """A visit that the model was hardly sure of, a month old, cannot be asked for again; a live picture can."""
    still, event = Candidate("stills", 1, 10, 5, 1.0, 0.0), Candidate("events", 1, 10, 0, 0.0, 30 * 86_400.0)
    assert value(still) < value(event)
    assert choose([event, still], 5) == [still]
    assert choose([event], 5, below=still) == []


def test_a_captured_server_gets_no_class_of_pictures_that_the_policy_does_not_list(tmp_path: Path) -> None:
    """The policy says crops alone. Bursts, recall samples and debug pictures stay on the board; their events go without."""
    box, door = outbox(tmp_path), Door()
    box.add_event(make_event(1), [crop(1, "first"), crop(2, "burst")])
    box.add_event(msgspec.structs.replace(make_event(2), rule_kind="sample"), [crop(3, "first")])
    box.add_still(StillInfo("debug", "s1"), b"jpeg", at_s=1.0)
    drain(sender(box, door, UploadRule(frozenset({"crop"}), None, OWN)))
    assert [purpose for purpose, *_ in door.puts] == ["crop"]
    assert [[one.kind for one in event.crops] for event in door.events] == [["first"], []]
    assert box.health().evicted == {"policy": 3}


@pytest.mark.parametrize(
    ("url", "hosts", "goes"),
    [
        ("https://evil.example/x", ("store.example",), False), ("https://store.example/x", ("store.example",), True),
        ("https://store.example:9000/x", ("store.example:9001",), False),
        ("https://store.example.evil/x", ("store.example",), False), ("https://STORE.example/x", ("store.example",), True),
        ("https://store.example@evil.example/x", ("store.example",), False),
        ("https://evil.example\\@store.example/x", ("store.example",), False),
        ("https://evil.example\t@store.example/x", ("store.example",), False), ("https:///x", (), True),
        ("https://fleet.example:8443/x", (), True), ("https://fleet.example:9999/x", (), False), ("/blobs/x", (), True),
        ("https://[bad/x", ("store.example",), False), ("https://anywhere.example/x", None, True),
    ],
)  # fmt: skip
def test_a_captured_server_leads_no_picture_to_a_foreign_host(tmp_path: Path, url: str, hosts, goes: bool) -> None:
    """It answers with an upload slot at a host of the attacker's. The event goes, its picture and the still do not."""
    box, door = outbox(tmp_path), Door(url)
    box.add_event(make_event(1), [make_crop(1)])
    box.add_still(StillInfo("debug", "s1"), b"jpeg", at_s=1.0)
    drain(sender(box, door, UploadRule(None, hosts, OWN)))
    assert len(door.puts) == (2 if goes else 0)
    assert len(door.events) == 1
    assert len(door.events[0].crops) == (1 if goes else 0)
    assert box.health().evicted == ({} if goes else {"upload_host": 2})


def test_a_picture_that_is_held_back_is_counted_once_however_often_its_event_is_sent(tmp_path: Path) -> None:
    """The link breaks after each try: the same event is put together again and again."""
    box, door = outbox(tmp_path), Door()
    box.add_event(make_event(1), [make_crop(1)])
    door.send_events = lambda batch: (_ for _ in ()).throw(ServerUnavailableError("cut"))
    one = sender(box, door, UploadRule(frozenset(), None, OWN))
    for _ in range(4):
        with pytest.raises(ServerUnavailableError):
            one.step()
    assert box.health().evicted == {"policy": 1}


def test_the_class_of_a_picture() -> None:
    found = [class_of(*one) for one in (("zone", "first"), ("zone", "best"), ("trigger", "burst"), ("sample", "first"))]
    assert found == ["crop", "crop", "burst", "recall"]


def test_a_still_that_was_torn_by_a_power_cut_is_put_aside(tmp_path: Path) -> None:
    box = outbox(tmp_path)
    for number in (1, 2):
        box.add_still(StillInfo("debug", "s1"), f"jpeg {number}".encode(), at_s=1.0)
    path = min((tmp_path / "stills").glob("*.entry"))
    path.write_bytes(path.read_bytes()[:-3])
    again, door = outbox(tmp_path), Door()
    drain(sender(again, door))
    assert [hashlib.sha256(data).hexdigest() for *_, data in door.puts] == [hashlib.sha256(b"jpeg 2").hexdigest()]
    assert again.health().quarantined == 1
