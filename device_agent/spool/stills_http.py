"""Sends stills: slot, PUT, and forget. No batch follows: a still is stored when the store has its bytes."""

import logging
from collections.abc import Callable
from typing import Protocol

from device_agent.errors import BrokenOffError, ServerNonsenseError, ServerRefusedError
from device_agent.spool.entry import Crop, Waiting
from device_agent.spool.slow_line import SlowLine
from device_agent.spool.spool_disk import Outbox
from device_agent.spool.stills import StillInfo
from device_agent.spool.upload_rule import UploadRule
from ota.wire.events import UploadRequest, UploadSlot

AT_ONCE = 8
log = logging.getLogger(__name__)


class SlotDoor(Protocol):
    """What stills need of the server; each method raises ServerUnavailableError or ServerRefusedError."""

    def upload_slot(self, request: UploadRequest) -> UploadSlot:
        """Ask for a place for one blob."""
        ...

    def put_blob(self, slot: UploadSlot, data: bytes) -> None:
        """Put the bytes there; returns also when the same bytes were there already."""
        ...


def send_stills(outbox: Outbox, door: SlotDoor, rule: UploadRule, line: SlowLine, steady_s: Callable[[], float]) -> None:
    """Send the oldest stills. What policy, server or line do not let through is counted and forgotten, not kept."""
    for entry in outbox.waiting("stills", min(AT_ONCE, line.entries)):
        number = entry.header.sequence
        try:
            refused = _send(entry, door, rule)
        except BrokenOffError as error:
            if not line.crop_failed(f"still {number}", steady_s()):
                raise
            refused = ("slow_line", error.message)
        if refused is None:
            outbox.stored("stills", number)
        else:
            log.warning("spool: still %d is not sent: %s", number, refused[1])
            outbox.forget("stills", number, refused[0])


def _send(entry: Waiting, door: SlotDoor, rule: UploadRule) -> tuple[str, str] | None:
    """None when the store has it; else the reason to count and the words to log. Raises the link's errors."""
    info = StillInfo.of(entry.header.message)
    if not rule.lets_class(info.purpose):
        return "policy", f"this board's policy does not let pictures of class {info.purpose} out"
    if len(entry.crops) != 1 or entry.crops[0].jpeg is None:
        return "torn", "it holds no picture"
    still: Crop = entry.crops[0]
    request = UploadRequest(
        sha256=still.sha256, length_bytes=still.length_bytes, content_type=info.content_type, purpose=info.purpose, name=info.name
    )
    for last_try in (False, True):
        try:
            slot = door.upload_slot(request)
            if slot.present:
                return None
            if not rule.lets_slot(slot):
                return "upload_host", f"this board's policy lets no picture go to {slot.url[:80]!r}"
            door.put_blob(slot, entry.crops[0].jpeg)
        except ServerRefusedError as error:
            if error.status == 401:
                raise
            # A slot that expired on a slow link is asked for again, once.
            if error.status != 403 or last_try:
                return "refused", error.message
        except ServerNonsenseError as error:
            return "refused", error.message
        else:
            return None
    return None
