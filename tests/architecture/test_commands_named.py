"""Commands that pages and messages name are there: `rookery release list` was told to people for months, and never existed."""

import re
from pathlib import Path

import click

from fleet_server.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("README.md", "docs", "fleet_server", "ota", "device_agent", "models", "provisioning")
BEFORE, AFTER = r"(?:`|run: |with: |\$ |^|it: |first: )", r"(?=[ `\"',.;:)\n]|$)"
NAMED = re.compile(BEFORE + r"rookery ([a-z][a-z-]*(?: [a-z][a-z-]*)?)" + AFTER, re.MULTILINE)


def known(words: list[str]) -> bool:
    """Whether these words begin a command: a verb, or a group and one of its verbs."""
    context = click.Context(cli)
    first = cli.get_command(context, words[0])
    if not isinstance(first, click.Group) or len(words) == 1:
        return first is not None
    return first.get_command(context, words[1]) is not None


def test_every_command_that_is_named_exists() -> None:
    """Pages and messages of every part, against the verbs that click knows."""
    assert known(["bundle", "list"])
    assert not known(["release", "list"])
    places = [ROOT / place for place in PLACES]
    files = [one for place in places for one in ([place] if place.is_file() else sorted(place.rglob("*")))]
    unknown, seen = [], 0
    for file in files:
        if file.suffix not in (".md", ".py") or "decisions" in file.parts:
            continue
        for found in NAMED.finditer(file.read_text(encoding="utf-8")):
            seen += 1
            if not known(found[1].split()):
                unknown.append(f"{file.relative_to(ROOT)}: rookery {found[1]}")
    assert seen > 60
    assert unknown == []
