"""What the server demands of signed metadata before it publishes it: pure, so that each refusal can be tested without a store."""

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256 as sha256_of
from typing import Any

from ota.bundle.errors import BundleError
from ota.bundle.manifest import Manifest, parse_manifest, target_path, travelling_all
from ota.bundle.offline import ChainError, check_fresh, check_signed, load_role
from ota.bundle.tuf_types import Metadata, Root, TargetFile, Targets
from ota.trust.errors import TrustError
from ota.trust.key_types import Key
from ota.trust.refusal import Refusal
from ota.trust.roles import POLICY, policy_counter


@dataclass(frozen=True, slots=True)
class Published:
    """One target that became visible. ``manifest`` is None for an acceptance set."""

    path: str
    sha256: str
    length_bytes: int
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class NewTarget:
    """A target that the new metadata adds: its bytes, and the content files (sha256 -> length or None) that it needs."""

    published: Published
    data: bytes
    content: dict[str, int | None]


def hashed_path(path: str, sha256: str) -> str:
    """Where a target lies under consistent snapshots: ``<folder>/<sha256>.<file>``."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}" if folder else f"{sha256}.{name}"


def target_digest(target: TargetFile) -> str:
    """The sha256 of a target; raises ChainError when its metadata gives another kind of hash."""
    digest = target.hashes.get("sha256")
    if digest is None or len(target.hashes) != 1:
        raise ChainError(Refusal("format", f"{target.path}: exactly one hash, sha256, is wanted"))
    return digest


def check_root(
    data: bytes, previous: Metadata[Root] | None, online: Mapping[str, Mapping[str, Key]], now_s: float
) -> Metadata[Root]:
    """A root that this server can live with, or ChainError: right chain, consistent snapshots, our online keys, not expired.

    ``online``: by role, the keys (by id) that this server can sign with.
    """
    root: Metadata[Root] = load_role(Root, data, "root")
    if previous is not None:
        if root.signed.version != previous.signed.version + 1:
            raise ChainError(_wrong_version("root", root.signed.version, previous.signed.version))
        check_signed(previous.signed, "root", root)
    check_signed(root.signed, "root", root)
    check_fresh("root", root, now_s)
    if not root.signed.consistent_snapshot:
        raise ChainError(Refusal("format", "root: consistent_snapshot must be on"))
    for role in ("snapshot", "timestamp"):
        named = root.signed.roles[role]
        ours = online.get(role, {})
        if not ours.keys() & set(named.keyids) or named.threshold != 1:
            keyids = " or ".join(keyid[:12] for keyid in ours) or "(it has none)"
            raise ChainError(Refusal("signature", f"root: does not name this server's {role} key {keyids} with threshold 1"))
    return root


def check_targets(data: bytes, root: Root, previous: Metadata[Targets] | None, now_s: float) -> Metadata[Targets]:
    """Top-level targets signed by the keys that ``root`` names, one version up, not expired; ChainError otherwise."""
    targets: Metadata[Targets] = load_role(Targets, data, "targets")
    check_signed(root, "targets", targets)
    if previous is not None and targets.signed.version != previous.signed.version + 1:
        raise ChainError(_wrong_version("targets", targets.signed.version, previous.signed.version))
    check_fresh("targets", targets, now_s)
    if targets.signed.delegations is None or not targets.signed.delegations.roles:
        raise ChainError(Refusal("format", "targets: delegates no channel"))
    return targets


def check_channel(
    name: str, data: bytes, targets: Targets, before: tuple[int | None, Metadata[Targets] | None], now_s: float, seen: int = 0
) -> Metadata[Targets]:
    """Channel metadata signed by enough of its own keys, one version up, inside its paths; ChainError otherwise.

    ``before``: the published version (None: nothing yet) and its metadata (None when our file of it no longer verifies).
    ``seen``: the version that devices have seen, when it is higher: after a restore it may be published again, or passed by one.
    """
    version, previous = before
    delegations = targets.delegations
    role = (delegations.roles or {}).get(name) if delegations is not None else None
    if role is None:
        raise ChainError(Refusal("channel", f"{name} is not a channel that the signed targets delegate"))
    channel: Metadata[Targets] = load_role(Targets, data, name)
    check_signed(targets, name, channel)
    if version is not None and not version < channel.signed.version <= max(version, seen) + 1:
        raise ChainError(_wrong_version(name, channel.signed.version, version))
    check_fresh(name, channel, now_s)
    if channel.signed.delegations is not None:
        raise ChainError(Refusal("format", f"{name}: a channel may not delegate further"))
    for path, target in channel.signed.targets.items():
        if not role.is_delegated_path(path):
            raise ChainError(Refusal("channel", f"{path} is outside of what {name} may sign ({', '.join(role.paths or [])})"))
        published = previous.signed.targets.get(path) if previous is not None else None
        if name == POLICY:
            _check_policy(path, target, published)
        elif published is not None and target_digest(published) != target_digest(target):
            raise ChainError(Refusal("mismatch", f"{path} is published with other content; a release never changes"))
    return channel


def new_targets_of(
    channel: Metadata[Targets],
    previous: Metadata[Targets] | None,
    name: str,
    given: Sequence[bytes],
    stored: Callable[[str, str], bytes | None],
) -> list[NewTarget]:
    """The targets that ``channel`` adds, each with its bytes; ChainError when one is missing or malformed.

    Bytes come out of ``given`` or, by (path, sha256), out of ``stored``: after our own file of the channel was damaged every
    target looks new, and the releaser has only the newest at hand.
    """
    by_digest = {sha256_of(data).hexdigest(): data for data in given}
    known = previous.signed.targets if previous is not None else {}
    found = []
    for path, target in channel.signed.targets.items():
        digest = target_digest(target)
        if path in known and target_digest(known[path]) == digest:
            continue
        data = by_digest.get(digest) or stored(path, digest)
        if data is None or len(data) != target.length or sha256_of(data).hexdigest() != digest:
            raise ChainError(Refusal("hash", f"{path}: its bytes (sha256 {digest[:12]}…) were not sent along"))
        found.append(_new_target(name, path, digest, data))
    return found


def _wrong_version(role: str, version: int, published: int) -> Refusal:
    return Refusal(
        "sequence",
        f"{role}: version {version} cannot follow the published {published}; fetch the present metadata, add to it and sign "
        f"version {published + 1}",
    )


def _check_policy(path: str, target: TargetFile, published: TargetFile | None) -> None:
    # A policy is replaced under its own name, and boards go by its counter: one that does not rise would be ignored by all.
    try:
        counter = policy_counter(target)
    except TrustError as error:
        raise ChainError(Refusal("format", str(error))) from None
    changed = published is not None and target_digest(published) != target_digest(target)
    least = policy_counter(published) + int(changed) if published is not None else 1
    if counter < least:
        raise ChainError(Refusal("sequence", f"{path}: counter {counter}, but {least} is the least after what is published"))


def _new_target(channel: str, path: str, digest: str, data: bytes) -> NewTarget:
    if channel == POLICY:
        try:
            tomllib.loads(data.decode())
        except (ValueError, RecursionError) as error:
            raise ChainError(Refusal("format", f"{path}: not TOML ({error})")) from None
        return NewTarget(Published(path, digest, len(data), None), data, {})
    if path.endswith("/acceptance.json"):
        return NewTarget(Published(path, digest, len(data), None), data, _acceptance_content(path, data))
    try:
        manifest = parse_manifest(data)
    except BundleError as error:
        raise ChainError(Refusal("format", f"{path}: {error}")) from None
    own = target_path(manifest.channel, manifest.name, manifest.version)
    if path != own or manifest.channel != channel:
        raise ChainError(Refusal("channel", f"{path} holds the manifest of {own}"))
    content: dict[str, int | None] = {**travelling_all(manifest, deltas=True)}
    return NewTarget(Published(path, digest, len(data), manifest), data, content)


def _acceptance_content(path: str, data: bytes) -> dict[str, int | None]:
    # The set's pictures are content files like any other; what else the set says is for those who score with it.
    try:
        found: Any = json.loads(data)
        pictures = [str(one["sha256"]) for one in found["images"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ChainError(Refusal("format", f"{path}: not an acceptance set (images with sha256 are missing)")) from None
    for one in pictures:
        if len(one) != 64 or set(one) - set("0123456789abcdef"):
            raise ChainError(Refusal("format", f"{path}: {one[:80]!r} is not a sha256"))
    return dict.fromkeys(pictures)
