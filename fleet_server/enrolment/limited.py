"""Who was told to come back later: kept for people, once a minute and subject at most."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from fleet_server.database import Database
from fleet_server.door_limits import Rarely
from fleet_server.enrolment.door_tables import LimitedRow

STRANGERS = "strangers"
"""The one subject of all who show no certificate: a flood from many addresses must not become many rows."""
WRITE_EVERY_S = 60.0
FRESH_S = 600.0
"""Who was limited within this time is said to be limited now."""
KEEP_S = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Limited:
    """``subject`` (a device's id, or STRANGERS) asked for too much: of ``what`` (requests, uploads), since when, how often."""

    subject: str
    what: str
    first_s: float
    last_s: float
    times: int
    detail: str


class Reports:
    """Counts in memory and writes now and then: of the requests of a flood only one a minute costs a commit."""

    def __init__(self) -> None:
        self._rarely = Rarely(WRITE_EVERY_S)

    def note(self, database: Database, subject: str, what: str, detail: str, now_s: float) -> None:
        """One more was refused."""
        times = self._rarely.count(f"{what} {subject}", now_s)
        if times:
            with database.write() as session:
                note(session, subject, what, detail, times, now_s)


def note(session: Session, subject: str, what: str, detail: str, times: int, now_s: float) -> None:
    """``times`` more refusals. One that comes long after the last begins anew."""
    row = session.get(LimitedRow, (subject, what), with_for_update=True)
    if row is None or now_s - row.last_s > FRESH_S:
        if row is not None:
            session.delete(row)
            session.flush()
        row = LimitedRow(subject=subject, what=what, first_s=now_s, last_s=now_s, times=0, detail="")
        session.add(row)
    row.last_s, row.times, row.detail = now_s, row.times + times, detail
    session.execute(delete(LimitedRow).where(LimitedRow.last_s < now_s - KEEP_S))


def now_limited(session: Session, now_s: float, subject: str | None = None) -> list[Limited]:
    """Who was limited within the last ten minutes, the latest first; of one subject only, where one is named."""
    query = select(LimitedRow).where(LimitedRow.last_s > now_s - FRESH_S).order_by(LimitedRow.last_s.desc())
    if subject is not None:
        query = query.where(LimitedRow.subject == subject)
    return [
        Limited(row.subject, row.what, row.first_s, row.last_s, row.times, row.detail) for row in session.scalars(query)
    ]
