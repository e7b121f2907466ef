"""Operators, the first admin, sessions and tokens. Secrets are kept as sha256 (tokens are random) or argon2 (passwords)."""

import functools
import hashlib
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.accounts.tables import OperatorRow, OperatorTokenRow, SetupLinkRow, SignInFailureRow
from fleet_server.database import insert_new
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError
from fleet_server.identities import SCOPES, Operator

MIN_PASSWORD, MAX_PASSWORD = 10, 200
FREE_FAILURES = 5
"""Failed sign-ins under one name before it is locked; then 60 s, doubling up to 15 minutes."""
FAILURES_FORGOTTEN_S = 3600.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_hasher = PasswordHasher()


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


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who might be signing in: what the slow password check needs, fetched before it, outside any transaction."""

    name: str
    password_hash: str | None


@functools.cache
def _dummy_hash() -> str:
    # Checked for an unknown name, so that it costs the same time as a known one.
    return _hasher.hash(secrets.token_hex(16))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_set_up(session: Session) -> bool:
    """True once there is a person who can sign in; machines with a token made on the server do not count."""
    return session.scalar(select(func.count()).select_from(OperatorRow).where(OperatorRow.password_hash != "")) != 0


def new_setup_link(session: Session, *, ttl_s: float, now_s: float) -> SetupLink:
    """A fresh one-time link; earlier ones end. ConflictError when the first admin exists."""
    if is_set_up(session):
        raise ConflictError("the first admin exists already", "sign in, or let an admin add you")
    session.execute(delete(SetupLinkRow))
    link = SetupLink(secrets.token_urlsafe(24), now_s + ttl_s)
    session.add(SetupLinkRow(secret_hash=_hash(link.token), expires_s=link.expires_s, used_s=None))
    return link


def hash_password(password: str) -> str:
    """argon2id of a password; InvalidError when it is too short or too long. Slow on purpose: call it outside a transaction."""
    if len(password) < MIN_PASSWORD:
        raise InvalidError(f"the password has fewer than {MIN_PASSWORD} characters")
    if len(password) > MAX_PASSWORD:
        raise InvalidError(f"the password has more than {MAX_PASSWORD} characters")
    return _hasher.hash(password)


def set_up(session: Session, *, token: str, name: str, password_hash: str, now_s: float) -> None:
    """Make the first admin. ForbiddenError for a wrong, used or expired link; ConflictError when there is an operator."""
    row = session.get(SetupLinkRow, _hash(token), with_for_update=True)
    if row is None or row.used_s is not None:
        raise ForbiddenError("this setup link is not valid or was used", "print a new one: rookery-server setup-link --data DIR")
    if row.expires_s < now_s:
        raise ForbiddenError("this setup link has expired", "print a new one: rookery-server setup-link --data DIR")
    if is_set_up(session):
        raise ConflictError("the first admin exists already")
    row.used_s = now_s
    add_operator(session, name=name, password_hash=password_hash, role="admin", now_s=now_s)


def add_operator(
    session: Session, *, name: str, password_hash: str, role: str, now_s: float, groups: Collection[str] | None = None,
    kind: str = "person",
) -> None:  # fmt: skip
    """A new operator, limited to device groups where given. InvalidError for a bad name or role, ConflictError if taken."""
    if not _NAME.fullmatch(name):
        raise InvalidError("the name must be 1 to 64 letters, digits, '.', '_', '@' or '-'")
    if role not in SCOPES:
        raise InvalidError(f"role {role!r} is not one of {', '.join(SCOPES)}")
    if session.scalar(select(OperatorRow.id).where(OperatorRow.name == name)) is not None:
        raise ConflictError(f"there is an operator {name!r} already")
    limit = None if groups is None else sorted(set(groups))
    session.add(OperatorRow(
        name=name, kind=kind, role=role, groups=limit, password_hash=password_hash, created_s=now_s, disabled=False,
    ))  # fmt: skip
    session.flush()


def candidate(session: Session, name: str) -> Candidate:
    """What is known of this name before its password is checked."""
    row = session.scalar(select(OperatorRow).where(OperatorRow.name == name, OperatorRow.disabled.is_(False)))
    return Candidate(name, (row.password_hash or None) if row else None)


def password_fits(found: Candidate, password: str) -> bool:
    """The slow check; as slow for a name that does not exist. Call it outside a transaction."""
    try:
        matches = _hasher.verify(found.password_hash or _dummy_hash(), password[: MAX_PASSWORD + 1])
        return matches and found.password_hash is not None
    except (VerificationError, InvalidHashError):
        return False


def count_attempt(session: Session, name: str, now_s: float) -> float:
    """Count a sign-in as failed until it succeeds; answers for how many seconds the name is locked (0: the attempt may go on).

    After FREE_FAILURES the name is locked for a while, whether it exists or not. The name's row is locked in the database: of
    many attempts at the same moment each sees those before it.
    """
    session.execute(delete(SignInFailureRow).where(SignInFailureRow.last_s < now_s - FAILURES_FORGOTTEN_S))
    key = _hash(name)
    first = {"bucket": key, "count": 0, "last_s": now_s, "locked_until_s": 0.0}
    insert_new(session, SignInFailureRow, [first], keys=["bucket"])
    row = session.get_one(SignInFailureRow, key, with_for_update=True, populate_existing=True)
    if row.locked_until_s > now_s:
        return row.locked_until_s - now_s
    row.count += 1
    row.last_s = now_s
    if row.count >= FREE_FAILURES:
        row.locked_until_s = now_s + min(60.0 * 2 ** (row.count - FREE_FAILURES), 900.0)
    return 0.0


def open_grant(session: Session, *, name: str, kind: str, token_name: str, ttl_s: float, now_s: float) -> Grant:
    """A session (``kind`` session) or API token (``kind`` token) for an operator whose password was just checked."""
    row = session.scalars(select(OperatorRow).where(OperatorRow.name == name)).one()
    session.execute(delete(SignInFailureRow).where(SignInFailureRow.bucket == _hash(name)))
    session.execute(delete(OperatorTokenRow).where(OperatorTokenRow.expires_s < now_s))
    token, token_id = secrets.token_urlsafe(32), secrets.token_hex(6)
    session.add(
        OperatorTokenRow(
            id=token_id, secret_hash=_hash(token), operator_id=row.id, kind=kind,
            name=token_name, created_s=now_s, expires_s=now_s + ttl_s,
        )
    )  # fmt: skip
    return Grant(token, now_s + ttl_s, Operator(row.name, row.role, SCOPES[row.role], kind, token_id))


def machine_grant(session: Session, *, name: str, role: str, ttl_s: float, now_s: float) -> Grant:
    """A token for a machine without a password, as someone on the server's own machine may make it.

    ConflictError when a person has the name; a machine that exists gets the new role.
    """
    row = session.scalar(select(OperatorRow).where(OperatorRow.name == name))
    if row is None:
        add_operator(session, name=name, password_hash="", role=role, now_s=now_s)
    elif row.password_hash:
        raise ConflictError(f"{name!r} is a person; give the machine a name of its own")
    elif role not in SCOPES:
        raise InvalidError(f"role {role!r} is not one of {', '.join(SCOPES)}")
    else:
        row.role = role
        session.flush()
    return open_grant(session, name=name, kind="token", token_name="local", ttl_s=ttl_s, now_s=now_s)


def who(session: Session, *, token: str, kind: str, now_s: float) -> Operator | None:
    """The operator to whom this session or token belongs; None when it is unknown, of the other kind, or expired."""
    found = session.execute(
        select(OperatorTokenRow, OperatorRow)
        .join(OperatorRow, OperatorRow.id == OperatorTokenRow.operator_id)
        .where(OperatorTokenRow.secret_hash == _hash(token), OperatorTokenRow.kind == kind)
    ).first()
    if found is None or found[0].expires_s < now_s or found[1].disabled:
        return None
    row = found[1]
    groups = [frozenset(limit) for limit in (row.groups, found[0].groups) if limit is not None]
    scopes = SCOPES[row.role] if found[0].scopes is None else SCOPES[row.role] & frozenset(found[0].scopes)
    return Operator(row.name, row.role, scopes, kind, found[0].id, groups[0].intersection(*groups) if groups else None)


def end_grant(session: Session, token_id: str) -> None:
    """End one session or token."""
    session.execute(delete(OperatorTokenRow).where(OperatorTokenRow.id == token_id))
