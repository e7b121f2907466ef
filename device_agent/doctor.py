"""What the doctor finds, and how it says it. Pure."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

State = Literal["ok", "note", "bad"]
MARKS: dict[State, str] = {"ok": "✓", "note": "!", "bad": "✗"}
SOMETHING_TO_DO = 5
"""Exit code when a check is bad: the board must be looked at, as for every BoardError."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of ``what``. ``state``: ok; note: worth knowing, the agent runs all the same; bad: something must be done.

    ``code`` is a word for programs, empty where all is well.
    ``detail`` says what was found, ``advice`` in one sentence what to do.
    """

    what: str
    state: State
    detail: str
    advice: str = ""
    code: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing must be done."""
        return self.state != "bad"

    def line(self) -> str:
        """For a terminal."""
        advice = f"\n  → {self.advice}" if self.advice and self.state != "ok" else ""
        return f"{MARKS[self.state]} {self.what:<12} {self.detail}{advice}"


def well(what: str, detail: str) -> Finding:
    """A check that found nothing wrong."""
    return Finding(what, "ok", detail)


def note(what: str, code: str, detail: str, advice: str) -> Finding:
    """Worth knowing: the agent runs all the same."""
    return Finding(what, "note", detail, advice, code)


def bad(what: str, code: str, detail: str, advice: str) -> Finding:
    """Something must be done."""
    return Finding(what, "bad", detail, advice, code)


def exit_code(findings: Sequence[Finding]) -> int:
    """0 where nothing must be done."""
    return 0 if all(finding.ok for finding in findings) else SOMETHING_TO_DO


def report(findings: Sequence[Finding], *, as_json: bool) -> str:
    """All findings for a terminal, with a last line that sums up; or as one JSON object for a program."""
    count = sum(not finding.ok for finding in findings)
    if as_json:
        return json.dumps({"ok": not count, "findings": [asdict(finding) for finding in findings]}, indent=1, ensure_ascii=False)
    verdict = f"{count} of {len(findings)} checks need attention: do what the lines marked with ✗ say" if count else "all is well"
    return "\n".join([*(finding.line() for finding in findings), verdict])
