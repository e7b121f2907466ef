"""Which enrolment rule lets a board in that brings no claim, and why none does. Pure.

What a board says of itself is its own word: whoever knows the pattern can claim to fit it. So every rule ends, lets in only so
many a day, and never a second board with a serial number that a device has already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAX_PATTERN = 64
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Rule:
    """An enrolment rule. Empty ``profile`` or ``serial`` (a pattern with * and ?) mean any; ``most_per_day``: in any 24 h."""

    id: str
    profile: str
    serial: str
    group: str
    most_per_day: int
    until_s: float
    created_s: float
    created_by: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """``rule`` lets the board in (None: none does); ``reasons`` says of each rule that was looked at why, or why not."""

    rule: Rule | None
    reasons: tuple[tuple[str, str], ...]
    """(id of the rule, or empty where the fault is the board's alone; in words)."""


def decide(
    rules: Sequence[Rule], *, serial: str, profile: str, let_in: Mapping[str, int], taken_by: str, now_s: float
) -> Verdict:
    """The first rule (in this order) that lets the board in. ``let_in``: boards by rule in the last 24 h; ``taken_by``: the
    device that bears this serial number already, empty for none."""
    reasons: list[tuple[str, str]] = []
    if taken_by:
        return Verdict(None, (("", f"the device {taken_by} has this serial number: a person decides"),))
    if not serial:
        return Verdict(None, (("", "the board says no serial number: a person decides"),))
    for rule in rules:
        problem = _problem(rule, serial, profile, let_in.get(rule.id, 0), now_s)
        if not problem:
            return Verdict(rule, (*reasons, (rule.id, f"lets it in, into the group {rule.group}")))
        reasons.append((rule.id, problem))
    return Verdict(None, tuple(reasons) or (("", "there is no rule"),))


def _problem(rule: Rule, serial: str, profile: str, let_in: int, now_s: float) -> str:
    if rule.until_s < now_s:
        return "has ended"
    if rule.profile and rule.profile != profile:
        return f"is for boards of profile {rule.profile}; this one is {profile}"
    if not fits(rule.serial, serial):
        return f"is for serial numbers like {rule.serial}"
    if let_in >= rule.most_per_day:
        return f"has let in its {rule.most_per_day} boards of a day"
    return ""


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text fits a pattern with * (anything) and ? (one character), capitals or not; an empty pattern fits all.

    By hand and in at most len(pattern) × len(text) steps: the text is a stranger's, and a regular expression could be made to
    think for ever.
    """
    if not pattern:
        return True
    pattern, text = pattern.lower(), text.lower()
    at = place = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in ("?", text[at]):
            place, at = place + 1, at + 1
        elif star >= 0:
            resume += 1
            place, at = star + 1, resume
        else:
            return False
    return all(letter == "*" for letter in pattern[place:])
