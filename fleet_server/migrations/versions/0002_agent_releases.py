"""Releases of agents beside those of models: their kind, and a target of each kind for a device."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
COLUMNS = "device_id, release, role, arm, source, set_s, woken"


def upgrade() -> None:
    """Forward. All that there is is of models."""
    for table in ("release", "rollout"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column("kind", sa.String(), server_default="model", nullable=False))
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.add_column(sa.Column("wanted_agent", sa.String(), nullable=True))
    with op.batch_alter_table("device_state", schema=None) as batch_op:
        batch_op.add_column(sa.Column("agent_deployment", JSON, nullable=True))
    _new_target_table("kind, ", "'model', ", sa.Column("kind", sa.String(), nullable=False))


def downgrade() -> None:
    """Back. What was wanted of agents is forgotten."""
    op.execute("DELETE FROM target WHERE kind <> 'model'")
    _new_target_table("", "", None)
    with op.batch_alter_table("device_state", schema=None) as batch_op:
        batch_op.drop_column("agent_deployment")
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.drop_column("wanted_agent")
    for table in ("rollout", "release"):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column("kind")


def _new_target_table(into: str, values: str, kind: sa.Column[str] | None) -> None:
    """The primary key changes, which neither database does in place: the rows wait beside while the table is made anew."""
    op.execute(f"CREATE TABLE target_waiting AS SELECT {COLUMNS} FROM target")
    with op.batch_alter_table("target", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_target_woken"))
    op.drop_table("target")
    keys = ["device_id"] if kind is None else ["device_id", "kind"]
    op.create_table(
        "target",
        sa.Column("device_id", sa.String(), nullable=False),
        *([] if kind is None else [kind]),
        sa.Column("release", sa.String(), nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("arm", sa.String(), nullable=True),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("set_s", sa.Float(precision=53), nullable=False),
        sa.Column("woken", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint(*keys, name=op.f("pk_target")),
    )
    with op.batch_alter_table("target", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_target_woken"), ["woken"], unique=False)
    op.execute(f"INSERT INTO target ({into}{COLUMNS}) SELECT {values}{COLUMNS} FROM target_waiting")
    op.drop_table("target_waiting")
