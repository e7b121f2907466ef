"""A bundle's chain without a network: root -> targets -> channel -> manifest, and nothing in it that decides nothing. Pure.

A threshold of two is content with two good signatures and does not look at a third. A bundle is held to more: every metadata
file belongs, is in its one form, and every signature on it holds. So one bit flipped anywhere in it is found.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from securesystemslib.exceptions import Error as SignatureError
from tuf.api.exceptions import RepositoryError

from ota.bundle.errors import Refusal
from ota.bundle.offline import MALFORMED, ChainError, check_fresh, check_signed, load_role, trust_root
from ota.bundle.tuf_types import Metadata, Root, Targets

TARGETS_NAME = "targets.json"
_ROOT_NAME = re.compile(r"([1-9][0-9]{0,8})\.root\.json")
_HEX = re.compile(r"(?:[0-9a-f]{2})+")


def root_fingerprint(root: bytes) -> str:
    """What people compare: sha256 of the canonical bytes that a root's signatures cover, whoever has signed it by now.

    Raises ChainError('signature') when it is no root.
    """
    return hashlib.sha256(load_role(Root, root, "root").signed_bytes).hexdigest()


def verify_offline(
    metadata: Mapping[str, bytes], root: bytes, now_s: float, channel: str, target: str, manifest: bytes
) -> dict[str, int] | Refusal:
    """Versions of the roles that authorise ``manifest`` as ``target`` of ``channel``, or why they do not.

    ``metadata`` is all that a bundle holds, by file name. Expiry is judged last: ``expired`` says that the rest is right.
    """
    try:
        return _verify(metadata, root, now_s, channel, target, manifest)
    except ChainError as error:
        return error.refusal


def _verify(
    metadata: Mapping[str, bytes], root: bytes, now_s: float, channel: str, target: str, manifest: bytes
) -> dict[str, int]:
    roots = _roots(metadata, channel)
    trusted = load_role(Root, root, "root")
    newest = trust_root(root, {version: metadata[f"{version}.root.json"] for version in roots})
    targets = load_role(Targets, _needed(metadata, TARGETS_NAME), "targets")
    check_signed(newest.signed, Targets.type, targets)
    delegations = targets.signed.delegations
    first = next(delegations.get_roles_for_target(target), None) if delegations is not None else None
    if first is None or first[0] != channel:
        raise ChainError(Refusal("channel", f"{target} is not delegated to the channel {channel}"))
    signed = load_role(Targets, _needed(metadata, f"{channel}.json"), channel)
    check_signed(targets.signed, channel, signed)
    entry = signed.signed.targets.get(target)
    if entry is None:
        raise ChainError(Refusal("mismatch", f"{target} is not (or no longer) in the channel's signed metadata"))
    try:
        entry.verify_length_and_hashes(manifest)
    except RepositoryError as error:
        raise ChainError(Refusal("hash", f"{target}: {error}")) from None
    _check_roots(roots, trusted, newest)
    for name, role, delegator, delegated in (
        (TARGETS_NAME, targets, newest.signed, Targets.type),
        (f"{channel}.json", signed, targets.signed, channel),
    ):
        _check_form(name, metadata[name], role)
        _check_signatures(name, role, _keys(delegator, delegated))
    _check_all_fresh((("root", newest), ("targets", targets), (channel, signed)), now_s)
    return {"root": newest.signed.version, "targets": targets.signed.version, channel: signed.signed.version}


def _check_all_fresh(roles: Sequence[tuple[str, Metadata[Any]]], now_s: float) -> None:
    """ChainError('expired') that names all that have ended, what ended first before the others."""
    ended: list[str] = []
    for name, role in sorted(roles, key=lambda one: one[1].signed.expires):
        try:
            check_fresh(name, role, now_s)
        except ChainError as error:
            ended.append(error.refusal.detail)
    if ended:
        raise ChainError(Refusal("expired", "; ".join(ended)))


def _roots(metadata: Mapping[str, bytes], channel: str) -> dict[int, Metadata[Root]]:
    roots: dict[int, Metadata[Root]] = {}
    for name, data in metadata.items():
        found = _ROOT_NAME.fullmatch(name)
        if found is None:
            if name not in (TARGETS_NAME, f"{channel}.json"):
                raise _no(name, "does not belong to the chain from root to channel")
            continue
        root = load_role(Root, data, name)
        if root.signed.version != int(found[1]):
            raise _no(name, f"is version {root.signed.version}")
        _check_form(name, data, root)
        roots[root.signed.version] = root
    return roots


def _needed(metadata: Mapping[str, bytes], name: str) -> bytes:
    if name not in metadata:
        raise _no(name, "is not in the bundle")
    return metadata[name]


def _check_roots(roots: Mapping[int, Metadata[Root]], trusted: Metadata[Root], newest: Metadata[Root]) -> None:
    known = {**roots, trusted.signed.version: trusted, newest.signed.version: newest}
    for version, root in roots.items():
        name = f"{version}.root.json"
        if version > newest.signed.version:
            raise _no(name, f"does not follow root {newest.signed.version}")
        if version == trusted.signed.version and root.signed_bytes != trusted.signed_bytes:
            raise _no(name, "is another root than the trusted one of the same version")
        check_signed(root.signed, Root.type, root)
        if version + 1 in known:
            check_signed(root.signed, Root.type, known[version + 1])
        before = known.get(version - 1)
        keys = _keys(root.signed, Root.type) | (_keys(before.signed, Root.type) if before is not None else {})
        spared: set[str] = set()
        if version == trusted.signed.version:  # by keys of a root that nobody here has any more: the same as on the trusted file
            spared = {one for one, signature in root.signatures.items() if trusted.signatures.get(one) == signature}
        elif version < trusted.signed.version and version > 1 and before is None:
            spared = set(root.signatures)
        _check_signatures(name, root, keys, spared)


def _keys(delegator: Root | Targets, role: str) -> dict[str, Any]:
    try:
        return {keyid: delegator.get_key(keyid) for keyid in delegator.get_delegated_role(role).keyids}
    except MALFORMED as error:
        raise ChainError(Refusal("signature", f"{role}: {error}")) from None


def _check_form(name: str, data: bytes, metadata: Metadata[Any]) -> None:
    if metadata.unrecognized_fields or metadata.to_bytes() != data:
        raise _no(name, "is not in the one form that metadata of a bundle has (canonical, nothing added)")


def _check_signatures(name: str, metadata: Metadata[Any], keys: Mapping[str, Any], spared: set[str] | None = None) -> None:
    for keyid, signature in metadata.signatures.items():
        key = keys.get(keyid)
        if key is None:
            if keyid in (spared or set()):
                continue
            raise _no(name, f"bears a signature by {keyid[:12]}…, which is no key of this role")
        if signature.unrecognized_fields or not _HEX.fullmatch(signature.signature):
            raise _no(name, f"its signature by {keyid[:12]}… is not in the one form that signatures have")
        try:
            key.verify_signature(signature, metadata.signed_bytes)
        except (*MALFORMED, SignatureError) as error:
            raise _no(name, f"its signature by {keyid[:12]}… does not hold ({error})") from None


def _no(name: str, problem: str) -> ChainError:
    return ChainError(Refusal("signature", f"metadata/{name}: {problem}"))
