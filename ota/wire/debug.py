"""Debug sessions: remote debugging with an end time. They travel in the assignment."""

from ota.wire.base import Code, Identifier, Instant, Part


class DebugSession(Part, frozen=True, kw_only=True):
    """Until ``until_s`` the device logs at ``log_level`` and sends its lines; then it falls back by itself."""

    id: Identifier
    until_s: Instant
    log_level: Code
