"""Renewal after expiry: a board that slept too long proves that it holds the key of its last certificate."""

from typing import Annotated, ClassVar

from msgspec import Meta

from ota.wire.base import Instant, Message
from ota.wire.enrolment import Pem

DOMAIN = b"rookery renew-expired v1\n"
"""Stands before the payload when it is signed: the same key signs requests too, and no signature can be taken for another."""


class LateRenewal(Message, frozen=True, kw_only=True):
    """The payload of a ``LateRenewalRequest``. ``csr_pem`` is signed by the next key, as every certificate request is."""

    certificate_pem: Pem
    """The last certificate of the board."""
    csr_pem: Pem
    created_s: Instant
    nonce: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{16,64}\Z")]


class LateRenewalRequest(Message, frozen=True, kw_only=True):
    """``signature`` (ECDSA P-256, sha256, DER, hexadecimal) by the last certificate's key over DOMAIN and the payload's UTF-8."""

    LIMIT_BYTES: ClassVar[int] = 64 * 1024

    payload: Annotated[str, Meta(min_length=2, max_length=48_000)]
    signature: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){8,80}\Z")]


def signed_bytes(payload: str) -> bytes:
    """What is signed; raises UnicodeEncodeError for a text that is no UTF-8."""
    return DOMAIN + payload.encode()
