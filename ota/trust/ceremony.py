"""The next version of root and targets as an edit of the present one: who signs a role from now on, and how many must. Pure.

A draft is what will be in force once enough people have signed it, in as many sittings as they like. Changing a draft takes its
signatures off: they were given for something else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from securesystemslib.exceptions import UnverifiedSignatureError

from ota.bundle.manifest import RESERVED_CHANNELS
from ota.bundle.tuf_types import DelegatedRole, Metadata, Root, Targets
from ota.trust.errors import TrustError
from ota.trust.key_types import Key, Signature
from ota.trust.keys import key_from_dict, key_to_dict
from ota.trust.roles import (
    ASSIGNMENT_KEYS,
    POLICY,
    TOP_ROLES,
    SignatureStatus,
    assignment_keys,
    check_threshold,
    delegated_paths,
    instant,
    signature_status,
)

ASSIGNMENT = "assignment"


@dataclass(frozen=True, slots=True)
class KeyChange:
    """What changes for one role. ``threshold`` None leaves it as it is."""

    add: Sequence[Key] = ()
    remove: Sequence[str] = ()
    """Ids of keys that no longer count."""
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class RoleKeys:
    """Who may sign a role, and how many must."""

    keys: Mapping[str, Key]
    threshold: int


def in_root(role: str) -> bool:
    """Whether root names the keys of a role (else the targets do)."""
    return role in TOP_ROLES


def role_keys(root: Root, targets: Targets, role: str) -> RoleKeys | None:
    """The keys of any role by id, with its threshold; None for a role that is not there."""
    if in_root(role):
        named = root.roles[role]
        return RoleKeys({keyid: root.keys[keyid] for keyid in named.keyids}, named.threshold)
    if role == ASSIGNMENT:
        return RoleKeys(assignment_keys(targets), 1)
    delegations = targets.delegations
    found = (delegations.roles or {}).get(role) if delegations is not None else None
    if found is None or delegations is None:
        return None
    return RoleKeys({keyid: delegations.keys[keyid] for keyid in found.keyids}, found.threshold)


def all_roles(targets: Targets) -> list[str]:
    """Every role there is: the four of root, the assignment key, the delegated ones."""
    delegated = (targets.delegations.roles or {}) if targets.delegations is not None else {}
    return [*TOP_ROLES, ASSIGNMENT, *sorted(delegated)]


def draft_of(present: Metadata[Any], draft: Metadata[Any] | None, expires_s: float) -> Metadata[Any]:
    """What to edit: a copy of the draft that was begun, else of the present version; one version up, unsigned, new expiry."""
    copy: Metadata[Any] = Metadata.from_bytes((draft or present).to_bytes())
    copy.signed.version = present.signed.version + 1
    copy.signed.expires = instant(expires_s)
    copy.signatures.clear()
    return copy


def change_root(draft: Metadata[Root], role: str, change: KeyChange) -> None:
    """Change one of the four top roles of a draft. Raises TrustError where that leaves too few keys or changes nothing."""
    root = draft.signed
    named = root.roles[role]
    left = _following(role, {keyid: root.keys[keyid] for keyid in named.keyids}, named.threshold, change)
    for keyid in change.remove:
        root.revoke_key(keyid, role)
    for key in change.add:
        root.add_key(key, role)
    root.roles[role].threshold = left.threshold


def change_targets(draft: Metadata[Targets], role: str, change: KeyChange, *, new: bool = False) -> None:
    """Change the assignment key or a delegated role of a draft; ``new`` makes the role. Raises TrustError as ``change_root``."""
    targets = draft.signed
    if role == ASSIGNMENT:
        _change_assignment(targets, change)
        return
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    roles = targets.delegations.roles
    if (role in roles) == new:
        is_there = "is there already" if new else f"is not there (there are: {', '.join(sorted(roles))}); --new makes it"
        raise TrustError(f"the role {role} {is_there}")
    if new:
        if role in RESERVED_CHANNELS and role != POLICY:
            raise TrustError(f"{role!r} cannot be the name of a channel")
        if not change.add:
            raise TrustError(f"the role {role} needs a key")
        roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=delegated_paths(role))
    named = roles[role]
    known = {keyid: targets.delegations.keys[keyid] for keyid in named.keyids}
    left = _following(role, known, named.threshold, change)
    for keyid in change.remove:
        targets.revoke_key(keyid, role)
    for key in change.add:
        targets.add_key(key, role)
    named.threshold = left.threshold


def _change_assignment(targets: Targets, change: KeyChange) -> None:
    left = _following(ASSIGNMENT, assignment_keys(targets), 1, change)
    if left.threshold != 1:
        raise TrustError("the server alone signs assignments: their threshold is 1")
    entry = targets.targets[ASSIGNMENT_KEYS]
    entry.unrecognized_fields["custom"] = {"keys": {keyid: key_to_dict(key) for keyid, key in left.keys.items()}}


def _following(role: str, keys: Mapping[str, Key], threshold: int, change: KeyChange) -> RoleKeys:
    for keyid in change.remove:
        if keyid not in keys:
            raise TrustError(f"{keyid[:12]} is no key of the role {role}")
    for key in change.add:
        if key.keyid in keys and key.keyid not in change.remove:
            raise TrustError(f"{key.keyid[:12]} is a key of the role {role} already")
    left = {keyid: key for keyid, key in keys.items() if keyid not in change.remove}
    left |= {key.keyid: key_from_dict(key_to_dict(key), key.keyid) for key in change.add}
    wanted = threshold if change.threshold is None else change.threshold
    if not left:
        raise TrustError(f"role {role}: no key would be left; add its successor in the same step")
    return RoleKeys(left, check_threshold(role, wanted, list(left.values())))


@dataclass(frozen=True, slots=True)
class Signing:
    """How far one document's signing has come: judged by each of the documents that name its signers."""

    document: str
    """``root 2``, ``targets 5``."""
    judged: Mapping[str, SignatureStatus]
    """Who judges (``root 1``, ``root 2``) -> how far it has come for them."""

    @property
    def complete(self) -> bool:
        """Whether all of them have what they need."""
        return all(status.complete for status in self.judged.values())

    def tell(self, names: Mapping[str, str]) -> str:
        """One line: ``root 2: 1 of 3 signed, 2 needed; missing: Ben, Cleo``; by both roots where they name other signers."""
        texts = {judge: status.tell(names) for judge, status in self.judged.items()}
        if len(set(texts.values())) == 1:
            return f"{self.document}: {next(iter(texts.values()))}"
        return f"{self.document}: " + " | ".join(f"by {judge}: {text}" for judge, text in texts.items())


def root_signing(draft: Metadata[Root], present: Metadata[Root] | None) -> Signing:
    """Root's signing: its own threshold, and from the second version on the threshold of the root before it."""
    judged = {} if present is None else {f"root {present.signed.version}": _by(present.signed, "root", draft)}
    judged[f"root {draft.signed.version}"] = _by(draft.signed, "root", draft)
    return Signing(f"root {draft.signed.version}", judged)


def targets_signing(draft: Metadata[Targets], roots: Sequence[Metadata[Root]]) -> Signing:
    """The targets' signing by every root given (two where boards must cross from the one to the other)."""
    judged = {f"root {root.signed.version}": signature_status(draft, root) for root in roots}
    return Signing(f"targets {draft.signed.version}", judged)


def delegated_signing(name: str, draft: Metadata[Targets], targets: Metadata[Targets]) -> Signing:
    """A delegated role's signing by the targets."""
    judged = {f"targets {targets.signed.version}": signature_status(draft, targets, name)}
    return Signing(f"{name} {draft.signed.version}", judged)


@dataclass(slots=True)
class Ceremony:
    """What lies in a folder that travels between signers: what is in force, and what waits for signatures."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    next_root: Metadata[Root] | None = None
    next_targets: Metadata[Targets] | None = None
    delegated: dict[str, Metadata[Targets]] = field(default_factory=dict)
    """Role -> draft of a channel's, or of the policy role's, next version."""
    people: dict[str, str] = field(default_factory=dict)
    """Key id -> the name of whoever holds it. A help for people: nothing is decided by it."""
    in_force: bool = False
    """Whether a first version was pushed: from then on root and targets change by drafts alone."""

    def final_root(self) -> Metadata[Root]:
        """Root as it will be once the drafts are in force."""
        return self.next_root or self.root

    def final_targets(self) -> Metadata[Targets]:
        """Targets as they will be once the drafts are in force."""
        return self.next_targets or self.targets

    def drafts(self) -> list[str]:
        """The roles whose next version is being made."""
        tops = [role for role, draft in (("root", self.next_root), ("targets", self.next_targets)) if draft is not None]
        return [*tops, *sorted(self.delegated)]

    def follows(self) -> bool:
        """Whether the targets in force hold under the next root, so that boards cross from root to root on them."""
        return self.next_root is None or signature_status(self.targets, self.next_root).complete

    def waiting(self) -> list[Signing]:
        """Everything that is to be signed, with how far it has come. Of a first version that is root and targets themselves."""
        found = []
        if self.next_root is not None:
            found.append(root_signing(self.next_root, self.root))
        elif not self.in_force:
            found.append(root_signing(self.root, None))
        if self.next_targets is not None:
            found.append(targets_signing(self.next_targets, self._judges()))
        elif not self.in_force:
            found.append(targets_signing(self.targets, [self.root]))
        return found + [delegated_signing(name, draft, self.final_targets()) for name, draft in sorted(self.delegated.items())]

    def signable(self, keyid: str) -> list[Metadata[Any]]:
        """The documents that this key may sign: drafts, and the first version of root and targets."""
        roots = [self.root] if self.next_root is None else [self.root, self.next_root]
        found: list[Metadata[Any]] = []
        for role, present, draft in (("root", self.root, self.next_root), ("targets", self.targets, self.next_targets)):
            may = any(keyid in one.signed.roles[role].keyids for one in roots)
            document = draft or (None if self.in_force else present)
            if may and document is not None:
                found.append(document)
        for name, draft in self.delegated.items():
            judges = (role_keys(self.root.signed, one.signed, name) for one in (self.targets, self.final_targets()))
            if any(keyid in judge.keys for judge in judges if judge is not None):
                found.append(draft)
        return found

    def adopt(self, other: "Ceremony") -> int:
        """Take over the signatures that another copy of the same drafts has gathered; answers how many were new."""
        count = 0
        pairs: list[tuple[Metadata[Any] | None, Metadata[Any] | None]] = [
            (None if self.in_force else self.root, other.root), (None if self.in_force else self.targets, other.targets),
            (self.next_root, other.next_root), (self.next_targets, other.next_targets),
            *((one, other.delegated.get(name)) for name, one in self.delegated.items()),
        ]  # fmt: skip
        for mine, theirs in pairs:
            if mine is None or theirs is None or mine.signed_bytes != theirs.signed_bytes:
                continue
            fresh = {
                keyid: one for keyid, one in theirs.signatures.items()
                if keyid not in mine.signatures and self._holds(keyid, one, mine.signed_bytes)
            }  # fmt: skip
            mine.signatures.update(fresh)
            count += len(fresh)
        self.people = other.people | self.people
        return count

    def _holds(self, keyid: str, signature: Signature, text: bytes) -> bool:
        # A bad signature would stand in the good one's place.
        keys: dict[str, Key] = {}
        for document in (self.root, self.final_root()):
            keys |= document.signed.keys
        for targets in (self.targets, self.final_targets()):
            keys |= targets.signed.delegations.keys if targets.signed.delegations is not None else {}
        try:
            keys[keyid].verify_signature(signature, text)
        except (KeyError, ValueError, UnverifiedSignatureError):
            return False
        return True

    def _judges(self) -> list[Metadata[Root]]:
        return [self.final_root()] if self.follows() else [self.root, self.final_root()]


def _by(judge: Root, role: str, document: Metadata[Any]) -> SignatureStatus:
    one = judge.get_verification_result(role, document.signed_bytes, document.signatures)
    return SignatureStatus(tuple(one.signed), tuple(one.unsigned), one.threshold, bool(one))
