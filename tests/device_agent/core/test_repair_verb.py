"""``rookery-agent repair``: each damage is laid on a board with real signed releases, said in a dry run, mended, and gone."""

import errno
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from device_agent.__main__ import main
from device_agent.factory_disk import install_factory
from device_agent.facts_linux import read_facts
from device_agent.launcher_disk import Pointer, Trial, list_of, read_done, read_pointer, write_durably, write_pointer
from device_agent.own_folder_disk import FOLDERS, read_settings
from device_agent.repair import Found, exit_code, report
from device_agent.repair_disk import repair
from device_agent.update.deployment import Deployment, UpdateState
from device_agent.update.state_disk import AGENT_STATE_FILE, StateFile
from ota.bundle.reader_disk import open_bundle
from ota.slots.slots_disk import Slots
from ota.wire.assignments import AssignedBundle
from tests.fakes.release_fleet import RELEASES, ReleaseFleet

TOML = """
[agent]
data_dir = "data"
[server]
url = "https://127.0.0.1:1"
ca_file = "ca.pem"
[factory]
bundle = "{bundle}"
root = "{root}"
[spool]
min_free_bytes = 1048576
[[camera]]
name = "yard"
source = "rendered:7:day"
"""


class Board:
    """A board with release 1 from the factory and release 2 committed and running."""

    def __init__(self, folder: Path, fleet: ReleaseFleet) -> None:
        self.folder, self.data = folder, folder / "data"
        self.first, _ = fleet.publish("1")
        card = (RELEASES / "yard-1" / "card.toml").read_text()
        model = (RELEASES / "yard-2" / "model_int8.tflite", card, ["person", "cart", "animal"])
        self.second, assigned = fleet.publish("2", counter=2, other=model)
        for name in FOLDERS:
            (self.data / name).mkdir(parents=True)
        (self.data / "agent.lock").touch()
        self.config = folder / "agent.toml"
        self.config.write_text(TOML.format(bundle=self.first, root=fleet.root_file))
        self.slots = Slots(self.data / "slots")
        install_factory(self.slots, self.first, fleet.root_file, read_facts(Path("/")), self.data / "downloads")
        self.stage(self.second)
        self.slots.switch(assigned.sha256)
        self.two, self.one = assigned.sha256, self.slots.factory().sha256
        self.keep_state(assigned)

    def stage(self, bundle: Path) -> None:
        opened = open_bundle(bundle)
        files = {}
        for number, path in enumerate(opened.manifest.files):
            files[path] = self.folder / f"unpacked-{number}"
            files[path].write_bytes(opened.read(path))
        self.slots.stage(opened.manifest_bytes, files)

    def keep_state(self, assigned: AssignedBundle) -> None:
        done = Deployment(
            assignment_seq=3, assignment_digest="", bundle=assigned, state="committed", settled=True, started_at_s=1.0,
            entered_at_s=2.0,
        )  # fmt: skip
        StateFile(self.data / "state").save(UpdateState(deployment=done, seen_seq=3, floor=1))

    def repair(self, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
        code = main(["repair", "--config", str(self.config), *more])
        said = capsys.readouterr()
        return code, said.out + said.err

    def mended(self, capsys: pytest.CaptureFixture[str], word: str) -> str:
        """The dry run names it and changes nothing, the real one mends it, and a third run finds nothing: its words."""
        before = tree(self.data)
        code, said = self.repair(capsys, "--dry-run")
        assert (code, word in said) == (1, True), said
        assert tree(self.data) == before, "a dry run changed something"
        code, said = self.repair(capsys)
        assert (code, word in said) == (0, True), said
        code, again = self.repair(capsys)
        assert (code, again.rstrip().endswith("nothing was wrong")) == (0, True), again
        return said


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    folder = tmp_path / "board"
    folder.mkdir()
    return Board(folder, ReleaseFleet(tmp_path / "fleet"))


def test_a_board_without_faults_is_told_so(board: Board, capsys) -> None:
    """Nothing to do: exit code 0, and nothing on the disk has changed."""
    before = tree(board.data / "slots")
    code, said = board.repair(capsys)
    assert (code, said.rstrip().endswith("nothing was wrong")) == (0, True), said
    assert tree(board.data / "slots") == before


def test_a_running_agent_is_not_mended_under_its_hands(board: Board, capsys) -> None:
    """Its lock is held: the verb says so, in words, and touches nothing."""
    import fcntl

    with (board.data / "agent.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, said = board.repair(capsys)
    assert code == 2
    assert "an agent is running" in said
    assert "systemctl stop" in said


def test_a_rotten_file_comes_back_from_the_factory_bundle(board: Board, capsys) -> None:
    """A bit of the factory's model flipped on the card: its bundle still lies there."""
    model = board.data / "slots" / board.one / "model.tflite"
    good = model.read_bytes()
    model.write_bytes(good[:1000] + bytes([good[1000] ^ 1]) + good[1001:])
    board.mended(capsys, "model.tflite is damaged")
    assert model.read_bytes() == good


def test_a_rotten_file_comes_back_from_another_release_with_the_same_one(board: Board, capsys) -> None:
    """Release 2's card is the same file as release 1's; the factory bundle is not on the card any more."""
    one, two = (board.data / "slots" / sha256 / "card.toml" for sha256 in (board.one, board.two))
    assert one.read_bytes() == two.read_bytes()
    board.first.unlink()  # else it would come from there
    two.write_bytes(b"rot")
    board.mended(capsys, "card.toml is damaged")
    assert two.read_bytes() == one.read_bytes()


def test_what_cannot_be_made_whole_gives_way_to_what_is(board: Board, capsys) -> None:
    """The running model is rotten and nothing on the board has its bytes: the factory release runs from now on."""
    (board.data / "slots" / board.two / "model.tflite").write_bytes(b"rot")
    said = board.mended(capsys, "pointers")
    assert board.slots.current().sha256 == board.one
    assert "yard@1" in said


def test_lost_pointers_are_found_again_by_what_was_committed(board: Board, capsys) -> None:
    """The one file that says which release runs is gone: the update state knows it, the bundle knows the factory's."""
    (board.data / "slots" / "pointers.json").write_bytes(b"{torn")
    board.mended(capsys, "pointers")
    assert board.slots.pointers() == {"current": board.two, "previous": None, "factory": board.one}


def test_a_factory_release_that_is_gone_is_installed_anew(board: Board, capsys) -> None:
    """Somebody cleaned up on the card. The bundle is verified against the root before a byte of it is used."""
    shutil.rmtree(board.data / "slots" / board.one)
    board.mended(capsys, "factory")
    assert board.slots.verify(board.one) == []


def test_nothing_whole_and_no_bundle_needs_a_person(board: Board, capsys) -> None:
    """Both releases rotten, the bundle gone: exit code 5, and what to do."""
    for sha256 in (board.one, board.two):
        (board.data / "slots" / sha256 / "model.tflite").write_bytes(b"rot")
    board.first.unlink()
    code, said = board.repair(capsys)
    assert code == 5
    assert "copy" in said
    assert "factory" in said


def test_a_forged_factory_bundle_is_not_installed(board: Board, tmp_path: Path, capsys) -> None:
    """The bundle on the card was exchanged for one of another fleet: repair is no way around the root."""
    other, _ = ReleaseFleet(tmp_path / "other").publish("1")
    shutil.rmtree(board.data / "slots" / board.one)
    board.first.write_bytes(other.read_bytes())
    code, said = board.repair(capsys)
    assert code == 5
    assert "refused" in said
    assert board.slots.current().sha256 == board.two


def test_a_torn_state_is_set_aside_and_the_floor_of_what_is_installed_holds(board: Board, capsys) -> None:
    """The state is unreadable: the board forgets its deployment, never the floor that its releases carry."""
    (board.data / "state" / "update.json").write_bytes(b'{"v": 1, "floor"')
    board.mended(capsys, "update.json")
    assert (board.data / "state" / "update.json.unreadable").exists()


def test_a_state_of_a_later_agent_is_kept_for_it_and_its_floor_holds(board: Board, capsys) -> None:
    """A newer agent wrote version 9 and was taken back: its file is kept under another name, floor and number hold on."""
    file = board.data / "state" / "update.json"
    file.write_bytes(json.dumps({"v": 9, "floor": 7, "seen_seq": 41, "something": "new"}).encode())
    board.mended(capsys, "version 9")
    assert json.loads((board.data / "state" / "update.json.v9").read_bytes())["something"] == "new"
    state = StateFile(board.data / "state").load()
    assert (state.floor, state.seen_seq) == (7, 41)


def test_leftovers_of_cuts_go(board: Board, capsys) -> None:
    """Half-written files, a begun install, a release that nothing points to, a download of an install that is over."""
    (board.data / "state" / "clock.1234.part").write_bytes(b"x")
    (board.data / "slots" / f".staging-{'a' * 64}").mkdir()
    (board.data / "slots" / ("b" * 64)).mkdir()
    (board.data / "downloads" / "files").mkdir()
    (board.data / "downloads" / "files" / ("c" * 64)).write_bytes(b"fetched for nothing")
    board.mended(capsys, "half-written")
    left = sorted(path.name for path in (board.data / "slots").iterdir())
    assert left == sorted([board.one, board.two, "pointers.json"])
    assert list((board.data / "downloads").iterdir()) == []


def test_a_torn_spool_entry_goes_into_quarantine(board: Board, capsys) -> None:
    """An entry of the outbox was cut in half: it is put aside, byte for byte, where a person can look at it."""
    folder = board.data / "spool" / "events"
    folder.mkdir(parents=True)
    torn = folder / "000000000007.entry"
    torn.write_bytes(b"half")
    board.mended(capsys, "torn entries")
    assert not torn.exists()
    kept = [path for path in (board.data / "spool" / "quarantine").rglob("*") if path.is_file()]
    assert b"half" in [path.read_bytes() for path in kept], kept


def test_as_json_for_programs(board: Board, capsys) -> None:
    """One object: the exit code, and everything that was looked at."""
    code, said = board.repair(capsys, "--json", "--dry-run")
    told = json.loads(said)
    assert (code, told["exit_code"]) == (0, 0)
    assert {"folders", "state", "slots", "pointers", "spool", "disk"} <= {one["what"] for one in told["found"]}


def test_no_folder_and_a_file_where_a_folder_belongs(board: Board, capsys) -> None:
    """A card that was mounted elsewhere, and a hand that slipped: words, no trace."""
    shutil.rmtree(board.data / "history")
    board.mended(capsys, "history was missing")
    shutil.rmtree(board.data / "logs")
    (board.data / "logs").write_bytes(b"")
    code, said = board.repair(capsys)
    assert (code, "is not a folder" in said) == (5, True)
    shutil.rmtree(board.data)
    code, said = board.repair(capsys)
    assert (code, "no agent's folder" in said) == (2, True)


@pytest.mark.parametrize(
    ("name", "how"),
    [(".", "--json"), ("state", "--json"), ("inbox", "--dry-run"), ("agents", "--json"), ("spool/events", "--dry-run")],
)
def test_a_folder_that_takes_nothing_is_no_nothing_was_wrong(board: Board, capsys, name: str, how: str) -> None:
    """A card that the kernel made read-only, or a backup that was put back with the wrong rights: the agent could not keep one
    byte. Root may write here all the same, and is not deceived by that; nothing else is mended meanwhile."""
    folder = board.data / name
    folder.mkdir(exist_ok=True, parents=True)
    (board.data / "state" / "clock.1234.part").write_bytes(b"x")
    folder.chmod(0o555)
    before = tree(board.data)
    try:
        code, said = board.repair(capsys, how)
        assert (code, f"cannot write here: {folder}" in said, "chmod u+rwx" in said) == (5, True, True), said
        assert tree(board.data) == before
    finally:
        folder.chmod(0o700)
    code, said = board.repair(capsys)
    assert (code, "✗" in said) == (0, False), said


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO, errno.ENOSPC])
def test_a_disk_that_takes_nothing(board: Board, number: int) -> None:
    """A read-only disk gets one line, not one for each folder; a failing one says where; a full one is still mended, for that
    makes room."""

    def fails(folder: Path) -> None:
        raise OSError(number, os.strerror(number), str(folder))

    (board.data / "state" / "clock.1234.part").write_bytes(b"x")
    found = repair(read_settings(board.config), dry_run=False, attempt=fails)
    lines = [one.line() for one in found if one.state == "broken"]
    assert exit_code(found) == 5
    assert lines[0].startswith("✗ ")
    assert f"cannot write here: {board.data}" in lines[0]
    assert os.strerror(number) in lines[0]
    assert (len(lines) == 1) == (number != errno.EIO), lines
    assert (board.data / "state" / "clock.1234.part").exists() == (number != errno.ENOSPC)


def agent_slot(board: Board, letter: str) -> str:
    """An installed agent of two files, with its list."""
    slot = letter * 64
    folder = board.data / "agents" / slot
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    (folder / "agent.py").write_bytes(b"agent")
    listed = list_of({"agent.py": hashlib.sha256(b"agent").hexdigest()}, sys.executable)
    write_durably(folder / "files.sha256", listed, 0o444)
    return slot


def test_whole_agents_are_left_alone(board: Board, capsys) -> None:
    """Two slots, each file as its list says: looked at, and nothing is changed."""
    pointer = Pointer(current=agent_slot(board, "a"), previous=agent_slot(board, "b"))
    write_pointer(board.data, pointer)
    code, said = board.repair(capsys)
    assert (code, said.count("is whole"), read_pointer(board.data)) == (0, 4, pointer), said


def test_a_damaged_agent_gives_way(board: Board, capsys) -> None:
    """Bits rot in the agent's slot. Repair says which file, points to the agent before; when that rots, too, to the factory's
    (null); and the reason is written down for the agent that runs next to report it."""
    current, previous = agent_slot(board, "a"), agent_slot(board, "b")
    write_pointer(board.data, Pointer(current=current, previous=previous))
    (board.data / "agents" / current / "agent.py").write_bytes(b"rot")
    said = board.mended(capsys, "agent.py is not what was installed")
    assert "factory agent" not in said
    assert read_pointer(board.data) == Pointer(current=previous)
    (board.data / "agents" / previous / "agent.py").unlink()
    board.mended(capsys, "agent.py is gone: the factory agent runs")
    assert json.loads((board.data / "agent-slot.json").read_bytes())["current"] is None
    assert [(one["slot"], one["reason"], one["to"]) for one in read_done(board.data)] == [
        (current, "hash", previous), (previous, "hash", None),
    ]  # fmt: skip


def test_a_damaged_agent_on_trial_gives_way_with_its_reason(board: Board, capsys) -> None:
    """The new agent's files were torn in the power cut of its own trial: the one before runs, and can say why."""
    current, fresh = agent_slot(board, "a"), agent_slot(board, "b")
    write_pointer(board.data, Pointer(current=current, trial=Trial(fresh, 1, 3, "token-7")))
    (board.data / "agents" / fresh / "more.py").write_bytes(b"who put this here?")
    board.mended(capsys, "more.py is there, and nobody installed it")
    assert read_pointer(board.data) == Pointer(current=current)
    assert [(one["slot"], one["token"], one["to"]) for one in read_done(board.data)] == [(fresh, "token-7", current)]


def test_a_torn_pointer_to_the_agents(board: Board, capsys) -> None:
    """Nobody can read which agent runs, the update state knows which was committed last: that one, if it is whole."""
    slot = agent_slot(board, "a")
    bundle = AssignedBundle(path="x", sha256=slot, length_bytes=1, channel="stable", release="rookery-agent@2")
    done = Deployment(
        assignment_seq=3, assignment_digest="", bundle=bundle, state="committed", settled=True, started_at_s=1.0, entered_at_s=2.0
    )
    StateFile(board.data / "state", AGENT_STATE_FILE).save(UpdateState(deployment=done))
    (board.data / "agent-slot.json").write_bytes(b'{"v": 1, "cur')
    board.mended(capsys, "agent-slot.json could not be read")
    assert read_pointer(board.data) == Pointer(current=slot)


def test_the_exit_code_is_the_worst_that_was_found() -> None:
    """A dry run that would mend one thing and leave another to a person says the latter."""
    ok, would, broken = (Found("a", state, "b") for state in ("ok", "to_mend", "broken"))
    assert [exit_code([ok]), exit_code([ok, would]), exit_code([would, broken])] == [0, 1, 5]
    assert "1 would be mended, 1 need you" in report([would, broken], as_json=False)
