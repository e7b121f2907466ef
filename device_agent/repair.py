"""What ``repair`` found and did, and how it says it. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "mended", "to_mend", "broken"]
MARKS: dict[State, str] = {"ok": "✓", "mended": "+", "to_mend": "~", "broken": "✗"}
STILL_BROKEN = 5
"""Exit code where something is left to do, as for every BoardError."""
WOULD_MEND = 1
"""Exit code of a dry run that would change something, and would leave nothing broken."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing looked at. ``mended``: put right now; ``to_mend``: would be, without --dry-run; ``broken``: a person must act."""

    what: str
    state: State
    detail: str
    advice: str = ""

    def line(self) -> str:
        """For a terminal."""
        advice = f"\n  → {self.advice}" if self.advice else ""
        return f"{MARKS[self.state]} {self.what:<10} {self.detail}{advice}"


def exit_code(found: Sequence[Found]) -> int:
    """0: nothing was wrong, or all was mended; 1: a dry run found what it would mend; 5: something is left for a person."""
    states = {one.state for one in found}
    if "broken" in states:
        return STILL_BROKEN
    return WOULD_MEND if "to_mend" in states else 0


def report(found: Sequence[Found], *, as_json: bool) -> str:
    """All of it for a terminal, with a last line that sums up; or as one JSON object for a program."""
    if as_json:
        return json.dumps({"exit_code": exit_code(found), "found": [asdict(one) for one in found]}, indent=1, ensure_ascii=False)
    count = {state: sum(one.state == state for one in found) for state in MARKS}
    words = [
        f"{count['mended']} mended" if count["mended"] else "",
        f"{count['to_mend']} would be mended" if count["to_mend"] else "",
        f"{count['broken']} need you: do what the lines marked with ✗ say" if count["broken"] else "",
    ]
    return "\n".join([*(one.line() for one in found), ", ".join(word for word in words if word) or "nothing was wrong"])
