"""Opens a key reference, wherever the key lives. What tokens and KMS need is imported only where one is named."""

from pathlib import Path

from ota.plain_disk import open_plain
from ota.trust.errors import KeyFileError
from ota.trust.key_types import Key, Signer
from ota.trust.keys_disk import load_signer
from ota.trust.signers import AskSecret, parse_reference


def open_signer(reference: str, ask_secret: AskSecret) -> Signer:
    """The signer of a reference (FILE, ``pkcs11:…``, ``hsm:…``, ``awskms:…``). Raises KeyFileError that says what to do.

    A token's PIN is asked for at once, and once.
    """
    where = parse_reference(reference)
    if where.kind == "token":
        from ota.trust.signers_pkcs11 import open_token_key

        return open_token_key(where, ask_secret)
    if where.kind == "kms":
        from ota.trust.signers_kms_http import open_kms_key

        return open_kms_key(where)
    path = Path(where.path)
    return load_signer(path, ask_secret(f"passphrase of {path.name}") if _sealed(path) else None)


def public_key_of(reference: str, ask_secret: AskSecret) -> Key:
    """The public half of a reference: of a token without its PIN where the token shows it, of KMS by asking for it."""
    where = parse_reference(reference)
    if where.kind == "token":
        from ota.trust.signers_pkcs11 import token_public_key

        return token_public_key(where, ask_secret)
    return open_signer(reference, ask_secret).public_key


def _sealed(path: Path) -> bool:
    try:
        with open_plain(path) as file:
            return b"ENCRYPTED" in file.read(200)
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such key file (references to tokens and KMS begin with pkcs11: or awskms:)") from None
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
