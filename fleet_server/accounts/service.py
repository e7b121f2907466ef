"""Accounts as the rest of the server needs them: the first admin, a machine's token, a grant for somebody who was checked."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.accounts import chance_linux, oidc_rules, people, sessions, tokens
from fleet_server.accounts.links import Link, invalid_link
from fleet_server.accounts.passwords import MIN_PASSWORD, hash_password
from fleet_server.accounts.people import Actor
from fleet_server.accounts.sealing import plain_hash
from fleet_server.accounts.second_factor import required_roles
from fleet_server.accounts.sessions import GrantEntry
from fleet_server.accounts.tables import OperatorRow, ProviderSubjectRow, SetupLinkRow
from fleet_server.audit import service as audit
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from fleet_server.identities import OWN, SCOPES, Operator
from fleet_server.settings import Settings

__all__ = [
    "MIN_PASSWORD", "Actor", "Grant", "Link", "SetupLink", "add_operator", "check_settings", "check_setup_link", "end_grant",
    "end_of_account", "hash_password", "invite", "is_set_up", "machine_grant", "machine_token", "new_link", "new_setup_link",
    "open_grant", "recover", "required_roles", "set_up", "tokens_of", "who",
]  # fmt: skip

RECOVERY_LINK_S = 3600.0
"""Life of a link that somebody made on the server's own machine."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A fresh session or token; ``token`` is shown once and kept nowhere."""

    token: str
    expires_s: float
    operator: Operator


@dataclass(frozen=True, slots=True)
class SetupLink:
    """The one-time token for the first admin."""

    token: str
    expires_s: float


def check_settings(settings: Settings) -> None:
    """SettingsError for settings of accounts that cannot be read, or would be no guard at all."""
    required_roles(settings.require_second_factor)
    oidc_rules.check_settings(settings)


def is_set_up(session: Session) -> bool:
    """True once there is a person who can sign in: by a password, or as an admin of all by an identity provider.

    Machines with a token made on the server do not count, nor a viewer whom the provider's rules let in before the first admin.
    """
    if session.scalar(select(func.count()).select_from(OperatorRow).where(OperatorRow.password_hash != "")):
        return True
    connected = select(ProviderSubjectRow.operator_id)
    admins = session.scalars(select(OperatorRow).where(OperatorRow.role == "admin", OperatorRow.id.in_(connected)))
    return any(one.groups is None and not one.disabled for one in admins)


def new_setup_link(session: Session, *, ttl_s: float, now_s: float) -> SetupLink:
    """A fresh one-time link; earlier ones end. ConflictError when the first admin exists."""
    if is_set_up(session):
        raise ConflictError("the first admin exists already", "sign in, or let an admin add you")
    session.execute(delete(SetupLinkRow))
    link = SetupLink(chance_linux.link_secret(), now_s + ttl_s)
    session.add(SetupLinkRow(secret_hash=plain_hash(link.token), expires_s=link.expires_s, used_s=None))
    return link


def check_setup_link(session: Session, token: str, now_s: float, *, lock: bool = False) -> SetupLinkRow:
    """The row of a good link; ForbiddenError, in the same words, for one that was used, replaced, is too old or never was one."""
    row = session.get(SetupLinkRow, plain_hash(token), with_for_update=lock)
    if row is None or row.used_s is not None or row.expires_s < now_s:
        raise ForbiddenError(invalid_link().detail, "print a new one: rookery-server setup-link --data DIR")
    return row


def set_up(session: Session, *, token: str, name: str, password_hash: str, now_s: float) -> None:
    """Make the first admin. ForbiddenError for a link that is not good; ConflictError when there is an operator."""
    row = check_setup_link(session, token, now_s, lock=True)
    if is_set_up(session):
        raise ConflictError("the first admin exists already")
    row.used_s = now_s
    add_operator(session, name=name, password_hash=password_hash, role="admin", now_s=now_s)


def add_operator(
    session: Session, *, name: str, password_hash: str, role: str, now_s: float, groups: Collection[str] | None = None,
    kind: str = "person",
) -> None:  # fmt: skip
    """A new account, limited to device groups where given. InvalidError for a bad name or role, ConflictError if taken."""
    people.add(session, name=name, role=role, password_hash=password_hash, now_s=now_s, groups=groups, kind=kind)


def open_grant(
    session: Session, *, name: str, kind: str, token_name: str, ttl_s: float, now_s: float, origin: str = "",
    by: str = "password", scopes: Collection[str] | None = None, groups: Collection[str] | None = None,
) -> Grant:  # fmt: skip
    """A session (``kind`` session) or API token (``kind`` token) for an account that was just checked."""
    account = people.get(session, name)
    secret = chance_linux.session_secret() if kind == "session" else chance_linux.token_secret()
    operator = sessions.add(
        session, account, secret=secret, grant_id=chance_linux.row_id(), kind=kind, name=token_name, ttl_s=ttl_s, now_s=now_s,
        origin=origin, by=by, scopes=scopes, groups=groups,
    )  # fmt: skip
    return Grant(secret, now_s + ttl_s, operator)


def machine_grant(session: Session, actor: Actor, *, name: str, role: str, ttl_s: float) -> Grant:
    """A token for a machine without a password, as someone on the server's own machine may make it; audited.

    It may what the role may at this moment, and never makes another token. A machine that exists gets the new role. ConflictError
    when a person has the name, or the machine is disabled.
    """
    row = session.scalar(select(OperatorRow).where(OperatorRow.name == name).with_for_update())
    before = None if row is None else {"role": row.role}
    if row is None:
        add_operator(session, name=name, password_hash="", role=role, now_s=actor.now_s, kind="machine")
    elif row.kind != "machine":
        raise ConflictError(f"{name!r} is a person; give the machine a name of its own")
    elif row.disabled:
        raise ConflictError(f"{name!r} is disabled: a token would open nothing", "enable it first: rookery account enable NAME")
    elif role not in SCOPES:
        raise InvalidError(f"role {role!r} is not one of {', '.join(SCOPES)}")
    else:
        row.role = role
        session.flush()
    scopes = SCOPES[role] - {OWN}
    grant = open_grant(
        session, name=name, kind="token", token_name="local", ttl_s=ttl_s, now_s=actor.now_s, by="server", scopes=scopes
    )  # fmt: skip
    after = {"role": role, "id": grant.operator.token_id, "scopes": sorted(scopes), "expires_s": grant.expires_s}
    audit.record(
        session, who=actor.name, what="token.local", target=name, before=before, after=after, origin=actor.origin,
        now_s=actor.now_s,
    )  # fmt: skip
    return grant


def recover(session: Session, actor: Actor, name: str, *, enable: bool = False) -> Link:
    """The way back in, made on the server's own machine: a link that sets a new password and removes the second factor."""
    try:
        people.get(session, name)
    except NotFoundError as error:  # who is locked out cannot call `rookery account list`
        wanted = select(OperatorRow.name).where(OperatorRow.role == "admin", OperatorRow.kind == "person")
        admins = ", ".join(session.scalars(wanted.order_by(OperatorRow.name)))
        raise NotFoundError(
            error.detail, f"admins: {admins}" if admins else "there is no admin: rookery-server setup-link --data DIR"
        ) from None
    if enable:
        people.enable(session, actor, name)
    return people.new_link(
        session, actor, name, token=chance_linux.link_secret(), recovery=True, ttl_s=RECOVERY_LINK_S
    )  # fmt: skip


def invite(
    session: Session, actor: Actor, *, name: str, role: str, groups: Collection[str] | None, ttl_s: float, kind: str = "person"
) -> Link:
    """A new person, and the link by which they set their first password."""
    token = chance_linux.link_secret()
    return people.invite(session, actor, name=name, role=role, groups=groups, token=token, ttl_s=ttl_s, kind=kind)


def new_link(session: Session, actor: Actor, name: str, *, recovery: bool, ttl_s: float) -> Link:
    """A link with which a person sets a new password; ``recovery``: following it removes the second factor, too."""
    return people.new_link(session, actor, name, token=chance_linux.link_secret(), recovery=recovery, ttl_s=ttl_s)


def machine_token(
    session: Session, actor: Actor, machine: str, *, token_name: str, ttl_s: float, scopes: Collection[str] | None = None,
    groups: Collection[str] | None = None,
) -> str:  # fmt: skip
    """A token of a machine, made by an admin; shown once."""
    secret = chance_linux.token_secret()
    tokens.for_machine(
        session, actor, machine, secret=secret, grant_id=chance_linux.row_id(), name=token_name, ttl_s=ttl_s, scopes=scopes,
        groups=groups,
    )  # fmt: skip
    return secret


def tokens_of(session: Session, name: str, now_s: float) -> list[GrantEntry]:
    """An account's tokens, without their secrets."""
    return sessions.listed(session, people.get(session, name).id, "token", now_s)


def end_of_account(session: Session, actor: Actor, name: str, grant_id: str) -> None:
    """An admin ends one session or token of an account."""
    account = people.get(session, name)
    ended = sessions.end_own(session, account.id, grant_id)
    audit.record(
        session, who=actor.name, what=f"{ended.kind}.end", target=account.name, before={"id": ended.id, "name": ended.name},
        origin=actor.origin, now_s=actor.now_s,
    )  # fmt: skip


def who(session: Session, *, token: str, kind: str, now_s: float) -> Operator | None:
    """The operator to whom this session or token belongs; None when it is unknown, of the other kind, or expired."""
    found = sessions.find(session, secret=token, kind=kind, now_s=now_s)
    return found.operator if found else None


def end_grant(session: Session, token_id: str) -> None:
    """End one session or token."""
    sessions.end(session, token_id)
