"""The instruments themselves: the recorder misses nothing, the disk forgets what it may forget and nothing else."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.crash_states import enumerate_states, expected_count, sample_states
from tests.faults.disk_model import Disk, Tree, read_tree, write_tree
from tests.faults.judging import Recording
from tests.faults.recording import ROOT, Kind, Op, library, read_log, run_below

FOLDER = 0o040755


def test_every_call_that_changes_a_disk_is_in_the_log(tmp_path: Path) -> None:
    """Replayed, the log makes exactly the tree that the calls made: names, bytes, holes, links, modes."""
    (tmp_path / "start").mkdir()
    (tmp_path / "now").mkdir()
    run_below("tests.faults.every_call", tmp_path / "now", tmp_path / "log")
    recording = Recording.read(tmp_path / "log", tmp_path / "start", tmp_path / "now")
    kinds = {op.kind for op in recording.log}
    assert kinds == set(Kind) - {Kind.MARK, Kind.UNKNOWN}
    assert recording.states.total == recording.states.expected
    assert read_tree(tmp_path / "now")["sub/deep/renamed"] == ("file", 0o444, b"012XY56789abcd\0\0\0\0")


def test_a_call_that_cannot_be_followed_spoils_the_log(tmp_path: Path) -> None:
    """A shared mapping changes a file past every call: such a log is refused, never half believed."""
    code = (
        "import mmap, sys; from pathlib import Path; from tests.faults.recording import Recorder\n"
        "folder = Path(sys.argv[1]); Recorder().watch(folder, Path(sys.argv[2]))\n"
        "file = (folder / 'a').open('w+b'); file.write(b'x' * 100); file.flush()\n"
        "mmap.mmap(file.fileno(), 100)[0:1] = b'y'\n"
    )
    (tmp_path / "now").mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(library())}
    command = [sys.executable, "-c", code, str(tmp_path / "now"), str(tmp_path / "log")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    with pytest.raises(AssertionError, match="no disk can be rebuilt"):
        read_log(tmp_path / "log", tmp_path / "now")


def test_a_full_disk_takes_half_a_write_and_then_nothing(tmp_path: Path) -> None:
    """The fault is what a program meets: a short write, then ENOSPC, until there is room."""
    code = (
        "import sys; from pathlib import Path; from tests.faults.recording import Fault, Recorder\n"
        "folder = Path(sys.argv[1]); recorder = Recorder(); recorder.watch(folder)\n"
        "recorder.fault(Fault.FULL_SHORT, 2)\n"
        "import os\n"
        "handle = os.open(folder / 'a', os.O_WRONLY | os.O_CREAT)\n"
        "print(os.write(handle, b'12345678'))\n"
        "for call in (lambda: os.write(handle, b'x'), lambda: os.mkdir(folder / 'b')):\n"
        "    try: call()\n"
        "    except OSError as error: print(error.errno)\n"
        "os.unlink(folder / 'a'); recorder.fault(Fault.NOTHING, 0); os.mkdir(folder / 'b')\n"
    )
    environment = {**os.environ, "LD_PRELOAD": str(library())}
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout.split()
    assert said == ["4", str(errno.ENOSPC), str(errno.ENOSPC)]
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def trees(folder: Path, *ops: Op) -> list[Tree]:
    """The different states after all of these lines."""
    return [state.tree for state in enumerate_states(ops, folder).distinct if state.prefix == len(ops) or state.also]


REPLACE = [
    Op(Kind.CREATE, "new", inode=7, mode=0o100644),
    Op(Kind.WRITE, "new", inode=7, data=b"bytes"),
    Op(Kind.FSYNC, "new", inode=7, mode=0o100644),
    Op(Kind.RENAME, "new", "name"),
    Op(Kind.FSYNC, "", mode=FOLDER),
]


def after(folder: Path, ops: list[Op]) -> set[bytes | None]:
    """What may lie under ``name`` after a crash behind the last of these lines."""
    found: set[bytes | None] = set()
    for state in enumerate_states(ops, folder).distinct:
        if state.prefix == len(ops) or any(f"line {len(ops)}," in other for other in state.also):
            found.add(state.tree["name"][2] if "name" in state.tree else None)
    return found


def test_a_file_is_replaced_whole_or_not_at_all_when_both_syncs_are_there(tmp_path: Path) -> None:
    """Temp, fsync, rename, fsync of the folder: the old bytes or the new ones, and after the last the new ones alone."""
    (tmp_path / "name").write_bytes(b"old")
    assert after(tmp_path, REPLACE[:4]) == {b"old", b"bytes"}
    assert after(tmp_path, REPLACE) == {b"bytes"}


def test_a_rename_without_a_sync_of_the_file_may_leave_nothing_in_it(tmp_path: Path) -> None:
    """The zero length file of delayed allocation; and every torn length."""
    (tmp_path / "name").write_bytes(b"old")
    assert after(tmp_path, [*REPLACE[:2], *REPLACE[3:]]) == {b"", b"by", b"byte", b"bytes"}


def test_a_rename_without_a_sync_of_the_folder_may_not_have_happened(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"old")
    assert after(tmp_path, REPLACE[:4]) >= {b"old"}


def test_a_lost_piece_before_a_kept_one_reads_as_zeros(tmp_path: Path) -> None:
    ops = [*REPLACE[:1], Op(Kind.WRITE, "new", inode=7, data=b"ab"), Op(Kind.WRITE, "new", inode=7, offset=2, data=b"cd")]
    found = {tree["new"][2] for tree in trees(tmp_path, *ops) if "new" in tree}
    assert b"\0\0cd" in found


def test_a_removed_folder_that_is_on_the_disk_takes_its_content_along(tmp_path: Path) -> None:
    """The names below were never synced; the removal of the folder was, so they are gone with it."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x")
    disk = Disk(tmp_path)
    for op in (Op(Kind.UNLINK, "sub/file"), Op(Kind.RMDIR, "sub"), Op(Kind.FSYNC, "", mode=FOLDER)):
        disk.feed(op)
    assert disk.state([]) == {}


def test_a_file_between_two_folders_is_never_in_none(tmp_path: Path) -> None:
    """A rename from one folder to another is one change: before it here, after it there."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "file").write_bytes(b"x")
    disk = Disk(tmp_path)
    disk.feed(Op(Kind.RENAME, "one/file", "two/file"))
    disk.feed(Op(Kind.FSYNC, "one", mode=FOLDER))
    assert "one/file" in disk.state([])
    disk.feed(Op(Kind.FSYNC, "two", mode=FOLDER))
    assert set(disk.state([])) == {"one", "two", "two/file"}


def test_the_formula_counts_by_hand(tmp_path: Path) -> None:
    """Create, write, sync, rename, sync of the folder: 3 each after 0 to 5 lines, 1 + 2 + 1 + 2 single changes, 3 torn once."""
    assert expected_count(REPLACE, tmp_path) == 3 * 6 + (1 + 2 + 1 + 2 + 0) + 3
    found = enumerate_states(REPLACE, tmp_path)
    assert found.total == found.expected


def test_drawn_states_are_some_of_all(tmp_path: Path) -> None:
    """The same seed draws the same; what is drawn is a crash state."""
    every = [state.tree for state in enumerate_states(REPLACE, tmp_path).distinct]
    drawn = list(sample_states(REPLACE, tmp_path, "seed", 40))
    assert len(drawn) == 40
    assert all(state.tree in every for state in drawn)
    assert [str(one) for one in drawn] == [str(one) for one in sample_states(REPLACE, tmp_path, "seed", 40)]


def test_a_written_tree_reads_as_it_was(tmp_path: Path) -> None:
    tree: Tree = {"a": ("dir", 0o700, b""), "a/f": ("file", 0o444, b"x"), "l": ("link", 0, b"a/f"), "b": ("dir", 0o755, b"")}
    write_tree(tree, tmp_path / "t")
    assert read_tree(tmp_path / "t") == tree
