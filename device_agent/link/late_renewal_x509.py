"""The proof of a board that slept through the end of its certificate: it still holds that one's key."""

import secrets
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.errors import IdentityBrokenError, ServerNonsenseError
from device_agent.link.identity_x509 import AGAIN, Identity, IdentityStore
from ota.wire.codec import encode
from ota.wire.enrolment import EnrolAnswer
from ota.wire.late_renewal import LateRenewal, LateRenewalRequest, signed_bytes

Ask = Callable[[Callable[[float], LateRenewalRequest]], EnrolAnswer]
"""Sends a proof that it lets be made for the time that the server believes in."""


def late_request(identity: Identity, csr_pem: str, now_s: float) -> LateRenewalRequest:
    """The request, signed by the key of ``identity``. IdentityBrokenError when our own files cannot be used."""
    try:
        key = serialization.load_pem_private_key(identity.key_file.read_bytes(), password=None)
        leaf = x509.load_pem_x509_certificates(identity.certificate_file.read_bytes())[0]
    except (OSError, ValueError, TypeError) as error:
        raise IdentityBrokenError(f"key and certificate cannot be used: {error}", AGAIN) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityBrokenError(f"{identity.key_file}: not an elliptic-curve key", AGAIN)
    certificate_pem = leaf.public_bytes(serialization.Encoding.PEM).decode()
    said = LateRenewal(certificate_pem=certificate_pem, csr_pem=csr_pem, created_s=now_s, nonce=secrets.token_hex(16))
    payload = encode(said).decode()
    signature = key.sign(signed_bytes(payload), ec.ECDSA(hashes.SHA256())).hex()
    return LateRenewalRequest(payload=payload, signature=signature)


def ask_late_renewal(ask: Ask, store: IdentityStore, identity: Identity, serial: str) -> Identity:
    """Ask for the next certificate though the present one has ended. It is kept, but in force only after ``store.adopt``.

    The key of the next identity is made once, on the card: a lost answer is asked for again with the same one.
    """
    csr_pem = store.request(serial)
    answer = ask(lambda now_s: late_request(identity, csr_pem, now_s))
    if answer.status != "accepted":
        raise ServerNonsenseError(f"renewal was answered with the status {answer.status!r}")
    return store.keep_answer(answer)
