"""ruff's security rules run over everything that is delivered, and each exception says why beside it."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DELIVERED = ("device_agent", "fleet_server", "ota", "models", "provisioning", "hardware", "deploy")
NOQA = re.compile(r"#\s*noqa\b(?::\s*(?P<codes>[A-Z]+[0-9]+(?:\s*,\s*[A-Z]+[0-9]+)*))?(?P<reason>.*)")
GLOBAL = {"S101", "S311", "S603", "S607"}
"""May be ignored everywhere; may only shrink."""


def excepted() -> list[tuple[str, str, str]]:
    """(place, codes, reason) of each exception in what is delivered."""
    found = []
    for folder in DELIVERED:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = NOQA.search(line)
                if match:
                    found.append((f"{path.relative_to(ROOT)}:{number}", match["codes"] or "", match["reason"].strip(" #-–—")))
    return found


def test_each_exception_names_its_rule_and_its_reason() -> None:
    """A bare ``noqa`` switches every rule off for its line, and one without words cannot be judged by whoever reads it."""
    found = excepted()
    assert found
    assert [place for place, codes, _ in found if not codes] == []
    security = [(place, reason) for place, codes, reason in found if re.search(r"\bS[0-9]{3}\b", codes)]
    assert security
    assert [place for place, reason in security if len(reason.split()) < 3] == []


def test_the_security_rules_are_on_and_what_is_left_out_everywhere_says_why() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    ruff = tomllib.loads(text)["tool"]["ruff"]
    assert "S" in ruff["lint"]["select"]
    assert {code for code in ruff["lint"]["ignore"] if code.startswith("S") and code[1:].isdigit()} <= GLOBAL
    for code in GLOBAL:
        line = next(line for line in text.splitlines() if f'"{code}",' in line and "select" not in line)
        assert len(line.partition("#")[2].split()) >= 4, code
    files = ruff["lint"]["per-file-ignores"]
    for pattern, codes in files.items():
        for code in codes:
            if re.fullmatch(r"S[0-9]*", code) and pattern != "tests/**":
                line = next(line for line in text.splitlines() if f'"{pattern}"' in line)
                assert len(line.partition("#")[2].split()) >= 4, pattern
    assert ruff["extend-exclude"] == ["fleet_server/migrations/versions"]  # written by a tool, held to the tables by a test
    run = (ROOT / "run").read_text()
    assert "ruff check ." in run.partition("checks() {")[2].partition("\n}")[0]


def test_the_judge_sees_an_exception_without_a_reason() -> None:
    for line, codes, reason in (
        ("x = 1  # noqa", "", ""),
        ("x = 1  # noqa: S104", "S104", ""),
        ("x = 1  # noqa: S104  bound to nothing else", "S104", "bound to nothing else"),
        ("x = 1  # noqa: S105, S106  # a name, not a secret", "S105, S106", "a name, not a secret"),
    ):  # fmt: skip
        match = NOQA.search(line)
        assert match is not None
        assert (match["codes"] or "", match["reason"].strip(" #-–—")) == (codes, reason)
