"""Hands on the board: a stick that wants all memory, a second launcher, a slot that others may write, a pipe for a file."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from device_agent import launcher, launcher_disk
from device_agent.launcher_disk import Pointer, Trial, read_pointer, slot_fault, write_pointer
from ota.bundle.archive import END_BYTES, MAX_ROOT_BYTES, end_record
from ota.bundle.archive_disk import read_entries, read_entry, write_entries
from ota.bundle.errors import BundleError
from ota.bundle.reader_disk import open_bundle

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundles" / "yard-1.rookery"
SLOT = "a" * 64


def test_a_directory_of_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """An empty file of 900 MB that says: all of me is the directory."""
    path, length_bytes = tmp_path / "big.rookery", 900 * 2**20
    with path.open("wb") as file:
        file.truncate(length_bytes)
        file.seek(length_bytes)
        file.write(end_record(0, length_bytes, 0))
    assert path.stat().st_size == length_bytes + END_BYTES
    with pytest.raises(BundleError, match="bytes of directory"):
        read_entries(path)


FAT = [(1, MAX_ROOT_BYTES + 1, "limit of a root"), (40, 450_000, "metadata")]


@pytest.mark.parametrize(("count", "each_bytes", "words"), FAT)
def test_unsigned_roots_do_not_fill_the_memory(tmp_path: Path, count: int, each_bytes: int, words: str) -> None:
    """Roots that nobody has signed, each padded: they are counted before they are read."""
    entries = read_entries(BUNDLE)
    whole = [(name, [b"".join(read_entry(BUNDLE, entry))]) for name, entry in entries.items()]
    fat = [(f"metadata/{number}.root.json", [b" " * each_bytes]) for number in range(100, 100 + count)]
    write_entries(tmp_path / "fat.rookery", [*whole, *fat])
    with pytest.raises(BundleError, match=words):
        open_bundle(tmp_path / "fat.rookery")


def made_slot(data: Path) -> Path:
    """A slot of one file, whole."""
    slot = data / "agents" / SLOT
    (slot / "bin").mkdir(parents=True)
    for folder in (slot, slot / "bin"):
        folder.chmod(0o755)
    (slot / launcher_disk.LINK).symlink_to("/bin/true")
    (slot / "m.py").write_text("1")
    (slot / "m.py").chmod(0o644)
    (slot / launcher_disk.LIST).write_bytes(launcher_disk.list_of({"m.py": hashlib.sha256(b"1").hexdigest()}, "/bin/true"))
    (slot / launcher_disk.LIST).chmod(0o444)
    assert slot_fault(slot) == ""
    return slot


def test_a_pipe_in_place_of_a_file_does_not_hold_the_launcher(tmp_path: Path) -> None:
    """A listed file was replaced by a FIFO: opening it would wait for a writer for ever."""
    slot = made_slot(tmp_path)
    (slot / "m.py").unlink()
    os.mkfifo(slot / "m.py", 0o644)
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(slot_fault(slot)), daemon=True)
    thread.start()
    thread.join(30)
    assert found == ["m.py is no file any more"]


@pytest.mark.parametrize(("what", "mode"), [("m.py", 0o666), ("bin", 0o777), (".", 0o777)])
def test_what_anybody_may_write_is_not_started(tmp_path: Path, what: str, mode: int) -> None:
    """Between the check and the start any user of the board could put other code there."""
    slot = made_slot(tmp_path)
    (slot / what).chmod(mode)
    assert "anybody may write" in slot_fault(slot)


def test_the_first_agents_pointer_counts_only_before_the_first_slot(tmp_path: Path) -> None:
    """Whoever can write one file of the data folder names an interpreter of his own: not on a board that has slots."""
    (tmp_path / launcher_disk.POINTER).write_text('{"python": "/tmp/evil"}')
    assert read_pointer(tmp_path).python == "/tmp/evil"
    made_slot(tmp_path)
    assert read_pointer(tmp_path) == Pointer()


def test_a_second_launcher_touches_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Somebody starts a launcher by hand while the service's runs an agent on trial: its starts must not be counted."""
    data = tmp_path / "data"
    made_slot(data)
    (tmp_path / "agent.toml").write_text('[agent]\ndata_dir = "data"\n')
    pointer = Pointer(trial=Trial(SLOT, 1, 3, "t"))
    write_pointer(data, pointer)
    with launcher_disk.alone(data) as first:
        assert first
        assert launcher.main(["--config", str(tmp_path / "agent.toml")]) == 2
    assert read_pointer(data) == pointer
    assert "another launcher" in capfd.readouterr().err
    with launcher_disk.alone(data) as again:
        assert again
