"""Secrets that must be read again (those of second factors) lie sealed: a stolen database alone yields none. Pure."""

import base64
import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleet_server.errors import UnavailableError

NONCE_BYTES = 12
"""Of AES-GCM (NIST SP 800-38D §8.2.1)."""
_VERSION = "1:"


def seal(key: bytes, secret: str, *, owner: str, nonce: bytes) -> str:
    """AES-256-GCM, bound to its owner: put into another account's row it opens nothing."""
    sealed = AESGCM(_derived(key, b"second factor")).encrypt(nonce, secret.encode(), owner.encode())
    return _VERSION + base64.b64encode(nonce + sealed).decode()


def unseal(key: bytes, sealed: str, *, owner: str) -> str:
    """The secret again; UnavailableError when the key is another than the one it was sealed with."""
    try:
        raw = base64.b64decode(sealed.removeprefix(_VERSION), validate=True)
        return AESGCM(_derived(key, b"second factor")).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], owner.encode()).decode()
    except (InvalidTag, ValueError):
        raise UnavailableError(
            "the second factors of this server cannot be read: keys/factor-key is not the one that they were made with",
            "put the file back from the backup, or on the server: rookery-server recover NAME",
        ) from None


def keyed_hash(key: bytes, text: str, *, purpose: str) -> str:
    """A hash that nobody can try guesses against who does not have the key, too."""
    return hmac.new(_derived(key, purpose.encode()), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def plain_hash(secret: str) -> str:
    """sha256, for secrets that are long and random."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _derived(key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"rookery accounts: " + purpose).derive(key)
