"""docs/security.md, "Checking a bundle by hand": its own lines, run by a shell, on the committed bundle and on spoilt ones."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ota.bundle.archive_disk import read_entries, read_entry, write_entries
from ota.bundle.offline_chain import root_fingerprint
from ota.bundle.reader_disk import open_bundle
from ota.bundle.writer_disk import copy_bundle

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / "bundles"


def page() -> str:
    text = (ROOT / "docs" / "security.md").read_text()
    section = text.split("## Checking a bundle by hand\n", 1)[1].split("\n## ", 1)[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", page()], cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Bundle and root as somebody has them who wants to look himself."""
    for name in ("yard-1.rookery", "root.json"):
        shutil.copy(FIXTURES / name, tmp_path)
    return tmp_path


def test_the_page_verifies_the_committed_bundle(place: Path) -> None:
    """Every line as it stands there: two root signatures, targets, channel and model hold, the fingerprint is the CLI's."""
    done = run(place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Verified OK") == 5, done.stdout
    assert f"fingerprint {root_fingerprint((place / 'root.json').read_bytes())}" in done.stdout
    assert "nothing else is in it" in done.stdout
    assert done.stdout.count("ends 2120-01-01T00:00:00Z") == 3


def spoil_content(bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    entry = next(one for name, one in read_entries(bundle).items() if name.startswith("files/"))
    data[entry.start_bytes] ^= 1
    bundle.write_bytes(data)


def spoil_signature(bundle: Path) -> None:
    chain = open_bundle(bundle).metadata()
    data = chain["stable.json"]
    at = data.index(b'"sig":"') + 60
    chain["stable.json"] = data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]
    copy_bundle(bundle, bundle, chain, deltas=True)


def hide_bytes(bundle: Path) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data[:-2] + b"\5\0extra")


def leave_out(bundle: Path) -> None:
    """A content entry less, the container in its one form."""
    entries = read_entries(bundle)
    gone = next(name for name in entries if name.startswith("files/"))
    write_entries(bundle, [(name, [b"".join(read_entry(bundle, one))]) for name, one in entries.items() if name != gone])


def resign(bundle: Path, signatures: dict[str, str] | None) -> None:
    """The channel's metadata with these signatures in place of its own; None: with those of a stranger besides."""
    chain = open_bundle(bundle).metadata()
    said = json.loads(chain["stable.json"])
    stranger = [{"keyid": "ab" * 32, "sig": "3045"}]
    said["signatures"] = said["signatures"] + stranger if signatures is None else []
    chain["stable.json"] = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    copy_bundle(bundle, bundle, chain, deltas=True)


def nobody_signed(bundle: Path) -> None:
    resign(bundle, {})


def a_stranger_signed(bundle: Path) -> None:
    resign(bundle, None)


def foreign_next_root(bundle: Path) -> None:
    """2.root.json that its own (old) keys have not signed."""
    chain = open_bundle(bundle).metadata()
    said = json.loads(chain["1.root.json"])
    said["signed"]["version"] = 2
    chain["2.root.json"] = json.dumps(said, separators=(",", ":"), sort_keys=True).encode()
    copy_bundle(bundle, bundle, chain, deltas=True)


@pytest.mark.parametrize(
    "spoil", [spoil_content, spoil_signature, hide_bytes, leave_out, nobody_signed, a_stranger_signed, foreign_next_root]
)
def test_the_page_finds_what_is_wrong(place: Path, spoil) -> None:
    """One byte of content or of a signature, a comment behind the end, a file left out, no signature, one of a stranger, a next
    root that the old one's signers have not signed: a line of the page fails.
    """
    spoil(place / "yard-1.rookery")
    assert run(place).returncode != 0
