"""What `rookery-server` can do stands in its help and in the README beside it: a way back that nobody finds is none."""

import argparse
import re
from pathlib import Path

from fleet_server.__main__ import _parser
from fleet_server.doors_http import DOORS

README = Path(__file__).resolve().parents[3] / "fleet_server" / "README.md"


def test_every_verb_stands_in_the_help_and_in_the_readme() -> None:
    """Somebody is locked out at night and looks for the verb: every one has its line, and no list leaves some out."""
    parser = _parser()
    (verbs,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    known = set(verbs.choices) - set(DOORS)
    helped = {line.dest for line in verbs._choices_actions if line.help}
    assert helped == known
    assert set(re.findall(r"^    rookery-server ([a-z-]+)", README.read_text(), re.MULTILINE)) == known
    assert not re.search(r"\brun, worker\b", parser.description or ""), "the list below has them all"
