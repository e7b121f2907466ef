"""The checklists of what must be shown name tests: each of them must exist, or the line is a promise without proof."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECISIONS = ROOT / "docs" / "decisions"
CHECKLISTS = [
    (DECISIONS / "0001-acceptance-of-the-first-loop.md", 44),
    (DECISIONS / "0005-acceptance-of-the-eye.md", 54),
    (DECISIONS / "0008-acceptance-of-bundles-and-installs.md", 52),
    (DECISIONS / "0011-acceptance-of-identity-and-doors.md", 59),
]
ALL = pytest.mark.parametrize(("checklist", "lines"), CHECKLISTS, ids=[path.stem[:4] for path, _ in CHECKLISTS])


@ALL
def test_every_named_test_exists(checklist: Path, lines: int) -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", checklist.read_text())
    assert len(named) > lines // 2
    missing = []
    for file, test in named:
        path = ROOT / "tests" / file
        if not path.is_file() or not re.search(rf"^\s*def {test}\(", path.read_text(), re.MULTILINE):
            missing.append(f"{file}::{test}")
    assert missing == []


@ALL
def test_every_line_names_a_proof_or_says_why_not(checklist: Path, lines: int) -> None:
    found = [line for line in checklist.read_text().splitlines() if re.match(r"\d+\. ", line)]
    assert len(found) == lines
    assert [line for line in found if not re.search(r"::test_|by hand|not done: |docs/evidence/", line)] == []


@ALL
def test_every_named_evidence_exists(checklist: Path, lines: int) -> None:
    named = re.findall(r"`(docs/evidence/[\w.]+)`", checklist.read_text())
    assert [name for name in named if not (ROOT / name).is_file()] == []
