"""One word for a key wherever it lives: what it means, what is refused, and that what is not named is not needed."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.trust.errors import KeyFileError
from ota.trust.expiry_warnings import expiry_warnings
from ota.trust.keys_disk import generate_key
from ota.trust.signers import parse_reference

ROOT = Path(__file__).resolve().parents[2]
DAY_S = 86_400.0


@pytest.mark.parametrize(("text", "parts"), [
    ("keys/ada.pem", {"kind": "file", "path": "keys/ada.pem"}),
    ("C:/ada.pem", {"kind": "file", "path": "C:/ada.pem"}),
    ("awskms:alias/stable", {"kind": "kms", "path": "alias/stable"}),
    ("awskms:arn:aws:kms:eu-west-1:1:key/2", {"kind": "kms", "path": "arn:aws:kms:eu-west-1:1:key/2"}),
    ("hsm:", {"kind": "token", "keyid": 2, "token": ""}),
    ("hsm:9?label=YubiKey+PIV+%23158", {"kind": "token", "keyid": 9, "token": "YubiKey PIV #158"}),
    ("pkcs11:token=My%20Token;object=root", {"kind": "token", "token": "My Token", "label": "root", "keyid": None}),
    ("pkcs11:id=%01%02?module-path=/lib/p11.so&pin-source=file:/run/pin",
     {"kind": "token", "keyid": 258, "module": "/lib/p11.so", "pin_file": "/run/pin"}),
])  # fmt: skip
def test_what_a_reference_means(text: str, parts: dict[str, object]) -> None:
    found = parse_reference(text)
    assert {name: getattr(found, name) for name in parts} == parts


@pytest.mark.parametrize(("text", "said"), [
    ("", "no key"),
    ("awskms:", "no key is named"),
    ("hsm:x", "KEYID"),
    ("pkcs11:", "which key"),
    ("pkcs11:token=T", "which key"),
    ("pkcs11:object=a;object=b", "no part of"),
    ("pkcs11:colour=red;object=a", "no part of"),
    ("pkcs11:object=a?pin-value=1234", "list of processes"),
    ("pkcs11:object=a?x=1", "nothing else"),
    ("pkcs11:object=a?PIN-VALUE=1234", "list of processes"),
    ("pkcs11:object=a?pin%2Dvalue=1234", "list of processes"),
    ("hsm:1?pin=1234", "list of processes"),
    ("pkcs11:object=a;pin-value=1234", "list of processes"),
    ("awskms:x?pin=1234", "list of processes"),
    ("pkcs11:object=a;secret1234", "no part of"),
    ("hsm:secret1234", "KEYID"),
    ("pkcs11:id=%00%01", "zero byte"),
    ("gcpkms:projects/p", "are not used here"),
    ("sigstore:", "are not used here"),
])  # fmt: skip
def test_what_is_no_reference(text: str, said: str) -> None:
    """A PIN in a reference above all: everybody on the machine could read it."""
    with pytest.raises(KeyFileError, match=said) as refused:
        parse_reference(text)
    assert "1234" not in str(refused.value)


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_sentence(text: str) -> None:
    for scheme in ("", "pkcs11:", "hsm:", "awskms:"):
        try:
            found = parse_reference(scheme + text)
        except KeyFileError:
            continue
        assert found.kind in ("file", "token", "kms")


def test_what_is_not_named_is_not_needed(tmp_path: Path) -> None:
    """A machine of the base install has neither boto3 nor python-pkcs11: key files work, the others say what to install."""
    generate_key(tmp_path / "ada.pem", None)
    code = (
        "import sys\n"
        "for name in ('boto3', 'botocore', 'botocore.exceptions', 'pkcs11'): sys.modules[name] = None\n"
        "from ota.trust.errors import KeyFileError\n"
        "from ota.trust.signers_disk import open_signer\n"
        f"open_signer({str(tmp_path / 'ada.pem')!r}, lambda what: b'').sign(b'text')\n"
        "for reference in ('awskms:alias/x', 'pkcs11:object=x'):\n"
        "    try:\n"
        "        open_signer(reference, lambda what: b'')\n"
        "    except KeyFileError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "pip install 'rookery[kms]'" in done.stdout
    assert "pip install 'rookery[hsm]'" in done.stdout


def test_ends_are_told_in_time_and_the_most_urgent_first() -> None:
    now_s = 1_000_000.0
    ends = {
        "root": now_s + 29 * DAY_S, "targets": now_s + 31 * DAY_S, "stable": now_s + 13.5 * DAY_S, "beta": now_s + 15 * DAY_S,
        "policy": now_s - 1, "snapshot": now_s + 1.5 * DAY_S, "timestamp": now_s + 7 * 3600,
    }  # fmt: skip
    found = expiry_warnings(ends, now_s)
    assert [one.role for one in found] == ["policy", "snapshot", "stable", "root"]
    assert [one.expired for one in found] == [True, False, False, False]
    assert "stable expires in 13 days; push a release, or sign it anew: rookery key resign stable FOLDER" in found[2].text
    assert "is its worker running?" in found[1].text


@given(st.floats(-1e9, 1e9), st.sampled_from(["root", "targets", "snapshot", "timestamp", "stable", "policy"]))
def test_what_was_warned_of_stays_warned_of(left_s: float, role: str) -> None:
    """As time passes a warning never goes away by itself."""
    first, later = expiry_warnings({role: left_s}, 0.0), expiry_warnings({role: left_s}, 3600.0)
    assert len(later) >= len(first)
    assert all(one.expired == (one.left_s <= 0) for one in first + later)
