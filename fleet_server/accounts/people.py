"""Accounts of people and machines, as an admin (or somebody on the server's own machine) changes them. Each change is audited."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.accounts import links, second_factor, sessions
from fleet_server.accounts.links import Link
from fleet_server.accounts.tables import (
    AccountLinkRow,
    OperatorRow,
    OperatorTokenRow,
    ProviderFlowRow,
    ProviderSubjectRow,
    SecondFactorRow,
)
from fleet_server.audit import service as audit
from fleet_server.errors import ConflictError, InvalidError, NotFoundError, UnauthenticatedError
from fleet_server.identities import SCOPES

KINDS = ("person", "machine")
MAX_GROUPS = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_GROUP = re.compile(r"[^\x00-\x1f\x7f]{1,64}")
RESERVED = frozenset({"server", "system", "nobody", "device", "local", "provider"})
"""Words that the audit uses for others than accounts."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes an account, from where, and when; ``issuer``: the identity provider by which people can sign in now."""

    name: str
    origin: str
    now_s: float
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """An account as lists show it."""

    name: str
    kind: str
    role: str
    groups: list[str] | None
    disabled: bool
    state: str
    """active, disabled, invited (an invitation waits), or no password (an invitation has run out)."""
    second_factor: bool
    provider: bool
    """Connected to an identity provider."""
    created_s: float
    signed_in_s: float | None
    sessions: int
    tokens: int


def add(
    session: Session, *, name: str, role: str, password_hash: str, now_s: float, groups: Collection[str] | None = None,
    kind: str = "person",
) -> OperatorRow:  # fmt: skip
    """A new account. InvalidError for a bad name, role, kind or group; ConflictError if it is taken, in whatever letters."""
    check_name(name)
    if role not in SCOPES:
        raise InvalidError(f"role {role[:40]!r} is not one of {', '.join(SCOPES)}")
    if kind not in KINDS:
        raise InvalidError(f"kind {kind[:40]!r} is neither person nor machine")
    if session.scalar(select(OperatorRow.id).where(func.lower(OperatorRow.name) == name.lower())) is not None:
        raise ConflictError(f"there is an account {name!r} already")
    row = OperatorRow(
        name=name, kind=kind, role=role, groups=checked_groups(groups), password_hash=password_hash, created_s=now_s,
        password_set_s=now_s if password_hash else None, disabled=False,
    )  # fmt: skip
    session.add(row)
    session.flush()
    return row


def check_name(name: str) -> None:
    """InvalidError unless an account may be called so."""
    if not _NAME.fullmatch(name):
        raise InvalidError("the name must be 1 to 64 letters, digits, '.', '_', '@' or '-', and begin with a letter or digit")
    if name.lower() in RESERVED:
        raise InvalidError(f"nobody can be called {name!r}: the audit uses the word for something else")


def checked_groups(groups: Collection[str] | None) -> list[str] | None:
    """Device groups in order, each once; InvalidError for what cannot be one."""
    if groups is None:
        return None
    if len(groups) > MAX_GROUPS:
        raise InvalidError(f"an account is limited to {MAX_GROUPS} groups at most; without a limit it sees all")
    wrong = next((group for group in groups if not _GROUP.fullmatch(group)), None)
    if wrong is not None:
        raise InvalidError(f"{wrong[:64]!r} cannot be a group: 1 to 64 characters")
    return sorted(set(groups))


def get(session: Session, name: str, *, lock: bool = False) -> OperatorRow:
    """The account of this name; NotFoundError where there is none.

    ``lock``: together with all admins, in one order, so that two admins who disable each other at the same moment do not both
    succeed, and neither waits for the other for ever.
    """
    if lock:
        whole = select(OperatorRow).where((OperatorRow.name == name) | (OperatorRow.role == "admin")).order_by(OperatorRow.id)
        rows = session.scalars(whole.with_for_update().execution_options(populate_existing=True)).all()
        row = next((one for one in rows if one.name == name), None)
    else:
        row = session.scalar(select(OperatorRow).where(OperatorRow.name == name))
    if row is None:
        raise NotFoundError(f"there is no account {name[:64]!r}", "`rookery account list` shows them")
    return row


def by_id(session: Session, account_id: int) -> OperatorRow:
    """The account of a session that is good."""
    return session.get_one(OperatorRow, account_id)


def lock(session: Session, account_id: int) -> OperatorRow:
    """The same, held until the transaction ends: of two changes at the same moment the second sees the first."""
    row = session.get(OperatorRow, account_id, with_for_update=True, populate_existing=True)
    if row is None or row.disabled:
        raise UnauthenticatedError("nobody is signed in", "this account has just ended")
    return row


def entries(session: Session, now_s: float) -> list[AccountEntry]:
    """All accounts by name."""
    invited = links.waiting(session, now_s)
    factors = set(session.scalars(select(SecondFactorRow.operator_id).where(SecondFactorRow.confirmed_s.is_not(None))))
    connected = set(session.scalars(select(ProviderSubjectRow.operator_id)))
    counts: dict[tuple[int, str], int] = {
        (owner, kind): count
        for owner, kind, count in session.execute(
            select(OperatorTokenRow.operator_id, OperatorTokenRow.kind, func.count())
            .where(OperatorTokenRow.expires_s >= now_s).group_by(OperatorTokenRow.operator_id, OperatorTokenRow.kind)
        )
    }  # fmt: skip
    return [
        AccountEntry(
            row.name, row.kind, row.role, row.groups, row.disabled, _state(row, row.id in invited, row.id in connected),
            row.id in factors, row.id in connected, row.created_s, row.signed_in_s, counts.get((row.id, "session"), 0),
            counts.get((row.id, "token"), 0),
        )
        for row in session.scalars(select(OperatorRow).order_by(func.lower(OperatorRow.name)))
    ]


def entry(session: Session, name: str, now_s: float) -> AccountEntry:
    """One account; NotFoundError."""
    account = get(session, name)
    return next(one for one in entries(session, now_s) if one.name == account.name)


def invite(
    session: Session, actor: Actor, *, name: str, role: str, groups: Collection[str] | None, token: str, ttl_s: float,
    kind: str = "person",
) -> Link:  # fmt: skip
    """A new person, and the link by which they set their first password."""
    row = add(session, name=name, role=role, password_hash="", now_s=actor.now_s, groups=groups, kind=kind)
    link = links.make(
        session, row, token=token, purpose=links.INVITATION, made_by=actor.name, ttl_s=ttl_s, now_s=actor.now_s
    )  # fmt: skip
    _note(session, actor, "account.add", row.name, None, _facts(row) | {"link_until_s": link.expires_s})
    return link


def add_machine(session: Session, actor: Actor, *, name: str, role: str, groups: Collection[str] | None) -> None:
    """A new machine: tokens, no password."""
    row = add(session, name=name, role=role, password_hash="", now_s=actor.now_s, groups=groups, kind="machine")
    _note(session, actor, "account.add", row.name, None, _facts(row))


def new_link(session: Session, actor: Actor, name: str, *, token: str, recovery: bool, ttl_s: float) -> Link:
    """A link with which a person sets a new password; ``recovery``: their second factor ends with it."""
    row = get(session, name, lock=True)
    if row.kind != "person":
        raise ConflictError(f"{name} is a machine: it has tokens and no password")
    if row.disabled:
        raise ConflictError(f"{name} is disabled: a link would open nothing", "enable the account first")
    purpose = links.RECOVERY if recovery else links.RESET if row.password_hash else links.INVITATION
    link = links.make(session, row, token=token, purpose=purpose, made_by=actor.name, ttl_s=ttl_s, now_s=actor.now_s)
    _note(session, actor, "account.link", row.name, None, {"purpose": purpose, "link_until_s": link.expires_s})
    return link


def change(
    session: Session, actor: Actor, name: str, *, role: str | None = None, groups: Collection[str] | None = None,
    all_groups: bool = False, keep: str = "",
) -> None:  # fmt: skip
    """Another role, other groups (``all_groups``: no limit any more). What a person has open ends, but ``keep``."""
    row = get(session, name, lock=True)
    before = _facts(row)
    if role is not None:
        if role not in SCOPES:
            raise InvalidError(f"role {role[:40]!r} is not one of {', '.join(SCOPES)}")
        if role != "admin":
            _not_the_last_admin(session, row, actor.issuer)
        row.role = role
    if all_groups:
        row.groups = None
    elif groups is not None:
        _not_the_last_admin(session, row, actor.issuer)
        row.groups = checked_groups(groups)
    if _facts(row) == before:
        return
    # A machine's tokens stay: each request reads role and groups anew, and nobody sits there to sign in again.
    ended = sessions.end_all(session, row.id, keep=keep) if row.kind == "person" else 0
    _note(session, actor, "account.change", row.name, before, _facts(row) | {"ended": ended})


def disable(session: Session, actor: Actor, name: str) -> None:
    """No sign-in, no session, no token any more; what the account did stays in the audit."""
    row = get(session, name, lock=True)
    if row.disabled:
        return
    _not_the_last_admin(session, row, actor.issuer)
    row.disabled = True
    session.execute(delete(AccountLinkRow).where(AccountLinkRow.operator_id == row.id))
    ended = sessions.end_all(session, row.id)
    _note(session, actor, "account.disable", row.name, {"disabled": False}, {"disabled": True, "ended": ended})


def enable(session: Session, actor: Actor, name: str) -> None:
    """Sign-in works again, with the password of before; sessions and tokens do not come back."""
    row = get(session, name, lock=True)
    if row.disabled:
        row.disabled = False
        _note(session, actor, "account.enable", row.name, {"disabled": True}, {"disabled": False})


def remove(session: Session, actor: Actor, name: str) -> None:
    """The account and all that hangs on it; its deeds stay in the audit."""
    row = get(session, name, lock=True)
    _not_the_last_admin(session, row, actor.issuer)
    before = _facts(row)
    ended = sessions.end_all(session, row.id)
    second_factor.remove(session, row.id)
    for table in (AccountLinkRow, ProviderSubjectRow, ProviderFlowRow):
        session.execute(delete(table).where(table.operator_id == row.id))
    session.flush()
    session.delete(row)
    _note(session, actor, "account.remove", name, before, {"ended": ended})


def remove_factor(session: Session, actor: Actor, name: str) -> None:
    """An admin takes a person's second factor away: the telephone is lost, and somebody has looked who asks."""
    row = get(session, name, lock=True)
    if not second_factor.remove(session, row.id):
        raise ConflictError(f"{name} has no second factor")
    ended = sessions.end_all(session, row.id)
    _note(session, actor, "account.factor-remove", row.name, {"second_factor": True}, {"second_factor": False, "ended": ended})


def end_everything(session: Session, actor: Actor, name: str, *, keep: str = "") -> int:
    """End every session and token of an account but ``keep``; how many."""
    row = get(session, name)
    ended = sessions.end_all(session, row.id, keep=keep)
    _note(session, actor, "account.end-all", row.name, None, {"ended": ended})
    return ended


def _not_the_last_admin(session: Session, row: OperatorRow, issuer: str) -> None:
    if row.role != "admin" or row.disabled or row.groups is not None:
        return
    admins = session.scalars(select(OperatorRow).where(OperatorRow.role == "admin", OperatorRow.kind == "person")).all()
    connected = set(session.scalars(select(ProviderSubjectRow.operator_id).where(ProviderSubjectRow.issuer == issuer)))
    left = [one for one in admins if one.id != row.id and one.groups is None and not one.disabled
            and (one.password_hash or one.id in connected)]  # fmt: skip
    if row.kind == "person" and not left:
        raise ConflictError(f"{row.name} is the last admin who can sign in", "make somebody else an admin of all groups first")


def _state(row: OperatorRow, invited: bool, connected: bool) -> str:
    if row.disabled:
        return "disabled"
    if row.kind == "machine" or row.password_hash or connected:
        return "active"
    return "invited" if invited else "no password"


def _facts(row: OperatorRow) -> dict[str, Any]:
    return {"kind": row.kind, "role": row.role, "groups": row.groups}


def _note(
    session: Session, actor: Actor, what: str, target: str, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    audit.record(
        session, who=actor.name, what=what, target=target, before=before, after=after, origin=actor.origin, now_s=actor.now_s
    )  # fmt: skip
