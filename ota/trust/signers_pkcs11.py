"""Keys on a PKCS#11 token (YubiKey, HSM, SoftHSM) through securesystemslib. The key never leaves the token."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import HSMSigner  # type: ignore[attr-defined]  # public by its documentation

from ota.plain_disk import read_first_line
from ota.trust.errors import KeyFileError, TrustError
from ota.trust.key_types import Key, Signature, Signer
from ota.trust.keys import key_from_dict, key_to_dict
from ota.trust.signers import AskSecret, KeyReference

try:
    import pkcs11
    from pkcs11.exceptions import PinIncorrect, PinInvalid, PinLenRange, PinLocked, PKCS11Error
except ImportError:
    pkcs11 = None  # type: ignore[assignment]

_NO_PACKAGE = "keys on a token need the package python-pkcs11: pip install 'rookery[hsm]'"


class TokenSigner(Signer):
    """securesystemslib's HSMSigner, with errors that a person can act on."""

    def __init__(self, inner: HSMSigner, where: KeyReference) -> None:
        self._inner = inner
        self._where = where

    @property
    def public_key(self) -> Key:
        """The public half, as the token gave it."""
        return self._inner.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> "TokenSigner":
        """Use ``ota.trust.signers_disk.open_signer``."""
        raise NotImplementedError(priv_key_uri)

    def sign(self, payload: bytes) -> Signature:
        """One signature, made by the token; raises KeyFileError."""
        with _told(self._where):
            return self._inner.sign(payload)


def open_token_key(where: KeyReference, ask_secret: AskSecret) -> Signer:
    """The signer of a key on a token; its PIN is tried at once, so that a wrong one is told before anything is done."""
    if pkcs11 is None:
        raise KeyFileError(_NO_PACKAGE)
    pin = _pin(where, ask_secret)
    with _told(where):
        token = _token(where)
        with token.open(user_pin=pin) as session:
            keyid = _keyid(session, where)
            key = HSMSigner._find_pub_key(session, keyid)
    public = _ours(where, key)
    inner = HSMSigner(keyid, public, lambda _: pin, where.token or None)
    return TokenSigner(inner, where)


def token_public_key(where: KeyReference, ask_secret: AskSecret) -> Key:
    """The public half of a key on a token; the PIN is asked for only where the token hides it."""
    if pkcs11 is None:
        raise KeyFileError(_NO_PACKAGE)
    with _told(where):
        token = _token(where)
        try:
            with token.open() as session:
                public: Key = _ours(where, HSMSigner._find_pub_key(session, _keyid(session, where)))
                return public
        except (ValueError, KeyFileError):
            pass  # nothing is seen without the PIN
    return open_token_key(where, ask_secret).public_key


def _pin(where: KeyReference, ask_secret: AskSecret) -> str:
    if not where.pin_file:
        return ask_secret(f"PIN of the token {where.token or where.text}").decode()
    try:
        return read_first_line(Path(where.pin_file)).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyFileError(f"cannot read a PIN from {where.pin_file}: {error}") from None


def _token(where: KeyReference) -> Any:
    if where.module:
        os.environ["PYKCS11LIB"] = where.module  # where securesystemslib looks for it
    if not os.environ.get("PYKCS11LIB"):
        raise KeyFileError(f"{where.text}: which PKCS#11 library? set PYKCS11LIB to its path, or add ?module-path=/…/lib….so")
    return HSMSigner._find_token(where.token or None)


def _keyid(session: Any, where: KeyReference) -> int:
    if where.keyid is not None:
        return where.keyid
    wanted = {pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PUBLIC_KEY, pkcs11.Attribute.LABEL: where.label}
    found = list(session.get_objects(wanted))
    if len(found) != 1:
        many = "several keys bear" if found else "no public key bears"
        raise KeyFileError(f"{where.text}: {many} the name {where.label!r} on this token; name it by ;id=%01")
    keyid = bytes(found[0][pkcs11.Attribute.ID])
    if not keyid or (keyid[0] == 0 and len(keyid) > 1):
        raise KeyFileError(f"{where.text}: the key has no usable id (CKA_ID) on the token; give it one that begins with no zero")
    return int.from_bytes(keyid, "big")


def _ours(where: KeyReference, key: Any) -> Any:
    from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

    try:
        return key_from_dict(key_to_dict(SSlibKey.from_crypto(key)))
    except (TrustError, ValueError) as error:
        raise KeyFileError(f"{where.text}: {error}") from None


@contextmanager
def _told(where: KeyReference) -> Iterator[None]:
    try:
        yield
    except (PinIncorrect, PinInvalid, PinLenRange):
        raise KeyFileError(f"{where.text}: the token says that the PIN is wrong") from None
    except PinLocked:
        raise KeyFileError(f"{where.text}: the token is locked after too many wrong PINs; unlock it with its own tool") from None
    except (PKCS11Error, ValueError, UnsupportedLibraryError, RuntimeError) as error:
        raise KeyFileError(f"{where.text}: {error or type(error).__name__}") from None
