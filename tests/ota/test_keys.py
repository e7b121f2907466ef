"""Key files: sealed so that a stolen laptop does not sign, never overwritten, readable by the tools that people have."""

import base64
import os
import shutil
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from ota.trust import roles
from ota.trust.errors import KeyFileError, TrustError
from ota.trust.key_types import Signature
from ota.trust.keys import encrypt_pkcs8, key_from_dict, key_id, key_to_dict
from ota.trust.keys_disk import generate_key, load_signer

PHRASE = "korrekt häst".encode()


def test_a_sealed_key_signs_again(tmp_path):
    path = tmp_path / "people" / "root.pem"
    key = generate_key(path, PHRASE)
    signer = load_signer(path, PHRASE)
    assert signer.public_key == key
    key.verify_signature(signer.sign(b"text"), b"text")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert [one.name for one in path.parent.iterdir()] == ["root.pem"]


def test_the_seal_is_scrypt(tmp_path):
    """cryptography's own writer would use PBKDF2 with 2,048 rounds; openssl, where it is there, says what is in the file."""
    path = tmp_path / "key.pem"
    generate_key(path, b"secret word")
    der = base64.b64decode("".join(path.read_text().splitlines()[1:-1]))
    assert bytes.fromhex("06092b06010401da47040b") in der
    assert (2**14).to_bytes(2, "big") in der
    if shutil.which("openssl") is None:
        return
    parsed = subprocess.run(["openssl", "asn1parse", "-in", path], capture_output=True, text=True, check=True).stdout
    assert "scrypt" in parsed
    assert "PBKDF2" not in parsed
    read = subprocess.run(
        ["openssl", "pkey", "-in", path, "-passin", "pass:secret word", "-noout"], capture_output=True, text=True
    )
    assert read.returncode == 0, read.stderr


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "key.pem"
    generate_key(path, None)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_key(path, PHRASE)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["key.pem"]


def test_a_lax_umask_does_not_open_the_file(tmp_path):
    before = os.umask(0)
    try:
        generate_key(tmp_path / "key.pem", None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("phrase", [None, b"", b"wrong"])
def test_without_the_passphrase(tmp_path, phrase):
    generate_key(tmp_path / "key.pem", PHRASE)
    with pytest.raises(KeyFileError, match="passphrase"):
        load_signer(tmp_path / "key.pem", phrase)


def test_an_empty_passphrase_is_not_a_passphrase(tmp_path):
    with pytest.raises(KeyFileError, match="empty"):
        generate_key(tmp_path / "key.pem", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "data", [b"", b"text", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"x" * 100_000]
)
def test_a_file_that_is_no_key(tmp_path, data):
    (tmp_path / "key.pem").write_bytes(data)
    with pytest.raises(KeyFileError):
        load_signer(tmp_path / "key.pem", PHRASE)
    with pytest.raises(KeyFileError, match="no such"):
        load_signer(tmp_path / "none.pem", PHRASE)


def test_other_kinds_of_key_are_refused_and_other_seals_are_read(tmp_path):
    (tmp_path / "ed.pem").write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(KeyFileError, match="P-256"):
        load_signer(tmp_path / "ed.pem", None)
    other = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PHRASE)
    )
    (tmp_path / "theirs.pem").write_bytes(other)
    load_signer(tmp_path / "theirs.pem", PHRASE)


def test_public_keys_travel_as_tuf_dicts(tmp_path):
    key = generate_key(tmp_path / "key.pem", None)
    data = key_to_dict(key)
    assert key_id(data) == key.keyid
    assert key_from_dict(data) == key
    assert key_from_dict(data, key.keyid) == key


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"keytype": "rsa"},
        {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab"}},
        {"keytype": 1, "scheme": 2, "keyval": 3},
    ],
)
def test_what_is_no_public_key_of_ours(data):
    with pytest.raises(TrustError):
        key_from_dict(data)


def test_the_envelope_checks_its_arguments():
    with pytest.raises(ValueError, match="16 bytes"):
        encrypt_pkcs8(b"x", b"y", b"short", b"z" * 16)


def test_a_threshold_that_cannot_be_met(tmp_path):
    key = generate_key(tmp_path / "key.pem", None)
    with pytest.raises(TrustError, match="cannot be met"):
        roles.new_targets({"stable": roles.ChannelKeys([key, key], 2)}, [key], 2e9)
    with pytest.raises(TrustError, match="no key"):
        roles.new_root({"root": [key]}, {}, 2e9)
    with pytest.raises(TrustError, match="cannot be the name"):
        roles.new_targets({"snapshot": roles.ChannelKeys([key])}, [key], 2e9)


def test_a_draft_keeps_its_version_until_somebody_signs(fleet):
    one, two = fleet.release("1"), fleet.release("2", counter=2)
    draft = roles.add_release(roles.new_channel(2e9), "stable/yard/1/manifest.json", one)
    draft = roles.add_release(draft, "stable/yard/2/manifest.json", two)
    assert draft.signed.version == 1
    assert len(draft.signed.targets) == 2
    roles.sign(draft, fleet.signers["stable-1"])
    with pytest.raises(TrustError, match="never changes"):
        roles.add_release(draft, "stable/yard/1/manifest.json", fleet.release("1", counter=5))
    following = roles.remove_target(draft, "stable/yard/1/manifest.json")
    assert following.signed.version == 2
    assert following.signatures == {}
    assert len(draft.signed.targets) == 2
    with pytest.raises(TrustError, match="where"):
        roles.add_release(draft, "stable/yard/3/manifest.json", one)
    with pytest.raises(TrustError):
        roles.remove_target(draft, "stable/none/1/manifest.json")
    with pytest.raises(TrustError):
        roles.add_acceptance(draft, "stable/yard/1/acceptance.json", b"{}")


def test_a_signature_by_one_key_counts_once(fleet):
    """Somebody repeats a signature under an id that the delegation does not name: it adds nothing."""
    status = roles.signature_status(fleet.targets, fleet.root)
    assert status.complete
    assert status.signed == (fleet.key("targets").keyid,)
    fleet.targets.signatures["00" * 32] = Signature("00" * 32, fleet.targets.signatures[fleet.key("targets").keyid].signature)
    assert roles.signature_status(fleet.targets, fleet.root).signed == status.signed
    with pytest.raises(TrustError):
        roles.signature_status(fleet.targets, fleet.root, "nobody")


def test_a_releaser_does_not_build_on_what_a_captured_server_hands_out(fleet):
    """The server slips a release of its own into the channel file that the releaser fetches, hoping to have it signed along."""
    fleet.publish("1")
    good = fleet.repository.channel_metadata("stable")
    assert roles.present_channel(good, fleet.targets, "stable", 2e9).signed.version == 1
    assert roles.present_channel(None, fleet.targets, "stable", 2e9).signed.targets == {}
    evil = fleet.release("6", counter=6)
    slipped = roles.add_release(roles.parse_metadata(good, "stable"), "stable/yard/6/manifest.json", evil)
    for data in (slipped.to_bytes(), good.replace(b"yard/1/", b"yard/7/"), fleet.root.to_bytes(), b"{}"):
        with pytest.raises(TrustError):
            roles.present_channel(data, fleet.targets, "stable", 2e9)
