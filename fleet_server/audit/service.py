"""Write down and read back who did what."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.audit.tables import AuditRow
from fleet_server.database import note_change


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One deed: ``who`` (operator name, ``device:<id>`` or ``server``) did ``what`` (``rollout.create``) to the target's id."""

    id: int
    at_s: float
    who: str
    what: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    origin: str
    """Address from which it was asked; empty when the server did it by itself."""


def record(
    session: Session,
    *,
    who: str,
    what: str,
    target: str,
    now_s: float,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    origin: str = "",
) -> None:
    """Add a row in the caller's transaction: the deed and its record are stored together or not at all. Never pass secrets."""
    session.add(AuditRow(at_s=now_s, who=who, what=what, target=target, before=before, after=after, origin=origin))
    note_change(session, "audit")


def entries(session: Session, *, target: str | None = None, before_id: int | None = None, limit: int = 100) -> list[AuditEntry]:
    """Newest first."""
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if target is not None:
        query = query.where(AuditRow.target == target)
    if before_id is not None:
        query = query.where(AuditRow.id < before_id)
    return [
        AuditEntry(row.id, row.at_s, row.who, row.what, row.target, row.before, row.after, row.origin)
        for row in session.scalars(query)
    ]
