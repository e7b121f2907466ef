"""A wheel that is rightly signed and broken: it is refused once, in words, and never installed again and again."""

import hashlib
import random
from pathlib import Path

import pytest

from device_agent.launcher_disk import slot_fault
from device_agent.update.agent_environment_disk import Parts, build_slot, own_base
from device_agent.update.agent_wheel_disk import WheelError, Where, unpack_wheel
from ota.bundle.agent_release import LockedWheel, build_lock, parse_lock
from tests.fakes.wheels import ABI, make_wheel

FILES = {"a/__init__.py": b"x = 1\n" * 50, "b.py": b"y" * 3000}


def unpack(folder: Path, data: bytes, name: str) -> None:
    """Unpack below ``folder``, which is made."""
    (folder / "packages").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "wheel").write_bytes(data)
    locked = LockedWheel(file=name, name="rookery", version="1.0", sha256=hashlib.sha256(data).hexdigest())
    unpack_wheel(folder / "wheel", locked, Where(folder / "packages", folder / "bin", "/slot/bin/python"))


def test_a_name_that_is_no_text_is_a_broken_wheel(tmp_path: Path) -> None:
    """The zip says that its names are UTF-8, and one is not."""
    name, data = make_wheel("rookery", "1.0", {**FILES, "a/éé.py": b"1"})
    with pytest.raises(WheelError, match="no whole zip"):
        unpack(tmp_path / "x", data.replace("éé".encode(), b"\xff\xfe\xff\xfe"), name)


@pytest.mark.parametrize("path", ["a/\u2028x.py", "a/\x85.py", "a/\x7f.py", "a/\u202ex.py"])
def test_a_name_that_cannot_be_printed_is_refused(tmp_path: Path, path: str) -> None:
    """What some call the end of a line stands in a file's name: the list of the slot must not fall apart over it."""
    name, data = make_wheel("rookery", "1.0", {**FILES, path: b"1"})
    with pytest.raises(WheelError, match="not a plain relative path"):
        unpack(tmp_path / "x", data, name)


def test_a_name_in_another_script_is_installed_and_found_whole(tmp_path: Path) -> None:
    """Letters that are not English are letters: the launcher's list holds them."""
    name, data = make_wheel("rookery", "1.0", {**FILES, "a/gärtner.py": b"1\n"})
    (tmp_path / name).write_bytes(data)
    lock = build_lock({name: hashlib.sha256(data).hexdigest()}, ABI)
    slot = build_slot(tmp_path / "agents", Parts(b"{}", lock, parse_lock(lock), {name: tmp_path / name}), own_base())
    assert slot_fault(slot) == ""


def test_whatever_is_broken_in_a_wheel_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the zip's directory are turned over, one to three at a time: each result is installed, or a WheelError."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    name, data = make_wheel("rookery", "1.0", FILES)
    end = data.rfind(b"PK\5\6")
    directory = int.from_bytes(data[end + 16 : end + 20], "little")
    chance, refused = random.Random(4), 0
    for turn in range(400):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            broken[chance.choice([chance.randrange(directory, len(data)), chance.randrange(len(data))])] = chance.choice(
                [0, 0xFF, 0x80, chance.randrange(256)]
            )
        try:
            unpack(tmp_path / str(turn), bytes(broken), name)
        except WheelError:
            refused += 1
    assert 100 < refused < 400, "some damage is refused, and some hits what nobody reads: else nothing was tried"
