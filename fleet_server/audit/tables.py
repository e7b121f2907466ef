"""The tables of the audit: rows that are only added, the head of their chain, and who looked at what lately."""

from typing import Any

from sqlalchemy import DDL, event
from sqlalchemy.orm import Mapped, mapped_column

from fleet_server.audit import append_only
from fleet_server.database import Base, Json


class AuditRow(Base):
    """One deed. Rows are only added: triggers refuse anything else. ``id`` counts without a gap, in the order of commits."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at_s: Mapped[float] = mapped_column(index=True)
    who: Mapped[str] = mapped_column(index=True)
    what: Mapped[str] = mapped_column(index=True)
    target: Mapped[str] = mapped_column(index=True)
    before: Mapped[dict[str, Any] | None] = mapped_column(Json)
    after: Mapped[dict[str, Any] | None] = mapped_column(Json)
    origin: Mapped[str]
    hash: Mapped[str]
    """sha256 of the row's canonical text, which holds the hash of the row before (``chain``)."""


class AuditHeadRow(Base):
    """One row: the last row's id and hash. Its lock is the last that a transaction takes, so that writers queue here."""

    __tablename__ = "audit_head"

    one: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    id: Mapped[int]
    hash: Mapped[str]


class AuditLookRow(Base):
    """When a person's look at a picture was last written down: one row of the audit for ten minutes. Old ones are forgotten."""

    __tablename__ = "audit_look"

    who: Mapped[str] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(primary_key=True)
    target: Mapped[str] = mapped_column(primary_key=True)
    at_s: Mapped[float] = mapped_column(index=True)


for _dialect, _table, _statements in (
    ("sqlite", AuditRow, append_only.SQLITE_AUDIT), ("postgresql", AuditRow, append_only.POSTGRESQL_AUDIT),
    ("sqlite", AuditHeadRow, append_only.SQLITE_HEAD), ("postgresql", AuditHeadRow, append_only.POSTGRESQL_HEAD),
):  # fmt: skip
    for _statement in _statements:
        made = DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]  # theirs
        event.listen(_table.__table__, "after_create", made)
