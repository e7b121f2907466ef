"""Keys of AWS KMS through securesystemslib: a build machine signs without a person, and holds no key that could be stolen.

Credentials come from where the AWS SDK looks for them (environment, instance role). Needed rights: kms:GetPublicKey, kms:Sign.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import UnsupportedAlgorithmError, UnverifiedSignatureError
from securesystemslib.signer import AWSSigner  # type: ignore[attr-defined]  # public by its documentation

from ota.trust.errors import KeyFileError, TrustError
from ota.trust.key_types import Key, Signature, Signer, SSlibKey
from ota.trust.keys import key_from_dict, key_to_dict
from ota.trust.signers import KeyReference

try:
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError:
    BotoCoreError = ClientError = None  # type: ignore[assignment, misc]

_NO_PACKAGE = "keys of AWS KMS need the package boto3: pip install 'rookery[kms]'"


class KmsSigner(Signer):
    """securesystemslib's AWSSigner, with errors that a person can act on."""

    def __init__(self, inner: AWSSigner, where: KeyReference) -> None:
        self._inner = inner
        self._where = where

    @property
    def public_key(self) -> Key:
        """The public half, as KMS gave it."""
        return self._inner.public_key

    @classmethod
    def from_priv_key_uri(cls, priv_key_uri: str, public_key: Key, secrets_handler: Any = None) -> "KmsSigner":
        """Use ``ota.trust.signers_disk.open_signer``."""
        raise NotImplementedError(priv_key_uri)

    def sign(self, payload: bytes) -> Signature:
        """One signature, made by KMS, which is sent a digest; raises KeyFileError. It is checked before anybody builds on it."""
        with _told(self._where):
            made = self._inner.sign(payload)
        try:
            self.public_key.verify_signature(made, payload)
        except UnverifiedSignatureError:
            raise KeyFileError(f"{self._where.text}: what KMS answered is no signature of this key over what was sent") from None
        return made


def open_kms_key(where: KeyReference) -> Signer:
    """The signer of a key of AWS KMS: asks for the public half at once, so that a wrong name is told before all else."""
    if BotoCoreError is None:
        raise KeyFileError(_NO_PACKAGE)
    parts = where.path.split(":")
    if parts[0] == "arn" and len(parts) > 3 and not (os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")):
        os.environ["AWS_DEFAULT_REGION"] = parts[3]  # an ARN says where its key lives
    with _told(where):
        _, found = AWSSigner.import_(where.path)
        public = load_pem_public_key(found.keyval["public"].encode())
        key = key_from_dict(key_to_dict(SSlibKey.from_crypto(public, scheme=found.scheme)))
        return KmsSigner(AWSSigner(where.path, key), where)  # type: ignore[arg-type]  # an SSlibKey by its type


@contextmanager
def _told(where: KeyReference) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        raise KeyFileError(f"{where.text}: AWS KMS answered {said.get('Code')}: {said.get('Message')}") from None
    except BotoCoreError as error:
        raise KeyFileError(f"{where.text}: {error}; credentials and region come from the environment or a role") from None
    except (TrustError, UnsupportedAlgorithmError, ValueError, KeyError) as error:
        raise KeyFileError(f"{where.text}: not an ECDSA P-256 signing key ({error})") from None
