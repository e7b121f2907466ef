"""The chain over the audit: a hash per row, the head, triggers that refuse to rewrite, and who looked lately.

Rows that are there already are numbered without gaps, in their order, and chained. What this file says is frozen: it has its own
copy of the first version of the chain.
"""

import hashlib
import json
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
AUDIT = sa.table(
    "audit", sa.column("id", BIG), sa.column("at_s", sa.Float(53)), sa.column("who", sa.String()), sa.column("what", sa.String()),
    sa.column("target", sa.String()), sa.column("before", JSON), sa.column("after", JSON), sa.column("origin", sa.String()),
    sa.column("hash", sa.String()),
)  # fmt: skip

SQLITE = (
    "CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never changed'); END",
    "CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'rows of the audit are never deleted'); END",
    ("CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head WHEN new.id <= old.id OR new.one <> old.one "
    "BEGIN SELECT RAISE(ABORT, 'the head of the audit never goes back'); END"),
    ("CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head "
    "BEGIN SELECT RAISE(ABORT, 'the head of the audit is never deleted'); END"),
)
POSTGRESQL = (
    "ALTER TABLE audit ALTER COLUMN id DROP DEFAULT",
    "DROP SEQUENCE IF EXISTS audit_id_seq",
    ("CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'rows of the audit are never changed or deleted'; END $$"),
    "CREATE TRIGGER audit_row BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()",
    ("CREATE FUNCTION audit_head_refuse() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the head of the audit never goes back'; END $$"),
    ("CREATE TRIGGER audit_head_update BEFORE UPDATE ON audit_head FOR EACH ROW "
    "WHEN (new.id <= old.id OR new.one <> old.one) EXECUTE FUNCTION audit_head_refuse()"),
    "CREATE TRIGGER audit_head_delete BEFORE DELETE ON audit_head FOR EACH ROW EXECUTE FUNCTION audit_head_refuse()",
    "CREATE TRIGGER audit_head_all BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_head_refuse()",
)
SQLITE_BACK = ("DROP TRIGGER audit_update", "DROP TRIGGER audit_delete")
POSTGRESQL_BACK = (
    "DROP TRIGGER audit_row ON audit", "DROP TRIGGER audit_all ON audit", "DROP FUNCTION audit_refuse()",
    "CREATE SEQUENCE audit_id_seq OWNED BY audit.id",
    "SELECT setval('audit_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM audit), false)",
    "ALTER TABLE audit ALTER COLUMN id SET DEFAULT nextval('audit_id_seq')",
)  # fmt: skip


def upgrade() -> None:
    """Forward."""
    op.add_column("audit", sa.Column("hash", sa.String(), server_default="", nullable=False))
    op.create_index(op.f("ix_audit_what"), "audit", ["what"], unique=False)
    op.create_table(
        "audit_head",
        sa.Column("one", BIG, autoincrement=False, nullable=False),
        sa.Column("id", BIG, nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_look",
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("at_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("who", "what", "target", name=op.f("pk_audit_look")),
    )
    op.create_index(op.f("ix_audit_look_at_s"), "audit_look", ["at_s"], unique=False)
    number, previous = _chain()
    head = sa.table("audit_head", sa.column("one", BIG), sa.column("id", BIG), sa.column("hash", sa.String()))
    op.bulk_insert(head, [{"one": 1, "id": number, "hash": previous}])
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Back."""
    for statement in SQLITE_BACK if op.get_bind().dialect.name == "sqlite" else POSTGRESQL_BACK:
        op.execute(statement)
    op.drop_table("audit_look")
    op.drop_table("audit_head")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_head_refuse()")
    op.drop_index(op.f("ix_audit_what"), table_name="audit")
    op.drop_column("audit", "hash")


def _chain() -> tuple[int, str]:
    """Number and hash what is there; answers the last number and hash. Ids only shrink, so none meets another."""
    bind = op.get_bind()
    number, previous, seen = 0, "0" * 64, -(2**62)
    while True:
        rows = bind.execute(sa.select(AUDIT).where(AUDIT.c.id > seen).order_by(AUDIT.c.id).limit(1000)).all()
        if not rows:
            return number, previous
        changed = []
        for row in rows:
            number += 1
            text = json.dumps({
                "v": 1, "id": number, "at_s": _plain(row.at_s), "who": row.who, "what": row.what, "target": row.target,
                "before": _plain(row.before), "after": _plain(row.after), "origin": row.origin, "previous": previous,
            }, sort_keys=True, separators=(",", ":"))  # fmt: skip
            previous, seen = hashlib.sha256(text.encode("ascii")).hexdigest(), row.id
            changed.append({"old": row.id, "new": number, "said": previous})
        bind.execute(
            sa.update(AUDIT).where(AUDIT.c.id == sa.bindparam("old")).values(
                id=sa.bindparam("new"), hash=sa.bindparam("said")
            ), changed,
        )  # fmt: skip


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return str(value) if value != value or value in (float("inf"), float("-inf")) else (
            int(value) if value.is_integer() else value
        )  # fmt: skip
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
