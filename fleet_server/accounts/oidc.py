"""Signing in through an identity provider: the flow of one browser, and which account the one who comes back is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from fleet_server.accounts import lockout, people, service, sessions
from fleet_server.accounts.oidc_http import Leave
from fleet_server.accounts.oidc_rules import Rule, account_name, decide, read_rules
from fleet_server.accounts.people import Actor
from fleet_server.accounts.sealing import plain_hash
from fleet_server.accounts.sign_in import end_replaced
from fleet_server.accounts.tables import OperatorRow, ProviderFlowRow, ProviderSubjectRow
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.errors import ConflictError, ForbiddenError, ServerError, UnauthenticatedError, UnavailableError

FLOW_S = 600.0
"""How long somebody may take at the provider."""
MOST_FLOWS = 5_000
PROVIDER = "provider"
"""Who changes an account by its word, in the audit."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in that came back in the browser that began it."""

    nonce: str
    verifier: str
    following: str
    connects: int | None
    """The account that is to be connected; None: somebody signs in."""


def begin(
    session: Session, left: Leave, *, following: str, connects: int | None, now_s: float
) -> None:
    """Remember what must come back. UnavailableError when far too many are on their way."""
    session.execute(delete(ProviderFlowRow).where(ProviderFlowRow.expires_s < now_s))
    if (session.scalar(select(func.count()).select_from(ProviderFlowRow)) or 0) >= MOST_FLOWS:
        raise UnavailableError("too many people are signing in at this moment", "try again in a few minutes", 60)
    session.add(ProviderFlowRow(
        state_hash=plain_hash(left.state), browser_hash=plain_hash(left.browser), nonce=left.nonce, verifier=left.verifier,
        following=following, operator_id=connects, expires_s=now_s + FLOW_S,
    ))  # fmt: skip


def take(session: Session, *, state: str, browser: str, now_s: float) -> Flow | None:
    """What was remembered, once: it is gone afterwards, whatever comes of it. None unless this browser began it, in time."""
    row = session.get(ProviderFlowRow, plain_hash(state), with_for_update=True)
    if row is None:
        return None
    session.delete(row)
    session.flush()
    if not browser or row.browser_hash != plain_hash(browser) or row.expires_s < now_s:
        return None
    return Flow(row.nonce, row.verifier, row.following, row.operator_id)


def lost_flow() -> UnauthenticatedError:
    """The same words for an answer that nobody waits for, whatever the reason."""
    return UnauthenticatedError("this sign-in was not begun in this browser, or took too long", "begin again")


def sign_in(here: Context, claims: Mapping[str, Any], *, agent: str, origin: str, replaces: str) -> service.Grant:
    """A session for whoever the claims are; ForbiddenError where that is nobody here.

    Whom a rule let in and none fits any more is refused, and all that they had open has ended.
    """
    now_s, issuer = here.clock(), here.settings.oidc_issuer
    rule = decide(read_rules(here.settings.oidc_rules), claims)
    actor = Actor(PROVIDER, origin, now_s, issuer)
    grant = None
    with here.database.write() as db:
        subject = db.get(ProviderSubjectRow, (issuer, claims["sub"]), with_for_update=True)
        account = _account(db, actor, claims, issuer, rule) if subject is None else people.by_id(db, subject.operator_id)
        if account.disabled:
            raise _nobody()
        if subject is not None and subject.ruled and rule is None:
            _throw_out(db, actor, account)
        else:
            if subject is not None and subject.ruled and rule is not None:
                _follow_rule(db, actor, account, rule)
            grant = _enter(here, db, account, agent=agent, origin=origin, replaces=replaces, now_s=now_s)
    if grant is None:
        raise _nobody()  # not before the end of what was open is kept
    return grant


def _enter(
    here: Context, db: Session, account: OperatorRow, *, agent: str, origin: str, replaces: str, now_s: float
) -> service.Grant:
    account.signed_in_s = now_s
    if replaces:
        end_replaced(db, replaces, who=account.name, origin=origin, now_s=now_s)
    grant = service.open_grant(
        db, name=account.name, kind="session", token_name=agent, ttl_s=here.settings.session_ttl_s, now_s=now_s,
        origin=origin, by="oidc",
    )  # fmt: skip
    after = {"by": "oidc", "id": grant.operator.token_id, "expires_s": grant.expires_s}
    audit.record(db, who=account.name, what="session.open", target=account.name, origin=origin, now_s=now_s, after=after)
    return grant


def note_refused(here: Context, error: ServerError, *, origin: str) -> None:
    """A sign-in through the identity provider that came back and was refused stands in the audit, as one by password does."""
    now_s = here.clock()
    with here.database.write() as db:
        if lockout.may_tell(db, now_s):
            after = {"wrong": "provider", "why": error.detail}
            audit.record(db, who="nobody", what="sign-in.failed", target="nobody", origin=origin, now_s=now_s, after=after)


def connect(session: Session, actor: Actor, account_id: int, *, issuer: str, subject: str) -> None:
    """From now on this identity signs in as this account. ConflictError where either has another partner."""
    account = people.lock(session, account_id)
    taken = session.scalar(select(ProviderSubjectRow.subject).where(
        ProviderSubjectRow.issuer == issuer,
        (ProviderSubjectRow.subject == subject) | (ProviderSubjectRow.operator_id == account_id),
    ))  # fmt: skip
    if taken is not None:
        raise ConflictError("this identity or this account is connected already")
    session.add(ProviderSubjectRow(issuer=issuer, subject=subject, operator_id=account_id, linked_s=actor.now_s, ruled=False))
    audit.record(
        session, who=actor.name, what="account.provider-connect", target=account.name, origin=actor.origin, now_s=actor.now_s,
        after={"issuer": issuer, "subject": subject},
    )  # fmt: skip


def disconnect(session: Session, actor: Actor, account_id: int) -> None:
    """Only by password from now on; ConflictError for an account that has none."""
    account = people.lock(session, account_id)
    if not account.password_hash:
        raise ConflictError("you have no password here: without your identity provider you could not sign in any more")
    rows = session.scalars(select(ProviderSubjectRow).where(ProviderSubjectRow.operator_id == account_id)).all()
    for row in rows:
        session.delete(row)
        audit.record(
            session, who=actor.name, what="account.provider-disconnect", target=account.name, origin=actor.origin,
            now_s=actor.now_s, before={"issuer": row.issuer, "subject": row.subject},
        )  # fmt: skip


def _account(db: Session, actor: Actor, claims: Mapping[str, Any], issuer: str, rule: Rule | None) -> OperatorRow:
    if rule is None:
        raise _nobody()
    name = account_name(claims)
    if db.scalar(select(OperatorRow.id).where(func.lower(OperatorRow.name) == name.lower())) is not None:
        # Never by name alone: whoever may choose a name at the provider would choose an admin's.
        raise ForbiddenError(
            "there is an account of your name here, and it is not connected with this identity",
            "sign in with its password and connect it at My account, or ask an admin",
        )
    account = people.add(db, name=name, role=rule.role, password_hash="", now_s=actor.now_s, groups=rule.groups)
    db.add(ProviderSubjectRow(
        issuer=issuer, subject=claims["sub"], operator_id=account.id, linked_s=actor.now_s, ruled=True
    ))  # fmt: skip
    after = {"kind": "person", "role": account.role, "groups": account.groups, "issuer": issuer, "subject": claims["sub"],
             "rule": f"{rule.claim}={rule.value}"}  # fmt: skip
    audit.record(db, who=PROVIDER, what="account.add", target=name, origin=actor.origin, now_s=actor.now_s, after=after)
    return account


def _follow_rule(db: Session, actor: Actor, account: OperatorRow, rule: Rule) -> None:
    try:
        people.change(db, actor, account.name, role=rule.role, groups=rule.groups, all_groups=rule.groups is None)
    except ConflictError as error:  # he has no way in by which to do what the hint of people would say
        raise ConflictError(
            f"your identity provider makes you {rule.role} here, and {error.detail}",
            f"on the server's machine: rookery-server recover {account.name}; then make somebody else an admin of all groups",
        ) from None


def _throw_out(db: Session, actor: Actor, account: OperatorRow) -> None:
    """The provider took away what let this person in: what is open, tokens too, ends now; the account stays as it was."""
    people.lock(db, account.id)
    ended = sessions.end_all(db, account.id)
    audit.record(
        db, who=actor.name, what="account.provider-refuse", target=account.name, origin=actor.origin, now_s=actor.now_s,
        before={"role": account.role, "groups": account.groups}, after={"ended": ended},
    )  # fmt: skip


def _nobody() -> ForbiddenError:
    return ForbiddenError(
        "nobody here is connected with this identity", "sign in with your password and connect it at My account, or ask an admin"
    )
