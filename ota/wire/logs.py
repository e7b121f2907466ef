"""Log lines on their way from a device's ring to the server. Numbered per device like events."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ota.wire.base import Code, Count, Identifier, Instant, Message, Name, Part, Text

LEVELS = ("debug", "info", "warning", "error", "critical")


class LogLine(Part, frozen=True, kw_only=True):
    """One line. ``session`` is the debug session in which it was written, if any."""

    sequence: Count
    at_s: Instant
    level: Code
    logger: Name
    text: Text
    session: Identifier | None = None


class LogBatch(Message, frozen=True, kw_only=True):
    """Lines in order of ``sequence``. ``dropped`` counts lines that the rate limit or the ring lost since the batch before."""

    LIMIT_BYTES: ClassVar[int] = 1024 * 1024

    boot_id: Code
    lines: Annotated[list[LogLine], Meta(max_length=1000)]
    dropped: Count = 0
