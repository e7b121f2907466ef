"""docs/security.md, "Checking a bundle by hand": its own lines, run by a shell, on the committed bundle and on spoilt ones."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ota.bundle.archive_disk import read_entries
from ota.bundle.offline_chain import root_fingerprint
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
    assert done.stdout.count("Verified OK") == 5
    assert f"fingerprint {root_fingerprint((place / 'root.json').read_bytes())}" in done.stdout
    assert "nothing else is in it" in done.stdout
    assert done.stdout.count('"expires":"2120-01-01T00:00:00Z"') == 3


def spoil_content(bundle: Path) -> None:
    data = bytearray(bundle.read_bytes())
    entry = next(one for name, one in read_entries(bundle).items() if name.startswith("files/"))
    data[entry.start_bytes] ^= 1
    bundle.write_bytes(data)


def spoil_signature(bundle: Path) -> None:
    from ota.bundle.reader_disk import open_bundle

    chain = open_bundle(bundle).metadata()
    data = chain["stable.json"]
    at = data.index(b'"sig":"') + 60
    chain["stable.json"] = data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]
    copy_bundle(bundle, bundle, chain, deltas=True)


def hide_bytes(bundle: Path) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data[:-2] + b"\5\0extra")


@pytest.mark.parametrize("spoil", [spoil_content, spoil_signature, hide_bytes])
def test_the_page_finds_what_is_wrong(place: Path, spoil) -> None:
    """One byte of content, of a signature, a comment behind the end: a line of the page fails."""
    spoil(place / "yard-1.rookery")
    assert run(place).returncode != 0
