"""Nonces of signed requests, who asked too often, bytes that were uploaded in a day."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forward."""
    op.create_table(
        "request_nonce",
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("until_s", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("serial", "nonce", name="pk_request_nonce"),
    )
    op.create_index("ix_request_nonce_until_s", "request_nonce", ["until_s"])
    op.create_table(
        "door_limited",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("what", sa.String(), nullable=False),
        sa.Column("first_s", sa.Float(53), nullable=False),
        sa.Column("last_s", sa.Float(53), nullable=False),
        sa.Column("times", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "what", name="pk_door_limited"),
    )
    op.create_index("ix_door_limited_last_s", "door_limited", ["last_s"])
    op.create_table(
        "upload_day",
        sa.Column("device_id", sa.String(), nullable=False),
        sa.Column("day", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("length_bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("device_id", "day", name="pk_upload_day"),
    )


def downgrade() -> None:
    """Back."""
    op.drop_table("upload_day")
    op.drop_index("ix_door_limited_last_s", "door_limited")
    op.drop_table("door_limited")
    op.drop_index("ix_request_nonce_until_s", "request_nonce")
    op.drop_table("request_nonce")
