"""One-time links that set a password: for whom was invited, for whom forgot it, and for whom lost the second factor, too."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleet_server.accounts import second_factor, sessions
from fleet_server.accounts.sealing import plain_hash
from fleet_server.accounts.tables import AccountLinkRow, OperatorRow
from fleet_server.errors import ForbiddenError

INVITATION, RESET, RECOVERY = "invitation", "reset", "recovery"
PURPOSES = (INVITATION, RESET, RECOVERY)


@dataclass(frozen=True, slots=True)
class Link:
    """A fresh link; ``token`` is shown once and kept nowhere."""

    token: str
    purpose: str
    expires_s: float

    @property
    def path(self) -> str:
        """Where it leads on the operator door."""
        return f"/welcome?token={self.token}"


@dataclass(frozen=True, slots=True)
class Followed:
    """Whom a link was for, and what it did."""

    account_id: int
    name: str
    purpose: str
    made_by: str
    factor_removed: bool
    ended: int


def make(session: Session, account: OperatorRow, *, token: str, purpose: str, made_by: str, ttl_s: float, now_s: float) -> Link:
    """A link for this account; earlier ones of it end."""
    session.execute(delete(AccountLinkRow).where(AccountLinkRow.operator_id == account.id))
    link = Link(token, purpose, now_s + ttl_s)
    session.add(AccountLinkRow(
        secret_hash=plain_hash(token), operator_id=account.id, purpose=purpose, made_by=made_by, expires_s=link.expires_s
    ))  # fmt: skip
    return link


def invalid_link() -> ForbiddenError:
    """The same words for a link that was used, replaced, is too old or never was one."""
    return ForbiddenError(
        "this link is not valid: it was used, has expired, or was replaced by a newer one", "ask an admin for a new one"
    )


def look(session: Session, token: str, now_s: float) -> tuple[str, str]:
    """Name of the account and purpose of a good link, without using it; ForbiddenError for any other."""
    _, account, purpose = _good(session, token, now_s, lock=False)
    return account.name, purpose


def follow(session: Session, token: str, password_hash: str, now_s: float) -> Followed:
    """Set the password of the link's account and end all that was open in its name; a recovery removes the second factor."""
    row, account, purpose = _good(session, token, now_s, lock=True)
    row.used_s = now_s
    account.password_hash, account.password_set_s = password_hash, now_s
    removed = second_factor.remove(session, account.id) if purpose == RECOVERY else False
    return Followed(account.id, account.name, purpose, row.made_by, removed, sessions.end_all(session, account.id))


def end(session: Session, account_id: int) -> None:
    """No link of this account opens anything any more."""
    session.execute(delete(AccountLinkRow).where(AccountLinkRow.operator_id == account_id))


def waiting(session: Session, now_s: float) -> dict[int, float]:
    """Account -> end of the link that it could still use."""
    rows = session.scalars(select(AccountLinkRow).where(AccountLinkRow.used_s.is_(None), AccountLinkRow.expires_s >= now_s))
    return {row.operator_id: row.expires_s for row in rows}


def _good(session: Session, token: str, now_s: float, *, lock: bool) -> tuple[AccountLinkRow, OperatorRow, str]:
    row = session.get(AccountLinkRow, plain_hash(token), with_for_update=lock)
    if row is None or row.used_s is not None or row.expires_s < now_s:
        raise invalid_link()
    account = session.get_one(OperatorRow, row.operator_id, with_for_update=lock)
    if account.disabled or account.kind != "person":
        raise invalid_link()
    return row, account, row.purpose
