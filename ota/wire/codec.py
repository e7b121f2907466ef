"""Message <-> bytes: version, size limits, and errors that name the field.

JSON, because a person must be able to read it on the wire; typed by msgspec, so that what was decoded is what the type says.
"""

from typing import Any, TypeVar

import msgspec

from ota.wire.base import VERSION, Message

M = TypeVar("M", bound=Message)

DEFAULT_LIMIT_BYTES = 256 * 1024
"""Largest message unless its type says otherwise with ``LIMIT_BYTES``."""


class MessageError(ValueError):
    """Bytes from outside are not a message of ours.

    ``field`` is the path of the wrong field (``$.events[0].score``; ``$`` for the whole), ``problem`` says what is wrong.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def limit_bytes(kind: type[Message]) -> int:
    """The largest encoded size of this type of message."""
    return int(getattr(kind, "LIMIT_BYTES", DEFAULT_LIMIT_BYTES))


def encode(message: Message) -> bytes:
    """Message as compact JSON; raises MessageError when it is larger than the peer would take."""
    data = msgspec.json.encode(message)
    limit = limit_bytes(type(message))
    if len(data) > limit:
        raise MessageError("$", f"{type(message).__name__} is {len(data)} bytes, the limit is {limit}")
    return data


def decode(kind: type[M], data: bytes) -> M:
    """Bytes as a message of this type; raises MessageError naming the field. Unknown fields are ignored."""
    limit = limit_bytes(kind)
    if len(data) > limit:
        raise MessageError("$", f"{len(data)} bytes, the limit for {kind.__name__} is {limit}")
    try:
        seen = msgspec.json.decode(data, type=_Versioned)
    except msgspec.ValidationError as error:
        raise _translate(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError("$", f"not JSON: {error}") from None
    except RecursionError:  # msgspec guards its own stack; an attacker's ten thousand brackets end here
        raise MessageError("$", "nested too deep") from None
    if seen.v != VERSION:
        raise MessageError("$.v", f"version {seen.v} is not spoken here; this side speaks {VERSION}")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise _translate(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:  # for instance a lone surrogate in a field not looked at before
        raise MessageError("$", f"not JSON: {error}") from None


def to_builtins(message: msgspec.Struct) -> dict[str, Any]:
    """Message as plain dict, for a JSON column or a page."""
    result: dict[str, Any] = msgspec.to_builtins(message)
    return result


class _Versioned(msgspec.Struct):
    v: int


def _translate(error: msgspec.ValidationError) -> MessageError:
    # msgspec ends its message with " - at `$.field`"; without it the whole is meant.
    text, _, where = str(error).partition(" - at ")
    return MessageError(where.strip("`") or "$", text)

