"""A life of the outbox in small: kept, sent, stored, given up, put aside, numbered anew; and what must hold after a crash in it.

The server of this story is the one of the contract: it stores what it has not seen under any number, once, and answers with the
number up to which a board may forget, by its own rule (``mark_after``).
"""

import hashlib
import json
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.spool.entry import Crop
from device_agent.spool.retention import Candidate
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.stills import StillInfo
from fleet_server.stream_mark import mark_after
from ota.wire.deployments import DeploymentReport
from ota.wire.events import Event
from tests.faults.recording import Recorder

MAX_BYTES = 12_000
"""Of the outbox: the seventh event pushes another out."""
AHEAD = 40
"""A server restored this device's card from an older copy of it: it has numbers up to here that this disk never gave out."""


@dataclass
class Server:
    """What the server has: by stream the names that it stored (once each) under their first number, and its mark."""

    taken: dict[str, dict[str, int]] = field(default_factory=lambda: {"events": {}, "reports": {}})
    mark: dict[str, int] = field(default_factory=lambda: {"events": 0, "reports": 0})

    def take(self, stream: str, batch: list[tuple[int, str]]) -> int:
        """One batch; the mark after it, by the server's own rule. What it has already is not shown again."""
        fresh = [(number, name) for number, name in batch if name not in self.taken[stream]]
        self.taken[stream] |= {name: number for number, name in fresh}
        if batch:
            self.mark[stream] = mark_after(self.mark[stream], batch[-1][0], [number for number, _ in fresh])
        return self.mark[stream]


class Life:
    """The outbox below ``folder``, the server beside it. ``promise`` hears what was acknowledged, and what is about to go."""

    def __init__(self, folder: Path, promise: Callable[[str], None], server: Server) -> None:
        self.promise, self.server = promise, server
        self.outbox = _Outbox(folder, max_bytes=MAX_BYTES, min_free_bytes=0, now=lambda: 1000.0, free_bytes=lambda _: 10**9)
        self.outbox.promise = promise

    def event(self, name: str, score: float = 0.9, size: int = 1000) -> None:
        """The camera saw something."""
        jpeg = name.encode().ljust(size, b".")
        event = Event(
            sequence=0, id=name, revision=0, camera="yard", track=1, label="walker", rule="gate", rule_kind="zone",
            started_at_s=1000.0, start_frame=0, end_frame=10, score=score, threshold=0.5, box=(1, 2, 3, 4), frame_width_px=320,
            frame_height_px=240, bundle_sha256="0" * 64, release="yard@1",
        )  # fmt: skip
        crop = Crop("first", hashlib.sha256(jpeg).hexdigest(), len(jpeg), score, 1000.0, (1, 2, 3, 4), jpeg)
        number = self.outbox.add_event(event, [crop])
        if number is not None:
            self.promise(f"kept events {number} {name}")

    def report(self, name: str) -> None:
        """A deployment went on."""
        report = DeploymentReport(sequence=0, at_s=1.0, assignment_seq=1, target_sha256="1" * 64, target=name, state="offered")
        self.promise(f"kept reports {self.outbox.add_report(report)} {name}")

    def send(self, stream: str, limit: int, *, heard: bool = True) -> None:
        """A batch goes to the server; ``heard``: its answer comes back, and what it has stored is forgotten here."""
        entries = self.outbox.waiting(stream, limit) if limit else []
        batch = [(entry.header.sequence, _name(entry.header.message)) for entry in entries]
        self.promise(f"shown {stream} {json.dumps(batch)}")
        mark = self.server.take(stream, batch)
        if heard:
            self.outbox.stored(stream, mark)

    def counter(self) -> None:
        """A report batch gets its number."""
        self.promise(f"counter {self.outbox.next_counter()}")


class _Outbox(Outbox):
    promise: Callable[[str], None]
    _evicting = False

    def _evict(self, newcomer: Candidate, need_bytes: int, reason: str) -> bool:
        self._evicting = True
        try:
            return super()._evict(newcomer, need_bytes, reason)
        finally:
            self._evicting = False

    def _remove(self, stream: str, numbers: list[int]) -> None:
        for number in numbers if self._evicting else ():
            self.promise(f"gave-up {stream} {number}")
        super()._remove(stream, numbers)


def _name(message: dict[str, object]) -> str:
    return str(message.get("id") or message.get("target"))


def live(life: Life) -> None:
    """The whole story."""
    for number in range(4):
        life.event(f"e{number}", score=0.5 + number / 10)
    life.report("r0")
    life.counter()
    life.send("events", 2, heard=False)  # the answer is lost: the same goes again
    life.send("events", 3)
    life.send("reports", 9)
    life.event("big", score=0.99, size=2500)
    for number in range(4, 8):
        life.event(f"e{number}", score=0.3 + number / 100)  # less and less room: the least worthy go
    life.outbox.add_still(StillInfo("debug", "d1"), b"s" * 500, at_s=1000.0)
    life.report("r1")
    life.send("events", 99)
    life.event("late")
    late = max(life.outbox._known["events"])
    life.promise(f"gave-up events {late}")
    life.outbox.give_up("events", late, "the server will never take it")
    life.event("after")
    life.event("last")
    life.send("events", 1, heard=False)
    # The server knows more numbers than this card: it was restored from a copy. It says so to whoever asks with nothing in hand.
    life.promise(f"ahead events {AHEAD}")
    life.server.mark["events"] = AHEAD
    life.send("events", 0)
    life.send("events", 1)
    life.event("anew")


def server_of(promises: Collection[str]) -> Server:
    """What the server had when the power failed."""
    server = Server()
    for promise in promises:
        word, _, said = promise.partition(" ")
        stream, _, rest = said.partition(" ")
        if word == "shown":
            server.take(stream, [(number, name) for number, name in json.loads(rest)])
        elif word == "ahead":
            server.mark[stream] = int(rest)
    return server


def check_after(folder: Path, promises: Collection[str]) -> None:
    """After the crash: every acknowledged entry that was not given up reaches the server; numbers go on above."""
    server, promises = server_of(promises), list(promises)
    before = list(promises)
    life = Life(folder, promises.append, server)
    leftovers = [path.name for path in folder.rglob("*.part")]
    assert leftovers == [], leftovers
    counters = [int(promise.split(" ")[1]) for promise in promises if promise.startswith("counter ")]
    if counters:
        assert life.outbox.next_counter() > max(counters)
    highest = {stream: life.outbox._next(stream) for stream in ("events", "reports")}
    for promise in before:
        word, *said = promise.split(" ")
        assert word != "kept" or highest[said[0]] > int(said[1]), f"{promise}, and now {highest[said[0]]} is next"
    life.report("rfresh")
    for _ in range(12):
        for stream in ("events", "reports"):
            life.send(stream, 1)
    life.event("fresh")
    life.send("events", 1)
    assert not life.outbox.count("events")
    assert not life.outbox.count("reports")
    expected = {"events": {"fresh"}, "reports": {"rfresh"}}
    given_up: set[tuple[str, str]] = set()
    names: dict[tuple[str, str], str] = {}
    for promise in promises:
        word, *said = promise.split(" ")
        if word == "kept":
            expected[said[0]].add(said[2])
            names[said[0], said[1]] = said[2]
        elif word == "gave-up":
            given_up.add((said[0], names.get((said[0], said[1]), "")))
    for stream, wanted in expected.items():
        arrived = set(server.taken[stream])
        missing = {name for name in wanted - arrived if (stream, name) not in given_up}
        assert not missing, f"{stream}: acknowledged, not given up, and never arrived: {sorted(missing)}"


def record(folder: Path, log: Path) -> None:
    """The story, written down."""
    recorder = Recorder()
    recorder.watch(folder, log)
    live(Life(folder, recorder.mark, Server()))
    recorder.mark("end")


if __name__ == "__main__":
    record(*map(Path, sys.argv[1:]))
    print(json.dumps("recorded"))
