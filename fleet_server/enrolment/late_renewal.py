"""Renewal after expiry: the proof that a board holds the key of its last certificate. The renewal itself is the service's."""

import functools
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy.orm import Session

from fleet_server.enrolment.signed_requests import certificate_of, use_nonce
from fleet_server.errors import ForbiddenError, InvalidError
from ota.wire.codec import decode
from ota.wire.late_renewal import LateRenewal, LateRenewalRequest, signed_bytes
from ota.wire.request_signatures import SKEW_S


@dataclass(frozen=True, slots=True)
class Proven:
    """Who asks, proven by the key of the certificate ``serial``; whether that one may still be renewed, and whether the very
    request came before, is not looked at yet."""

    device_id: str
    serial: str
    csr_pem: str
    nonce: str
    created_s: float


def prove(session: Session, request: LateRenewalRequest, now_s: float) -> Proven | None:
    """Check the proof against the certificate as this server issued it. Only looks: strangers' proofs hold up no writer.

    None where its time is more than 5 minutes from ours (ask for the signed time first). MessageError, InvalidError,
    ForbiddenError for whatever does not hold.
    """
    said = decode(LateRenewal, request.payload.encode("utf-8", "surrogatepass"))
    serial, key = _shown(said.certificate_pem)
    issued = certificate_of(session, serial)
    if issued is None or _shown(issued[1]) != (serial, key):
        raise ForbiddenError("this server did not issue the certificate", "enrol the device again if it is yours")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
        public.verify(bytes.fromhex(request.signature), signed_bytes(request.payload), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):  # UnicodeEncodeError, for a lone surrogate, is one
        raise ForbiddenError("the request is not signed by the key of that certificate") from None
    if abs(said.created_s - now_s) > SKEW_S:
        return None
    return Proven(issued[0], serial, said.csr_pem, said.nonce, said.created_s)


def use_up(session: Session, proven: Proven, now_s: float) -> None:
    """ForbiddenError where this very request came before; from now on it did."""
    if not use_nonce(session, proven.serial, proven.nonce, proven.created_s, now_s):
        raise ForbiddenError("this very request came before", "a device signs each one anew")


@functools.lru_cache(maxsize=1000)
def _shown(pem: str) -> tuple[str, bytes]:
    """Serial and public point of a certificate; InvalidError for what is none of a P-256 key."""
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode())
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InvalidError("$.certificate_pem: the key is not ECDSA P-256")
        numbers = key.public_numbers()
    except (ValueError, x509.InvalidVersion):
        raise InvalidError("$.certificate_pem: not a certificate") from None
    return f"{certificate.serial_number:x}", b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
