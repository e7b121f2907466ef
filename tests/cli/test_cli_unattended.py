"""A build machine releases by itself: its key lives in AWS KMS, nobody types anything, and no file on it could be stolen.

KMS is moto's: the real boto3 over real HTTP, with real ECDSA keys behind it. moto signs a digest as if it were the message; the
fixture makes it do what AWS does with MessageType=DIGEST.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.utils import ECDSAPrivateKey
from moto.server import ThreadedMotoServer

RENDERED = Path(__file__).resolve().parents[2] / "models" / "rendered"
SPEC = """
name = "yard"
version = "1"
channel = "stable"
counter = 1
hardware = ["*"]
created_s = 1700000000

[[variant]]
id = "cpu-int8"
accelerator = "cpu"
model = "model_int8.tflite"
card = "card.toml"
"""


@dataclass(frozen=True)
class Cloud:
    """KMS as a build machine reaches it: by environment, as the SDK reads it."""

    environment: dict[str, str]
    client: Any

    def key(self, alias: str, spec: str = "ECC_NIST_P256") -> str:
        made = self.client.create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)["KeyMetadata"]["KeyId"]
        self.client.create_alias(AliasName=f"alias/{alias}", TargetKeyId=made)
        return f"awskms:alias/{alias}"


def sign_digest(key: Any, message: bytes, signing_algorithm: str) -> bytes:
    """As AWS does: what comes is the digest."""
    assert (signing_algorithm, len(message)) == ("ECDSA_SHA_256", 32)
    return key.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    as_it_came = ECDSAPrivateKey.sign
    ECDSAPrivateKey.sign = sign_digest
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL_KMS": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "a-build-machine",
        "AWS_SECRET_ACCESS_KEY": "not-a-real-secret", "AWS_DEFAULT_REGION": "eu-central-1",
    }  # fmt: skip
    client = boto3.client(
        "kms", endpoint_url=environment["AWS_ENDPOINT_URL_KMS"], region_name="eu-central-1", aws_access_key_id="a-build-machine",
        aws_secret_access_key="not-a-real-secret",
    )  # fmt: skip
    yield Cloud(environment, client)
    server.stop()
    ECDSAPrivateKey.sign = as_it_came


@pytest.fixture(scope="module")
def built(rookery, signed_in, cloud: Cloud, workplace: Path) -> Path:
    """A root of two people whose channel is signed by a key in KMS, in force on the server; and a bundle, not signed yet."""
    release = cloud.key("release")
    (workplace / "words").write_text("a passphrase of four words\n")
    for name in ("ada", "ben"):
        assert rookery("key", "generate", f"{name}.pem", "--passphrase-file", "words").code == 0
    assert rookery("key", "online", "online.json").code == 0
    made = rookery(
        "key", "create", "trust", "--root-key", "ada.pem.pub", "--root-key", "ben.pem.pub", "--channel", f"stable={release}",
        "--online", "online.json", **cloud.environment,
    )  # fmt: skip
    assert made.code == 0, made.err
    for name in ("ada", "ben"):
        assert rookery("key", "sign", "--yes", "trust", "--key", f"{name}.pem", "--passphrase-file", "words").code == 0
    assert rookery("key", "push", "trust").code == 0
    folder = workplace / "yard-1"
    folder.mkdir()
    for name in ("model_int8.tflite", "card.toml"):
        shutil.copy(RENDERED / "releases" / "yard-1" / name, folder)
    (folder / "bundle.toml").write_text(SPEC)
    done = rookery("bundle", "build", folder)
    assert done.code == 0, done.err
    return workplace / "yard-1.rookery"


def test_a_build_machine_releases_by_itself(rookery, built: Path, cloud: Cloud, workplace: Path) -> None:
    """No terminal, no passphrase, no key file: signed by KMS, verified by the root, pushed, and listed by the server."""
    signed = rookery("bundle", "sign", built, "--key", "awskms:alias/release", **cloud.environment)
    assert signed.code == 0, signed.err
    verified = rookery("bundle", "verify", built, "--root", "trust/root.json")
    assert verified.code == 0, verified.err
    pushed = rookery("bundle", "push", built)
    assert pushed.code == 0, pushed.err
    listed = rookery("bundle", "list")
    assert "yard@1" in listed.out, listed.out + listed.err
    assert "not-a-real-secret" not in signed.out + signed.err + pushed.out + pushed.err
    assert not [path for path in workplace.rglob("*") if path.is_file() and b"not-a-real-secret" in path.read_bytes()]


def test_openssl_agrees_with_what_kms_signed(rookery, built: Path, cloud: Cloud, workplace: Path) -> None:
    """The public half that is exported is a key like any other."""
    done = rookery("key", "export", "awskms:alias/release", "release.pub", **cloud.environment)
    assert done.code == 0, done.err
    public = json.loads((workplace / "release.pub").read_text())["keyval"]["public"]
    shown = subprocess.run(
        ["openssl", "pkey", "-pubin", "-noout", "-text"], input=public, capture_output=True, text=True, check=True
    ).stdout
    assert "prime256v1" in shown


@pytest.mark.parametrize(
    ("reference", "environment", "said"),
    [
        ("awskms:alias/nobody", {}, "alias/nobody"),
        ("awskms:", {}, "no key is named"),
        ("awskms:alias/other", {}, "is not a release key of channel stable"),
        ("awskms:alias/rsa", {}, "P-256"),
        ("awskms:alias/release", {"AWS_ENDPOINT_URL_KMS": "http://127.0.0.1:1"}, "127.0.0.1:1"),
    ],
)
def test_what_a_build_log_says_when_it_cannot_sign(rookery, built: Path, cloud: Cloud, reference, environment, said) -> None:
    """A wrong name, another's key, another kind of key, no way to KMS: one sentence, an exit code, and the bundle as it was."""
    if not cloud.client.list_aliases()["Aliases"] or "alias/other" not in str(cloud.client.list_aliases()):
        cloud.key("other")
        cloud.key("rsa", "RSA_2048")
    before = built.read_bytes()
    answer = rookery("bundle", "sign", built, "--key", reference, **{**cloud.environment, **environment})
    assert answer.code not in (0, 1)
    assert said in answer.err, answer.err
    assert built.read_bytes() == before


def test_an_answer_that_is_no_signature_is_not_built_upon(rookery, built: Path, cloud: Cloud, monkeypatch) -> None:
    """Something between us and KMS answers with another signature: nothing is written, and nobody finds it out at a board."""
    before = built.read_bytes()
    strangers = ec.generate_private_key(ec.SECP256R1())
    forged = lambda key, message, signing_algorithm: strangers.sign(message, ec.ECDSA(hashes.SHA256()))  # noqa: E731
    monkeypatch.setattr(ECDSAPrivateKey, "sign", forged)
    answer = rookery("bundle", "sign", built, "--key", "awskms:alias/release", **cloud.environment)
    assert (answer.code, "no signature of this key" in answer.err) == (5, True), answer.err
    assert built.read_bytes() == before
