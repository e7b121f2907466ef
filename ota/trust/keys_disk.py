"""Private keys in files: ECDSA P-256, PKCS#8 PEM, sealed with scrypt where a passphrase is given, for their owner only."""

import base64
import os
import textwrap
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from ota.durable_disk import fsync_folder, make_folder
from ota.plain_disk import open_plain
from ota.trust.errors import KeyFileError
from ota.trust.key_types import CryptoSigner, Key, Signer
from ota.trust.keys import IV_BYTES, SALT_BYTES, encrypt_pkcs8

MAX_KEY_FILE_BYTES = 64 * 1024


def generate_key(path: Path, passphrase: bytes | None) -> Key:
    """Make a key, write its private half to ``path`` (0600) and return the public half.

    Raises KeyFileError when the file is there already (a key is never overwritten), the passphrase is empty, or it cannot be
    written. None as passphrase writes the key in the clear: for online keys on the server, never for offline ones.
    """
    if passphrase is not None and not passphrase:
        raise KeyFileError("the passphrase is empty; give one, or say openly that the key needs none")
    private = ec.generate_private_key(ec.SECP256R1())
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    label = "PRIVATE KEY"
    if passphrase is not None:
        der = encrypt_pkcs8(der, passphrase, os.urandom(SALT_BYTES), os.urandom(IV_BYTES))
        label = "ENCRYPTED PRIVATE KEY"
    body = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    _write_new(path, f"-----BEGIN {label}-----\n{body}\n-----END {label}-----\n".encode())
    return CryptoSigner(private).public_key


def load_signer(path: Path, passphrase: bytes | None) -> Signer:
    """The signer of a key file (PKCS#8 PEM, P-256). Raises KeyFileError that says what is wrong and what to do."""
    try:
        with open_plain(path) as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such key file") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_KEY_FILE_BYTES or b"-----BEGIN" not in data:
        raise KeyFileError(f"{path}: not a PEM private key")
    encrypted = b"ENCRYPTED" in data
    if encrypted and not passphrase:
        raise KeyFileError(f"{path}: the key is sealed; its passphrase is needed")
    try:
        private = load_pem_private_key(data, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        why = "wrong passphrase, or the file is damaged" if encrypted else "the file is damaged"
        raise KeyFileError(f"{path}: cannot be opened ({why})") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: not an ECDSA P-256 key")
    return CryptoSigner(private)


def public_key(signer: Signer) -> Key:
    """The public half of a signer."""
    return signer.public_key


def _write_new(path: Path, data: bytes) -> None:
    try:
        make_folder(path.parent)
        # Written under another name and linked: a crash leaves no half a key, and an existing one is never replaced.
        temporary = path.parent / f".part-{path.name}-{os.getpid()}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        fsync_folder(path.parent)
    except FileExistsError:
        raise KeyFileError(f"{path} is there already; a key file is never overwritten, choose another name") from None
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written ({error.strerror})") from None
