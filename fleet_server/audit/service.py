"""Write down and read back who did what. Rows are chained right before the commit (``chain``), on one locked row, last of all."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from fleet_server.audit import chain
from fleet_server.audit.tables import AuditHeadRow, AuditLookRow, AuditRow
from fleet_server.database import Database, before_commit, insert_new, note_change
from fleet_server.errors import OperatorError

LOOK_S = 600.0
"""One row for a person, a picture and so long."""
BATCH = 1000
"""Rows read at once where all are: a log of years never lies in memory as a whole."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed: ``who`` (operator, ``device:<id>``, ``local:<user>``, ``server``) did ``what`` (``rollout.create``) to it.

    ``origin``: address from which it was asked; empty when the server did it by itself. ``hash``: the row's place in the chain.
    """

    id: int
    at_s: float
    who: str
    what: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    origin: str
    hash: str


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of the log: its id (0: there is none) and hash, as the row beside the log says."""

    id: int
    hash: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows: ``who`` exactly; ``target`` exactly or all below it (``d-1`` has ``d-1/crop/…``); ``what`` exactly or as the
    first word (``rollout`` has ``rollout.create``); ``since_s <= at_s < until_s``."""

    who: str = ""
    target: str = ""
    what: str = ""
    since_s: float | None = None
    until_s: float | None = None


ALL = Wanted()


def record(
    session: Session, *, who: str, what: str, target: str, now_s: float, before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None, origin: str = "",
) -> None:  # fmt: skip
    """Add a row in the caller's transaction: the deed and its record are stored together or not at all. Never pass secrets.

    The row is written and chained at the end of ``Database.write()``: only then can it be read.
    """
    session.info.setdefault("audit", []).append({
        "at_s": float(now_s), "who": who, "what": what, "target": target, "before": chain.plain(before),
        "after": chain.plain(after), "origin": origin,
    })  # fmt: skip
    note_change(session, "audit")
    before_commit(session, "audit", _chain)


def looked(session: Session, *, who: str, what: str, target: str, now_s: float, origin: str = "") -> bool:
    """A person looks at a picture (``crop.look``, ``frame.look``) or a log (``log.look``): one row for ten minutes.

    Answers whether this was the first look, which adds a row.
    """
    table, key = AuditLookRow, {"who": who, "what": what, "target": target}
    if not insert_new(session, table, [{**key, "at_s": now_s}], keys=list(key)):
        # A clock that was set back must not hide looks until it has caught up.
        due = or_(table.at_s <= now_s - LOOK_S, table.at_s > now_s + LOOK_S)
        mine = (table.who == who) & (table.what == what) & (table.target == target)
        changed: Any = session.execute(update(table).where(mine, due).values(at_s=now_s))
        if not changed.rowcount:
            return False
    record(session, who=who, what=what, target=target, origin=origin, now_s=now_s)
    return True


def forget_looks(session: Session, now_s: float, limit: int = 5000) -> int:
    """Drop what ``looked`` no longer needs; the rows of the audit stay. Answers how many."""
    table = AuditLookRow
    old = select(table.who, table.what, table.target).where(table.at_s <= now_s - LOOK_S)
    keys = session.execute(old.order_by(table.at_s).limit(limit).with_for_update(skip_locked=True)).all()
    for who, what, target in keys:
        session.execute(delete(table).where(table.who == who, table.what == what, table.target == target))
    return len(keys)


def entries(
    session: Session, wanted: Wanted = ALL, *, target: str = "", before_id: int | None = None, after_id: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:  # fmt: skip
    """Newest first; with ``after_id`` those behind it, in rising order."""
    query = _matching(select(AuditRow), wanted)
    if target:
        query = query.where(AuditRow.target == target)
    if before_id is not None:
        query = query.where(AuditRow.id < before_id)
    if after_id is not None:
        query = query.where(AuditRow.id > after_id).order_by(AuditRow.id)
    else:
        query = query.order_by(AuditRow.id.desc())
    return [
        AuditEntry(row.id, row.at_s, row.who, row.what, row.target, row.before, row.after, row.origin, row.hash)
        for row in session.scalars(query.limit(limit))
    ]


def head(session: Session) -> Head:
    """The head of the chain; id 0 before the first deed."""
    found = session.execute(select(AuditHeadRow.id, AuditHeadRow.hash)).first()
    return Head(found[0], found[1]) if found is not None else Head(0, chain.GENESIS)


def hash_at(session: Session, row_id: int) -> str | None:
    """The hash of one row; of row 0 that which row 1 follows. None where there is no such row."""
    return chain.GENESIS if row_id == 0 else session.scalar(select(AuditRow.hash).where(AuditRow.id == row_id))


def span(session: Session, since_s: float | None, until_s: float | None) -> tuple[int, int]:
    """The ids from the first row of the time to the last one, an unbroken piece of the chain; (1, 0) where there is none."""
    query = _matching(select(func.min(AuditRow.id), func.max(AuditRow.id)), Wanted(since_s=since_s, until_s=until_s))
    first, last = session.execute(query).one()
    return (first, last) if first is not None else (1, 0)


def texts(database: Database, first_id: int, last_id: int) -> Iterator[tuple[str, str]]:
    """(canonical text, hash as stored) of the rows, rising. Each piece in a transaction of its own: rows never change."""
    with database.read() as session:
        previous = hash_at(session, first_id - 1) or ""
    at = first_id - 1
    while at < last_id:
        with database.read() as session:
            found = entries(session, after_id=at, limit=min(BATCH, last_id - at))
        if not found:
            return
        for one in found:
            if one.id > last_id:
                return
            text = chain.text_of(
                id=one.id, at_s=one.at_s, who=one.who, what=one.what, target=one.target, before=one.before, after=one.after,
                origin=one.origin, previous=previous,
            )  # fmt: skip
            yield text, one.hash
            at, previous = one.id, one.hash


def checked(database: Database) -> chain.Check:
    """Every row recomputed, and compared with the head: what the server itself can say of its log."""
    with database.read() as session:
        kept = head(session)
        last = session.scalar(select(func.max(AuditRow.id))) or 0
    found = chain.Check()
    for text, said in texts(database, 1, last):
        found.take(json.loads(text), said)
    found.end(kept.id, kept.hash)
    return found


def _matching(query: Any, wanted: Wanted) -> Any:
    if wanted.who:
        query = query.where(AuditRow.who == wanted.who)
    if wanted.target:
        below = AuditRow.target.startswith(f"{wanted.target}/", autoescape=True)
        query = query.where(or_(AuditRow.target == wanted.target, below))
    if wanted.what:
        query = query.where(or_(AuditRow.what == wanted.what, AuditRow.what.startswith(f"{wanted.what}.", autoescape=True)))
    if wanted.since_s is not None:
        query = query.where(AuditRow.at_s >= wanted.since_s)
    if wanted.until_s is not None:
        query = query.where(AuditRow.at_s < wanted.until_s)
    return query


def _chain(session: Session) -> None:
    """Write what waits, each row behind the one before, under the lock of the head."""
    waiting: list[dict[str, Any]] = session.info.pop("audit", [])
    number, previous = _lock_head(session)
    rows = []
    for one in waiting:
        number += 1
        previous = chain.hash_of(chain.text_of(id=number, previous=previous, **one))
        rows.append({"id": number, "hash": previous, **one})
    try:
        session.execute(insert(AuditRow), rows)
    except IntegrityError:
        raise OperatorError(
            f"row {rows[0]['id']} of the audit is there already: somebody set its head back", "run: rookery audit verify"
        ) from None
    session.execute(update(AuditHeadRow).where(AuditHeadRow.one == 1).values(id=number, hash=previous))


def _lock_head(session: Session) -> tuple[int, str]:
    query = select(AuditHeadRow.id, AuditHeadRow.hash).where(AuditHeadRow.one == 1).with_for_update()
    found = session.execute(query).first()
    if found is None:
        if session.execute(select(AuditRow.id).limit(1)).first() is not None:
            raise OperatorError("the head of the audit is gone: somebody deleted it", "run: rookery audit verify")
        insert_new(session, AuditHeadRow, [{"one": 1, "id": 0, "hash": chain.GENESIS}], keys=["one"])
        found = session.execute(query).one()
    return found[0], found[1]
