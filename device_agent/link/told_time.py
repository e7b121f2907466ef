"""What the server says of the time, judged: our nonce, and the assignment keys' signature as soon as they are known. Pure."""

from collections.abc import Mapping

from device_agent.errors import ServerNonsenseError
from ota.trust.assignment import verify_payload
from ota.trust.errors import TrustError
from ota.trust.key_types import Key
from ota.wire.assignments import Signed
from ota.wire.codec import MessageError, decode
from ota.wire.enrolment import TimeAnswer


def believed_s(signed: Signed, nonce: str, keys: Mapping[str, Key]) -> float:
    """The time in seconds since 1970. Without ``keys`` the connection alone vouches for it. Raises ServerNonsenseError."""
    try:
        answer = decode(TimeAnswer, (verify_payload(signed, keys) if keys else signed.payload).encode())
    except (TrustError, MessageError, UnicodeEncodeError) as error:
        raise ServerNonsenseError(f"the server's time is not believed: {error}") from None
    if answer.nonce != nonce:
        raise ServerNonsenseError("the server's time does not echo our nonce: it is an old answer")
    return answer.now_s
