"""What devices have seen of the signed metadata, and releases that are not offered any more."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Forward."""
    with op.batch_alter_table("release", schema=None) as batch_op:
        batch_op.add_column(sa.Column("advisory", sa.String(), server_default="", nullable=False))
    op.create_table(
        "metadata_seen",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("versions", JSON, nullable=False),
        sa.Column("ahead", sa.Boolean(), nullable=False),
        sa.Column("at_s", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_metadata_seen")),
    )
    with op.batch_alter_table("metadata_seen", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_metadata_seen_ahead"), ["ahead"], unique=False)


def downgrade() -> None:
    """Back."""
    op.drop_table("metadata_seen")
    with op.batch_alter_table("release", schema=None) as batch_op:
        batch_op.drop_column("advisory")
