"""Bundles whose files travel packed, with patches, through rotations of the root; and what hostile ones try."""

import hashlib
import random
from io import BytesIO
from pathlib import Path

import msgspec
import pytest

from ota.bundle.archive import FILES, Entry, end_record
from ota.bundle.archive_disk import write_entries
from ota.bundle.errors import BundleError, Refusal
from ota.bundle.manifest import FileEntry, Packed, encode_manifest, target_path, travelling
from ota.bundle.packing_disk import pack_release
from ota.bundle.reader_disk import Verified, open_bundle, verify_bundle
from ota.bundle.writer_disk import add_metadata, contents_of, copy_bundle, write_bundle, write_contents
from ota.trust import roles
from ota.zstd_frames import pack

NOISE = random.Random(4).randbytes(30_000)
ONE = {"model-a.tflite": NOISE + bytes(20_000), "model-b.tflite": NOISE[:500], "card.toml": b"[input]\n" * 40, "empty.txt": b""}
TWO = {**ONE, "model-a.tflite": NOISE[:10_000] + b"new weights" + NOISE[10_000:] + bytes(20_000)}


def packed(folder: Path, manifest, files, bases=()):
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    release = pack_release(manifest, files, work, bases)
    out = folder / f"{manifest.name}-{manifest.version}.rookery"
    write_contents(out, release.manifest, release.contents)
    return out


@pytest.fixture
def one(tmp_path, make_manifest):
    return packed(tmp_path / "one", make_manifest(contents=ONE), ONE)


@pytest.fixture
def two(tmp_path, make_manifest, one):
    return packed(tmp_path / "two", make_manifest(contents=TWO, version="2", counter=2), TWO, [open_bundle(one)])


def test_what_saves_enough_is_packed_and_all_comes_out(one):
    """Zeros shrink, noise does not, a file of no byte stays one; each is read back as it was."""
    opened = open_bundle(one)
    assert {path: opened.read(path) for path in ONE} == ONE
    files = opened.manifest.files
    assert [files[path].packed is not None for path in ONE] == [True, False, True, False]
    assert opened.manifest.provenance["packed_by"].startswith("zstd ")
    assert one.stat().st_size < 35_000


def test_packed_bundles_are_reproducible(tmp_path, make_manifest, one):
    """From files instead of bytes, in another order, elsewhere: the same bytes."""
    folder = tmp_path / "files"
    folder.mkdir()
    sources = {}
    for path, data in reversed(ONE.items()):
        (folder / path).write_bytes(data)
        sources[path] = folder / path
    again = packed(tmp_path / "again", make_manifest(contents=ONE), sources)
    assert again.read_bytes() == one.read_bytes()


def test_patches_are_listed_where_they_save_a_fifth(two, one):
    opened = open_bundle(two)
    deltas = {path: entry.deltas for path, entry in opened.manifest.files.items()}
    base = hashlib.sha256(ONE["model-a.tflite"]).hexdigest()
    assert [delta.base_sha256 for delta in deltas["model-a.tflite"]] == [base]
    assert deltas["model-a.tflite"][0].length_bytes < 500
    assert not any(deltas[path] for path in ("model-b.tflite", "card.toml", "empty.txt"))
    assert opened.has_deltas
    assert not open_bundle(one).has_deltas


def test_a_stick_has_no_patches_and_half_of_them_is_no_bundle(two, tmp_path):
    """All patches or none; none: the rest is whole."""
    stick = tmp_path / "stick.rookery"
    copy_bundle(two, stick, {}, deltas=False)
    opened = open_bundle(stick)
    assert not opened.has_deltas
    assert opened.read("model-a.tflite") == TWO["model-a.tflite"]
    assert opened.manifest_bytes == open_bundle(two).manifest_bytes


def test_retrained_weights_get_no_patch(tmp_path, make_manifest, one):
    """Nothing shared: a patch as large as the file is not listed."""
    files = {**ONE, "model-a.tflite": random.Random(9).randbytes(50_000)}
    out = packed(tmp_path / "x", make_manifest(contents=files, version="3"), files, [open_bundle(one)])
    assert not any(entry.deltas for entry in open_bundle(out).manifest.files.values())


def test_write_bundle_takes_no_packed_manifest(tmp_path, one):
    manifest = open_bundle(one).manifest
    with pytest.raises(BundleError, match="travels packed"):
        write_bundle(tmp_path / "x.rookery", manifest, ONE)


def signed(fleet, bundle):
    """The bundle with the fleet's chain in it."""
    opened = open_bundle(bundle)
    channel = roles.add_release(fleet.channel(), target_path("stable", "yard", opened.manifest.version), opened.manifest_bytes)
    roles.sign(channel, fleet.signers["stable-1"])
    chain = {"1.root.json": fleet.root.to_bytes(), "targets.json": fleet.targets.to_bytes(), "stable.json": channel.to_bytes()}
    add_metadata(bundle, chain)
    return chain


def test_a_packed_bundle_with_patches_verifies(two, fleet):
    signed(fleet, two)
    assert isinstance(verify_bundle(two, fleet.root.to_bytes(), fleet.now_s), Verified)
    copy_bundle(two, two, open_bundle(two).metadata(), deltas=False)
    assert isinstance(verify_bundle(two, fleet.root.to_bytes(), fleet.now_s), Verified)


LIES = {
    "a bomb": lambda: (bytes(30 * 1024 * 1024), 1000),
    "another file": lambda: (b"y" * 1000, 1000),
    "shorter than signed": lambda: (b"y" * 900, 1000),
}


@pytest.mark.parametrize("name", LIES)
def test_a_releaser_who_signed_what_does_not_unpack(tmp_path, make_manifest, fleet, name):
    """Every signature holds, and the packed form is a bomb or another file: verify unpacks and refuses."""
    data, length_bytes = LIES[name]()
    frame = b"".join(pack(BytesIO(data), len(data)))
    if len(frame) >= length_bytes:
        pytest.fail("the frame must be smaller for this story")
    wanted = b"x" * length_bytes
    lying = FileEntry(
        sha256=hashlib.sha256(wanted).hexdigest(), length_bytes=length_bytes,
        packed=Packed(sha256=hashlib.sha256(frame).hexdigest(), length_bytes=len(frame)),
    )  # fmt: skip
    manifest = make_manifest()
    manifest = msgspec.structs.replace(manifest, files={**manifest.files, "extra.bin": lying})
    contents = {entry.sha256: data for entry, data in zip(make_manifest().files.values(), (b"tpu", b"cpu", b"card"), strict=True)}
    out = tmp_path / "yard-1.rookery"
    write_contents(out, manifest, {**contents, travelling(lying)[0]: frame})
    signed(fleet, out)
    outcome = verify_bundle(out, fleet.root.to_bytes(), fleet.now_s)
    assert isinstance(outcome, Refusal)
    assert (outcome.code, "extra.bin" in outcome.detail) == ("hash", True), outcome


def rotated(fleet, by, following=None):
    root = roles.next_version(following or fleet.root)
    for name in by:
        roles.sign(root, fleet.signers[name])
    return root


def test_boards_with_any_root_of_the_chain_verify(two, fleet):
    """Signed under root 3, with all roots in it: right for whoever trusts 1, 2 or 3. Without root 1 and 2: for 3 alone."""
    chain = signed(fleet, two)
    second = rotated(fleet, ("root-1", "root-2"))
    third = rotated(fleet, ("root-2", "root-3"), second)
    roots = {"1.root.json": fleet.root, "2.root.json": second, "3.root.json": third}
    add_metadata(two, {name: root.to_bytes() for name, root in roots.items()})
    for root in roots.values():
        outcome = verify_bundle(two, root.to_bytes(), fleet.now_s)
        assert isinstance(outcome, Verified), outcome
        assert outcome.versions["root"] == 3
    copy_bundle(two, two, {**chain, "3.root.json": third.to_bytes()}, deltas=True)
    outcome = verify_bundle(two, fleet.root.to_bytes(), fleet.now_s)
    assert outcome.code == "signature"  # root 3 does not follow 1: a root beyond the chain is no decoration
    del chain["1.root.json"]
    copy_bundle(two, two, {**chain, "3.root.json": third.to_bytes()}, deltas=True)
    assert isinstance(verify_bundle(two, third.to_bytes(), fleet.now_s), Verified)


def test_a_bundle_older_than_the_boards_root(two, fleet):
    """Signed under root 1; the board is at 3 already, and the channel's keys are the same: still right."""
    signed(fleet, two)
    third = rotated(fleet, ("root-2", "root-3"), rotated(fleet, ("root-1", "root-2")))
    assert isinstance(verify_bundle(two, third.to_bytes(), fleet.now_s), Verified)


# Containers that hostile hands made


def test_a_container_of_65535_entries_is_refused_by_its_last_22_bytes(tmp_path):
    """An end record that counts 65,535 entries in 4 GB: nothing of it is read."""
    out = tmp_path / "x.rookery"
    with out.open("wb") as file:
        file.truncate(3_000_000_000)  # sparse: it takes no room
        file.seek(0, 2)
        file.write(end_record(65_535, 1_000_000, 2_999_000_000))
    with pytest.raises(BundleError, match="entries, the limit is"):
        open_bundle(out)


def test_a_directory_that_names_content_beyond_the_file(tmp_path, make_manifest):
    """Lengths and offsets that lead out of the file, or into another entry."""
    manifest = encode_manifest(make_manifest())
    out = tmp_path / "x.rookery"
    write_entries(out, [("manifest.json", [manifest])])
    good = out.read_bytes()
    directory = len(good) - 22 - 46 - len("manifest.json")
    for at, value in ((20, 2**32 - 1), (24, 2**32 - 1), (42, 7), (42, 2**32 - 1)):
        data = bytearray(good)
        data[directory + at : directory + at + 4] = value.to_bytes(4, "little")
        out.write_bytes(data)
        with pytest.raises(BundleError):
            open_bundle(out)


SLIPS = ["../evil", "/etc/passwd", "files/../../x", "files/" + "g" * 64, "metadata/../x.json", "C:\\x", ""]


@pytest.mark.parametrize("name", SLIPS)
def test_names_that_lead_elsewhere_are_not_read(tmp_path, make_manifest, name):
    """Zip-slip by name, in the one form that bundles have otherwise."""
    out = tmp_path / "x.rookery"
    write_entries(out, [("manifest.json", [encode_manifest(make_manifest())]), (name, [b"x"])])
    with pytest.raises(BundleError, match="does not belong"):
        open_bundle(out)


NO_METADATA = [b"", b"{}", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"null", b'{"signatures":[],"signed":{}}']


@pytest.mark.parametrize("data", NO_METADATA, ids=range(7))
def test_metadata_that_is_none(two, fleet, data):
    """Nested, empty, binary: a refusal by signature, whatever it is."""
    chain = signed(fleet, two)
    for name in chain:
        copy_bundle(two, two, {**chain, name: data}, deltas=True)
        outcome = verify_bundle(two, fleet.root.to_bytes(), fleet.now_s)
        assert isinstance(outcome, Refusal)
        assert outcome.code == "signature"


def test_too_many_metadata_files(two, fleet):
    chain = signed(fleet, two)
    copy_bundle(two, two, {**chain, **{f"{n}.root.json": b"{}" for n in range(2, 400)}}, deltas=True)
    outcome = verify_bundle(two, fleet.root.to_bytes(), fleet.now_s)
    assert (outcome.code, "metadata files" in outcome.detail) == ("format", True)


def test_a_file_that_shrinks_while_it_is_packed(tmp_path, make_manifest):
    """The build reads a model that another program is writing: refused, nothing half-written stays."""
    (tmp_path / "m").write_bytes(ONE["model-a.tflite"])
    manifest = make_manifest(contents=ONE)
    (tmp_path / "m").write_bytes(ONE["model-a.tflite"][:-5])
    (tmp_path / "work").mkdir()
    with pytest.raises((BundleError, ValueError)):
        write_contents(
            tmp_path / "x.rookery",
            (release := pack_release(manifest, {**ONE, "model-a.tflite": tmp_path / "m"}, tmp_path / "work")).manifest,
            release.contents,
        )
    assert not (tmp_path / "x.rookery").exists()


def test_the_entry_knows_where_it_lies(one):
    """Header, content, next entry: no byte between."""
    entries = list(open_bundle(one).entries.values())
    assert isinstance(entries[0], Entry)
    assert [entry.offset_bytes for entry in entries[1:]] == [entry.end_bytes for entry in entries[:-1]]
    assert [entry.name for entry in entries[1:]] == sorted(FILES + sha256 for sha256 in contents_of(open_bundle(one)))
