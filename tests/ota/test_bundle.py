"""The bundle file: the same bytes wherever it is packed, and nothing accepted that does not belong."""

import hashlib
import os
import stat
import struct
import warnings
import zipfile

import pytest

from ota.bundle.errors import BundleError, Refusal
from ota.bundle.manifest import FileEntry, encode_manifest
from ota.bundle.reader_disk import open_bundle, verify_bundle
from ota.bundle.writer_disk import add_metadata, file_entry, write_bundle
from ota.trust import roles

CONTENTS = {"model-a.tflite": b"tpu" * 5000, "model-b.tflite": b"cpu" * 5000, "card.toml": b"[input]\n"}
DAY_S = 86_400.0


@pytest.fixture
def bundle(tmp_path, make_manifest):
    out = tmp_path / "out" / "yard-1.rookery"
    write_bundle(out, make_manifest(contents=CONTENTS), CONTENTS)
    return out


def test_reproducible_to_the_byte(tmp_path, make_manifest):
    """Packed twice: from bytes and from files, in other folders, at other times, under another umask, in another order."""
    manifest = make_manifest(contents=CONTENTS)
    one = write_bundle(tmp_path / "a" / "yard-1.rookery", manifest, CONTENTS)
    elsewhere = tmp_path / "b" / "c"
    elsewhere.mkdir(parents=True)
    for index, (path, data) in enumerate(reversed(CONTENTS.items())):
        (elsewhere / path).write_bytes(data)
        (elsewhere / path).chmod(0o700)
        os.utime(elsewhere / path, (index * 10**8, index * 10**8))
    before = os.umask(0o077)
    try:
        two = write_bundle(elsewhere / "yard-1.rookery", manifest, {path: elsewhere / path for path in reversed(CONTENTS)})
    finally:
        os.umask(before)
    assert one == two == hashlib.sha256((tmp_path / "a" / "yard-1.rookery").read_bytes()).hexdigest()
    assert stat.S_IMODE((elsewhere / "yard-1.rookery").stat().st_mode) == 0o644


def test_what_went_in_comes_out(bundle, make_manifest):
    opened = open_bundle(bundle)
    assert opened.manifest == make_manifest(contents=CONTENTS)
    assert opened.manifest_sha256 == hashlib.sha256(encode_manifest(opened.manifest)).hexdigest()
    assert {path: opened.read(path) for path in opened.files()} == CONTENTS
    assert opened.metadata() == {}
    with pytest.raises(BundleError, match="not in this bundle"):
        opened.read("../manifest.json")


def test_metadata_is_added_and_replaced_and_the_rest_stays(bundle):
    add_metadata(bundle, {"targets.json": b"{}", "1.root.json": b"{}"})
    first = bundle.read_bytes()
    add_metadata(bundle, {"targets.json": b"{}"})
    assert bundle.read_bytes() == first
    add_metadata(bundle, {"stable.json": b"[]"})
    opened = open_bundle(bundle)
    assert opened.metadata() == {"1.root.json": b"{}", "stable.json": b"[]", "targets.json": b"{}"}
    assert opened.read("card.toml") == CONTENTS["card.toml"]
    with pytest.raises(BundleError):
        add_metadata(bundle, {"../evil.json": b"{}"})
    assert open_bundle(bundle).metadata() == opened.metadata()


@pytest.mark.parametrize(
    "files",
    [
        {key: CONTENTS[key] for key in list(CONTENTS)[:2]},
        {**CONTENTS, "extra": b"x"},
        {**CONTENTS, "card.toml": b"other"},
    ],
)
def test_files_must_be_those_of_the_manifest(tmp_path, make_manifest, files):
    out = tmp_path / "yard-1.rookery"
    with pytest.raises(BundleError):
        write_bundle(out, make_manifest(contents=CONTENTS), files)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_one_content_under_two_paths_is_packed_once(tmp_path, make_manifest):
    twice = {**CONTENTS, "copy.tflite": CONTENTS["model-a.tflite"]}
    out = tmp_path / "yard-1.rookery"
    write_bundle(out, make_manifest(contents=twice), twice)
    with zipfile.ZipFile(out) as archive:
        assert len([name for name in archive.namelist() if name.startswith("files/")]) == 3
    assert open_bundle(out).read("copy.tflite") == CONTENTS["model-a.tflite"]


def repacked(bundle, change):
    """The bundle's entries after `change(list of (ZipInfo, bytes))`, packed as the attacker likes."""
    with zipfile.ZipFile(bundle) as archive:
        entries = [(info, archive.read(info)) for info in archive.infolist()]
    change(entries)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of duplicate names, which is the point here
        with zipfile.ZipFile(bundle, "w") as archive:
            for info, data in entries:
                archive.writestr(info, data)


def plain(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o100644 << 16
    return info


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def squeezed(name):
    info = plain(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


A_HASH = hashlib.sha256(CONTENTS["card.toml"]).hexdigest()

WRONG = {
    "zip slip": (lambda entries: entries.append((plain("../../etc/cron.d/evil"), b"x")), "does not belong"),
    "absolute": (lambda entries: entries.append((plain("/etc/passwd"), b"x")), "does not belong"),
    "stranger": (lambda entries: entries.append((plain("README"), b"x")), "does not belong"),
    "folder": (lambda entries: entries.append((plain("files/"), b"")), "does not belong"),
    "unlisted content": (lambda entries: entries.append((plain("files/" + "ab" * 32), b"x")), "not listed"),
    "twice": (lambda entries: entries.append(entries[1]), "twice"),
    "second manifest": (lambda entries: entries.append(entries[0]), "twice"),
    "symlink": (lambda entries: entries.__setitem__(1, (link(entries[1][0].filename), b"/etc/shadow")), "not a plain file"),
    "bomb": (lambda entries: entries.append((squeezed("metadata/bomb.json"), b"\0" * 50_000_000)), "compressed"),
    "missing content": (lambda entries: entries.pop(1), "not in the bundle"),
    "missing manifest": (lambda entries: entries.pop(0), "missing"),
    "empty": (lambda entries: entries.clear(), "missing"),
    "truncated content": (lambda entries: entries.__setitem__(1, (entries[1][0], entries[1][1][:-1])), "the manifest says"),
    "huge manifest": (lambda entries: entries.__setitem__(0, (entries[0][0], b" " * 600_000 + entries[0][1])), "the limit is"),
    "NUL in a name": (lambda entries: entries.append((plain("manifest.json2"), b"x")), "does not belong"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_belong_is_refused_with_its_reason(bundle, name):
    change, reason = WRONG[name]
    repacked(bundle, change)
    with pytest.raises(BundleError, match=reason):
        open_bundle(bundle)
    refused = verify_bundle(bundle, b"{}", 0.0)
    assert isinstance(refused, Refusal)
    assert refused.code == "format"


def test_a_nul_byte_does_not_hide_the_rest_of_a_name(bundle):
    """zipfile cuts names at a NUL: the name that counts is the one in the file."""
    repacked(bundle, lambda entries: entries.append((plain("metadata/a.jsonXevil"), b"x")))
    bundle.write_bytes(bundle.read_bytes().replace(b"metadata/a.jsonXevil", b"metadata/a.json\0evil"))
    with pytest.raises(BundleError):
        open_bundle(bundle)


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip at all", b"PK\x05\x06" + b"\xff" * 18])
def test_a_file_that_is_no_bundle(tmp_path, data):
    path = tmp_path / "x.rookery"
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"not a bundle|missing"):
        open_bundle(path)


def test_a_bundle_cut_in_half(bundle):
    bundle.write_bytes(bundle.read_bytes()[: bundle.stat().st_size // 2])
    with pytest.raises(BundleError, match="not a bundle"):
        open_bundle(bundle)


def test_a_missing_file_and_a_wrong_name(tmp_path, make_manifest):
    with pytest.raises(BundleError, match="not there"):
        open_bundle(tmp_path / "none.rookery")
    with pytest.raises(BundleError, match=r"\.rookery"):
        write_bundle(tmp_path / "yard.zip", make_manifest(contents=CONTENTS), CONTENTS)


@pytest.fixture
def signed(fleet, tmp_path):
    """A signed bundle as `rookery bundle sign` leaves it, and the fleet that signed it."""
    manifest_bytes = fleet.release("1", put=False)
    from ota.bundle.manifest import parse_manifest

    manifest = parse_manifest(manifest_bytes)
    files = {path: f"{path} of yard@1 ".encode() * 900 for path in manifest.files}
    out = tmp_path / "yard-1.rookery"
    write_bundle(out, manifest, files)
    channel = fleet.signed_channel(manifest_bytes, "1")
    add_metadata(
        out, {"1.root.json": fleet.root.to_bytes(), "targets.json": fleet.targets.to_bytes(), "stable.json": channel.to_bytes()}
    )
    return out, fleet


def test_a_signed_bundle_verifies_without_a_network(signed):
    """A USB stick is carried to a board without a network."""
    out, fleet = signed
    verified = verify_bundle(out, fleet.root.to_bytes(), fleet.now_s)
    assert not isinstance(verified, Refusal), verified
    assert verified.path == "stable/yard/1/manifest.json"
    assert verified.versions == {"root": 1, "targets": 1, "stable": 1}


def test_every_flipped_byte_of_a_signed_bundle_is_found(signed):
    """One byte at a time, in every entry, from its first to its last: never verified."""
    out, fleet = signed
    good = out.read_bytes()
    with zipfile.ZipFile(out) as archive:
        spans = {}
        for info in archive.infolist():
            at = info.header_offset
            name_bytes, extra_bytes = struct.unpack("<HH", good[at + 26 : at + 30])
            start = at + 30 + name_bytes + extra_bytes
            spans[info.filename] = (start, start + info.file_size)
    root = fleet.root.to_bytes()
    for name, (start, end) in spans.items():
        if name == "metadata/1.root.json":
            continue  # the board's own root decides; a root of the same version in the bundle is not read as trust
        for offset in (start, start + 1, (start + end) // 2, (2 * start + end) // 3, end - 1):
            damaged = bytearray(good)
            damaged[offset] ^= 0x01
            out.write_bytes(bytes(damaged))
            outcome = verify_bundle(out, root, fleet.now_s)
            assert isinstance(outcome, Refusal), (name, offset - start)
            assert outcome.code in ("signature", "format", "hash"), outcome


def test_offline_refusals(signed, make_fleet, tmp_path):
    out, fleet = signed
    root = fleet.root.to_bytes()
    expired = verify_bundle(out, root, fleet.now_s + 61 * DAY_S)
    assert expired.code == "expired"
    assert "stable" in expired.detail
    assert verify_bundle(out, root, fleet.now_s + 181 * DAY_S).code == "expired"
    foreign = make_fleet()
    assert verify_bundle(out, foreign.root.to_bytes(), fleet.now_s).code == "signature"
    assert verify_bundle(out, b"not a root", fleet.now_s).code == "signature"
    assert verify_bundle(tmp_path / "none.rookery", root, fleet.now_s).code == "format"


def test_an_unsigned_bundle(bundle, fleet):
    refused = verify_bundle(bundle, fleet.root.to_bytes(), fleet.now_s)
    assert refused.code == "signature"
    assert "not signed" in refused.detail


def test_one_of_two_signed(make_fleet, tmp_path):
    fleet = make_fleet(channel_threshold=2)
    fleet.initialise()
    manifest_bytes = fleet.release("1")
    from ota.bundle.manifest import parse_manifest

    manifest = parse_manifest(manifest_bytes)
    out = tmp_path / "yard-1.rookery"
    write_bundle(out, manifest, {path: f"{path} of yard@1 ".encode() * 900 for path in manifest.files})
    channel = fleet.signed_channel(manifest_bytes, "1", by=("stable-2",))
    add_metadata(out, {"targets.json": fleet.targets.to_bytes(), "stable.json": channel.to_bytes()})
    assert verify_bundle(out, fleet.root.to_bytes(), fleet.now_s).code == "signature"
    roles.sign(channel, fleet.signers["stable-1"])
    add_metadata(out, {"stable.json": channel.to_bytes()})
    assert not isinstance(verify_bundle(out, fleet.root.to_bytes(), fleet.now_s), Refusal)


def test_a_manifest_swapped_for_another_is_not_authorised(signed, make_manifest):
    """The signatures of yard@1 around the content of something else."""
    out, fleet = signed
    metadata = open_bundle(out).metadata()
    write_bundle(out, make_manifest(contents=CONTENTS), CONTENTS)
    add_metadata(out, metadata)
    assert verify_bundle(out, fleet.root.to_bytes(), fleet.now_s).code == "hash"


def test_a_newer_root_in_the_bundle_is_followed(signed):
    """The stick brings root 2, signed by two of the board's three root keys."""
    out, fleet = signed
    rotated = roles.next_version(fleet.root)
    roles.sign(rotated, fleet.signers["root-1"])
    add_metadata(out, {"2.root.json": rotated.to_bytes()})
    assert verify_bundle(out, fleet.root.to_bytes(), fleet.now_s).code == "signature"
    roles.sign(rotated, fleet.signers["root-3"])
    add_metadata(out, {"2.root.json": rotated.to_bytes()})
    assert verify_bundle(out, fleet.root.to_bytes(), fleet.now_s).versions["root"] == 2


def test_file_entry(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        file_entry(tmp_path / "a") == file_entry(b"abc") == FileEntry(sha256=hashlib.sha256(b"abc").hexdigest(), length_bytes=3)
    )
