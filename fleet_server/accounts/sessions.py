"""Sessions (a browser's cookie) and tokens as rows: opened, found, seen, ended. Only the sha256 of a secret is kept."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from fleet_server.accounts.sealing import plain_hash
from fleet_server.accounts.tables import OperatorRow, OperatorTokenRow, SecondFactorRow
from fleet_server.errors import NotFoundError
from fleet_server.identities import SCOPES, Operator

FRESH_S = 600.0
"""How long a shown password counts for what matters; after that it is asked for again."""
PROOFS = ("password", "code", "recovery", "oidc")
"""What opens a session with a password that was shown just then, here or to the identity provider."""
SEEN_EVERY_S = 60.0
"""How often the time of the last use is written down at most."""
BROWSER_CHARS = 160


@dataclass(frozen=True, slots=True)
class Found:
    """A session or token that is good at this moment."""

    operator: Operator
    account_id: int
    kind: str
    """person or machine."""
    seen_s: float
    expires_s: float
    proven_s: float | None
    by: str


@dataclass(frozen=True, slots=True)
class GrantEntry:
    """A session or token as its owner sees it listed."""

    id: str
    kind: str
    name: str
    origin: str
    by: str
    created_s: float
    seen_s: float | None
    expires_s: float
    scopes: list[str] | None
    groups: list[str] | None


def add(
    session: Session, account: OperatorRow, *, secret: str, grant_id: str, kind: str, name: str, ttl_s: float, now_s: float,
    origin: str = "", by: str = "password", scopes: Collection[str] | None = None, groups: Collection[str] | None = None,
) -> Operator:  # fmt: skip
    """A session or token of this account. A token keeps the scopes that its role has today: a promotion widens no token."""
    session.execute(delete(OperatorTokenRow).where(
        OperatorTokenRow.operator_id == account.id, OperatorTokenRow.expires_s < now_s
    ))  # fmt: skip
    row = OperatorTokenRow(
        id=grant_id, secret_hash=plain_hash(secret), operator_id=account.id, kind=kind, name=name[:BROWSER_CHARS],
        created_s=now_s, expires_s=now_s + ttl_s, seen_s=None, proven_s=now_s if by in PROOFS else None,
        origin=origin, by=by, scopes=None if scopes is None else sorted(set(scopes)),
        groups=None if groups is None else sorted(set(groups)),
    )  # fmt: skip
    session.add(row)
    return _operator(account, row)


def find(
    session: Session, *, secret: str, kind: str, now_s: float, idle_s: float = float("inf"),
    factor_roles: Collection[str] = (),
) -> Found | None:  # fmt: skip
    """Whose session or token this is; None when it is unknown, of the other kind, over, idle too long, its account disabled."""
    found = session.execute(
        select(OperatorTokenRow, OperatorRow, SecondFactorRow.confirmed_s)
        .join(OperatorRow, OperatorRow.id == OperatorTokenRow.operator_id)
        .outerjoin(SecondFactorRow, SecondFactorRow.operator_id == OperatorRow.id)
        .where(OperatorTokenRow.secret_hash == plain_hash(secret), OperatorTokenRow.kind == kind)
    ).first()
    if found is None:
        return None
    row, account, confirmed_s = found
    seen_s = row.seen_s or row.created_s
    if row.expires_s < now_s or account.disabled or (kind == "session" and now_s - seen_s > idle_s):
        return None
    # An identity provider asks for a second factor by its own rules; a machine has none.
    owes = account.kind == "person" and row.by != "oidc" and confirmed_s is None and account.role in factor_roles
    return Found(_operator(account, row, owes), account.id, account.kind, seen_s, row.expires_s, row.proven_s, row.by)


def seen(session: Session, grant_id: str, now_s: float) -> None:
    """It was used just now."""
    session.execute(update(OperatorTokenRow).where(OperatorTokenRow.id == grant_id).values(seen_s=now_s))


def proven(session: Session, grant_id: str, now_s: float) -> None:
    """Its owner has shown the password again just now."""
    session.execute(update(OperatorTokenRow).where(OperatorTokenRow.id == grant_id).values(proven_s=now_s))


def end(session: Session, grant_id: str) -> None:
    """End one session or token; nothing where it is over."""
    session.execute(delete(OperatorTokenRow).where(OperatorTokenRow.id == grant_id))


def end_own(session: Session, account_id: int, grant_id: str) -> GrantEntry:
    """End one of this account's; NotFoundError where it has no such (another's is as if it were not there)."""
    row = session.get(OperatorTokenRow, grant_id)
    if row is None or row.operator_id != account_id:
        raise NotFoundError("you have no such session or token", "it may have ended by itself")
    entry = _entry(row)
    session.delete(row)
    return entry


def end_all(session: Session, account_id: int, *, keep: str = "", kind: str | None = None) -> int:
    """End every session and token of an account but ``keep``; how many."""
    rows = session.scalars(select(OperatorTokenRow).where(OperatorTokenRow.operator_id == account_id)).all()
    ended = [row for row in rows if row.id != keep and kind in (None, row.kind)]
    for row in ended:
        session.delete(row)
    return len(ended)


def end_secret(session: Session, secret: str, kind: str) -> tuple[str, GrantEntry] | None:
    """End the session that a browser brought along when somebody signs in anew in it; whose it was, None for no such."""
    row = session.scalar(select(OperatorTokenRow).where(
        OperatorTokenRow.secret_hash == plain_hash(secret), OperatorTokenRow.kind == kind
    ))  # fmt: skip
    if row is None:
        return None
    owner, entry = session.get_one(OperatorRow, row.operator_id).name, _entry(row)
    session.execute(delete(OperatorTokenRow).where(OperatorTokenRow.id == row.id))
    return owner, entry


def listed(session: Session, account_id: int, kind: str, now_s: float) -> list[GrantEntry]:
    """Those that are good, the last used first."""
    rows = session.scalars(select(OperatorTokenRow).where(
        OperatorTokenRow.operator_id == account_id, OperatorTokenRow.kind == kind, OperatorTokenRow.expires_s >= now_s
    ))  # fmt: skip
    return sorted((_entry(row) for row in rows), key=lambda one: -(one.seen_s or one.created_s))


def _entry(row: OperatorTokenRow) -> GrantEntry:
    return GrantEntry(
        row.id, row.kind, row.name, row.origin, row.by, row.created_s, row.seen_s, row.expires_s, row.scopes, row.groups
    )


def _operator(account: OperatorRow, row: OperatorTokenRow, owes: bool = False) -> Operator:
    scopes = SCOPES[account.role]
    if row.scopes is not None:
        scopes &= frozenset(row.scopes)
    limits = [frozenset(limit) for limit in (account.groups, row.groups) if limit is not None]
    groups = limits[0].intersection(*limits) if limits else None
    return Operator(account.name, account.role, scopes, row.kind, row.id, groups, owes)
