"""How the parts of the server are, from the worker to the pages."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.alerts.tables import PartRow
from fleet_server.database import note_change, upsert


@dataclass(frozen=True, slots=True)
class Part:
    """One part: ``ok``, a note for people, and since when it is so."""

    part: str
    ok: bool
    note: str
    at_s: float


def note_part(session: Session, part: str, *, ok: bool, note: str, now_s: float) -> bool:
    """Keep it if it changed; answers whether it did."""
    if not is_news(session, part, ok, note):
        return False
    upsert(
        session, PartRow, [{"part": part, "ok": ok, "note": note, "at_s": now_s}], keys=["part"], update=["ok", "note", "at_s"]
    )
    note_change(session, "overview")
    return True


def parts(session: Session) -> dict[str, Part]:
    """Every part that was ever noted."""
    query = select(PartRow).execution_options(populate_existing=True)
    return {row.part: Part(row.part, row.ok, row.note, row.at_s) for row in session.scalars(query)}


def is_news(session: Session, part: str, ok: bool, note: str) -> bool:
    """Whether this differs from what is known: a reader's look before a writer's lock."""
    known = parts(session).get(part)
    return known is None or (known.ok, known.note) != (ok, note)
