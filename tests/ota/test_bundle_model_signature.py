"""``model.sig``: what others' tools wrote is read here, and what is written here holds for openssl."""

import base64
import hashlib
import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from ota.bundle.errors import BundleError
from ota.bundle.model_signature import (
    check_covers,
    key_hint,
    pre_authentication,
    read_model_signature,
    sign_model,
    statement,
)

SIGNME_1 = hashlib.sha256(b"signme-1\n").hexdigest()
VECTORS = Path(__file__).resolve().parents[1] / "fixtures" / "bundles" / "model_signatures"
REFERENCE_KEY = (VECTORS / "reference.pub").read_bytes()


def test_vectors_of_the_reference_implementation_hold():
    """Written by its releases 1.0.0 and 1.1.0: signature, statement and files are read as meant, and the key's hint is ours."""
    assert read_model_signature((VECTORS / "v1.0.0.sig").read_bytes(), [REFERENCE_KEY]) == {".": SIGNME_1}
    files = read_model_signature((VECTORS / "v1.1.0.sig").read_bytes(), [REFERENCE_KEY])
    assert files == {"signme-1": SIGNME_1, "signme-2": "32dcb1f8e1ae52d5963e56a6ba06ab58b424c15ed2a6b70d2feca1d089370028"}
    assert key_hint(REFERENCE_KEY) == "e8450dec4eb99dae995da9af1bc2cc9f76ed669ee2e744f57abba763df3e3f8e"


def test_a_changed_vector_does_not():
    whole = json.loads((VECTORS / "v1.1.0.sig").read_bytes())
    payload = bytearray(base64.b64decode(whole["dsseEnvelope"]["payload"]))
    payload[payload.index(b"signme-1")] ^= 1
    whole["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(BundleError, match="does not hold"):
        read_model_signature(json.dumps(whole).encode(), [REFERENCE_KEY])


@pytest.fixture(scope="module")
def key():
    return ec.generate_private_key(ec.SECP256R1())


def pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


FILES = {"model.tflite": hashlib.sha256(b"m").hexdigest(), "card.toml": hashlib.sha256(b"c").hexdigest()}


def signed(key, payload):
    return sign_model(payload, lambda data: key.sign(data, ec.ECDSA(hashes.SHA256())), pem(key))


def test_openssl_agrees(key, tmp_path):
    """The envelope taken apart by hand: DSSE's encoding, ECDSA with SHA-256, the digest over the digests."""
    whole = json.loads(signed(key, statement("yard-1", FILES)))
    payload = base64.b64decode(whole["dsseEnvelope"]["payload"])
    (tmp_path / "signed").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(whole["dsseEnvelope"]["signatures"][0]["sig"]))
    (tmp_path / "key.pem").write_bytes(pem(key))
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "signed"], cwd=tmp_path, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "Verified OK")
    said = json.loads(payload)
    over = hashlib.sha256(bytes.fromhex(FILES["card.toml"]) + bytes.fromhex(FILES["model.tflite"])).hexdigest()
    assert said["subject"] == [{"name": "yard-1", "digest": {"sha256": over}}]
    assert [one["name"] for one in said["predicate"]["resources"]] == ["card.toml", "model.tflite"]
    assert whole["verificationMaterial"]["publicKey"]["hint"] == hashlib.sha256(pem(key)).hexdigest()


def test_what_was_signed_is_read_and_must_be_all(key):
    data = signed(key, statement("yard-1", FILES))
    found = read_model_signature(data, [pem(ec.generate_private_key(ec.SECP256R1())), pem(key)])
    check_covers(found, FILES)
    for other, said in (
        ({**FILES, "more": "00" * 32}, "'more' is in the release but not signed"),
        ({"card.toml": FILES["card.toml"]}, "'model.tflite' is signed but not in the release"),
        ({**FILES, "card.toml": "00" * 32}, "'card.toml' is not the file"),
    ):
        with pytest.raises(BundleError, match=said):
            check_covers(found, other)


def test_a_strangers_key_and_other_curves(key):
    data = signed(key, statement("yard-1", FILES))
    with pytest.raises(BundleError, match="none of the keys"):
        read_model_signature(data, [pem(ec.generate_private_key(ec.SECP256R1()))])
    with pytest.raises(BundleError, match="none of the keys"):
        read_model_signature(data, [])
    with pytest.raises(BundleError, match="P-256"):
        read_model_signature(data, [pem(ec.generate_private_key(ec.SECP256K1()))])
    with pytest.raises(BundleError, match="not a public key"):
        read_model_signature(data, [b"hello"])


def altered(change):
    said = json.loads(statement("yard-1", FILES))
    change(said)
    return json.dumps(said).encode()


@pytest.mark.parametrize(("payload", "problem"), [
    (altered(lambda said: said.update(predicateType="https://slsa.dev/provenance/v1")), "statement of type"),
    (altered(lambda said: said.update(subject=[])), "more than one subject"),
    (altered(lambda said: said["subject"][0]["digest"].update(sha256="00" * 32)), "not that of the files"),
    (altered(lambda said: said["predicate"]["resources"].append(said["predicate"]["resources"][0])), "twice"),
    (altered(lambda said: said["predicate"]["resources"][0].update(algorithm="blake2b")), "something else than sha256"),
    (altered(lambda said: said["predicate"]["resources"][0].update(digest="zz")), "not hexadecimal"),
    (b"[1, 2]", "not a model signature"), (b"hello", "not a model signature"), (b"[" * 100_000, "not a model signature"),
], ids=range(9))  # fmt: skip
def test_a_rightly_signed_statement_that_says_something_else(key, payload, problem):
    """A releaser's key, another tool's statement: refused for what it says."""
    with pytest.raises(BundleError, match=problem):
        read_model_signature(signed(key, payload), [pem(key)])


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=3))
@settings(max_examples=100, deadline=None)
def test_damaged_files_are_bundle_errors(key, damage):
    whole = bytearray(signed(key, statement("yard-1", FILES)))
    for at, value in damage:
        whole[at % len(whole)] = value  # a signature is now and then a byte shorter
    try:
        assert read_model_signature(bytes(whole), [pem(key)]) == FILES  # a byte outside of what is signed
    except BundleError:
        pass


def test_dsse_pre_authentication_is_the_protocols_example():
    """The example of DSSE's protocol page: type and payload with their lengths."""
    assert pre_authentication(b"hello") == b"DSSEv1 28 application/vnd.in-toto+json 5 hello"
