"""The device door's bodies: wire messages in, wire messages out."""

import re
from contextlib import AbstractContextManager
from typing import TypeVar, cast

from flask import Response, current_app, g, request

from fleet_server.errors import InvalidError, TooLargeError
from fleet_server.in_flight import InFlight
from fleet_server.settings import MAX_JSON_BYTES
from ota.wire import codec
from ota.wire.base import Message

M = TypeVar("M", bound=Message)

# NUL is legal JSON and legal text, but PostgreSQL cannot hold it: one such letter in a log line must not stop a stream.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def without_nul(data: bytes) -> bytes:
    """JSON bytes whose escaped NUL characters are replaced by U+FFFD."""
    return _NUL.sub(rb"\1\\ufffd", data) if b"\\u0000" in data else data


def keep_body() -> bytes:
    """The whole body, for who must look at it before ``read_message`` does. TooLargeError."""
    limit = request.max_content_length or MAX_JSON_BYTES
    g.body = data = request.stream.read(limit + 1)
    if len(data) > limit:
        raise TooLargeError(f"more than {limit} bytes")
    return data


def read_message(kind: type[M]) -> M:
    """The request's body as a message. TooLargeError, InvalidError for the content type, MessageError naming the field."""
    if request.mimetype != "application/json":
        raise InvalidError(f"the body is {request.mimetype or 'of no type'}, not application/json")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise InvalidError("the body is packed; it is read as it comes, so that a little cannot become a lot")
    limit = codec.limit_bytes(kind)
    if request.content_length is not None and request.content_length > limit:
        raise TooLargeError(f"{request.content_length} bytes; a {kind.__name__} has at most {limit}")
    data = g.body if "body" in g else request.stream.read(limit + 1)
    if len(data) > limit:
        raise TooLargeError(f"more than {limit} bytes; a {kind.__name__} has at most {limit}")
    return codec.decode(kind, without_nul(data))


def one_at_a_time(device_id: str, stream: str) -> AbstractContextManager[None]:
    """For the block that stores a batch of a device's stream; TooManyError while another one of it is being stored."""
    in_flight = cast(InFlight, current_app.extensions.setdefault("rookery_in_flight", InFlight()))
    return in_flight.only(f"{device_id} {stream}")


def answer(message: Message, status: int = 200) -> Response:
    """A message as the response."""
    return Response(codec.encode(message), status=status, mimetype="application/json")
