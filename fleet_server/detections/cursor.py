"""Where a page of detections ended, as opaque text: clients hand it back and look for nothing in it."""

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet_server.errors import InvalidError

MAX_CHARS = 400


@dataclass(frozen=True, slots=True)
class Position:
    """One event in the order of the list: newest start first, then device, then event id. No two events share one."""

    started_at_s: float
    device: str
    event: str


def write_cursor(position: Position) -> str:
    """The position as text for a URL; floats come back exactly."""
    text = json.dumps([position.started_at_s, position.device, position.event])
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(text: str) -> Position:
    """The position that ``write_cursor`` wrote; InvalidError for anything else."""
    try:
        if len(text) > MAX_CHARS:
            raise ValueError("too long")
        started_at_s, device, event = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if not (isinstance(started_at_s, float | int) and isinstance(device, str) and isinstance(event, str)):
            raise TypeError("not a number and two texts")
        if not math.isfinite(started_at_s) or "\0" in device + event:
            raise ValueError("out of range")
        (device + event).encode()
        return Position(float(started_at_s), device, event)
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidError(f"cursor {text[:40]!r} is not one of ours", "give back `next` of the page before, unchanged") from None


def following(page: Sequence[Mapping[str, Any]]) -> str:
    """The cursor of the page behind this one, which is not empty; items as ``listing.detections`` gives them."""
    last = page[-1]
    return write_cursor(Position(last["started_at_s"], last["device"], last["id"]))
