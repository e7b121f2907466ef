"""What every message has in common: its version, and the value types that several messages share.

All messages are immutable structs. Unknown fields are ignored (a newer peer may say more), unknown versions are refused by the
codec. Times are seconds since 1970 UTC (``_s``), durations too; boxes are pixels of the source picture as ``[x, y, w, h]``.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

VERSION = 1
"""The one version that is spoken today; ``codec`` refuses any other."""

# Patterns end in \Z: Python's $ also matches before a last line break, and such a name is no name (a header, a path, a line).
Name = Annotated[str, Meta(min_length=1, max_length=100)]
"""A short human name: camera, zone, rule, release, logger."""
Text = Annotated[str, Meta(max_length=4000)]
"""Free text meant for a person: a reason in full, a log line."""
Code = Annotated[str, Meta(max_length=60, pattern=r"^[a-z0-9_.-]*\Z")]
"""A machine-readable word: a reason code, a state, a class."""
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
"""Lower-case hexadecimal sha256."""
DeviceId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{2,62}\Z")]
Identifier = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}\Z")]
Count = Annotated[int, Meta(ge=0, lt=2**53)]
Instant = Annotated[float, Meta(ge=0, lt=2**34)]
"""Seconds since 1970 UTC; the bound (year 2514) refuses nonsense."""
Share = Annotated[float, Meta(ge=0, le=1)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""Any measured number. The bound keeps sums finite: a database may hand 1e308 back as an integer of 309 digits."""
Box = tuple[Number, Number, Number, Number]
"""x, y, width, height in pixels of the source picture."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message that travels alone: it carries the wire version as ``v``."""

    v: int = VERSION


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a message."""
