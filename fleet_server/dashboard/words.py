"""How figures are said to a person: template filters. Pure."""

from datetime import UTC, datetime

from fleet_server.errors import ServerError
from ota.wire.deployments import REASONS

_BY_SIGN = {
    "●": "online ok committed finished done agree applied",
    "◐": "running open trial trying selftest downloading verifying staging offered",
    "○": "pending waiting offline pending_offline unverified superseded cancelled idle ended unreadable",
    "▲": "paused held refused rolled_back lost disagree failed rejected missing",
    "■": "revoked aborted decommissioned",
}
SIGNS = {word: sign for sign, words in _BY_SIGN.items() for word in words.split()}
"""State is sign, word and colour: colour alone tells nobody who cannot see it."""
TONES = {"●": "good", "◐": "busy", "○": "calm", "▲": "bad", "■": "over"}


def sign(state: str) -> str:
    """The sign of a state."""
    return SIGNS.get(state, "○")


def tone(state: str) -> str:
    """The colour class of a state."""
    return TONES[sign(state)]


def say(word: str) -> str:
    """A machine's word as people write it: ``rolled_back`` is ``rolled back``."""
    return word.replace("_", " ")


def meaning(reason: str) -> str:
    """What a reason code of a refusal or a roll-back means; empty for one that is not known here."""
    return REASONS.get(reason, "")


def sentence(error: ServerError) -> str:
    """What was wrong and what to do about it, as a person reads it."""
    parts = [part[:1].upper() + part[1:] for part in (error.detail, error.hint) if part]
    return ". ".join(parts) + "."


def browser(agent: str) -> str:
    """``Chrome 126 on Linux`` for what a browser says of itself; its own words, shortened, where they are none of these."""
    kinds = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("HeadlessChrome/", "Chrome"), ("Chrome/", "Chrome"))
    found = next(((sign, name) for sign, name in kinds if sign in agent), None)
    systems = ("Android", "iPhone", "iPad", "Windows", "Mac OS X", "Linux")
    system = next((name for name in systems if name in agent), "")
    if found is not None:
        version = agent.partition(found[0])[2].partition(".")[0][:4]
        return f"{found[1]} {version}".strip() + (f" on {system}" if system else "")
    if "Safari/" in agent and system:
        return f"Safari on {system}"
    return agent[:80]


def duration(seconds: float) -> str:
    """``30 min`` for a span of time."""
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size_s or seconds == size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(at_s: float | None, now_s: float) -> str:
    """``3 min ago`` for an instant in seconds since 1970."""
    if not at_s:
        return "never"
    seconds = max(0.0, now_s - at_s)
    for unit, size_s in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size_s:
            return f"{int(seconds // size_s)} {unit} ago"
    return f"{int(seconds)} s ago"


def instant(at_s: float | None) -> str:
    """An instant in UTC, to the second."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S") if at_s else "–"


def amount(count_bytes: float | None) -> str:
    """Bytes, with the unit that makes them short."""
    value = float(count_bytes or 0)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: the last unit always returns")


def share(part: float | None, whole: float | None) -> str:
    """``4.2 %`` of a whole, a dash where there is none."""
    return f"{100 * float(part or 0) / float(whole):.1f} %" if whole else "–"


def number(value: float | None, digits: int = 1) -> str:
    """A figure with so many digits after the point, a dash where it is not known."""
    return "–" if value is None else f"{value:.{digits}f}"
