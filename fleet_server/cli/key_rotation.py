"""Rotation and revocation: edits of the next version's draft, signed and pushed like the first version."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, NOT_FOUND, USAGE, CliError
from fleet_server.cli.key_ceremony import FILE, FOLDER, online_keys, read, read_keys, save, tell_waiting, trust_errors
from fleet_server.cli.output import talk
from fleet_server.cli.session import Session, pass_session, segment

if TYPE_CHECKING:
    from ota.bundle.tuf_types import Metadata, Targets
    from ota.trust.ceremony import Ceremony, KeyChange

ONLINE = ("snapshot", "timestamp", "assignment")
add_option = click.option(
    "--add", "added", multiple=True, metavar="PUB", help="A key that counts from now on: .pub file, pkcs11:…, awskms:…."
)


@click.command()
@click.argument("role")
@click.argument("folder", type=FOLDER)
@add_option
@click.option("--remove", "removed", multiple=True, metavar="WHO", help="A key that no longer counts: name, key id or .pub file.")
@click.option("--threshold", type=click.IntRange(1, 16), help="How many must sign from now on.")
@click.option("--new", is_flag=True, help="The role is not there yet: a new channel, or policy.")
@click.option("--online", type=FILE, help="The server's keys as 'rookery key online --next' saved them (else asked of it).")
@pass_session
def rotate(session: Session, role: str, folder: Path, added: tuple[str, ...], removed: tuple[str, ...], threshold: int | None,
           new: bool, online: Path | None) -> None:  # fmt: skip
    """Change who signs ROLE: root, targets, snapshot, timestamp, assignment, policy or a channel.

    Of snapshot, timestamp and assignment the key that the server made to follow takes the place of the present one. Root's
    signers sign the targets, too: a change of root is made for both.
    """
    from ota.trust.ceremony import KeyChange, role_keys

    made = read(folder)
    keys = read_keys(session, added, made.people)
    present = role_keys(made.final_root().signed, made.final_targets().signed, role)
    gone = [_who(one, made, session) for one in removed]
    if role in ONLINE and not keys:
        following = online_keys(session, online)["next"].get(role)
        if following is None:
            raise CliError(CONFLICT, f"the server has no next {role} key", f"make one: rookery key online FILE --next {role}")
        keys = [following]
        gone = gone or [keyid for keyid in (present.keys if present else {}) if keyid != following.keyid]
    if not keys and not gone and threshold is None:
        raise CliError(USAGE, "nothing is to change", "give --add, --remove or --threshold")
    _edit(made, role, KeyChange(keys, gone, threshold), new=new)
    if role == "root" and _same_signers(made, "root", "targets"):
        _edit(made, "targets", KeyChange(keys, gone, threshold))
    _finish(folder, made)


@click.command()
@click.argument("who")
@click.argument("folder", type=FOLDER)
@add_option
@pass_session
def revoke(session: Session, who: str, folder: Path, added: tuple[str, ...]) -> None:
    """Make WHO's key (name, key id or .pub file) count nowhere any more; --add names its successor in all its roles."""
    from ota.trust.ceremony import KeyChange, all_roles, role_keys

    made = read(folder)
    keyid = _who(who, made, session)
    successors = read_keys(session, added, made.people)
    root, targets = made.final_root().signed, made.final_targets().signed
    roles = [role for role in all_roles(targets) if (found := role_keys(root, targets, role)) and keyid in found.keys]
    if not roles:
        raise CliError(NOT_FOUND, f"the key {keyid[:12]} counts for no role of {folder}")
    for role in roles:
        there = role_keys(root, targets, role)
        fresh = [one for one in successors if there is None or one.keyid not in there.keys]
        _edit(made, role, KeyChange(fresh, [keyid]))
    _finish(folder, made, f"{made.people.get(keyid) or keyid[:12]} will count no more for: {', '.join(roles)}")
    for role in roles:
        if role not in ("root", "targets", *ONLINE):
            talk(
                f"once this is pushed, boards refuse what that key alone has signed on {role} (what runs goes on). Look at what "
                f"is published there, then have another key sign it: rookery key resign {role} {folder}"
            )


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--role", "only", type=click.Choice(["root", "targets"]), help="Only this one (else both).")
@pass_session
def renew(session: Session, folder: Path, only: str | None) -> None:
    """Make drafts that change nothing but the date on which root and targets end."""
    from ota.trust.ceremony import draft_of
    from ota.trust.roles import ROOT_LIFE_S, TARGETS_LIFE_S

    made = read(folder)
    if only != "targets":
        made.next_root = draft_of(made.root, made.next_root, time.time() + ROOT_LIFE_S)
    if only != "root":
        made.next_targets = draft_of(made.targets, made.next_targets, time.time() + TARGETS_LIFE_S)
    _finish(folder, made)


@click.command()
@click.argument("role")
@click.argument("folder", type=FOLDER)
@click.option("--metadata", type=FILE, help="What is published, as 'rookery channel fetch' saved it (else asked of the server).")
@click.option("--drop", multiple=True, metavar="PATH", help="A target to leave out (repeat).")
@pass_session
def resign(session: Session, role: str, folder: Path, metadata: Path | None, drop: tuple[str, ...]) -> None:
    """Make a draft of a channel's (or the policy role's) next version with the same content, to be signed by its present keys.

    For a channel whose key was revoked, or which ends soon. What is published is built upon only if the role's keys of now or of
    an earlier version of the targets have signed it; it is listed, so that a person can look before signing.
    """
    from ota.trust.ceremony import role_keys
    from ota.trust.roles import CHANNEL_LIFE_S, next_version

    made = read(folder)
    if role_keys(made.root.signed, made.final_targets().signed, role) is None or role in ("root", "targets", *ONLINE):
        raise CliError(NOT_FOUND, f"the targets delegate no role {role}")
    if role in made.delegated:
        hint = f"sign it (rookery key sign {folder} …) or throw it away (rookery key abandon {folder})"
        raise CliError(CONFLICT, f"a draft of {role} is there already", hint)
    present, judge = _believed(session, role, folder, metadata, made)
    following = next_version(present, time.time() + CHANNEL_LIFE_S)
    for path in drop:
        if following.signed.targets.pop(path, None) is None:
            raise CliError(NOT_FOUND, f"{path} is not on {role}")
    for path, target in sorted(following.signed.targets.items()):
        talk(f"  {path}  sha256 {target.hashes.get('sha256', '?')}")
    if judge:
        talk(f"look at each of these before you sign: only {judge} has signed them, and that counts no more")
    made.delegated[role] = following
    save(folder, made)
    tell_waiting(folder, made)


def _edit(made: "Ceremony", role: str, change: "KeyChange", *, new: bool = False) -> None:
    from ota.trust.ceremony import change_root, change_targets, draft_of, in_root
    from ota.trust.roles import ROOT_LIFE_S, TARGETS_LIFE_S

    now_s = time.time()
    with trust_errors():
        if in_root(role):
            if new:
                raise CliError(USAGE, f"{role} is there already")
            root = draft_of(made.root, made.next_root, now_s + ROOT_LIFE_S)
            change_root(root, role, change)
            made.next_root = root
        else:
            targets = draft_of(made.targets, made.next_targets, now_s + TARGETS_LIFE_S)
            change_targets(targets, role, change, new=new)
            made.next_targets = targets


def _finish(folder: Path, made: "Ceremony", words: str = "") -> None:
    from ota.trust.ceremony import draft_of
    from ota.trust.roles import TARGETS_LIFE_S

    if not made.follows() and made.next_targets is None:
        # The targets in force were signed by keys that the next root no longer names: boards need new ones to cross.
        made.next_targets = draft_of(made.targets, None, time.time() + TARGETS_LIFE_S)
    save(folder, made)
    if words:
        talk(words)
    tell_waiting(folder, made)


def _same_signers(made: "Ceremony", one: str, other: str) -> bool:
    roles = made.root.signed.roles
    return set(roles[one].keyids) == set(roles[other].keyids) and roles[one].threshold == roles[other].threshold


def _who(text: str, made: "Ceremony", session: Session) -> str:
    from ota.trust.ceremony import all_roles, role_keys

    if text.endswith(".pub") or text.startswith(("pkcs11:", "hsm:", "awskms:")):
        return read_keys(session, (text,), {})[0].keyid
    known: set[str] = set()
    root, targets = made.final_root().signed, made.final_targets().signed
    for role in all_roles(targets):
        found = role_keys(root, targets, role)
        known |= set(found.keys) if found is not None else set()
    named = {keyid for keyid in known if made.people.get(keyid, "").casefold() == text.casefold()}
    hits = named or ({keyid for keyid in known if keyid.startswith(text)} if len(text) >= 8 else set())
    if len(hits) != 1:
        why = "several keys" if hits else "no key"
        hint = "give a name, at least 8 digits of a key id, or the .pub file"
        raise CliError(NOT_FOUND, f"{why} of this ceremony: {text!r}", hint)
    return hits.pop()


def _believed(
    session: Session, role: str, folder: Path, file: Path | None, made: "Ceremony"
) -> "tuple[Metadata[Targets], str]":
    # The second part says, for people, that the present keys would not have it.
    from ota.plain_disk import read_plain
    from ota.trust.ceremony import role_keys
    from ota.trust.ceremony_disk import targets_history
    from ota.trust.errors import TrustError
    from ota.trust.roles import CHANNEL_LIFE_S, present_channel, signature_status

    try:
        data = read_plain(file) if file else json.dumps(session.client().get(f"/channels/{segment(role)}/metadata")).encode()
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None
    refused = ""
    with trust_errors():
        history = targets_history(folder)
    for judge in (made.final_targets(), made.targets, *history):
        if role_keys(made.root.signed, judge.signed, role) is None:
            continue
        try:
            present = present_channel(data, judge, role, time.time() + CHANNEL_LIFE_S)
        except TrustError as error:
            refused = refused or str(error)
            continue
        now = signature_status(present, made.final_targets(), role)
        signed = signature_status(present, judge, role).signed
        return present, "" if now.complete else ", ".join(made.people.get(one) or one[:12] for one in signed)
    raise CliError(CONFLICT, refused)
