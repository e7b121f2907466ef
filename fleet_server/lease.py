"""Leases: one row per job decides which process does it. The fence number tells an owner that slept from the one after it."""

from sqlalchemy.orm import Mapped, Session, mapped_column

from fleet_server.database import Base, insert_new


class LeaseRow(Base):
    """Who does a job, until when, under which number."""

    __tablename__ = "lease"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    until_s: Mapped[float]
    fence: Mapped[int]


def acquire(session: Session, name: str, owner: str, *, now_s: float, ttl_s: float) -> int | None:
    """Take or keep the lease for ``ttl_s``; its fence number, or None while somebody else holds it.

    The number rises with every change of owner and never for the same owner without a gap.
    """
    insert_new(session, LeaseRow, [{"name": name, "owner": "", "until_s": 0.0, "fence": 0}], keys=["name"])
    row = session.get(LeaseRow, name, with_for_update=True, populate_existing=True)
    assert row is not None
    if row.owner != owner and row.until_s > now_s:
        return None
    if row.owner != owner or row.until_s <= now_s:
        row.fence += 1
    row.owner, row.until_s = owner, now_s + ttl_s
    return row.fence


def let_go(session: Session, name: str, owner: str) -> None:
    """Give the lease back before its time, so that the next process need not wait."""
    row = session.get(LeaseRow, name, with_for_update=True)
    if row is not None and row.owner == owner:
        row.until_s = 0.0
