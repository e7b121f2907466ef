"""How many wrong passwords are taken, and from whom, so that a stranger locks nobody out but himself.

Counted are a name from one address (that pair is locked), an address over all names (locked, too, later), and a name over all
addresses (never locked: it only makes the pairs stricter). A browser in which this person has signed in before has a count of its
own, which nobody else can touch.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleet_server.accounts.sealing import keyed_hash, plain_hash
from fleet_server.accounts.tables import SignInFailureRow
from fleet_server.database import insert_new
from fleet_server.door_limits import address_key

FREE_FAILURES = 5
"""Wrong passwords for one name from one address (or known browser) before it waits: 60 s, doubling up to LONGEST_LOCK_S."""
FREE_OF_ADDRESS = 50
"""The same of one address over all names: an office behind one address has more fingers than a person."""
UNDER_ATTACK = 100
"""Wrong passwords for one name from everywhere within the hour, after which each strange address has one try and waits long.

NIST SP 800-63B §5.2.2 allows 100 in a row before an account is limited."""
LOUD_OF_ADDRESS = 20
"""Failures of one address that the audit gets each first of; then only the 32nd, the 64th, …"""
MOST_TOLD = 100
"""Rows of the audit in an hour about failures of strangers, whatever their names and networks; then the 128th, the 256th, …"""
FIRST_LOCK_S, LONGEST_LOCK_S = 60.0, 900.0
FORGOTTEN_S = 3600.0
"""After an hour without another failure a count begins anew."""
KNOWN_BROWSER_S = 400 * 86400.0
"""Longest life that browsers grant a cookie (RFC 6265bis §5.5)."""
_SWEPT_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that was counted as failed before its password is looked at; ``settle`` takes that back."""

    wait_s: float
    """Above 0: the password is not looked at."""
    buckets: tuple[str, ...]
    counts: Mapping[str, int]
    """Failures with this one, by the kind of count: pair, address, name, browser."""
    known: bool
    """It comes from a browser in which this person has signed in before."""
    locks: Mapping[str, float] = field(default_factory=dict)
    """Until when this attempt locked what, by bucket: ``take_back`` ends these locks and no other's."""

    @property
    def worth_telling(self) -> bool:
        """Whether the audit gets a row: for the first and the last before a lock, then for ever fewer; nobody can flood it."""
        if self.known:
            return self.counts["browser"] in (1, FREE_FAILURES)
        if self.counts["address"] <= LOUD_OF_ADDRESS and self.counts["name"] <= UNDER_ATTACK:
            return self.counts["pair"] in (1, FREE_FAILURES)
        return max(self.counts["name"], self.counts["address"]).bit_count() == 1


def browser_cookie(key: bytes, name: str, *, nonce: str, now_s: float) -> str:
    """What a browser is given after a sign-in of this name: it opens nothing, it only has its own count."""
    issued = str(int(now_s))
    return f"{nonce}.{issued}.{_browser_sign(key, name, nonce, issued)}"


def known_browser(key: bytes, cookie: str, name: str, now_s: float) -> str | None:
    """The number of a browser in which this name has signed in; None for any other."""
    nonce, _, rest = cookie.partition(".")
    issued, _, sign = rest.partition(".")
    if not (nonce and issued.isascii() and issued.isdigit() and len(issued) < 16 and len(cookie) < 300):
        return None
    if not hmac.compare_digest(sign.encode(), _browser_sign(key, name, nonce, issued).encode()):
        return None
    return nonce if 0 <= now_s - int(issued) + 60 < KNOWN_BROWSER_S else None


def _browser_sign(key: bytes, name: str, nonce: str, issued: str) -> str:
    return keyed_hash(key, "\0".join((name, nonce, issued)), purpose="known browser")


def wait_of(session: Session, *, name: str, address: str, browser: str | None, now_s: float) -> float:
    """For how many seconds this attempt is locked, by a look alone: a flood of locked attempts writes nothing."""
    buckets = _kinds(name, address, browser).values()
    locked = session.scalars(select(SignInFailureRow.locked_until_s).where(SignInFailureRow.bucket.in_(buckets)))
    return max((until_s - now_s for until_s in locked), default=0.0)


def _kinds(name: str, address: str, browser: str | None) -> dict[str, str]:
    if browser:
        return {"browser": plain_hash(f"browser\0{browser}")}
    place = address_key(address)
    return {
        "pair": plain_hash(f"pair\0{name}\0{place}"),
        "address": plain_hash(f"address\0{place}"),
        "name": plain_hash(f"name\0{name}"),
    }


def count_attempt(session: Session, *, name: str, address: str, browser: str | None, now_s: float) -> Attempt:
    """Count a sign-in as failed until it succeeds. Rows are locked in one order: of many at once each sees those before it."""
    _sweep(session, now_s)
    kinds = _kinds(name, address, browser)
    rows = _locked(session, tuple(sorted(kinds.values())), now_s)
    wait_s = max(row.locked_until_s for row in rows.values()) - now_s
    if wait_s > 0:
        return Attempt(wait_s, (), {kind: rows[bucket].count for kind, bucket in kinds.items()}, browser is not None)
    for row in rows.values():
        row.count += 1
        row.last_s = now_s
    counts = {kind: rows[bucket].count for kind, bucket in kinds.items()}
    if browser:
        _lock(rows[kinds["browser"]], FREE_FAILURES, now_s)
    elif counts["name"] > UNDER_ATTACK:
        rows[kinds["pair"]].locked_until_s = now_s + LONGEST_LOCK_S
    else:
        _lock(rows[kinds["pair"]], FREE_FAILURES, now_s)
    if not browser:
        _lock(rows[kinds["address"]], FREE_OF_ADDRESS, now_s)
    locks = {bucket: row.locked_until_s for bucket, row in rows.items() if row.locked_until_s > now_s}
    return Attempt(0.0, tuple(kinds.values()), counts, browser is not None, locks)


def settle(session: Session, attempt: Attempt) -> None:
    """The password was right: what was counted for this attempt is taken back; what belongs to this person alone is forgotten."""
    own = attempt.buckets[0] if attempt.buckets else ""  # the pair or the browser stands first
    for row in _rows(session, attempt.buckets):
        if row.bucket == own:
            session.delete(row)
            continue
        row.count = max(0, row.count - 1)
        row.locked_until_s = 0.0 if row.count < FREE_OF_ADDRESS else row.locked_until_s


def take_back(session: Session, attempt: Attempt) -> None:
    """The password was not looked at: this attempt counts nowhere, and what others counted before it stays counted."""
    for row in _rows(session, attempt.buckets):
        row.count = max(0, row.count - 1)
        if row.locked_until_s == attempt.locks.get(row.bucket):
            row.locked_until_s = 0.0


def may_tell(session: Session, now_s: float) -> bool:
    """Whether one more failure of a stranger gets its row; counted over all of them, by hours that begin with their first."""
    bucket = plain_hash("told")
    row = _locked(session, (bucket,), now_s)[bucket]
    if row.count == 0:
        row.last_s = now_s
    row.count += 1
    return row.count <= MOST_TOLD or row.count.bit_count() == 1


def count_in_session(session: Session, token_id: str, now_s: float) -> float:
    """A password shown again in a session: seconds to wait (0: it is looked at). Counted as failed until ``forget_session``."""
    row = _locked(session, (plain_hash(f"session\0{token_id}"),), now_s)[plain_hash(f"session\0{token_id}")]
    if row.locked_until_s > now_s:
        return row.locked_until_s - now_s
    row.count += 1
    row.last_s = now_s
    _lock(row, FREE_FAILURES, now_s)
    return 0.0


def forget_session(session: Session, token_id: str) -> None:
    """It was right."""
    session.execute(delete(SignInFailureRow).where(SignInFailureRow.bucket == plain_hash(f"session\0{token_id}")))


def _locked(session: Session, buckets: tuple[str, ...], now_s: float) -> dict[str, SignInFailureRow]:
    fresh = [{"bucket": bucket, "count": 0, "last_s": now_s, "locked_until_s": 0.0} for bucket in buckets]
    found: dict[str, SignInFailureRow] = {}
    while len(found) < len(buckets):  # a row that was there may be deleted (by a success) before it is locked
        insert_new(session, SignInFailureRow, fresh, keys=["bucket"])
        found = {row.bucket: row for row in _rows(session, buckets)}
    for row in found.values():
        if row.last_s < now_s - FORGOTTEN_S:
            row.count, row.locked_until_s = 0, 0.0
    return found


def _rows(session: Session, buckets: tuple[str, ...]) -> list[SignInFailureRow]:
    return list(session.scalars(
        select(SignInFailureRow).where(SignInFailureRow.bucket.in_(buckets))
        .order_by(SignInFailureRow.bucket).with_for_update().execution_options(populate_existing=True)
    ))  # fmt: skip


def _lock(row: SignInFailureRow, free: int, now_s: float) -> None:
    if row.count >= free:
        row.locked_until_s = now_s + min(FIRST_LOCK_S * 2.0 ** min(row.count - free, 10), LONGEST_LOCK_S)


def _sweep(session: Session, now_s: float) -> None:
    # A few at a time and only those that nobody holds: whoever signs in waits for no cleaning.
    old = session.scalars(
        select(SignInFailureRow.bucket).where(SignInFailureRow.last_s < now_s - 2 * FORGOTTEN_S)
        .limit(_SWEPT_AT_ONCE).with_for_update(skip_locked=True)
    ).all()  # fmt: skip
    if old:
        session.execute(delete(SignInFailureRow).where(SignInFailureRow.bucket.in_(old)))
