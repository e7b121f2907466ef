"""Public keys as TUF writes them, and the scrypt envelope of private ones. Pure: salt and bytes come in as arguments."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from securesystemslib.formats import encode_canonical

from ota.trust.errors import TrustError
from ota.trust.key_types import Key, SSlibKey

SCRYPT_N = 2**14
"""Cost: 16 MiB a try. OpenSSL reads no more than 32 MiB by default, so memory stays there and ``SCRYPT_P`` adds the work."""
SCRYPT_R = 8
SCRYPT_P = 5
SALT_BYTES = 16
IV_BYTES = 16

# Object identifiers, DER-encoded contents (RFC 8018 PBES2, RFC 7914 scrypt, NIST AES-256-CBC).
_PBES2 = bytes.fromhex("2a864886f70d01050d")
_SCRYPT = bytes.fromhex("2b06010401da47040b")
_AES_256_CBC = bytes.fromhex("60864801650304012a")


def key_to_dict(key: Key) -> dict[str, Any]:
    """A public key as TUF metadata writes it (without its id)."""
    return dict(key.to_dict())


def key_id(key: Mapping[str, Any]) -> str:
    """The id of a TUF key dict: sha256 over its canonical JSON, as securesystemslib computes it for new keys."""
    core = {name: key.get(name) for name in ("keytype", "scheme", "keyval")}
    return hashlib.sha256(str(encode_canonical(core)).encode()).hexdigest()


def key_from_dict(data: Mapping[str, Any], keyid: str | None = None) -> Key:
    """A TUF key dict as a key; its id is computed where none is given. Raises TrustError when it is not a public key we use."""
    try:
        key = SSlibKey.from_dict(keyid or key_id(data), json.loads(json.dumps(data)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TrustError(f"not a TUF public key: {error}") from None
    if (key.keytype, key.scheme) != ("ecdsa", "ecdsa-sha2-nistp256"):
        raise TrustError(f"key type {key.keytype}/{key.scheme} is not used here; ECDSA P-256 is")
    return key


def encrypt_pkcs8(private: bytes, passphrase: bytes, salt: bytes, iv: bytes) -> bytes:
    """PKCS#8 DER as EncryptedPrivateKeyInfo: PBES2 with scrypt and AES-256-CBC. OpenSSL and cryptography both read it.

    Written by hand because cryptography's own writer derives the key with 2,048 rounds of PBKDF2, which a graphics card undoes.
    """
    if len(salt) != SALT_BYTES or len(iv) != IV_BYTES:
        raise ValueError("salt and iv are 16 bytes each")
    derived = hashlib.scrypt(
        passphrase, salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=64 * 1024 * 1024, dklen=32
    )
    padder = PKCS7(128).padder()
    padded = padder.update(private) + padder.finalize()
    encryptor = Cipher(algorithms.AES(derived), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padded) + encryptor.finalize()
    parameters = _sequence(_octets(salt), _integer(SCRYPT_N), _integer(SCRYPT_R), _integer(SCRYPT_P), _integer(32))
    derivation = _sequence(_oid(_SCRYPT), parameters)
    scheme = _sequence(_oid(_AES_256_CBC), _octets(iv))
    algorithm = _sequence(_oid(_PBES2), _sequence(derivation, scheme))
    return _sequence(algorithm, _octets(sealed))


def _tagged(tag: int, body: bytes) -> bytes:
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _sequence(*parts: bytes) -> bytes:
    return _tagged(0x30, b"".join(parts))


def _octets(data: bytes) -> bytes:
    return _tagged(0x04, data)


def _oid(contents: bytes) -> bytes:
    return _tagged(0x06, contents)


def _integer(value: int) -> bytes:
    return _tagged(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))
