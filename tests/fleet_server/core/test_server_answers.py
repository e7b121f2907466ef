"""What ``rookery-server`` answers on a terminal: its own lines, and none of a library's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ota.trust.keys_disk import generate_key, load_signer
from tests.fakes.release_fleet import ReleaseFleet


@pytest.mark.parametrize("level", ["", "debug"])
def test_check_says_nothing_of_keys_that_did_not_sign(tmp_path: Path, level: str) -> None:
    """Two people may sign for ``targets``, one of them did, as after a rotation to a second key: that is enough, and no line of
    the TUF library about the other stands between the lines of the answer. Who asks for debug logs still gets them."""
    fleet = ReleaseFleet(tmp_path)  # tmp_path/tuf and tmp_path/keys, as in a server's data folder
    fleet.publish("1")
    generate_key(tmp_path / "people" / "second.pem", None)
    second = load_signer(tmp_path / "people" / "second.pem", None)
    fleet.root.signed.add_key(second.public_key, "targets")
    fleet.root.signed.version += 1
    fleet.root.signatures.clear()
    fleet.root.sign(fleet._signers["root"], append=True)
    assert fleet.repository.initialise(fleet.root.to_bytes(), None) is None
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ROOKERY_")}
    done = subprocess.run(
        [sys.executable, "-m", "fleet_server", "check", "--data", str(tmp_path), "--broker", "none"],
        env=environment | ({"ROOKERY_LOG_LEVEL": level} if level else {}), capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert "releases: root 2" in said
    assert ("No signature for keyid" in said) == (level == "debug"), said
