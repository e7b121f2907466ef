"""Signing in as both the API and the pages do it: count, check outside any transaction, then settle.

An unknown name, a wrong password, a disabled account and a wrong code cost the same time and end with the same words.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.accounts import chance_linux, lockout, people, second_factor, service, sessions
from fleet_server.accounts.lockout import Attempt
from fleet_server.accounts.passwords import GATE, HASHER, is_outdated, password_fits
from fleet_server.accounts.service import Grant
from fleet_server.accounts.tables import OperatorRow
from fleet_server.accounts.tokens import within
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.errors import ForbiddenError, ServerError, TooManyError, UnauthenticatedError, UnavailableError

WRONG = "name, password or code is wrong"
WRONG_HINT = "the code is that of your second factor, where you have set one up; after many wrong ones wait an hour"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody shows, from where."""

    name: str
    password: str
    code: str = ""
    origin: str = ""
    browser_cookie: str = ""
    """Of a browser in which somebody has signed in before; see ``lockout``."""
    replaces: str = ""
    """The session that the browser has already: it ends with the new one."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a sign-in gives."""

    grant: Grant
    browser_cookie: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    id: int
    password_hash: str


def sign_in(
    here: Context, shown: Credentials, *, kind: str, label: str, ttl_s: float, scopes: Collection[str] | None = None,
    groups: Collection[str] | None = None,
) -> SignedIn:  # fmt: skip
    """A session or token. UnauthenticatedError whatever is wrong, TooManyError after too many, UnavailableError if flooded."""
    now_s = here.clock()
    browser = lockout.known_browser(here.web_secret, shown.browser_cookie, shown.name, now_s)
    with here.database.read() as db:
        _wait(lockout.wait_of(db, name=shown.name, address=shown.origin, browser=browser, now_s=now_s))
    # The attempt is counted before the slow check: a hundred at the same moment are not all let through before the first fails.
    with here.database.write() as db:
        attempt = lockout.count_attempt(db, name=shown.name, address=shown.origin, browser=browser, now_s=now_s)
        found = db.scalar(select(OperatorRow).where(OperatorRow.name == shown.name))
        candidate = _Candidate(found.id, found.password_hash) if found and not found.disabled and found.kind == "person" else None
    _wait(attempt.wait_s)
    try:
        with GATE.place_of(shown.name) if attempt.known else GATE.place(known=False):
            fits = password_fits(candidate.password_hash if candidate else None, shown.password)
            renewed = HASHER.hash(shown.password) if fits and candidate and is_outdated(candidate.password_hash) else None
    except UnavailableError:
        with here.database.write() as db:
            lockout.take_back(db, attempt)  # it was not looked at, so it is nobody's failure
        raise
    outcome: Grant | ServerError
    with here.database.write() as db:  # committed whatever comes out: wrong codes are counted in it
        by = _by(here, db, shown, candidate, attempt, now_s) if fits else None
        if by is None:
            outcome = UnauthenticatedError(WRONG, WRONG_HINT)
            _tell(db, shown, candidate, attempt, fits, now_s)
        else:
            account = people.get(db, shown.name)
            lockout.settle(db, attempt)
            if renewed:
                account.password_hash = renewed
            outcome = _open(here, db, account, shown, by, kind, label, ttl_s, scopes, groups, now_s)
    if isinstance(outcome, ServerError):
        raise outcome
    nonce = browser or chance_linux.row_id() + chance_linux.row_id()
    return SignedIn(outcome, lockout.browser_cookie(here.web_secret, shown.name, nonce=nonce, now_s=now_s))


def end_replaced(db: Session, secret: str, *, who: str, origin: str, now_s: float) -> None:
    """The session that the browser had until somebody signed in in it anew, ended and audited."""
    ended = sessions.end_secret(db, secret, "session")
    if ended is not None:
        owner, entry = ended
        before = {"id": entry.id, "name": entry.name}
        audit.record(db, who=who, what="session.end", target=owner, before=before, origin=origin, now_s=now_s)


def _wait(wait_s: float) -> None:
    if wait_s > 0:
        raise TooManyError("too many failed attempts", "wait, then try again", round(wait_s) + 1)


def _by(
    here: Context, db: Session, shown: Credentials, candidate: _Candidate | None, attempt: Attempt, now_s: float
) -> str | None:
    if candidate is None:
        return None
    account = db.get(OperatorRow, candidate.id, with_for_update=True, populate_existing=True)
    if account is None or account.disabled or account.password_hash != candidate.password_hash:
        return None  # changed while the password was looked at
    return second_factor.accept(db, account.id, shown.code, key=here.factor_key, known=attempt.known, now_s=now_s)


def _open(
    here: Context, db: Session, account: OperatorRow, shown: Credentials, by: str, kind: str, label: str, ttl_s: float,
    scopes: Collection[str] | None, groups: Collection[str] | None, now_s: float,
) -> Grant | ServerError:  # fmt: skip
    if kind == "token" and by == "password" and account.role in second_factor.required_roles(here.settings.require_second_factor):
        return ForbiddenError(
            f"the role {account.role} needs a second factor, and you have none yet", "sign in with a browser: it leads you there"
        )
    try:
        limit = within(account, scopes, groups) if kind == "token" else (None, None)
    except ServerError as error:
        return error
    account.signed_in_s = now_s
    if shown.replaces:
        end_replaced(db, shown.replaces, who=account.name, origin=shown.origin, now_s=now_s)
    grant = service.open_grant(
        db, name=account.name, kind=kind, token_name=label, ttl_s=ttl_s, now_s=now_s, origin=shown.origin, by=by,
        scopes=limit[0], groups=limit[1],
    )  # fmt: skip
    after = {"by": by, "id": grant.operator.token_id, "expires_s": grant.expires_s}
    if kind == "token":
        after |= {"name": label, "scopes": limit[0], "groups": limit[1]}
    audit.record(
        db, who=account.name, what=f"{kind}.open", target=account.name, origin=shown.origin, now_s=now_s, after=after
    )  # fmt: skip
    return grant


def _tell(
    db: Session, shown: Credentials, candidate: _Candidate | None, attempt: Attempt, fits: bool, now_s: float
) -> None:
    # A row for an unknown name, too: what is written must not tell by its time which names exist. What was typed is not written.
    if not attempt.worth_telling or not (attempt.known or lockout.may_tell(db, now_s)):
        return
    known = shown.name if candidate else "nobody"
    after = {"wrong": "code" if fits else "password", "failures": dict(attempt.counts), "known_browser": attempt.known}
    audit.record(db, who=known, what="sign-in.failed", target=known, origin=shown.origin, now_s=now_s, after=after)
