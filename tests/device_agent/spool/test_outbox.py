"""The outbox: nothing that was acknowledged to the caller is lost, no number is used twice, the least worthy goes first."""

import contextlib
import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from device_agent.errors import DiskFullError
from device_agent.spool.entry import Crop
from device_agent.spool.spool_disk import Outbox
from ota import durable_disk
from ota.wire.deployments import DeploymentReport
from ota.wire.events import Event

MIB = 1024 * 1024


def event(number: int, *, score: float = 0.9, revision: int = 0) -> Event:
    return Event(
        sequence=0, id=f"ev{number}", revision=revision, camera="yard", track=number, label="walker", rule="gate",
        rule_kind="zone", started_at_s=1000.0 + number, start_frame=0, end_frame=10, score=score, threshold=0.5, box=(1, 2, 3, 4),
        frame_width_px=320, frame_height_px=240, bundle_sha256="0" * 64, release="yard@1",
    )  # fmt: skip


def crop(number: int, size: int = 1000) -> Crop:
    jpeg = f"jpeg {number} ".encode().ljust(size, b".")
    return Crop("first", hashlib.sha256(jpeg).hexdigest(), len(jpeg), 0.9, 1000.0, (1, 2, 3, 4), jpeg)


def report(state: str = "offered") -> DeploymentReport:
    return DeploymentReport(sequence=0, at_s=1.0, assignment_seq=1, target_sha256="1" * 64, target="yard@2", state=state)


def outbox(folder: Path, **kwargs: object) -> Outbox:
    return Outbox(folder, **({"max_bytes": 10 * MIB, "min_free_bytes": 0} | kwargs))  # type: ignore[arg-type]


def test_what_was_kept_is_there_after_a_restart_in_order(tmp_path: Path) -> None:
    """The agent is restarted before the server ever answered: events and crops are all there, numbered as before."""
    box = outbox(tmp_path)
    assert [box.add_event(event(n), [crop(n)]) for n in range(5)] == [1, 2, 3, 4, 5]
    again = outbox(tmp_path)
    found = again.waiting("events", 10)
    assert [w.header.message["id"] for w in found] == [f"ev{n}" for n in range(5)]
    assert [w.crops[0].jpeg for w in found] == [crop(n).jpeg for n in range(5)]
    assert again.add_event(event(9), []) == 6


def test_numbers_are_never_used_again(tmp_path: Path) -> None:
    """All was stored and forgotten, then the power failed: the next event does not take a number that the server has seen."""
    box = outbox(tmp_path)
    for n in range(3):
        box.add_event(event(n), [])
    box.stored("events", 3)
    assert box.count("events") == 0
    assert outbox(tmp_path).add_event(event(4), []) == 4


def test_only_stored_is_forgotten(tmp_path: Path) -> None:
    """The server's mark says 2 of 4: two are gone, two wait, also after a restart."""
    box = outbox(tmp_path)
    for n in range(4):
        box.add_event(event(n), [crop(n)])
    box.stored("events", 2)
    assert [w.header.sequence for w in outbox(tmp_path).waiting("events", 10)] == [3, 4]


def test_a_torn_file_is_put_aside_and_its_number_not_reused(tmp_path: Path) -> None:
    """A card that lies about fsync leaves half an entry: it goes to quarantine, the others go to the server."""
    box = outbox(tmp_path)
    for n in range(3):
        box.add_event(event(n), [crop(n)])
    torn = tmp_path / "events" / f"{3:012d}.entry"
    torn.write_bytes(torn.read_bytes()[:-100])
    again = outbox(tmp_path)
    assert [w.header.sequence for w in again.waiting("events", 10)] == [1, 2]
    assert again.health().quarantined == 1
    assert again.add_event(event(4), []) == 4


def test_flipped_bytes_are_found_before_sending(tmp_path: Path) -> None:
    """A bit rots in a crop: the length is right, the digest is not; the entry is not sent."""
    box = outbox(tmp_path)
    box.add_event(event(1), [crop(1)])
    path = tmp_path / "events" / f"{1:012d}.entry"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    assert box.waiting("events", 10) == []
    assert box.health().quarantined == 1


def test_what_is_put_aside_does_not_fill_the_card(tmp_path: Path) -> None:
    """A dying card tears entry after entry: what is put aside stays within a tenth of the budget, the oldest goes, counted."""
    box = outbox(tmp_path, max_bytes=200_000)
    for n in range(1, 31):
        assert box.add_event(event(n), [crop(n, 3000)]) == n
        torn = tmp_path / "events" / f"{n:012d}.entry"
        torn.write_bytes(torn.read_bytes()[:-1])
        assert box.waiting("events", 10) == []
    aside = sorted(path.name for path in (tmp_path / "quarantine").iterdir())
    assert sum(path.stat().st_size for path in (tmp_path / "quarantine").iterdir()) <= 20_000
    assert aside[-1] == f"events-{30:012d}.entry", "the newest is there to be looked at"
    assert aside == [f"events-{n:012d}.entry" for n in range(31 - len(aside), 31)]
    health = box.health()
    assert health.evicted == {"quarantine": 30 - len(aside)}
    assert health.quarantined == len(aside) >= 4
    assert outbox(tmp_path, max_bytes=20_000).health().quarantined == 0, "a smaller budget holds from the next start on"


def test_a_lost_ledger_is_repaired_by_the_servers_mark(tmp_path: Path) -> None:
    """The folder was restored from an old copy: numbering began again at 1, but the server has 500. What waits moves above it."""
    box = outbox(tmp_path)
    box.add_event(event(1), [crop(1)])
    box.add_event(event(2), [])
    box.stored("events", 500)
    found = box.waiting("events", 10)
    assert [(w.header.sequence, w.header.message["sequence"], w.header.message["id"]) for w in found] == [
        (501, 501, "ev1"),
        (502, 502, "ev2"),
    ]
    assert found[0].crops[0].jpeg == crop(1).jpeg
    box.stored("events", 502)
    assert outbox(tmp_path).add_event(event(3), []) == 503


def test_over_budget_the_least_worthy_event_goes_and_is_counted(tmp_path: Path) -> None:
    """A week without a server: the weakest detection makes room, a report never does."""
    box = outbox(tmp_path, max_bytes=12_000)
    box.add_report(report())
    for n, score in enumerate([0.9, 0.2, 0.8]):
        assert box.add_event(event(n, score=score), [crop(n, 3000)]) is not None
    assert box.add_event(event(7, score=0.7), [crop(7, 3000)]) == 4
    assert [w.header.message["id"] for w in box.waiting("events", 10)] == ["ev0", "ev2", "ev7"]
    assert box.add_event(event(8, score=0.1), [crop(8, 3000)]) is None
    assert box.health().evicted == {"budget": 1, "no_room": 1}
    assert box.count("reports") == 1


def test_a_disk_that_others_filled_costs_the_newcomer_and_nothing_else(tmp_path: Path) -> None:
    """50 events wait, another program leaves 40 MiB where 50 are reserved: giving them up would not help, so they stay."""
    free = [100 * MIB]
    box = outbox(tmp_path, min_free_bytes=50 * MIB, free_bytes=lambda _: free[0])
    for n in range(50):
        assert box.add_event(event(n, score=0.1), [crop(n)]) is not None
    free[0] = 40 * MIB
    assert box.add_event(event(90), [crop(90)]) is None
    assert box.count("events") == 50
    assert box.health().evicted == {"no_room": 1}
    assert box.add_report(report()) == 1, "a report may dip into the reserve"
    assert box.count("events") == 50
    assert outbox(tmp_path).add_event(event(91), []) == 51


def test_an_event_larger_than_the_whole_budget_empties_nothing(tmp_path: Path) -> None:
    """A camera with huge pictures and a small budget: the one event is refused, those that fit stay."""
    box = outbox(tmp_path, max_bytes=20_000)
    for n in range(5):
        box.add_event(event(n, score=0.1), [crop(n)])
    assert box.add_event(event(9), [crop(9, 30_000)]) is None
    assert box.count("events") == 5
    assert box.health().evicted == {"no_room": 1}


def test_a_full_disk_gives_up_events_but_keeps_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle of a write: no half file, the least worthy event makes room for the report."""
    box = outbox(tmp_path)
    box.add_event(event(1), [crop(1, 4000)])
    real, full = os.write, {"left": 1}

    def write(handle: int, data: bytes) -> int:
        if full["left"]:
            full["left"] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(durable_disk.os, "write", write)
    assert box.add_report(report()) == 1
    assert box.health().evicted == {"disk_full": 1}
    full["left"] = 100
    with pytest.raises(DiskFullError):
        box.add_report(report())
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_still_forgets_what_was_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is so full that not even the ledger can be written: stored entries go all the same, the last one stands in."""
    box = outbox(tmp_path)
    for n in range(4):
        box.add_event(event(n), [crop(n)])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable_disk.os, "write", full)
    with pytest.raises(OSError):
        box.stored("events", 4)
    monkeypatch.undo()
    assert [w.header.sequence for w in outbox(tmp_path).waiting("events", 10)] == [4]
    assert outbox(tmp_path).add_event(event(9), []) == 5


def test_the_report_counter_rises_over_restarts(tmp_path: Path) -> None:
    """A cloned card is found by a counter that forks: so it must never go back by itself."""
    numbers = []
    for _ in range(3):
        box = outbox(tmp_path)
        numbers += [box.next_counter() for _ in range(100)]
    assert numbers == sorted(set(numbers))


def test_report_numbers_need_no_write_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 bytes free: the numbers in reserve still serve; when none is left nothing is numbered twice, before or after."""
    box = outbox(tmp_path)
    numbers = [box.next_counter()]
    full = {"now": True}
    real = os.write

    def write(handle: int, data: bytes) -> int:
        if full["now"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(durable_disk.os, "write", write)
    with contextlib.suppress(OSError):
        while True:
            numbers.append(box.next_counter())
    assert len(numbers) > 10
    full["now"] = False
    numbers += [box.next_counter() for _ in range(3)] + [outbox(tmp_path).next_counter()]
    assert numbers == sorted(set(numbers))


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {here!r}]
import test_outbox as story
from ota import durable_disk
count, at = 0, {at}
def counted(real):
    def call(*args, **kwargs):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in ("fsync", "write", "open"):
    setattr(durable_disk.os, name, counted(getattr(os, name)))
Path.replace = counted(Path.replace)
Path.unlink = counted(Path.unlink)
box = story.outbox(Path({folder!r}))
for n in range(1, 7):
    number = box.add_event(story.event(n), [story.crop(n)])
    print("kept", number, flush=True)
    if n == 3:
        box.stored("events", 2)
        print("stored", 2, flush=True)
print("end", flush=True)
"""


@pytest.mark.parametrize("at", [*range(1, 34, 4), 36, 39, 44])
def test_kill_9_at_any_call_loses_nothing_that_was_acknowledged(tmp_path: Path, at: int) -> None:
    """The agent is killed at the n-th file operation; every number that was handed to the caller is there, or stored."""
    code = KILLED.format(root=str(Path(__file__).parents[3]), here=str(Path(__file__).parent), at=at, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    kept = {int(words[1]) for words in lines if words[0] == "kept"}
    forgotten = {1, 2} if ["stored", "2"] in lines else set()
    box = outbox(tmp_path)
    found = {w.header.sequence for w in box.waiting("events", 100)}
    assert kept - {1, 2} <= found
    assert kept - forgotten <= found | {1, 2}
    assert box.health().quarantined == 0
    assert box.add_event(event(99), []) > max(found | kept, default=0)
    assert not list(tmp_path.rglob("*.part"))
