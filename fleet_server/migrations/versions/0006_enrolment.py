"""Enrolment rules, boards without a claim, re-enrolment, replacement; a key belongs to one device."""

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None

SECONDS = sa.Float(precision=53)
COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Forward. Every key that was certified stays with the device that had it."""
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.add_column(sa.Column("purpose", sa.String(), server_default="enrol", nullable=False))
        batch_op.add_column(sa.Column("device_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("ended_s", SECONDS, nullable=True))
        batch_op.add_column(sa.Column("ended_by", sa.String(), nullable=True))
        batch_op.create_index(batch_op.f("ix_claim_device_id"), ["device_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_claim_created_s"), ["created_s"], unique=False)
    with op.batch_alter_table("enrolment", schema=None) as batch_op:
        batch_op.alter_column("claim_id", existing_type=sa.String(), nullable=True)
        batch_op.add_column(sa.Column("rule_id", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("last_asked_s", SECONDS, nullable=True))
        batch_op.add_column(sa.Column("serial", sa.String(), server_default="", nullable=False))
        batch_op.create_index(batch_op.f("ix_enrolment_rule_id"), ["rule_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_enrolment_serial"), ["serial"], unique=False)
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.add_column(sa.Column("replaces", sa.String(), nullable=True))
        batch_op.add_column(sa.Column("decommissioned_s", SECONDS, nullable=True))
        batch_op.create_index(batch_op.f("ix_device_replaces"), ["replaces"], unique=False)
    op.create_table(
        "enrolment_rule",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("profile", sa.String(), nullable=False),
        sa.Column("serial", sa.String(), nullable=False),
        sa.Column("group", sa.String(), nullable=False),
        sa.Column("most_per_day", COUNT, nullable=False),
        sa.Column("until_s", SECONDS, nullable=False),
        sa.Column("created_s", SECONDS, nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_rule")),
    )
    op.create_table(
        "enrolment_queue",
        sa.Column("id", COUNT, nullable=False),
        sa.Column("turned_away", COUNT, nullable=False),
        sa.Column("turned_away_s", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_enrolment_queue")),
    )
    op.create_table(
        "device_key",
        sa.Column("key_sha256", sa.String(), nullable=False),
        sa.Column("device_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key_sha256", name=op.f("pk_device_key")),
    )
    with op.batch_alter_table("device_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_device_key_device_id"), ["device_id"], unique=False)
    op.execute(
        "INSERT INTO device_key (key_sha256, device_id) "
        "SELECT key_sha256, MIN(device_id) FROM device_certificate GROUP BY key_sha256"
    )


def downgrade() -> None:
    """Back. Boards that wait without a claim ask again; claims that readmit or replace are void, rules are forgotten."""
    op.drop_table("device_key")
    op.drop_table("enrolment_queue")
    op.drop_table("enrolment_rule")
    op.execute("DELETE FROM enrolment WHERE claim_id IS NULL")
    op.execute("DELETE FROM claim WHERE purpose <> 'enrol' OR ended_s IS NOT NULL")
    op.drop_index(op.f("ix_device_replaces"), table_name="device")
    for name in ("decommissioned_s", "replaces"):
        op.drop_column("device", name)  # in place: a copy of the table would tear the states of the devices from it
    with op.batch_alter_table("enrolment", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_enrolment_serial"))
        batch_op.drop_index(batch_op.f("ix_enrolment_rule_id"))
        for name in ("serial", "last_asked_s", "rule_id"):
            batch_op.drop_column(name)
        batch_op.alter_column("claim_id", existing_type=sa.String(), nullable=False)
    with op.batch_alter_table("claim", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_claim_created_s"))
        batch_op.drop_index(batch_op.f("ix_claim_device_id"))
        for name in ("ended_by", "ended_s", "device_id", "purpose"):
            batch_op.drop_column(name)
