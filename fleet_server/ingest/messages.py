"""What came over MQTT, as values. Pure: bytes in, one of three messages or a reason out."""

from dataclasses import dataclass

from ota.wire import codec, topics
from ota.wire.heartbeat import Heartbeat
from ota.wire.logs import LogBatch


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat."""

    device: str
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Presence:
    """The device's own word that it is connected, or the broker's (the last will) that it no longer is."""

    device: str
    online: bool


@dataclass(frozen=True, slots=True)
class Lines:
    """Live log lines of a debug session; lossy."""

    device: str
    batch: LogBatch


@dataclass(frozen=True, slots=True)
class Malformed:
    """Not one of ours, and why."""

    topic: str
    reason: str


Message = Beat | Presence | Lines | Malformed


def sender(topic: str) -> str:
    """Whose branch a topic lies in: the broker lets each device write into its own alone."""
    levels = topic.split("/", 3)
    return levels[2] if len(levels) > 2 else topic


def parse(topic: str, payload: bytes) -> Message:
    """One MQTT message. Never raises: what cannot be read is Malformed."""
    try:
        parsed = topics.parse(topic)
        if parsed.direction != "up":
            return Malformed(topic, "not an up topic")
        if parsed.channel == "online":
            if payload in (b"online", b"offline"):
                return Presence(parsed.device, payload == b"online")
            return Malformed(topic, "neither online nor offline")
        if parsed.channel == "heartbeat":
            return Beat(parsed.device, codec.decode(Heartbeat, _without_nul(payload)))
        return Lines(parsed.device, codec.decode(LogBatch, _without_nul(payload)))
    except (topics.TopicError, codec.MessageError) as error:
        return Malformed(topic[:200], str(error)[:300])


def _without_nul(payload: bytes) -> bytes:
    # PostgreSQL cannot hold an escaped NUL; an even number of backslashes before it means it really is one.
    if b"\\u0000" not in payload:
        return payload
    parts = payload.split(b"\\u0000")
    joined = parts[0]
    for part in parts[1:]:
        escaped = (len(joined) - len(joined.rstrip(b"\\"))) % 2 == 1
        joined += (b"\\u0000" if escaped else b"\\ufffd") + part
    return joined
