"""The links of the chain root -> targets -> channel: parsed, signed by enough keys, fresh. Pure; both sides build upon them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tuf.api.exceptions import RepositoryError

from ota.bundle.errors import Refusal
from ota.bundle.tuf_types import Metadata, Root, Targets

MALFORMED = (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What tuf raises for metadata that is not metadata, signed by too few, or names a role that is not delegated."""


class ChainError(Exception):
    """The chain is broken at one role; carries the refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


def load_role(kind: type[Any], data: bytes, role: str) -> Metadata[Any]:
    """Parse metadata of one type; raises ChainError('signature') when it is not that."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
    except MALFORMED as error:
        raise ChainError(Refusal("signature", f"{role}: not TUF metadata ({error})")) from None
    if not isinstance(metadata.signed, kind):
        raise ChainError(Refusal("signature", f"{role}: is {metadata.signed.type} metadata"))
    return metadata


def trust_root(bootstrap: bytes, newer: Mapping[int, bytes]) -> Metadata[Root]:
    """The newest root that the trusted one leads to, one version at a time, each signed by the one before and by itself."""
    trusted = load_role(Root, bootstrap, "root")
    check_signed(trusted.signed, Root.type, trusted)
    while (data := newer.get(trusted.signed.version + 1)) is not None:
        following = load_role(Root, data, "root")
        if following.signed.version != trusted.signed.version + 1:
            raise ChainError(Refusal("signature", f"root: version {following.signed.version} follows {trusted.signed.version}"))
        check_signed(trusted.signed, Root.type, following)
        check_signed(following.signed, Root.type, following)
        trusted = following
    return trusted


def check_signed(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    """Raise ChainError('signature') unless enough of the keys that ``delegator`` names for ``role`` have signed."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except MALFORMED as error:
        raise ChainError(Refusal("signature", f"{role}: {error}")) from None


def check_fresh(role: str, metadata: Metadata[Any], now_s: float) -> None:
    """Raise ChainError('expired') when the metadata is past its expiry."""
    if metadata.signed.is_expired(datetime.fromtimestamp(now_s, UTC)):
        raise ChainError(Refusal("expired", f"{role}: expired {metadata.signed.expires:%Y-%m-%d %H:%M} UTC"))
