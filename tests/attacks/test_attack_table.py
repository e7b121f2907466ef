"""The two tables of docs/security.md are promises: each row names tests, all of them are there, and no attack is left out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
LISTED = (
    "arbitrary", "rollback", "freeze", "fast-forward", "mix-and-match", "endless data", "slow retrieval", "wrong hardware",
    "replayed assignment", "equal seq with another digest", "assignment for another device", "channel not in the policy",
    "a captured server that widens masks", "a captured server that widens thresholds", "a captured server that widens hosts",
    "a compromised online server", "one lost release key", "expired metadata", "a clock at 1970", "a clock at 2099",
    "a server certificate younger than the board's clock", "a server restored from yesterday", "zip-slip paths", "symlinks",
    "10^6 files in a manifest", "decompression bombs", "0-byte files", "a disk full at every write", "a read-only disk",
    "two agents at once", "power lost in a trial three times", "the link lost in a trial", "a night without motion in a trial",
)  # fmt: skip
KEYS = ("no key", "one release key", "one root key", "the timestamp key", "the snapshot key", "the assignment key",
        "all online keys", "one device's key", "an operator's token")  # fmt: skip


def rows(title: str) -> dict[str, str]:
    """First cell -> last cell of the table below a title; "the same" is what stands above."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    found, above = {}, ""
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and not set(line) <= set("|- ") and cells[-1] != "shown by":
            above = cells[-1].replace("the same", above)
            found[cells[0]] = above
    return found


TABLES = {title: rows(title) for title in ("Who can do what with which stolen key", "Attacks and accidents")}


@pytest.mark.parametrize("title", TABLES)
def test_every_row_names_tests_that_exist(title: str) -> None:
    missing = []
    for row, shown in TABLES[title].items():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", shown)
        assert named, f"{row}: no test"
        for file, test in named:
            path = ROOT / file
            if not path.is_file() or not re.search(rf"^\s*def {test}\(", path.read_text(), re.MULTILINE):
                missing.append(f"{row}: {file}::{test}")
    assert missing == []


def test_no_attack_and_no_key_is_left_out() -> None:
    keys, attacks = TABLES.values()
    assert set(LISTED) <= set(attacks), sorted(set(LISTED) - set(attacks))
    assert set(KEYS) <= set(keys), sorted(set(KEYS) - set(keys))
