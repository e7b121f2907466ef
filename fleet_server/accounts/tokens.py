"""API tokens: how far one may reach (never further than its account), and for how long."""

from collections.abc import Collection

from sqlalchemy.orm import Session

from fleet_server.accounts import people, sessions
from fleet_server.accounts.people import Actor
from fleet_server.accounts.tables import OperatorRow
from fleet_server.audit import service as audit
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError
from fleet_server.identities import OWN, SCOPES, Operator

DEFAULT_TOKEN_S = 30 * 86400.0
MAX_TOKEN_S = 400 * 86400.0
MOST_TOKENS = 100
"""Of one account: a program that makes one in every run is told so before the table is full."""

Limit = tuple[list[str] | None, list[str] | None]
"""Scopes, groups."""


def within(account: OperatorRow, scopes: Collection[str] | None, groups: Collection[str] | None) -> Limit:
    """The limit of a token of this account. Scopes None: all that the role has today. ForbiddenError for more than it has."""
    limit = None if account.groups is None else frozenset(account.groups)
    return _limit(SCOPES[account.role], limit, scopes, groups)


def within_maker(maker: Operator, scopes: Collection[str] | None, groups: Collection[str] | None) -> Limit:
    """The limit of a token that a session or token makes: never more than it has itself; OWN only where asked for.

    Groups None: what the account may reach, now and later; for a token as the maker, what that token reaches.
    """
    if groups is None and maker.kind == "token" and maker.groups is not None:
        groups = sorted(maker.groups)
    return _limit(maker.scopes, maker.groups, maker.scopes - {OWN} if scopes is None else scopes, groups)


def _limit(
    have: frozenset[str], have_groups: frozenset[str] | None, scopes: Collection[str] | None, groups: Collection[str] | None
) -> Limit:
    wanted = have if scopes is None else frozenset(scopes)
    unknown = wanted - SCOPES["admin"]
    if unknown:
        raise InvalidError(f"{min(unknown)[:40]!r} is no scope: {', '.join(sorted(SCOPES['admin']))}")
    if not wanted:
        raise InvalidError("a token without a scope opens nothing", f"give it some of {', '.join(sorted(have))}")
    if not wanted <= have:
        raise ForbiddenError(
            f"a token cannot have the scope {min(wanted - have)!r}: you do not have it here",
            f"you have {', '.join(sorted(have))}",
        )
    kept = people.checked_groups(groups)
    if kept is not None and have_groups is not None and not frozenset(kept) <= have_groups:
        raise ForbiddenError("a token cannot reach groups that its account does not reach")
    return sorted(wanted), kept


def check_life(ttl_s: float) -> float:
    """The life of a token in seconds; InvalidError for none, and for one of more than MAX_TOKEN_S."""
    if not 0 < ttl_s <= MAX_TOKEN_S:
        raise InvalidError(f"a token lives up to {MAX_TOKEN_S / 86400:.0f} days")
    return ttl_s


def life_within(maker: Operator, expires_s: float, ttl_s: float, now_s: float) -> float:
    """The life in seconds of what this maker makes: a token (which ends at ``expires_s``) leaves nothing that outlives it."""
    ttl_s = check_life(ttl_s)
    return min(ttl_s, expires_s - now_s) if maker.kind == "token" else ttl_s


def make(
    session: Session, actor: Actor, account: OperatorRow, *, secret: str, grant_id: str, name: str, ttl_s: float,
    limit: Limit, by: str,
) -> None:  # fmt: skip
    """A token of this account, audited."""
    if len(sessions.listed(session, account.id, "token", actor.now_s)) >= MOST_TOKENS:
        raise ConflictError(f"{account.name} has {MOST_TOKENS} tokens already", "end those that nobody uses any more")
    label = " ".join(name.split())
    if not label or not label.isprintable():
        raise InvalidError("a token needs a name, by which you know later what it was for")
    sessions.add(
        session, account, secret=secret, grant_id=grant_id, kind="token", name=label, ttl_s=check_life(ttl_s),
        now_s=actor.now_s, origin=actor.origin, by=by, scopes=limit[0], groups=limit[1],
    )  # fmt: skip
    after = {"by": by, "id": grant_id, "name": label, "scopes": limit[0], "groups": limit[1], "expires_s": actor.now_s + ttl_s}
    audit.record(
        session, who=actor.name, what="token.open", target=account.name, after=after, origin=actor.origin, now_s=actor.now_s
    )  # fmt: skip


def for_machine(
    session: Session, actor: Actor, machine: str, *, secret: str, grant_id: str, name: str, ttl_s: float,
    scopes: Collection[str] | None, groups: Collection[str] | None,
) -> None:  # fmt: skip
    """A token of a machine, made by an admin; nobody makes tokens in another person's name."""
    account = people.get(session, machine, lock=True)
    if account.kind != "machine":
        raise ConflictError(f"{machine} is a person, who makes their own tokens", "a machine: rookery account add NAME --machine")
    if account.disabled:
        raise ConflictError(f"{machine} is disabled", "enable it first")
    wanted = SCOPES[account.role] - {OWN} if scopes is None else scopes
    make(
        session, actor, account, secret=secret, grant_id=grant_id, name=name, ttl_s=ttl_s,
        limit=within(account, wanted, groups), by="admin",
    )  # fmt: skip
