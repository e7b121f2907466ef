"""What the agent and its reader of one network stream say to each other. Pure.

The agent's first message is the order (JSON behind its length): the address may hold a password, so it is neither an argument nor
in the environment, where others can read it. Then it sends one byte for each picture that it wants. The reader answers with
`Said`, and the picture lies in the shared memory, BGR without padding.
"""

import json
import struct
from dataclasses import dataclass, field
from typing import Literal

MAX_PICTURE_BYTES = 7680 * 4320 * 3
"""8K: the shared memory is only as large as what was written into it."""
LENGTH = struct.Struct("<I")
_SAID = struct.Struct("<BIIIIdd")
WANT = b"n"
Kind = Literal["opened", "picture", "silent", "refused", "no_stream", "too_large", "broke_off"]
_KINDS: tuple[Kind, ...] = ("opened", "picture", "silent", "refused", "no_stream", "too_large", "broke_off")
SAID_BYTES = _SAID.size
WORDS: dict[Kind, str] = {
    "silent": "nothing answers at this address: check that the camera is switched on and in the same network",
    "refused": "the address refuses connections: check the port and that streaming is switched on in the camera",
    "no_stream": "it answers but gives no stream: check the path, the user and the password",
    "too_large": "its pictures are larger than 8K: choose a smaller stream",
    "broke_off": "the stream breaks off",
}


@dataclass(frozen=True, slots=True)
class Order:
    """The address and the time limits in seconds."""

    address: str = field(repr=False)
    open_timeout_s: float
    read_timeout_s: float


@dataclass(frozen=True, slots=True)
class Said:
    """One message of the reader. `lost` pictures were passed over since the one before, `broken` could not be decoded."""

    kind: Kind
    width_px: int = 0
    height_px: int = 0
    lost: int = 0
    broken: int = 0
    at_s: float = 0.0
    period_s: float = 0.0


def order_bytes(order: Order) -> bytes:
    """The order with its length before it."""
    body = json.dumps([order.address, order.open_timeout_s, order.read_timeout_s]).encode()
    return LENGTH.pack(len(body)) + body


def order_from(body: bytes) -> Order:
    """The order behind its length."""
    address, open_timeout_s, read_timeout_s = json.loads(body)
    return Order(address, open_timeout_s, read_timeout_s)


def said_bytes(said: Said) -> bytes:
    """A message of `SAID_BYTES` bytes."""
    return _SAID.pack(_KINDS.index(said.kind), said.width_px, said.height_px, said.lost, said.broken, said.at_s, said.period_s)


def said_from(message: bytes) -> Said:
    """The message; raises ValueError where it is none."""
    try:
        kind, *rest = _SAID.unpack(message)
        said = Said(_KINDS[kind], *rest)
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a message of a stream reader: {error}") from None
    if said.width_px * said.height_px * 3 > MAX_PICTURE_BYTES:
        raise ValueError("a picture that is larger than the shared memory")
    return said
