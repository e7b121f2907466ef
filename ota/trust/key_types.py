"""Keys, signers and signatures as securesystemslib documents them. One place, for the same reason as ``ota.bundle.tuf_types``."""

from securesystemslib.signer import (  # type: ignore[attr-defined]  # public by its documentation, not listed in an __all__
    CryptoSigner,
    Key,
    Signature,
    Signer,
    SSlibKey,
)

__all__ = ["CryptoSigner", "Key", "SSlibKey", "Signature", "Signer"]
