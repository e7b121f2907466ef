"""TUF roles of a fleet, made and signed: root, targets (delegations and assignment keys), one role per channel. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tuf.api.exceptions import RepositoryError, UnsignedMetadataError

from ota.bundle.manifest import RESERVED_CHANNELS, parse_manifest, target_path
from ota.bundle.tuf_types import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets
from ota.trust.errors import TrustError
from ota.trust.key_types import Key, Signer
from ota.trust.keys import key_from_dict, key_to_dict

ASSIGNMENT_KEYS = "assignment-keys.json"
"""The one target of top-level targets: who may sign assignments, in its ``custom``."""
ROOT_LIFE_S = 365 * 86_400.0
TARGETS_LIFE_S = 270 * 86_400.0
CHANNEL_LIFE_S = 60 * 86_400.0
POLICY = "policy"
"""The delegated role that signs boards' policies: offline, apart from every channel."""
TOP_ROLES = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True, slots=True)
class ChannelKeys:
    """Who may sign a channel, and how many of them must."""

    keys: Sequence[Key]
    threshold: int = 1


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """How far the signing of one piece of metadata has come."""

    signed: tuple[str, ...]
    """Ids of the keys that have signed."""
    missing: tuple[str, ...]
    """Ids of the keys that have not; they need not all."""
    threshold: int
    complete: bool

    def tell(self, names: Mapping[str, str]) -> str:
        """``1 of 3 signed, 2 needed; missing: …``; whoever has a name (key id -> name) is called by it."""
        total = len(self.signed) + len(self.missing)
        text = f"{len(self.signed)} of {total} signed, {self.threshold} needed"
        missing = ", ".join(sorted(names.get(one) or one[:12] for one in self.missing))
        return text if self.complete else f"{text}; missing: {missing}"

    def __str__(self) -> str:
        return self.tell({})


def delegated_paths(channel: str) -> list[str]:
    """What a delegated role may sign: a channel its own releases and acceptance set, ``policy`` the boards' policies."""
    if channel == POLICY:
        return [f"{POLICY}/*.toml"]
    return [f"{channel}/*/*/manifest.json", f"{channel}/acceptance/*/acceptance.json"]


def new_root(keys: Mapping[str, Sequence[Key]], thresholds: Mapping[str, int], expires_s: float) -> Metadata[Root]:
    """Root version 1, unsigned. ``keys`` names the keys of root, targets, snapshot and timestamp; a threshold not given is 1."""
    root = Root(version=1, expires=instant(expires_s), consistent_snapshot=True)
    for role in TOP_ROLES:
        if not keys.get(role):
            raise TrustError(f"role {role} has no key")
        for key in keys[role]:
            root.add_key(key, role)
        root.roles[role].threshold = check_threshold(role, thresholds.get(role, 1), keys[role])
    return Metadata(root)


def new_targets(
    channels: Mapping[str, ChannelKeys], assignment_keys: Iterable[Key], expires_s: float, version: int = 1
) -> Metadata[Targets]:
    """Top-level targets, unsigned: the channels' delegations and the server's assignment keys, nothing else."""
    targets = Targets(version=version, expires=instant(expires_s))
    roles: dict[str, DelegatedRole] = {}
    for name, who in sorted(channels.items()):
        if name in RESERVED_CHANNELS and name != POLICY:
            raise TrustError(f"{name!r} cannot be the name of a channel")
        threshold = check_threshold(name, who.threshold, who.keys)
        roles[name] = DelegatedRole(name, [], threshold, terminating=True, paths=delegated_paths(name))
    targets.delegations = Delegations({}, roles)
    for name, who in channels.items():
        for key in who.keys:
            targets.add_key(key, name)
    custom = {"keys": {key.keyid: key_to_dict(key) for key in assignment_keys}}
    entry = TargetFile.from_data(ASSIGNMENT_KEYS, b"", ["sha256"])
    entry.unrecognized_fields["custom"] = custom
    targets.targets[ASSIGNMENT_KEYS] = entry
    return Metadata(targets)


def assignment_keys(targets: Targets) -> dict[str, Key]:
    """The keys that may sign assignments, by id, as (verified) targets metadata names them; unusable ones are left out."""
    entry = targets.targets.get(ASSIGNMENT_KEYS)
    custom = entry.custom if entry is not None else None
    listed = custom.get("keys") if isinstance(custom, dict) else None
    found: dict[str, Key] = {}
    for keyid, data in (listed.items() if isinstance(listed, dict) else ()):
        try:
            found[keyid] = key_from_dict(data, keyid)
        except TrustError:
            continue  # a key type of a later version: those that we know still count
    return found


def new_channel(expires_s: float) -> Metadata[Targets]:
    """A channel without releases: an unsigned draft of version 1."""
    return Metadata(Targets(version=1, expires=instant(expires_s)))


def present_channel(data: bytes | None, targets: Metadata[Targets], channel: str, expires_s: float) -> Metadata[Targets]:
    """The channel to add to: what the server published, believed only when enough of the channel's own keys have signed it.

    None (nothing published yet) gives a new draft. Raises TrustError otherwise: a releaser who signs on top of what a captured
    server hands out would sign the attacker's releases along with his own.
    """
    if data is None:
        return new_channel(expires_s)
    metadata = parse_metadata(data, channel)
    if not isinstance(metadata.signed, Targets):
        raise TrustError(f"{channel}: the server handed out {metadata.signed.type} metadata in its place")
    status = signature_status(metadata, targets, channel)
    if not status.complete:
        raise TrustError(f"{channel}: what the server handed out is not signed by the channel's keys ({status}): not built upon")
    return metadata


def add_release(
    channel_metadata: Metadata[Targets], path: str, manifest: bytes, expires_s: float | None = None
) -> Metadata[Targets]:
    """The channel's next version with this release in it, unsigned; the argument is left as it is.

    A draft that nobody has signed keeps its version, so several releases may go into one. Raises BundleError for a malformed
    manifest and TrustError when ``path`` is not the manifest's own.
    """
    parsed = parse_manifest(manifest)
    own = target_path(parsed.channel, parsed.name, parsed.version)
    if path != own:
        raise TrustError(f"{path} is not where {parsed.release} belongs, which is {own}")
    return _with_target(channel_metadata, path, manifest, expires_s)


def add_acceptance(
    channel_metadata: Metadata[Targets], path: str, data: bytes, expires_s: float | None = None
) -> Metadata[Targets]:
    """The channel's next version with an acceptance set (``<channel>/acceptance/<version>/acceptance.json``), unsigned."""
    parts = path.split("/")
    if len(parts) != 4 or parts[1] != "acceptance" or parts[3] != "acceptance.json":
        raise TrustError(f"{path} is not <channel>/acceptance/<version>/acceptance.json")
    return _with_target(channel_metadata, path, data, expires_s)


def add_policy(metadata: Metadata[Targets], path: str, data: bytes, counter: int, expires_s: float) -> Metadata[Targets]:
    """The policy role's next version with this policy (``policy/<name>.toml``), unsigned.

    Unlike a release, a policy may be replaced: by one with a higher ``counter`` (in the target's ``custom``), which is what
    boards go by. Raises TrustError for another path, or a counter that does not rise.
    """
    if not re.fullmatch(r"policy/[a-z0-9][a-z0-9._-]{0,59}\.toml", path):
        raise TrustError(f"{path} is not policy/<name>.toml (lower-case letters, digits, '.', '_', '-')")
    following = next_version(metadata, expires_s)
    present = following.signed.targets.get(path)
    entry = TargetFile.from_data(path, data, ["sha256"])
    same = present is not None and present.hashes == entry.hashes
    if counter < 1 or (present is not None and not same and counter <= policy_counter(present)):
        above = policy_counter(present) if present is not None else 0
        raise TrustError(f"{path}: counter {counter} is not above the published {above}; boards would not take it")
    entry.unrecognized_fields["custom"] = {"counter": counter}
    following.signed.targets[path] = entry
    return following


def policy_counter(target: TargetFile) -> int:
    """The counter of a policy target; raises TrustError when its metadata has none."""
    counter = target.custom.get("counter") if isinstance(target.custom, dict) else None
    if not isinstance(counter, int) or isinstance(counter, bool) or not 1 <= counter < 2**53:
        raise TrustError(f"{target.path}: the signed metadata gives no counter")
    return counter


def remove_target(channel_metadata: Metadata[Targets], path: str, expires_s: float | None = None) -> Metadata[Targets]:
    """The channel's next version without this target (a yank), unsigned."""
    following = next_version(channel_metadata, expires_s)
    if following.signed.targets.pop(path, None) is None:
        raise TrustError(f"{path} is not in the channel")
    return following


def next_version(metadata: Metadata[Any], expires_s: float | None = None) -> Metadata[Any]:
    """An unsigned copy, one version higher than a signed original (a draft keeps its version), with a new expiry if given."""
    copy: Metadata[Any] = Metadata.from_bytes(metadata.to_bytes())
    if copy.signatures:
        copy.signed.version += 1
        copy.signatures.clear()
    if expires_s is not None:
        copy.signed.expires = instant(expires_s)
    return copy


def sign(metadata: Metadata[Any], signer: Signer, append: bool = True) -> None:
    """Sign in place; ``append`` keeps the signatures of others, which is how a threshold is reached in several sittings."""
    try:
        metadata.sign(signer, append=append)
    except UnsignedMetadataError as error:
        raise TrustError(f"signing failed: {error}") from None


def signature_status(metadata: Metadata[Any], delegator: Metadata[Any], role: str | None = None) -> SignatureStatus:
    """Who has signed and who has not, by the keys that ``delegator`` (root, or targets for a channel) names.

    ``role`` is the channel's name; for top-level metadata it is known from the metadata itself.
    """
    name = role or metadata.signed.type
    try:
        if isinstance(metadata.signed, Root) and isinstance(delegator.signed, Root) and metadata.signed.version > 1:
            both = metadata.signed.get_root_verification_result(
                delegator.signed if delegator.signed.version < metadata.signed.version else None,
                metadata.signed_bytes,
                metadata.signatures,
            )
            threshold = max(both.first.threshold, both.second.threshold)
            return SignatureStatus(tuple(both.signed), tuple(both.unsigned), threshold, bool(both))
        one = delegator.signed.get_verification_result(name, metadata.signed_bytes, metadata.signatures)
    except ValueError as error:
        raise TrustError(f"{name}: {error}") from None
    return SignatureStatus(tuple(one.signed), tuple(one.unsigned), one.threshold, bool(one))


def parse_metadata(data: bytes, role: str) -> Metadata[Any]:
    """Metadata from bytes, unverified; raises TrustError when it is not metadata."""
    try:
        return Metadata.from_bytes(data)
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TrustError(f"{role}: not TUF metadata ({error})") from None


def _with_target(metadata: Metadata[Targets], path: str, data: bytes, expires_s: float | None) -> Metadata[Targets]:
    following = next_version(metadata, expires_s)
    present = following.signed.targets.get(path)
    entry = TargetFile.from_data(path, data, ["sha256"])
    if present is not None and present.hashes != entry.hashes:
        raise TrustError(f"{path} is published with other content; a release never changes, give it a new version")
    following.signed.targets[path] = entry
    return following


def check_threshold(role: str, threshold: int, keys: Sequence[Key]) -> int:
    """The threshold; raises TrustError when so many different keys are not there."""
    if not 1 <= threshold <= len({key.keyid for key in keys}):
        raise TrustError(f"role {role}: threshold {threshold} with {len(keys)} keys cannot be met")
    return threshold


def instant(at_s: float) -> datetime:
    """Seconds since 1970 as TUF metadata has it: whole seconds, UTC."""
    return datetime.fromtimestamp(int(at_s), UTC)
