"""What somebody does with their own account: password, second factor, sessions, tokens. What matters asks for the password."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from fleet_server.accounts import chance_linux, links, lockout, people, second_factor, sessions, tokens
from fleet_server.accounts.passwords import GATE, hash_password, password_fits
from fleet_server.accounts.people import Actor
from fleet_server.accounts.second_factor import NewFactor
from fleet_server.accounts.sessions import FRESH_S, Found, GrantEntry
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.errors import ConflictError, ForbiddenError, TooManyError

PROOF_HINT = "send your password with it, and a code where you have a second factor; each code works once"


@dataclass(frozen=True, slots=True)
class Me:
    """Who asks, through which session or token, and from where."""

    found: Found
    origin: str
    now_s: float
    issuer: str = ""
    """The identity provider by which people can sign in at this moment."""

    @property
    def name(self) -> str:
        """The account's name."""
        return self.found.operator.name

    @property
    def grant_id(self) -> str:
        """The session or token of this request."""
        return self.found.operator.token_id

    @property
    def fresh(self) -> bool:
        """Whether the password was shown a short while ago: then it is not asked for again."""
        return self.found.proven_s is not None and self.now_s - self.found.proven_s <= FRESH_S

    @property
    def actor(self) -> Actor:
        """The same for whoever writes the audit."""
        return Actor(self.name, self.origin, self.now_s, self.issuer)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made; ``secret`` is shown once and kept nowhere."""

    secret: str
    expires_s: float


@dataclass(frozen=True, slots=True)
class Overview:
    """One's own account as its page shows it."""

    name: str
    kind: str
    role: str
    groups: list[str] | None
    password: bool
    second_factor: bool
    second_factor_required: bool
    recovery_codes_left: int
    provider: bool
    fresh: bool


def overview(here: Context, me: Me) -> Overview:
    """What there is to see."""
    required = second_factor.required_roles(here.settings.require_second_factor)
    with here.database.read() as db:
        account = people.by_id(db, me.found.account_id)
        factor = second_factor.state(db, account.id)
        provider = people.entry(db, account.name, me.now_s).provider
    return Overview(
        account.name, account.kind, account.role, account.groups, bool(account.password_hash), factor.confirmed_s is not None,
        account.role in required, factor.recovery_codes_left, provider, me.fresh,
    )  # fmt: skip


def prove(here: Context, me: Me, password: str, code: str = "", *, always: bool = False) -> None:
    """That whoever sits here is still the one who signed in: the password (and code) again, unless it was shown just before.

    ``always``: even then. ForbiddenError where it is missing or wrong, TooManyError after too many wrong ones.
    """
    if me.found.kind == "machine" or (me.fresh and not always and not password):
        return
    with here.database.read() as db:
        account = people.by_id(db, me.found.account_id)
        password_hash = account.password_hash
    if not password_hash:
        if me.fresh:
            return
        raise ForbiddenError("you signed in too long ago for this", "sign out, and in again through your identity provider")
    if not password:
        raise ForbiddenError("this asks for your password again", PROOF_HINT)
    with here.database.write() as db:
        wait_s = lockout.count_in_session(db, me.grant_id, me.now_s)
    if wait_s > 0:
        raise TooManyError("too many wrong passwords", "wait, then try again", round(wait_s) + 1)
    with GATE.place_of(me.name):
        fits = password_fits(password_hash, password)
    with here.database.write() as db:
        by = None
        if fits:
            people.lock(db, me.found.account_id)
            by = second_factor.accept(db, me.found.account_id, code, key=here.factor_key, known=True, now_s=me.now_s)
        if by is not None:
            lockout.forget_session(db, me.grant_id)
            sessions.proven(db, me.grant_id, me.now_s)
        else:
            _note(db, me, "proof.failed", after={"wrong": "code" if fits else "password"})
    if by is None:
        raise ForbiddenError("the password or the code is wrong", PROOF_HINT)


def change_password(here: Context, me: Me, *, password: str, code: str, new: str) -> int:
    """Another password; every other session and token ends at once. Answers how many."""
    with here.database.read() as db:
        has_one = bool(people.by_id(db, me.found.account_id).password_hash)
    if not has_one:  # before anything slow: a machine's token must not fill the places of people
        raise _no_password()
    prove(here, me, password, code, always=True)
    with GATE.place_of(me.name):
        password_hash = hash_password(new, me.name)
        same = password_fits(password_hash, password)
    if same:
        raise ConflictError("the new password is the old one")
    with here.database.write() as db:
        account = people.lock(db, me.found.account_id)
        if not account.password_hash:
            raise _no_password()
        account.password_hash, account.password_set_s = password_hash, me.now_s
        links.end(db, account.id)
        ended = sessions.end_all(db, account.id, keep=me.grant_id)
        _note(db, me, "account.password", after={"ended": ended})
    return ended


def begin_factor(here: Context, me: Me, *, password: str, code: str = "") -> NewFactor:
    """A secret for a telephone, shown once; it counts after ``confirm_factor``."""
    _a_person(me)
    prove(here, me, password, code)
    secret, nonce = chance_linux.factor_secret(), chance_linux.nonce(12)
    with here.database.write() as db:
        account = people.lock(db, me.found.account_id)
        return second_factor.begin(db, account, secret=secret, nonce=nonce, key=here.factor_key, now_s=me.now_s)


def pending_factor(here: Context, me: Me) -> NewFactor | None:
    """The same secret again while it waits for its first code, and only in a session that has just shown the password."""
    if not me.fresh:
        return None
    with here.database.read() as db:
        return second_factor.pending(db, people.by_id(db, me.found.account_id), key=here.factor_key, since_s=me.now_s - FRESH_S)


def confirm_factor(here: Context, me: Me, code: str) -> list[str]:
    """Switch it on by its first right code; answers the recovery codes. All other sessions and tokens end: none had a code."""
    _a_person(me)
    codes = chance_linux.recovery_codes(second_factor.RECOVERY_CODES)
    with here.database.write() as db:
        wait_s = lockout.count_in_session(db, me.grant_id, me.now_s)
        right = False
        if wait_s <= 0:
            account = people.lock(db, me.found.account_id)
            right = second_factor.confirm(db, account, code, key=here.factor_key, now_s=me.now_s)
            if right:
                second_factor.replace_recovery_codes(db, account, codes, key=here.factor_key)
                lockout.forget_session(db, me.grant_id)
                ended = sessions.end_all(db, account.id, keep=me.grant_id)
                _note(db, me, "account.factor-on", before={"second_factor": False}, after={"second_factor": True, "ended": ended})
    if wait_s > 0:
        raise TooManyError("too many wrong codes", "wait, then try again", round(wait_s) + 1)
    if not right:
        raise ForbiddenError("this code is wrong or too old", "take the one that is shown now, and look whether the clocks agree")
    return codes


def remove_factor(here: Context, me: Me, *, password: str, code: str) -> None:
    """Switch it off, by password and a code (or a recovery code)."""
    prove(here, me, password, code, always=True)
    with here.database.write() as db:
        people.lock(db, me.found.account_id)
        if not second_factor.remove(db, me.found.account_id):
            raise ConflictError("you have no second factor")
        ended = sessions.end_all(db, me.found.account_id, keep=me.grant_id)
        _note(db, me, "account.factor-off", before={"second_factor": True}, after={"second_factor": False, "ended": ended})


def new_recovery_codes(here: Context, me: Me, *, password: str, code: str) -> list[str]:
    """Ten fresh ones; the old ones end."""
    prove(here, me, password, code)
    codes = chance_linux.recovery_codes(second_factor.RECOVERY_CODES)
    with here.database.write() as db:
        account = people.lock(db, me.found.account_id)
        if not second_factor.is_on(db, account.id):
            raise ConflictError("you have no second factor that these could stand in for", "set it up first")
        second_factor.replace_recovery_codes(db, account, codes, key=here.factor_key)
        _note(db, me, "account.recovery-codes", after={"codes": len(codes)})
    return codes


def make_token(
    here: Context, me: Me, *, password: str, code: str, name: str, ttl_s: float, scopes: Collection[str] | None,
    groups: Collection[str] | None,
) -> NewToken:  # fmt: skip
    """A personal token, shown once; never wider than what makes it, and of no longer life than a token that makes it."""
    prove(here, me, password, code)
    ttl_s = tokens.life_within(me.found.operator, me.found.expires_s, ttl_s, me.now_s)
    secret = chance_linux.token_secret()
    with here.database.write() as db:
        account = people.lock(db, me.found.account_id)
        limit = tokens.within_maker(me.found.operator, scopes, groups)
        tokens.make(
            db, me.actor, account, secret=secret, grant_id=chance_linux.row_id(), name=name, ttl_s=ttl_s, limit=limit, by="own"
        )  # fmt: skip
    return NewToken(secret, me.now_s + ttl_s)


def grants(here: Context, me: Me, kind: str) -> list[GrantEntry]:
    """One's own sessions or tokens."""
    with here.database.read() as db:
        return sessions.listed(db, me.found.account_id, kind, me.now_s)


def end_grant(here: Context, me: Me, grant_id: str) -> None:
    """End one of one's own; NotFoundError for any other."""
    with here.database.write() as db:
        ended = sessions.end_own(db, me.found.account_id, grant_id)
        _note(db, me, f"{ended.kind}.end", before={"id": ended.id, "name": ended.name})


def end_others(here: Context, me: Me) -> int:
    """End every session but this one; tokens stay. How many."""
    with here.database.write() as db:
        ended = sessions.end_all(db, me.found.account_id, keep=me.grant_id, kind="session")
        _note(db, me, "session.end-others", after={"ended": ended})
    return ended


def _no_password() -> ConflictError:
    return ConflictError(
        "this account has no password", "a machine has tokens alone; a person of an identity provider changes it there"
    )


def _a_person(me: Me) -> None:
    if me.found.kind != "person":
        raise ConflictError("a machine has no second factor")


def _note(
    db: Session, me: Me, what: str, *, before: dict[str, Any] | None = None, after: dict[str, Any] | None = None
) -> None:
    audit.record(db, who=me.name, what=what, target=me.name, before=before, after=after, origin=me.origin, now_s=me.now_s)
