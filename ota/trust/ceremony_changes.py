"""What a person is about to sign, in words: the difference between a document and what is in force. Pure.

Names are a help that nobody has signed, so each stands beside the first digits of its key.
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ota.bundle.tuf_types import Metadata, Root, Targets
from ota.trust.ceremony import Ceremony, RoleKeys, all_roles, role_keys
from ota.trust.roles import ASSIGNMENT_KEYS, TOP_ROLES


def document_fingerprint(document: Metadata[Any]) -> str:
    """sha256 of the bytes that signatures cover: what signers compare."""
    return hashlib.sha256(document.signed_bytes).hexdigest()


def document_name(made: Ceremony, document: Metadata[Any]) -> str:
    """``root 2``, ``targets 5``, ``stable 7``."""
    if isinstance(document.signed, Root):
        return f"root {document.signed.version}"
    role = next((name for name, draft in made.delegated.items() if draft is document), "targets")
    return f"{role} {document.signed.version}"


def changes(made: Ceremony, document: Metadata[Any]) -> list[str]:
    """A line for all that signing ``document`` would change: keys in and out, thresholds, paths, ends, targets."""
    name = document_name(made, document)
    ends = datetime.fromtimestamp(document.signed.expires.timestamp(), UTC)
    lines = [f"ends {ends:%Y-%m-%d}"]
    if document.signed.unrecognized_fields:
        lines.append(f"fields that are not ours: {', '.join(sorted(document.signed.unrecognized_fields))}")
    if isinstance(document.signed, Root):
        if not document.signed.consistent_snapshot:
            lines.append("consistent_snapshot off")
        for role in TOP_ROLES:
            before = role_keys(made.root.signed, made.targets.signed, role) if made.in_force else None
            lines += _role(role, before, role_keys(document.signed, made.targets.signed, role), made.people)
        return lines
    if name.startswith("targets "):
        return lines + _targets(made, document.signed)
    return lines + [f"{path}  sha256 {one.hashes.get('sha256', '?')}" for path, one in sorted(document.signed.targets.items())]


def _targets(made: Ceremony, targets: Targets) -> list[str]:
    lines = [f"also a target of its own: {path}" for path in sorted(set(targets.targets) - {ASSIGNMENT_KEYS})]
    root = made.final_root().signed
    old_roles = set(all_roles(made.targets.signed)) if made.in_force else set()
    for role in [one for one in all_roles(targets) if one not in TOP_ROLES]:
        before = role_keys(root, made.targets.signed, role) if made.in_force else None
        lines += _role(role, before, role_keys(root, targets, role), made.people)
        old, new = _paths(made.targets.signed, role) if made.in_force else None, _paths(targets, role)
        if new != old and (old is not None or before is None):
            lines.append(f"{role}: may sign {', '.join(new or ['nothing'])}")
    return lines + [f"{role}: is gone" for role in sorted(old_roles - set(all_roles(targets)))]


def _paths(targets: Targets, role: str) -> list[str] | None:
    found = (targets.delegations.roles or {}).get(role) if targets.delegations is not None else None
    if found is None:
        return None
    return [*(found.paths or []), *([] if found.terminating else ["(and others may sign the same)"])]


def _role(role: str, before: RoleKeys | None, after: RoleKeys | None, people: Mapping[str, str]) -> list[str]:
    if after is None:
        return [f"{role}: is gone"]
    if before is None:
        return [f"{role}: {after.threshold} of {', '.join(_who(one, people) for one in after.keys)}"]
    lines = [f"{role}: + {_who(one, people)}" for one in after.keys if one not in before.keys]
    lines += [f"{role}: - {_who(one, people)}" for one in before.keys if one not in after.keys]
    if before.threshold != after.threshold:
        lines.append(f"{role}: {after.threshold} must sign, {before.threshold} until now")
    return lines


def _who(keyid: str, people: Mapping[str, str]) -> str:
    name = people.get(keyid)
    return f"{name} ({keyid[:12]})" if name else keyid[:12]
