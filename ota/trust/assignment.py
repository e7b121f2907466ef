"""The server's signed word: one signature by the online assignment key over a message's bytes. Pure."""

from collections.abc import Mapping

from securesystemslib.exceptions import UnverifiedSignatureError

from ota.trust.errors import TrustError
from ota.trust.key_types import Key, Signature, Signer
from ota.wire.assignments import Signed
from ota.wire.base import Message
from ota.wire.codec import encode


def sign_payload(payload: Message, signer: Signer) -> Signed:
    """Encode and sign a message."""
    text = encode(payload).decode()
    signature = signer.sign(text.encode())
    return Signed(payload=text, keyid=signature.keyid, signature=signature.signature)


def verify_payload(signed: Signed, keys: Mapping[str, Key]) -> str:
    """The payload, once its signature holds under one of ``keys`` (by id); raises TrustError otherwise."""
    key = keys.get(signed.keyid)
    if key is None:
        raise TrustError(f"signed by key {signed.keyid[:12]}, which the signed metadata does not name")
    try:
        key.verify_signature(Signature(signed.keyid, signed.signature), signed.payload.encode())
    except UnverifiedSignatureError:
        raise TrustError(f"the signature by key {signed.keyid[:12]} does not fit the payload") from None
    except ValueError as error:  # for instance half of a hexadecimal digit pair, or a lone surrogate in the text
        raise TrustError(f"the signature cannot be read: {error}") from None
    return signed.payload
