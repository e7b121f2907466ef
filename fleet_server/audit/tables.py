"""The tables of the audit: rows that are only added, the head of their chain, and who looked at what lately."""

from typing import Any

from sqlalchemy import DDL, event
from sqlalchemy.orm import Mapped, mapped_column

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


# The triggers that refuse to change or delete audit rows, and to set the head back. They stop a mistake, a hole in our own code
# and whoever may only write rows; the owner of the database can drop them, and is found out by the chain.
SQLITE_AUDIT = (
    "CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never changed'); END",
    "CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never deleted'); END",
)
SQLITE_HEAD = (
    ("CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head WHEN new.id <= old.id OR new.one <> old.one "
    "BEGIN SELECT RAISE(ABORT, 'the head of the audit never goes back'); END"),
    ("CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head "
    "BEGIN SELECT RAISE(ABORT, 'the head of the audit is never deleted'); END"),
)
POSTGRESQL_AUDIT = (
    ("CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'rows of the audit are never changed or deleted'; END $$"),
    "CREATE TRIGGER audit_row BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
)
POSTGRESQL_HEAD = (
    ("CREATE FUNCTION audit_head_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the head of the audit never goes back'; END $$"),
    ("CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head FOR EACH ROW "
    "WHEN (new.id <= old.id OR new.one <> old.one) EXECUTE FUNCTION audit_head_refuse()"),
    "CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_refuse()",
    "CREATE TRIGGER audit_head_all BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_head_refuse()",
)

for _dialect, _table, _statements in (
    ("sqlite", AuditRow, SQLITE_AUDIT), ("postgresql", AuditRow, POSTGRESQL_AUDIT),
    ("sqlite", AuditHeadRow, SQLITE_HEAD), ("postgresql", AuditHeadRow, POSTGRESQL_HEAD),
):  # fmt: skip
    for _statement in _statements:
        made = DDL(_statement.replace("%", "%%")).execute_if(dialect=_dialect)  # type: ignore[no-untyped-call]  # theirs
        event.listen(_table.__table__, "after_create", made)
