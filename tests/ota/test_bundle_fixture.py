"""The committed bundle: accepted as it stands, refused with any bit of it changed, whatever the attacker repairs."""

import os
import random
import shutil
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ota.bundle.archive_disk import read_entries
from ota.bundle.errors import Refusal
from ota.bundle.offline_chain import root_fingerprint
from ota.bundle.reader_disk import Verified, open_bundle, verify_bundle
from ota.bundle.tuf_types import Metadata
from ota.bundle.writer_disk import copy_bundle
from ota.trust import roles
from ota.trust.keys_disk import generate_key, load_signer

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "bundles"
NOW_S = 1_790_000_000.0
pytestmark = pytest.mark.timeout(300)
ROOT = (FOLDER / "root.json").read_bytes()


@pytest.fixture
def bundle(tmp_path):
    """A copy that a test may spoil."""
    return Path(shutil.copy(FOLDER / "yard-1.rookery", tmp_path))


def refused(path, root=ROOT, now_s=NOW_S):
    outcome = verify_bundle(path, root, now_s)
    assert isinstance(outcome, Refusal), f"accepted: {outcome}"
    return outcome


def test_it_is_accepted_as_it_stands(bundle):
    outcome = verify_bundle(bundle, ROOT, NOW_S)
    assert isinstance(outcome, Verified), outcome
    assert outcome.versions == {"root": 1, "targets": 1, "stable": 1}
    assert bundle.stat().st_size <= 200 * 1024


def flipped(path, bits):
    """How each flip of one bit (offset, bit) fares: those that were accepted."""
    good = path.read_bytes()
    accepted = []
    with path.open("r+b", buffering=0) as file:
        for offset, bit in bits:
            os.pwrite(file.fileno(), bytes([good[offset] ^ 1 << bit]), offset)
            if not isinstance(verify_bundle(path, ROOT, NOW_S), Refusal):
                accepted.append((offset, bit))
            os.pwrite(file.fileno(), good[offset : offset + 1], offset)
    assert path.read_bytes() == good
    return accepted


def test_one_flipped_bit_in_every_byte_is_refused(bundle):
    """A cosmic ray, a bad card, a patient attacker: one bit of every byte, which one is drawn. All bits: the slow tier."""
    draw = random.Random(20261123)
    assert flipped(bundle, [(offset, draw.randrange(8)) for offset in range(bundle.stat().st_size)]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_flipped_bit_is_refused(bundle):
    """Each of the bundle's bits, one at a time."""
    bits = [(offset, bit) for offset in range(bundle.stat().st_size) for bit in range(8)]
    print(f"{len(bits)} bits flipped")
    assert flipped(bundle, bits) == []


def repaired(good, entries, offset, bit):
    """The bundle with one bit of content flipped and the two checksums of its entry made right again."""
    data = bytearray(good)
    data[offset] ^= 1 << bit
    entry = next(one for one in entries.values() if one.start_bytes <= offset < one.end_bytes)
    checksum = zlib.crc32(bytes(data[entry.start_bytes : entry.end_bytes])).to_bytes(4, "little")
    data[entry.offset_bytes + 14 : entry.offset_bytes + 18] = checksum
    listed = good.index(entry.name.encode(), max(one.end_bytes for one in entries.values())) - 46
    data[listed + 16 : listed + 20] = checksum
    return bytes(data)


def contents(entries, step, start=0):
    return [offset for entry in entries.values() for offset in range(entry.start_bytes + start, entry.end_bytes, step)]


def accepted_repaired(bundle, step, seed):
    good, entries, draw = bundle.read_bytes(), read_entries(bundle), random.Random(seed)
    accepted = []
    for offset in contents(entries, step, draw.randrange(step)):
        bit = draw.randrange(8)
        bundle.write_bytes(repaired(good, entries, offset, bit))
        if not isinstance(verify_bundle(bundle, ROOT, NOW_S), Refusal):
            accepted.append((offset, bit))
    bundle.write_bytes(good)
    return accepted


def test_a_flip_whose_checksum_was_repaired_is_refused(bundle):
    """The zip's own checksums are no protection: one bit of every ninth byte, checksums made right. All bytes: the slow tier."""
    assert accepted_repaired(bundle, 9, 1) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_flip_whose_checksum_was_repaired_is_refused(bundle):
    """One bit of every byte of content, checksums made right, three draws."""
    for seed in range(3):
        assert accepted_repaired(bundle, 1, seed) == []


def test_the_case_of_a_signature_is_not_free(bundle):
    """`a` and `A` are one bit apart and mean the same in hexadecimal: still not the same file."""
    good, entries = bundle.read_bytes(), read_entries(bundle)
    for name in ("metadata/1.root.json", "metadata/targets.json", "metadata/stable.json"):
        entry = entries[name]
        at = good.index(b'"sig":"', entry.start_bytes)
        letter = next(n for n in range(at + 7, entry.end_bytes) if good[n : n + 1] in b"abcdef")
        bundle.write_bytes(repaired(good, entries, letter, 5))
        assert refused(bundle).code == "signature"


def test_every_length_of_it_is_refused(bundle):
    """A copy that broke off, at any byte."""
    size = bundle.stat().st_size
    for length in range(size - 1, -1, -1):
        os.truncate(bundle, length)
        assert refused(bundle).code == "format"


@pytest.mark.parametrize("extra", [b"\0", b"x", b"PK\5\6" + bytes(18), b"PK\3\4" + bytes(200)], ids=["nul", "x", "end", "entry"])
def test_bytes_before_and_after_it_are_refused(bundle, extra):
    """Zip readers look for the end record from behind and pass over what comes first: this one does not."""
    good = bundle.read_bytes()
    for data in (good + extra, extra + good, good + good, good[:100] + extra + good[100:]):
        bundle.write_bytes(data)
        assert refused(bundle).code == "format"


def test_a_comment_an_extra_field_and_a_date_are_refused(bundle):
    """What zip allows and nobody signs: changed consistently, so that every zip reader accepts it."""
    good, entries = bundle.read_bytes(), read_entries(bundle)
    directory = max(one.end_bytes for one in entries.values())
    commented = good[:-2] + (5).to_bytes(2, "little") + b"hello"
    dated = bytearray(good)
    dated[12] ^= 1
    dated[directory + 14] ^= 1
    system = bytearray(good)
    system[directory + 5] = 0
    executable = bytearray(good)
    executable[directory + 40] ^= 0o111
    checksum = bytearray(good)  # the same wrong one in both places
    checksum[14] ^= 1
    checksum[directory + 16] ^= 1
    for data in (commented, bytes(dated), bytes(system), bytes(executable), bytes(checksum)):
        bundle.write_bytes(data)
        assert refused(bundle).code == "format"


def foreign_chain(bundle, folder):
    """The same release signed by somebody else's keys, from the root down."""
    old = {name: Metadata.from_bytes(data) for name, data in open_bundle(bundle).metadata().items()}
    for name in ("root", "targets", "stable"):
        generate_key(folder / f"{name}.pem", None)
    signers = {name: load_signer(folder / f"{name}.pem", None) for name in ("root", "targets", "stable")}
    public = {name: signer.public_key for name, signer in signers.items()}
    ends_s = datetime(2120, 1, 1, tzinfo=UTC).timestamp()
    keys = {"root": [public["root"]], "targets": [public["targets"]], "snapshot": [public["root"]], "timestamp": [public["root"]]}
    root = roles.new_root(keys, {"root": 1}, ends_s)
    targets = roles.new_targets({"stable": roles.ChannelKeys([public["stable"]])}, [public["root"]], ends_s)
    channel = old["stable.json"]
    channel.signatures.clear()
    for name, metadata in (("root", root), ("targets", targets), ("stable", channel)):
        roles.sign(metadata, signers[name])
    return {"1.root.json": root.to_bytes(), "targets.json": targets.to_bytes(), "stable.json": channel.to_bytes()}


def test_the_same_release_under_a_foreign_root_is_refused(bundle, tmp_path):
    """Somebody signs our content with keys of his own: whole, well-formed, and not ours. To keep our root file does not help."""
    chain = foreign_chain(bundle, tmp_path)
    copy_bundle(bundle, bundle, chain, deltas=True)
    assert refused(bundle).code == "signature"
    assert isinstance(verify_bundle(bundle, chain["1.root.json"], NOW_S), Verified)  # it is the root that decides, nothing else
    copy_bundle(bundle, bundle, {**chain, "1.root.json": ROOT}, deltas=True)
    assert refused(bundle).code == "signature"
    assert root_fingerprint(chain["1.root.json"]) != root_fingerprint(ROOT)


def test_expired_is_said_as_such_and_only_when_nothing_else_is_wrong(bundle):
    """In 2121: expired, by role. A flipped bit in the content of an expired bundle is still a wrong hash."""
    later_s = datetime(2121, 1, 1, tzinfo=UTC).timestamp()
    outcome = refused(bundle, now_s=later_s)
    assert (outcome.code, "root: expired 2120-01-01" in outcome.detail) == ("expired", True)
    good, entries = bundle.read_bytes(), read_entries(bundle)
    content = next(one for name, one in entries.items() if name.startswith("files/"))
    bundle.write_bytes(repaired(good, entries, content.start_bytes, 0))
    assert refused(bundle, now_s=later_s).code == "hash"


def test_metadata_that_decides_nothing_is_refused(bundle):
    """A snapshot, a root of a later version that nobody signed, a second root of the same version: no stowaways."""
    chain = open_bundle(bundle).metadata()
    root = Metadata.from_bytes(chain["1.root.json"])
    root.signed.version = 2
    for extra in ({"snapshot.json": b"{}"}, {"beta.json": chain["stable.json"]}, {"2.root.json": root.to_bytes()},
                  {"01.root.json": chain["1.root.json"]}, {"3.root.json": chain["1.root.json"]}):  # fmt: skip
        copy_bundle(bundle, bundle, {**chain, **extra}, deltas=True)
        assert refused(bundle).code == "signature"


def test_an_added_signature_is_refused(bundle, tmp_path):
    """A signature more than the threshold asks for, by a key of nobody: not passed over."""
    chain = open_bundle(bundle).metadata()
    generate_key(tmp_path / "stranger.pem", None)
    stranger = load_signer(tmp_path / "stranger.pem", None)
    for name in chain:
        metadata = Metadata.from_bytes(chain[name])
        metadata.sign(stranger, append=True)
        copy_bundle(bundle, bundle, {**chain, name: metadata.to_bytes()}, deltas=True)
        assert refused(bundle).code == "signature"


def test_pretty_printed_metadata_is_refused(bundle):
    """The same JSON with blanks: signatures hold, the bytes are not the one form."""
    chain = open_bundle(bundle).metadata()
    for name in chain:
        pretty = chain[name].replace(b'":', b'": ')
        copy_bundle(bundle, bundle, {**chain, name: pretty}, deltas=True)
        assert refused(bundle).code == "signature"
