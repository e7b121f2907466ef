"""``policy.toml``: what is allowed on this board. Written at provisioning, changed only locally; no server can widen it. Pure."""

import re
import tomllib
from dataclasses import dataclass, fields
from typing import Any

_CHANNEL = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
MAX_TEXT_CHARS = 100_000


class PolicyError(ValueError):
    """A policy that cannot be used; ``faults`` holds one sentence for each thing that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("policy.toml cannot be used: " + "; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Policy:
    """What this board allows; the defaults are the safest that still let it be updated.

    ``channels``: release lines that may be installed. ``local_install``: a USB stick may install without an assignment.
    ``window_utc``: minutes since midnight UTC between which an update may begin (over midnight too), None is any time.
    ``max_temp_c``: no update begins above it. ``debug_sessions``, ``diagnostics``: a server may ask for logs, for diagnostics.
    """

    channels: tuple[str, ...] = ("stable",)
    local_install: bool = False
    window_utc: tuple[int, int] | None = None
    max_temp_c: float = 85.0
    debug_sessions: bool = True
    diagnostics: bool = False
    note: str = ""
    """Where it came from, for people."""


def missing_policy() -> Policy:
    """What holds where there is no file."""
    return Policy(note="no policy.toml on this board: only the channel stable, nothing local, no diagnostics")


def load_policy(text: str) -> Policy:
    """The policy that a TOML text describes; raises PolicyError with ALL faults at once, unknown keys among them."""
    if len(text) > MAX_TEXT_CHARS:
        raise PolicyError([f"the text is longer than {MAX_TEXT_CHARS} characters"])
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError([f"not TOML: {error}"]) from None
    known = {field.name for field in fields(Policy)} - {"note"}
    faults = [f"unknown key {key!r} (known: {', '.join(sorted(known))})" for key in sorted(set(raw) - known)]
    values: dict[str, Any] = {}
    for key in sorted(set(raw) & known):
        value = _value(key, raw[key], faults)
        if value is not None:
            values[key] = value
    if faults:
        raise PolicyError(faults)
    return Policy(**values, note="policy.toml")


def _value(key: str, found: object, faults: list[str]) -> object:
    if key == "channels":
        if isinstance(found, list) and found and all(isinstance(one, str) and _CHANNEL.fullmatch(one) for one in found):
            return tuple(dict.fromkeys(found))
        faults.append("channels must be a list of at least one channel name (a-z, 0-9 and '-')")
    elif key == "window_utc":
        matches = [_TIME.fullmatch(one) if isinstance(one, str) else None for one in found] if isinstance(found, list) else []
        minutes = [int(one[1]) * 60 + int(one[2]) for one in matches if one]
        if len(matches) == len(minutes) == 2 and minutes[0] != minutes[1]:
            return (minutes[0], minutes[1])
        faults.append('window_utc must be two different times like ["22:00", "04:30"]')
    elif key == "max_temp_c":
        if isinstance(found, int | float) and not isinstance(found, bool) and 0 < found <= 120:
            return float(found)
        faults.append("max_temp_c must be a number above 0 and at most 120")
    elif isinstance(found, bool):
        return found
    else:
        faults.append(f"{key} must be true or false")
    return None
