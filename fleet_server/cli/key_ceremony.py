"""The ceremony: a folder in which root and targets are made and signed, in as many sittings as their thresholds need."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_server.cli.errors import CONFLICT, FAILURE, USAGE, CliError
from fleet_server.cli.key_files import open_signer, passphrase_option, read_public
from fleet_server.cli.output import talk
from fleet_server.cli.session import Session, pass_session

if TYPE_CHECKING:
    from ota.trust.ceremony import Ceremony
    from ota.trust.key_types import Key

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path)


@contextmanager
def trust_errors() -> Iterator[None]:
    """What the trust layer refuses, as the command's own end."""
    from ota.trust.errors import FolderError, TrustError

    try:
        yield
    except FolderError as error:
        raise CliError(FAILURE, str(error)) from None
    except TrustError as error:
        raise CliError(CONFLICT, str(error)) from None


def read(folder: Path) -> "Ceremony":
    """The ceremony in a folder."""
    from ota.trust.ceremony_disk import read_ceremony

    if not folder.is_dir():
        raise CliError(FAILURE, f"there is no folder {folder}", "rookery key create FOLDER … begins a ceremony")
    with trust_errors():
        return read_ceremony(folder)


def save(folder: Path, made: "Ceremony") -> None:
    """Write it back."""
    from ota.trust.ceremony_disk import write_ceremony

    with trust_errors():
        write_ceremony(folder, made)


def tell_waiting(folder: Path, made: "Ceremony") -> None:
    """One line for each document that waits for signatures, and what comes next."""
    waiting = made.waiting()
    for one in waiting:
        talk(one.tell(made.people))
    if waiting and all(one.complete for one in waiting):
        talk(f"enough have signed; on a connected machine: rookery key push {folder}")
    elif waiting:
        talk(f"carry the folder to the next signer: rookery key sign {folder} --key REFERENCE")


def read_keys(session: Session, references: tuple[str, ...], people: dict[str, str]) -> "list[Key]":
    """Public keys of .pub files, tokens or KMS; the names beside them go into ``people``."""
    found = []
    for reference in references:
        public, name = read_public(reference, session)
        found.append(public)
        if name:
            people[public.keyid] = name
    return found


def online_keys(session: Session, file: Path | None) -> dict[str, Any]:
    """The server's online keys by role, with ``next`` for those that were made to follow: from a file, else from the server."""
    from ota.plain_disk import read_plain
    from ota.trust.errors import TrustError
    from ota.trust.keys import key_from_dict

    try:
        if file is not None:
            raw: Any = json.loads(read_plain(file))
        else:
            trust = session.client().get("/trust")
            raw = {**trust["online_keys"], "next": trust.get("next_online_keys", {})}
        following = {role: key_from_dict(one) for role, one in raw.get("next", {}).items()}
        present = {role: key_from_dict(raw[role]) for role in ("snapshot", "timestamp", "assignment") if role in raw}
        return {**present, "next": following}
    except OSError as error:
        raise CliError(FAILURE, f"cannot read {file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, TrustError) as error:
        hint = "save them with: rookery key online FILE"
        raise CliError(CONFLICT, f"these are not a server's online keys: {error}", hint) from None


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--root-key", "root_keys", multiple=True, required=True, metavar="PUB",
              help="A root signer: .pub file, pkcs11:… or awskms:… (repeat).")  # fmt: skip
@click.option("--threshold", default=2, show_default=True, type=click.IntRange(1, 16), help="How many of them must sign.")
@click.option("--channel", "channels", multiple=True, required=True, metavar="NAME=PUB", help="A channel's release key (repeat).")
@click.option("--channel-threshold", "thresholds", multiple=True, metavar="NAME=N", help="How many must sign a channel (1).")
@click.option("--policy-key", "policy_keys", multiple=True, metavar="PUB", help="A signer of boards' policies (repeat).")
@click.option("--online", type=FILE, help="The server's keys as 'rookery key online' saved them (else asked of the server).")
@pass_session
def create(session: Session, folder: Path, root_keys: tuple[str, ...], threshold: int, channels: tuple[str, ...],
           thresholds: tuple[str, ...], policy_keys: tuple[str, ...], online: Path | None) -> None:  # fmt: skip
    """Begin the ceremony: FOLDER/root.json and FOLDER/targets.json, version 1, unsigned."""
    from ota.trust.ceremony import Ceremony
    from ota.trust.roles import POLICY, ROOT_LIFE_S, TARGETS_LIFE_S, ChannelKeys, new_root, new_targets

    if (folder / "root.json").exists():
        raise CliError(CONFLICT, f"{folder / 'root.json'} is there already", "a root is never overwritten: choose another folder")
    people: dict[str, str] = {}
    signers = read_keys(session, root_keys, people)
    keys = online_keys(session, online)
    if missing := [role for role in ("snapshot", "timestamp", "assignment") if role not in keys]:
        raise CliError(CONFLICT, f"the server has no {missing[0]} key", "make one: rookery key online FILE --next ROLE")
    lines: dict[str, list[Key]] = {}
    for name, reference in _pairs(channels, "--channel", "PUB"):
        if name == POLICY:
            raise click.UsageError("--channel policy: give the signers of policies with --policy-key")
        lines.setdefault(name, []).extend(read_keys(session, (reference,), people))
    if policy_keys:
        lines[POLICY] = read_keys(session, policy_keys, people)
    needed = {name: int(number) if number.isdecimal() else 0 for name, number in _pairs(thresholds, "--channel-threshold", "N")}
    if unknown := set(needed) - set(lines):
        raise click.UsageError(f"--channel-threshold {min(unknown)}: no --channel has this name")
    now_s = time.time()
    with trust_errors():
        roles = {"root": signers, "targets": signers, "snapshot": [keys["snapshot"]], "timestamp": [keys["timestamp"]]}
        made = new_root(roles, {"root": threshold, "targets": threshold}, now_s + ROOT_LIFE_S)
        delegated = {name: ChannelKeys(found, needed.get(name, 1)) for name, found in lines.items()}
        top = new_targets(delegated, [keys["assignment"]], now_s + TARGETS_LIFE_S)
    save(folder, Ceremony(made, top, people=people))
    talk(f"{folder}: unsigned; {threshold} of {len(signers)} root keys must sign: rookery key sign {folder} --key REFERENCE")


def _pairs(texts: tuple[str, ...], flag: str, what: str) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise click.UsageError(f"{flag} {text!r} is not NAME={what}")
        found.append((name, value))
    return found


@click.command()
@click.argument("folder", type=FOLDER)
@click.option("--key", "reference", required=True, metavar="REFERENCE", help="The signer's key: FILE, pkcs11:… or awskms:….")
@click.option("--yes", is_flag=True, help="Sign without being asked: where nobody can be asked, by somebody who has looked.")
@click.option("--fingerprint", "fingerprints", multiple=True, metavar="HEX",
              help="Sign what has this fingerprint and nothing else (repeat): as another signer read it out.")  # fmt: skip
@passphrase_option
@pass_session
def sign(session: Session, folder: Path, reference: str, yes: bool, fingerprints: tuple[str, ...],
         passphrase_file: Path | None) -> None:  # fmt: skip
    """Add one signature to everything in FOLDER that waits for this key; others sign later, elsewhere.

    What would change is shown first, and asked for. The folder came from other hands: look.
    """
    from ota.trust.roles import sign as sign_metadata

    made = read(folder)
    signer = open_signer(session, reference, passphrase_file)
    documents = made.signable(signer.public_key.keyid)
    if not documents:
        waiting = ", ".join(one.document for one in made.waiting())
        why = f"no signer of what waits here ({waiting})" if waiting else "not needed: nothing waits for a signature"
        raise CliError(CONFLICT, f"{reference} is {why}; it is not one of this root's signers, or they change nothing now")
    _look(session, made, documents, yes=yes, fingerprints=fingerprints)
    with trust_errors():
        for document in documents:
            sign_metadata(document, signer)
    save(folder, made)
    tell_waiting(folder, made)


def _look(session: Session, made: "Ceremony", documents: "list[Any]", *, yes: bool, fingerprints: tuple[str, ...]) -> None:
    # Whoever had the folder between two sittings may have changed it: a signer must see what he signs.
    from ota.trust.ceremony_changes import changes, document_fingerprint, document_name

    _check_in_force(made)
    unknown = []
    for document in documents:
        name, digest = document_name(made, document), document_fingerprint(document)
        talk(f"{name}, fingerprint {digest}:")
        for line in changes(made, document):
            talk(f"  {line}")
        if not any(len(one) >= 16 and digest.startswith(one.lower()) for one in fingerprints):
            unknown.append(name)
    if fingerprints and unknown:
        raise CliError(CONFLICT, f"{', '.join(unknown)}: another fingerprint than those given; nothing was signed")
    if yes or fingerprints:
        return
    if not session.ask:
        hint = "say --yes after looking, or --fingerprint HEX for each document"
        raise CliError(USAGE, "what is signed must be looked at, and nobody can be asked", hint)
    if not click.confirm("sign this?", err=True):
        raise CliError(FAILURE, "nothing was signed")


def _check_in_force(made: "Ceremony") -> None:
    from fleet_server.cli.key_pin import pinned_root
    from ota.bundle.offline import ChainError, trust_root

    if not made.in_force:
        return
    try:
        trust_root(made.root.to_bytes(), {})
        pinned = pinned_root()
        if pinned is not None:
            pinned_version = trust_root(pinned, {}).signed.version
            if pinned_version == made.root.signed.version and trust_root(pinned, {}).signed_bytes != made.root.signed_bytes:
                raise CliError(CONFLICT, "root.json of this folder is not the root that is pinned here: nothing was signed")
    except ChainError as error:
        raise CliError(CONFLICT, f"root.json of this folder is not signed by its own keys: {error.refusal.detail}") from None


@click.command()
@click.argument("folder", type=FOLDER)
@click.argument("other", type=FOLDER)
@pass_session
def merge(session: Session, folder: Path, other: Path) -> None:
    """Take over the signatures that OTHER, a copy of FOLDER, has gathered elsewhere meanwhile."""
    made = read(folder)
    count = made.adopt(read(other))
    save(folder, made)
    talk(f"{count} signatures taken over from {other}")
    tell_waiting(folder, made)


@click.command()
@click.argument("folder", type=FOLDER)
@pass_session
def abandon(session: Session, folder: Path) -> None:
    """Throw away the drafts in FOLDER; what is in force stays."""
    from ota.trust.ceremony_disk import forget_draft

    made = read(folder)
    gone = [name for name in ("root", "targets", *made.delegated) if forget_draft(folder, name)]
    talk(f"drafts thrown away: {', '.join(gone) or 'none was there'}")
