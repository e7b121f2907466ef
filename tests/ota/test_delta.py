"""Packed files and patches: what comes out is what went in, or a refusal; never more memory, bytes or time than allowed."""

import errno
import hashlib
import io
import random
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ota import zstd_frames
from ota.bundle.manifest import Delta, FileEntry, Packed
from ota.delta import unpack_disk
from ota.delta.unpack_disk import apply_delta, unpack_file
from ota.zstd_frames import MAX_WINDOW_BYTES, FrameError, Stopped, apply_patch, make_patch, pack, unpack

MIB = 1024 * 1024


def digest(data):
    return hashlib.sha256(data).hexdigest()


def packed(data):
    return b"".join(pack(io.BytesIO(data), len(data)))


def unpacked(data, length_bytes):
    return b"".join(unpack(io.BytesIO(data), length_bytes))


def entry_of(data, frame=None, deltas=()):
    form = None if frame is None else Packed(sha256=digest(frame), length_bytes=len(frame))
    return FileEntry(sha256=digest(data), length_bytes=len(data), packed=form, deltas=list(deltas))


blobs = st.one_of(
    st.binary(max_size=3000),
    st.tuples(st.binary(min_size=1, max_size=8), st.integers(1, 60_000)).map(lambda pair: pair[0] * (pair[1] // len(pair[0]))),
)


@given(blobs)
@settings(max_examples=120, deadline=None)
def test_what_was_packed_comes_out_and_packs_to_the_same_bytes(data):
    frame = packed(data)
    assert unpacked(frame, len(data)) == data
    assert packed(data) == frame


@given(blobs, blobs, st.integers(0, 3000))
@settings(max_examples=80, deadline=None)
def test_a_patch_makes_the_new_file_of_its_base(base, inserted, at):
    new = base[:at] + inserted + base[at:]
    patch = make_patch(base, new)
    if not base or not new:
        assert patch is None
        return
    assert b"".join(apply_patch(base, io.BytesIO(patch), len(new))) == new
    assert make_patch(base, new) == patch


@given(st.data())
@settings(max_examples=250, deadline=None)
def test_damaged_frames_are_refused_or_harmless(data):
    """A frame with bytes changed, cut or added: FrameError, or output within its length; never another error."""
    original = data.draw(blobs)
    frame = bytearray(packed(original))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    frame = frame[: data.draw(st.integers(0, len(frame)))] + data.draw(st.binary(max_size=4))
    try:
        made = unpacked(bytes(frame), len(original))
    except FrameError:
        return
    assert len(made) == len(original)


def test_the_frame_is_the_documented_one():
    """One frame with content size and checksum, without a dictionary id; `zstd -d` of the shell reads it."""
    data = random.Random(1).randbytes(1000) * 300
    frame = packed(data)
    said = zstandard.get_frame_parameters(frame)
    assert (said.content_size, said.has_checksum, said.dict_id) == (len(data), True, 0)
    done = subprocess.run(["zstd", "-dc"], input=frame, capture_output=True, check=True, timeout=60)
    assert done.stdout == data


def test_the_pieces_in_which_it_was_read_do_not_matter(monkeypatch):
    """Read by the byte or by the megabyte: the same frame, so that a mirror's digest does not hang on a buffer."""
    data = random.Random(6).randbytes(300_000) + bytes(300_000)
    whole = packed(data)
    for chunk_bytes in (1000, 65_536, 10**6):
        monkeypatch.setattr(zstd_frames, "CHUNK_BYTES", chunk_bytes)
        assert packed(data) == whole


def test_the_window_stays_small_whatever_the_file():
    """A board unpacks a file of 20 MiB with a window of 8."""
    data = bytes(20 * MIB)
    assert zstandard.get_frame_parameters(packed(data)).window_size <= 8 * MIB


def test_patches_find_what_base_and_result_share():
    """The trap of the binding: at low levels a raw-content dictionary is silently not searched. 5 KB new in 3 MB: 1 %, not 99."""
    rng = random.Random(7)
    base = rng.randbytes(3 * MIB)
    new = base[: MIB] + rng.randbytes(5000) + base[MIB:]
    patch = make_patch(base, new)
    assert len(patch) < len(new) // 100


def test_a_patch_of_the_shell_is_read_and_ours_by_the_shell(tmp_path):
    """`zstd --patch-from` and we speak the same format."""
    rng = random.Random(3)
    base, extra = rng.randbytes(300_000), rng.randbytes(500)
    new = base[:1000] + extra + base[1000:]
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "new").write_bytes(new)
    (tmp_path / "ours").write_bytes(make_patch(base, new))
    for command in ("zstd -q --patch-from=base new -o theirs", "zstd -q -d --patch-from=base ours -o back"):
        subprocess.run(command.split(), cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "back").read_bytes() == new
    theirs = (tmp_path / "theirs").read_bytes()
    assert b"".join(apply_patch(base, io.BytesIO(theirs), len(new))) == new


BOMBS = {
    "more than it says": lambda: packed(bytes(50 * MIB)),
    "no size given": lambda: zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1000)),
    "not zstd": lambda: b"PK\x03\x04 hello",
    "empty": lambda: b"",
    "cut": lambda: packed(random.Random(5).randbytes(1000))[:-10],
    "a dictionary": lambda: struct.pack("<IBIH", 0xFD2FB528, 0b01100010 | 0x01, 7, 1000),
    "a window of 2 GiB": lambda: struct.pack("<IBBI", 0xFD2FB528, 0b10000000, (31 - 10) << 3, 1000) + b"\x01\x00\x00",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_they_are_decoded(name):
    with pytest.raises(FrameError):
        unpacked(BOMBS[name](), 1000)


def test_a_frame_that_lies_about_its_size_yields_no_more_than_is_signed():
    """The header says 1000 bytes, the blocks hold 128 KiB each: what comes out before the error is within the length."""
    head = struct.pack("<IBBH", 0xFD2FB528, 0b01000000, (17 - 10) << 3, 1000 - 256)
    block = (131072 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    made = []
    with pytest.raises(FrameError):
        made.extend(unpack(io.BytesIO(head + block * 1000), 1000))
    assert sum(map(len, made)) <= 1000


def test_the_deadline_ends_a_long_unpacking():
    """The caller's time is over after two pieces: the third is not made."""
    asked = iter([False, False, True])
    source = io.BytesIO(packed(bytes(10 * MIB)))
    with pytest.raises(Stopped):
        list(unpack(source, 10 * MIB, lambda: next(asked)))


# Files


@pytest.fixture
def place(tmp_path):
    """A folder with an old file where the new one shall be."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model.tflite").write_bytes(b"old")
    return tmp_path


def put(folder, data, name="travelled"):
    (folder / name).write_bytes(data)
    return folder / name


def untouched(place):
    """The old file as it was, and nothing half-written beside it."""
    return [(one.name, one.read_bytes()) for one in (place / "out").iterdir()] == [("model.tflite", b"old")]


NEW = random.Random(11).randbytes(70_000) + bytes(100_000)
BASE = NEW[:60_000] + b"x" * 50 + NEW[60_100:]


@pytest.mark.parametrize("data", [NEW, b"", b"a"], ids=["some", "no byte", "one byte"])
@pytest.mark.parametrize("form", ["packed", "plain"])
def test_a_file_is_made_of_what_travelled(place, data, form):
    frame = packed(data) if form == "packed" else None
    refused = unpack_file(put(place, frame if frame is not None else data), entry_of(data, frame), place / "out" / "model.tflite")
    assert refused is None
    assert [(one.name, one.read_bytes()) for one in (place / "out").iterdir()] == [("model.tflite", data)]
    assert (place / "out" / "model.tflite").stat().st_mode & 0o777 == 0o644


def test_the_hash_is_checked_before_anything_is_decoded(place, monkeypatch):
    """What did not travel as signed never reaches the decoder."""
    frame = packed(NEW)
    monkeypatch.setattr(unpack_disk, "unpack", lambda *given: pytest.fail("decoded before it was checked"))
    changed = bytearray(frame)
    changed[len(changed) // 2] ^= 1
    for wrong in (bytes(changed), frame[:-1], frame + b"x", b""):
        refused = unpack_file(put(place, wrong), entry_of(NEW, frame), place / "out" / "model.tflite")
        assert refused.code == "hash"
        assert untouched(place)


def test_right_bytes_that_unpack_to_something_else(place):
    """A careless releaser signed the packed form of another file of the same length: found when it is written."""
    frame = packed(bytes(len(NEW)))
    refused = unpack_file(put(place, frame), entry_of(NEW, frame), place / "out" / "model.tflite")
    assert (refused.code, untouched(place)) == ("hash", True)


def test_a_signed_bomb_is_refused(place):
    """Fifty megabytes of zeros where one hundred bytes are signed."""
    frame = packed(bytes(50 * MIB))
    entry = FileEntry(sha256=digest(b"x"), length_bytes=100, packed=Packed(sha256=digest(frame), length_bytes=len(frame)))
    refused = unpack_file(put(place, frame), entry, place / "out" / "model.tflite")
    assert (refused.code, untouched(place)) == ("format", True)


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_nothing(place, monkeypatch, at):
    """ENOSPC at each step of the way: the old file stays, nothing lies beside it."""

    def full(*given, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    if at == "write":
        monkeypatch.setattr(unpack_disk, "unpack", lambda *given: (full() for _ in range(1)))
    elif at == "fsync":
        monkeypatch.setattr("ota.delta.unpack_disk.os.fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    frame = packed(NEW)
    refused = unpack_file(put(place, frame), entry_of(NEW, frame), place / "out" / "model.tflite")
    assert refused.code == "disk"
    assert "No space left" in refused.detail
    assert untouched(place)


def test_a_source_that_went_away_and_a_deadline(place):
    frame = packed(NEW)
    assert unpack_file(place / "none", entry_of(NEW, frame), place / "out" / "model.tflite").code == "disk"
    refused = unpack_file(put(place, frame), entry_of(NEW, frame), place / "out" / "model.tflite", should_stop=lambda: True)
    assert (refused.code, untouched(place)) == ("deadline", True)


def delta_of(base, new):
    patch = make_patch(base, new)
    return patch, Delta(base_sha256=digest(base), sha256=digest(patch), length_bytes=len(patch))


def test_a_delta_is_applied_and_saves(place):
    patch, delta = delta_of(BASE, NEW)
    assert len(patch) < 0.8 * len(packed(NEW))
    refused = apply_delta(put(place, BASE, "base"), put(place, patch), delta, entry_of(NEW), place / "out" / "model.tflite")
    assert refused is None
    assert (place / "out" / "model.tflite").read_bytes() == NEW


def test_every_bad_delta_is_a_refusal(place):
    """Wrong base, changed patch, torn patch, patch of another release, unknown kind, a base too large: fall back, no more."""
    patch, delta = delta_of(BASE, NEW)
    other, other_delta = delta_of(BASE, bytes(len(NEW)))
    good_base = put(place, BASE, "base")
    bad_base = put(place, BASE[:-1] + b"!", "bad")
    with (place / "huge").open("wb") as file:
        file.truncate(MAX_WINDOW_BYTES + 1)
    torn = patch[: len(patch) // 2]
    torn_delta = Delta(base_sha256=digest(BASE), sha256=digest(torn), length_bytes=len(torn))
    unknown = Delta(encoding="bsdiff", base_sha256=digest(BASE), sha256=digest(patch), length_bytes=len(patch))
    cases = [
        ("hash", bad_base, patch, delta), ("hash", good_base, patch[:-1] + b"!", delta), ("hash", good_base, torn, delta),
        ("hash", good_base, other, other_delta), ("format", good_base, torn, torn_delta), ("format", good_base, patch, unknown),
        ("format", place / "huge", patch, delta), ("disk", place / "none", patch, delta),
    ]  # fmt: skip
    for code, base, data, listed in cases:
        refused = apply_delta(base, put(place, data), listed, entry_of(NEW), place / "out" / "model.tflite")
        assert (refused.code, untouched(place)) == (code, True), refused


MEMORY = """
import resource, sys
from pathlib import Path
from ota.bundle.manifest import Delta, FileEntry, Packed
from ota.delta.unpack_disk import apply_delta, unpack_file
import msgspec
folder, kind = Path(sys.argv[1]), sys.argv[2]
entry = msgspec.json.decode((folder / "entry").read_bytes(), type=FileEntry)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if kind == "packed":
    refused = unpack_file(folder / "frame", entry, folder / "made")
else:
    refused = apply_delta(folder / "base", folder / "patch", entry.deltas[0], entry, folder / "made")
assert refused is None, refused
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def grown_kib(folder, kind):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(folder), kind], capture_output=True, text=True, check=True, timeout=120,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    return int(done.stdout)


def test_memory_is_bounded_by_window_and_base(tmp_path):
    """Unpacking 40 MiB takes a window of 8, not the file; a patch takes base and result, not more."""
    data = bytes(40 * MIB)
    frame = packed(data)
    (tmp_path / "frame").write_bytes(frame)
    (tmp_path / "entry").write_bytes(msgspec.json.encode(entry_of(data, frame)))
    assert grown_kib(tmp_path, "packed") < 16 * 1024
    base = random.Random(2).randbytes(8 * MIB)
    new = base[: 4 * MIB] + b"x" + base[4 * MIB :]
    patch, delta = delta_of(base, new)
    (tmp_path / "base").write_bytes(base)
    (tmp_path / "patch").write_bytes(patch)
    (tmp_path / "entry").write_bytes(msgspec.json.encode(entry_of(new, None, [delta])))
    assert grown_kib(tmp_path, "patch") < 3 * 4 * 1024 + 4096
