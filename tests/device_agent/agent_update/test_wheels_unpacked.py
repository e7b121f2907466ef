"""A wheel is a stranger's zip until its RECORD has been read: what is unpacked, what is refused before anything is installed."""

import hashlib
import io
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent import launcher_disk
from device_agent.update import agent_wheel_disk
from device_agent.update.agent_environment_disk import Base, Parts, StoppedError, build_slot, own_base, remove_others
from device_agent.update.agent_wheel_disk import WheelError, Where, unpack_wheel
from ota.bundle.agent_release import LockedWheel, board_problem, build_lock, parse_lock, parse_wheel_name
from ota.bundle.errors import BundleError
from ota.wire.enrolment import BoardFacts
from tests.fakes.wheels import ABI, make_wheel

PACKAGE = {"pack/__init__.py": b"WORD = 'ours'\n", "pack/data.bin": bytes(range(256))}


def unpack(folder: Path, made: tuple[str, bytes], name: str = "pack", version: str = "1") -> list[Path]:
    """Unpack a wheel below ``folder``, as the lock of an honest one names it."""
    file = folder / "wheel"
    file.write_bytes(made[1])
    locked = LockedWheel(file=made[0], name=name, version=version, sha256=hashlib.sha256(made[1]).hexdigest())
    for sub in ("packages", "bin"):
        (folder / sub).mkdir(exist_ok=True)
    return unpack_wheel(file, locked, Where(folder / "packages", folder / "bin", "/slot/bin/python"))


def outside(folder: Path) -> set[str]:
    """What lies beside the folders that a wheel may write to."""
    return {path.name for path in folder.iterdir()} - {"wheel", "packages", "bin"}


def test_a_whole_wheel_is_there_byte_for_byte(tmp_path: Path) -> None:
    scripts = {"pack-1.data/scripts/tool": b"#!python\nprint('hi')\n", "pack-1.data/platlib/pack/more.py": b"MORE = 1\n"}
    unpack(tmp_path, make_wheel("pack", "1", {**PACKAGE, **scripts}))
    assert (tmp_path / "packages" / "pack" / "data.bin").read_bytes() == bytes(range(256))
    assert (tmp_path / "packages" / "pack" / "more.py").exists()
    assert (tmp_path / "bin" / "tool").read_bytes() == b"#!/slot/bin/python\nprint('hi')\n"
    assert os.access(tmp_path / "bin" / "tool", os.X_OK)


BAD_PATHS = ("../out.py", "/etc/out.py", "a/../../out.py", "a\\..\\out.py", "C:/out.py", "a//b.py", "./a.py", "a/\x01b.py")


@pytest.mark.parametrize("path", BAD_PATHS)
def test_a_path_that_leaves_its_folder_is_refused(tmp_path: Path, path: str) -> None:
    """Zip slip: a wheel whose entry would land outside the environment."""
    with pytest.raises(WheelError):
        unpack(tmp_path, make_wheel("pack", "1", {**PACKAGE, path: b"x"}))
    assert not outside(tmp_path)
    assert not list((tmp_path / "packages").rglob("*"))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (make_wheel("pack", "1", PACKAGE, record={"pack/__init__.py": b"WORD = 'theirs'\n"}), "not what RECORD says"),
        (make_wheel("pack", "1", PACKAGE, unlisted={"pack/extra.py": b"x"}), "not in RECORD"),
        (make_wheel("pack", "1", PACKAGE, links={"pack/link": "/etc/passwd"}), "neither file nor folder"),
        (make_wheel("pack", "2", PACKAGE), "locked is pack 1"),
        (make_wheel("other", "1", PACKAGE), "not that of pack"),
        (make_wheel("pack", "1", {"pack-1.data/data/etc/x": b"x"}), "scheme data"),
        (make_wheel("pack", "1", {"pack-1.data/scripts/python3": b"x"}), "scheme scripts"),
        (make_wheel("pack", "1", {"other-1.data/purelib/x.py": b"x"}), "not this wheel's"),
        (make_wheel("pack", "1", {"pack": b"x", "pack/a.py": b"y"}), "below a file"),
        (make_wheel("pack", "1", {"pack/big.bin": b"\0" * (8 << 20)}), "bomb"),
        (("pack-1-py3-none-any.whl", b"PK\x03\x04 no zip at all"), "no whole zip"),
        (("pack-1-py3-none-any.whl", make_wheel("pack", "1", PACKAGE)[1][:-40]), "no whole zip"),
        (("pack-1-py3-none-any.whl", b""), "no whole zip"),
    ],
    ids=["record-hash", "not-in-record", "symlink", "version", "name", "scheme", "python-script", "foreign-data",
         "file-and-folder", "bomb", "no-zip", "cut-zip", "empty"],
)  # fmt: skip
def test_a_broken_wheel_is_refused_with_words(tmp_path: Path, made: tuple[str, bytes], words: str) -> None:
    with pytest.raises(WheelError, match=words):
        unpack(tmp_path, made)
    assert not outside(tmp_path)


def test_a_wheel_is_bounded_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header says one size, the data is another: what is counted is what is written."""
    monkeypatch.setattr(agent_wheel_disk, "MAX_TOTAL_BYTES", 300)
    with pytest.raises(WheelError, match="larger than"):
        unpack(tmp_path, make_wheel("pack", "1", {"pack/a.py": b"x" * 400}))
    monkeypatch.setattr(agent_wheel_disk, "MAX_FILES", 3)
    with pytest.raises(WheelError, match="entries"):
        unpack(tmp_path, make_wheel("pack", "1", {f"pack/{n}.py": b"" for n in range(4)}))


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(1, 255))
def test_one_flipped_byte_is_never_installed_as_something_else(tmp_path_factory, place: int, value: int) -> None:
    """Whatever byte of a wheel changes: it is refused, or what is installed is what was meant (some bytes mean nothing)."""
    folder = tmp_path_factory.mktemp("flip")
    name, data = make_wheel("pack", "1", PACKAGE)
    at = place % len(data)
    broken = data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]
    try:
        unpack(folder, (name, broken))
    except WheelError:
        return
    for path, content in PACKAGE.items():
        assert (folder / "packages" / path).read_bytes() == content


FACTS = BoardFacts(profile="p", board_model="b", machine="aarch64", memory_bytes=1, python="3.11.2", agent_version="1",
                   abi="cp311", libc="glibc 2.31")  # fmt: skip


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("a-1-py3-none-any.whl", True),
        ("a-1-cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64.whl", True),
        ("a-1-cp311-cp311-manylinux_2_34_aarch64.whl", False),
        ("a-1-cp37-abi3-manylinux2014_aarch64.whl", True),
        ("a-1-cp311-cp311-manylinux2014_x86_64.whl", False),
        ("a-1-cp311-cp311-musllinux_1_2_aarch64.whl", False),
        ("a-1-cp311-cp311-linux_aarch64.whl", True),
    ],
)
def test_wheels_of_another_machine_or_c_library_are_not_for_this_board(wheel: str, fits: bool) -> None:
    """glibc 2.31 (Bullseye) under wheels that need 2.34, another processor, musl: told before anything is unpacked."""
    lock = parse_lock(build_lock({wheel: "a" * 64, "rookery-1-py3-none-any.whl": "b" * 64}, "cp311"))
    assert (board_problem(lock, FACTS) == "") is fits


@pytest.mark.parametrize(
    "wheel", ["a-1-cp312-cp312-linux_aarch64.whl", "a-1-cp312-abi3-linux_aarch64.whl", "a-1-py2-none-any.whl"]
)
def test_a_wheel_of_another_python_is_not_even_locked(wheel: str) -> None:
    with pytest.raises(BundleError, match="not for cp311"):
        build_lock({wheel: "a" * 64, "rookery-1-py3-none-any.whl": "b" * 64}, "cp311")


def test_a_lock_holds_the_agent_itself_and_no_wheel_twice() -> None:
    with pytest.raises(BundleError, match="itself is missing"):
        build_lock({"a-1-py3-none-any.whl": "a" * 64}, ABI)
    with pytest.raises(BundleError, match="twice"):
        build_lock({"rookery-1-py3-none-any.whl": "a" * 64, "rookery-2-py3-none-any.whl": "a" * 64}, ABI)
    with pytest.raises(BundleError, match="no name of a wheel"):
        parse_wheel_name("../rookery.whl")


def parts_of(folder: Path, made: tuple[str, bytes], manifest: bytes = b"{}") -> Parts:
    (folder / made[0]).write_bytes(made[1])
    lock_bytes = build_lock({made[0]: hashlib.sha256(made[1]).hexdigest()}, ABI)
    return Parts(manifest, lock_bytes, parse_lock(lock_bytes), {made[0]: folder / made[0]})


def test_a_slot_runs_by_itself_and_every_change_in_it_is_seen(tmp_path: Path) -> None:
    """The environment is made without venv, pip or network; its Python imports from it; what the launcher checks before a start
    finds a changed file, a new one, a missing one, another link, another list."""
    parts = parts_of(tmp_path, make_wheel("rookery", "3", PACKAGE))
    slot = build_slot(tmp_path / "agents", parts, own_base())
    asked = [
        str(slot / "bin" / "python"),
        "-I",
        "-B",
        "-c",
        "import pack, importlib.metadata as m; print(pack.WORD, m.version('rookery'))",
    ]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split() == ["ours", "3"]
    assert launcher_disk.slot_fault(slot) == ""
    listed = slot / launcher_disk.LIST
    assert stat.S_IMODE(listed.stat().st_mode) == 0o444
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", launcher_disk.LIST], cwd=slot, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout

    packages = slot / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    module = packages / "pack" / "__init__.py"
    module.write_bytes(b"WORD = 'theirs'\n")
    assert "not what was installed" in launcher_disk.slot_fault(slot)
    module.write_bytes(PACKAGE["pack/__init__.py"])
    assert launcher_disk.slot_fault(slot) == ""
    (packages / "sitecustomize.py").write_text("raise SystemExit(1)\n")
    assert "nobody installed it" in launcher_disk.slot_fault(slot)
    (packages / "sitecustomize.py").unlink()
    (packages / "more").symlink_to("/tmp")
    assert "link that nobody installed" in launcher_disk.slot_fault(slot)
    (packages / "more").unlink()
    module.unlink()
    assert "is gone" in launcher_disk.slot_fault(slot)
    module.write_bytes(PACKAGE["pack/__init__.py"])
    listed.chmod(0o666)
    assert launcher_disk.slot_fault(slot)
    listed.chmod(0o444)
    (slot / "bin" / "python").unlink()
    (slot / "bin" / "python").symlink_to("/bin/sh")
    assert "link that nobody installed" in launcher_disk.slot_fault(slot)
    # Installing again mends it.
    assert build_slot(tmp_path / "agents", parts, own_base()) == slot
    assert launcher_disk.slot_fault(slot) == ""


def test_a_slot_that_cannot_be_made_whole_is_not_there_at_all(tmp_path: Path) -> None:
    """A bad wheel, an interpreter that went away, a stop in the midst: nothing that looks like a slot stays."""
    bad = parts_of(tmp_path, make_wheel("rookery", "3", PACKAGE, record={"pack/__init__.py": b"?"}))
    with pytest.raises(WheelError):
        build_slot(tmp_path / "agents", bad, own_base())
    good = parts_of(tmp_path, make_wheel("rookery", "3", PACKAGE))
    with pytest.raises(StoppedError):
        build_slot(tmp_path / "agents", good, own_base(), lambda: True)
    swapped = Parts(good.manifest, good.lock_bytes, good.lock, dict.fromkeys(good.wheels, tmp_path / "other"))
    (tmp_path / "other").write_bytes(b"not it")
    with pytest.raises(WheelError, match="not the wheel that the lock names"):
        build_slot(tmp_path / "agents", swapped, own_base())
    assert list((tmp_path / "agents").iterdir()) == []
    gone = build_slot(tmp_path / "agents", good, Base("/nowhere/python3.11", "3.11", "3.11.2", system_packages=False))
    assert "no interpreter" in launcher_disk.slot_fault(gone)


def test_slots_that_nothing_points_to_go_and_the_others_stay(tmp_path: Path) -> None:
    one = build_slot(tmp_path / "agents", parts_of(tmp_path, make_wheel("rookery", "3", PACKAGE), b"1"), own_base())
    two = build_slot(tmp_path / "agents", parts_of(tmp_path, make_wheel("rookery", "3", PACKAGE), b"2"), own_base())
    (tmp_path / "agents" / ".staging-x").mkdir()
    assert remove_others(tmp_path / "agents", [one.name]) == [two.name]
    assert [path.name for path in (tmp_path / "agents").iterdir()] == [one.name]


def test_an_encrypted_wheel_is_refused(tmp_path: Path) -> None:
    data = bytearray(make_wheel("pack", "1", PACKAGE)[1])
    start = zipfile.ZipFile(io.BytesIO(bytes(data))).start_dir
    data[start + 8] |= 0x1
    with pytest.raises(WheelError, match="encrypted"):
        unpack(tmp_path, ("pack-1-py3-none-any.whl", bytes(data)))
