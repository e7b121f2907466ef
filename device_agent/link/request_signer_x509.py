"""Signs requests with the device's key (RFC 9421), for where TLS ends before the server: ``signed_requests`` in agent.toml.

A server that finds our clock wrong tells its own time, signed; from then on requests are signed by that.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256

from device_agent.errors import IdentityBrokenError
from device_agent.link.identity_x509 import AGAIN, Identity
from device_agent.link.told_time import believed_s
from ota.trust.key_types import Key
from ota.wire.assignments import Signed
from ota.wire.request_signatures import COMPONENTS, LABEL, NONCE_BYTES, TAG, content_digest


@dataclass
class _Message:
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """What goes with one request; ``nonce`` is what an answer about the time must echo."""

    headers: dict[str, str]
    nonce: str


class RequestSigner:
    """One identity's. ``now_s``: the trusted clock; ``keys``: whose signature of the time is believed; ``heard``: told of it."""

    def __init__(
        self, identity: Identity, now_s: Callable[[], float], keys: Callable[[], Mapping[str, Key]],
        heard: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        try:
            key = serialization.load_pem_private_key(identity.key_file.read_bytes(), password=None)
            leaf = x509.load_pem_x509_certificates(identity.certificate_file.read_bytes())[0]
        except (OSError, ValueError, TypeError) as error:
            raise IdentityBrokenError(f"key and certificate cannot be used to sign: {error}", AGAIN) from None
        self._serial = f"{leaf.serial_number:x}"
        resolver = MappingKeyResolver(public_keys={}, private_keys={self._serial: key})  # type: ignore[dict-item]  # a P-256 key
        self._signer = HTTPMessageSigner(signature_algorithm=ECDSA_P256_SHA256, key_resolver=resolver)
        self._now_s, self._keys, self._heard = now_s, keys, heard
        self._ahead_s = 0.0
        """How far the server's clock is ahead of ours, as it told; nothing but signatures go by it."""

    def sign(self, method: str, target: str, body: bytes) -> SignedHeaders:
        """The headers for this request; ``target`` is path and query as they are sent."""
        nonce = secrets.token_hex(NONCE_BYTES)
        message = _Message(method, f"https://device{target}", {"Content-Digest": content_digest(body)})
        self._signer.sign(
            message, key_id=self._serial, created=datetime.fromtimestamp(self._now_s() + self._ahead_s, UTC), nonce=nonce,
            label=LABEL, tag=TAG, covered_component_ids=COMPONENTS, use_existing_digest=True,
        )  # fmt: skip
        return SignedHeaders(message.headers, nonce)

    def heed(self, told: Signed, nonce: str) -> None:
        """Sign by the server's time from now on; raises ServerNonsenseError where it is not to be believed."""
        server_s = believed_s(told, nonce, self._keys())
        self._ahead_s = server_s - self._now_s()
        self._heard(server_s)
        self._ahead_s = server_s - self._now_s()  # the clock may have followed
