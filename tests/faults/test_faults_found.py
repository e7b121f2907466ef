"""What the crash states found, each as its own short story."""

import os
from pathlib import Path

import pytest

from device_agent.spool.spool_disk import Outbox
from tests.faults.crash_states import enumerate_states
from tests.faults.spool_life import Life, Server


def life(folder: Path, server: Server | None = None) -> Life:
    return Life(folder, lambda text: None, server or Server())


def names(box: Outbox) -> list[str]:
    return [str(entry.header.message["id"]) for entry in box.waiting("events", 99)]


def test_a_new_card_keeps_its_first_event_though_the_power_fails_right_after(spool_life) -> None:
    """The folder of a stream was new, its own name never synced: with the power went the folder and all events in it."""
    first = next(place for place, op in enumerate(spool_life.log) if op.path.startswith("kept events"))
    after = enumerate_states(spool_life.log[: first + 1], spool_life.start)
    dropped = [state for state in after.distinct if state.prefix == first + 1 or state.promises]
    assert dropped
    for state in dropped:
        assert any(path.startswith("events/") and path.endswith(".entry") for path in state.tree), str(state)


def test_the_number_of_a_torn_entry_is_used_up_before_its_file_goes(tmp_path: Path, monkeypatch) -> None:
    """The newest entry was put aside, and the power failed before the ledger knew: its number was given out a second time."""
    one = life(tmp_path)
    one.event("a")
    one.event("b")

    def dark(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr("device_agent.spool.quarantine_disk.fsync_folder", dark)
        with pytest.raises(KeyboardInterrupt):
            one.outbox.give_up("events", 2, "the server will never take it")
    again = life(tmp_path)
    again.event("c")
    assert [entry.header.sequence for entry in again.outbox.waiting("events", 9)] == [1, 3]


def ahead(folder: Path) -> tuple[Life, Server]:
    """Three events wait, one of them sent and not answered; the server has numbers up to 40 that this card never gave out."""
    server = Server()
    one = life(folder, server)
    for name in "abc":
        one.event(name)
    one.send("events", 1, heard=False)
    server.mark["events"] = 40
    return one, server


def deliver(folder: Path, server: Server) -> Life:
    again = life(folder, server)
    for _ in range(6):
        again.send("events", 1)
    return again


@pytest.mark.parametrize("copies", [0, 1, 2])
def test_a_power_cut_while_entries_are_numbered_anew_loses_none(tmp_path: Path, copies: int, monkeypatch) -> None:
    """The ledger said that all numbers up to 40 are used, the entries had no new ones yet: the next answer took them."""
    one, server = ahead(tmp_path)
    real, left = Outbox._write, [copies]

    def write(self, *args, **how):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(self, *args, **how)

    with monkeypatch.context() as cut:
        cut.setattr(Outbox, "_write", write)
        with pytest.raises(KeyboardInterrupt):
            one.send("events", 0)
    again = deliver(tmp_path, server)
    assert sorted(server.taken["events"]) == ["a", "b", "c"]
    assert names(again.outbox) == []


def test_a_power_cut_between_a_copy_and_the_end_of_the_old_one_makes_no_second_copy(tmp_path: Path, monkeypatch) -> None:
    """An entry lies under both numbers after the cut: it is known by what it says."""
    one, server = ahead(tmp_path)

    def dark(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as cut:
        cut.setattr(Outbox, "_remove", dark)
        with pytest.raises(KeyboardInterrupt):
            one.send("events", 0)
    assert max(path.name[:12] for path in (tmp_path / "events").iterdir()) == f"{41:012d}"
    again = life(tmp_path, server)
    assert names(again.outbox) == ["a", "b", "c"]
    assert [entry.header.sequence for entry in again.outbox.waiting("events", 9)] == [41, 42, 43]


def test_a_disk_that_is_full_while_entries_are_numbered_anew_loses_none(tmp_path: Path, monkeypatch) -> None:
    """The copies found no room, and the old ones were removed all the same. Now they wait until there is some."""
    one, server = ahead(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as cut:
        cut.setattr("device_agent.spool.spool_disk.write_whole", full)
        one.send("events", 0)
    assert names(one.outbox) == ["a", "b", "c"]
    one.send("events", 0)
    for _ in range(4):
        one.send("events", 1)
    assert sorted(server.taken["events"]) == ["a", "b", "c"]
    assert one.outbox.count("events") == 0
