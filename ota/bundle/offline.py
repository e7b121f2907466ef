"""The chain root -> targets -> channel -> manifest without a network: what a USB stick carries instead of a server. Pure."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from tuf.api.exceptions import RepositoryError

from ota.bundle.errors import Refusal
from ota.bundle.tuf_types import Metadata, Root, Targets

_NUMBERED = re.compile(r"(?:(\d+)\.)?(.+)\.json")
_MALFORMED = (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
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
    except _MALFORMED as error:
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
    except _MALFORMED as error:
        raise ChainError(Refusal("signature", f"{role}: {error}")) from None


def check_fresh(role: str, metadata: Metadata[Any], now_s: float) -> None:
    """Raise ChainError('expired') when the metadata is past its expiry."""
    if metadata.signed.is_expired(datetime.fromtimestamp(now_s, UTC)):
        raise ChainError(Refusal("expired", f"{role}: expired {metadata.signed.expires:%Y-%m-%d %H:%M} UTC"))


def by_role(metadata: Mapping[str, bytes]) -> dict[str, dict[int, bytes]]:
    """Files by role and number in the name (``2.root.json`` is root 2; a name without number counts as 0)."""
    roles: dict[str, dict[int, bytes]] = {}
    for name, data in metadata.items():
        found = _NUMBERED.fullmatch(name)
        if found is not None:
            roles.setdefault(found[2], {})[int(found[1] or 0)] = data
    return roles


def verify_offline(
    metadata: Mapping[str, bytes], root: bytes, now_s: float, channel: str, target: str, manifest: bytes
) -> dict[str, int] | Refusal:
    """Versions of the roles that authorise ``manifest`` as ``target`` of ``channel``, or why they do not."""
    try:
        return _verify(by_role(metadata), root, now_s, channel, target, manifest)
    except ChainError as error:
        return error.refusal


def _verify(
    roles: dict[str, dict[int, bytes]], root: bytes, now_s: float, channel: str, target: str, manifest: bytes
) -> dict[str, int]:
    numbered = {_root_version(data): data for data in roles.get("root", {}).values()}
    trusted = trust_root(root, numbered)
    check_fresh("root", trusted, now_s)
    targets = load_role(Targets, _newest(roles, "targets"), "targets")
    check_signed(trusted.signed, Targets.type, targets)
    check_fresh("targets", targets, now_s)
    delegations = targets.signed.delegations
    first = next(delegations.get_roles_for_target(target), None) if delegations is not None else None
    if first is None or first[0] != channel:
        raise ChainError(Refusal("channel", f"{target} is not delegated to the channel {channel}"))
    signed = load_role(Targets, _newest(roles, channel), channel)
    check_signed(targets.signed, channel, signed)
    check_fresh(channel, signed, now_s)
    entry = signed.signed.targets.get(target)
    if entry is None:
        raise ChainError(Refusal("mismatch", f"{target} is not (or no longer) in the channel's signed metadata"))
    try:
        entry.verify_length_and_hashes(manifest)
    except RepositoryError as error:
        raise ChainError(Refusal("hash", f"{target}: {error}")) from None
    return {"root": trusted.signed.version, "targets": targets.signed.version, channel: signed.signed.version}


def _root_version(data: bytes) -> int:
    return int(load_role(Root, data, "root").signed.version)


def _newest(roles: dict[str, dict[int, bytes]], role: str) -> bytes:
    numbered = roles.get(role)
    if not numbered:
        raise ChainError(Refusal("signature", f"{role}: its metadata is not in the bundle"))
    return numbered[max(numbered)]
