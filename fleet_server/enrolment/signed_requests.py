"""Requests that a device signed with its key (RFC 9421), for where TLS ends before us: method, path, query and the body's digest.

The signature is checked before a byte of the body is read, the nonce is kept last of all: a stranger costs one look-up.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256
from http_message_signatures.exceptions import HTTPMessageSignaturesException
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from fleet_server.database import insert_new
from fleet_server.enrolment.door_tables import RequestNonceRow
from fleet_server.enrolment.tables import CertificateRow
from fleet_server.errors import UnauthenticatedError
from ota.wire.request_signatures import COMPONENTS, MAX_HEADER_BYTES, SKEW_S, TAG, content_digest

HEADERS = ("Signature-Input", "Signature", "Content-Digest")
_KEYID = re.compile(r"[0-9a-f]{1,40}")
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_COVERED = {f'"{name}"' for name in COMPONENTS} | {'"@signature-params"'}
HINT = "sign method, path, query and content-digest with the device's key: docs/operations.md, The device door behind a proxy"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, as it came over the wire: ``target`` is path and query, undecoded; ``headers`` under their usual names."""

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Whose signature holds. ``digest`` is the signed Content-Digest: ``matches`` says whether a body is the signed one."""

    device_id: str
    serial: str
    nonce: str
    created_s: int
    digest: str

    def matches(self, body: bytes) -> bool:
        """Whether these are the bytes that were signed."""
        return self.digest == content_digest(body)


class ApartError(Exception):
    """The signature's time is too far from ours; nothing else was looked at. ``nonce`` goes back with the time."""

    def __init__(self, nonce: str) -> None:
        super().__init__(nonce)
        self.nonce = nonce


@dataclass(frozen=True, slots=True)
class _Message:
    method: str
    url: str
    headers: dict[str, str]


class _Keys(HTTPSignatureKeyResolver):
    def __init__(self, certificate_of: Callable[[str], tuple[str, str] | None]) -> None:
        self._certificate_of, self.device_id = certificate_of, ""
        self.failure: SQLAlchemyError | None = None
        """A database that does not answer is no wrong signature, as the library would have it."""

    def resolve_public_key(self, key_id: str) -> ec.EllipticCurvePublicKey | None:
        try:
            found = self._certificate_of(key_id) if _KEYID.fullmatch(key_id) else None
        except SQLAlchemyError as error:
            self.failure = error
            raise
        if found is None:
            return None
        self.device_id, pem = found
        return _public_key(pem)

    def resolve_private_key(self, key_id: str) -> Any:
        raise KeyError(key_id)  # this side never signs


class _Verifier(HTTPMessageVerifier):
    """The library's, by our clock: whatever else is wrong, a time that is far off is said first."""

    now_s = 0.0

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:
        """Refuse what has no ``created`` or one beyond the allowed distance, and an ``expires`` that is over."""
        created, nonce = sig_input.params.get("created"), sig_input.params.get("nonce")
        if type(created) is not int or not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            raise UnauthenticatedError("the signature has no time of its making, or no nonce of 16 to 64 letters", HINT)
        expires = sig_input.params.get("expires")
        if abs(created - self.now_s) > SKEW_S or (expires is not None and expires < self.now_s - SKEW_S):
            raise ApartError(nonce)


def verify(asked: Asked, certificate_of: Callable[[str], tuple[str, str] | None], now_s: float) -> SignedBy:
    """Whose request this is. ``certificate_of``: a serial -> (device id, PEM), whatever its state, which the caller looks at.

    UnauthenticatedError for every signature that does not hold, ApartError for one of another time.
    """
    given = {name: asked.headers.get(name, "") for name in HEADERS}
    if any(len(value) > MAX_HEADER_BYTES for value in given.values()):
        raise UnauthenticatedError(f"a header of the signature is longer than {MAX_HEADER_BYTES} bytes", HINT)
    if not all(given.values()) or not asked.target.startswith("/"):
        raise UnauthenticatedError("a signed request has a Signature, a Signature-Input and a Content-Digest", HINT)
    keys = _Keys(certificate_of)
    verifier = _Verifier(signature_algorithm=ECDSA_P256_SHA256, key_resolver=keys)
    verifier.now_s = now_s
    try:
        results = verifier.verify(_Message(asked.method, f"https://device{asked.target}", given), max_age=None, expect_tag=TAG)
    except (HTTPMessageSignaturesException, ValueError) as error:
        if keys.failure is not None:
            raise keys.failure from None
        raise UnauthenticatedError(f"the request's signature does not hold: {str(error)[:200]}", HINT) from None
    if len(results) != 1 or set(results[0].covered_components) != _COVERED:
        raise UnauthenticatedError(f"exactly {', '.join(COMPONENTS)} must be signed, once", HINT)
    found = results[0].parameters
    return SignedBy(keys.device_id, str(found["keyid"]), str(found["nonce"]), int(found["created"]), given["Content-Digest"])


def certificate_of(session: Session, serial: str) -> tuple[str, str] | None:
    """Device id and PEM of a certificate that this server issued, in whatever state."""
    query = select(CertificateRow.device_id, CertificateRow.pem).where(CertificateRow.serial == serial)
    row = session.execute(query).first()
    return (row[0], row[1]) if row else None


def use_nonce(session: Session, serial: str, nonce: str, created_s: float, now_s: float) -> bool:
    """Whether this nonce is new; it is kept until its signature is too old to be taken. Old ones go."""
    session.execute(delete(RequestNonceRow).where(RequestNonceRow.until_s < now_s))
    row = {"serial": serial, "nonce": nonce, "until_s": created_s + SKEW_S}
    return insert_new(session, RequestNonceRow, [row], keys=["serial", "nonce"]) == 1


@functools.lru_cache(maxsize=20_000)
def _public_key(pem: str) -> ec.EllipticCurvePublicKey | None:
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None
