"""Second factors, groups of accounts, scopes of tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SECONDS = sa.Float(precision=53)
SCOPES_OF_ROLES = {
    "viewer": ["viewer"],
    "operator": ["operator", "viewer"],
    "releaser": ["operator", "releaser", "viewer"],
    "security": ["security", "viewer"],
    "admin": ["admin", "operator", "releaser", "security", "viewer"],
}
"""At this revision, without the scope over one's own account."""


def upgrade() -> None:
    """Forward. Who has no password has been a machine until now; counts of failed sign-ins begin anew."""
    with op.batch_alter_table("operator", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(), server_default="person", nullable=False))
        batch_op.add_column(sa.Column("groups", JSON, nullable=True))
        batch_op.add_column(sa.Column("password_set_s", SECONDS, nullable=True))
        batch_op.add_column(sa.Column("signed_in_s", SECONDS, nullable=True))
    op.execute("UPDATE operator SET kind = 'machine' WHERE password_hash = ''")
    with op.batch_alter_table("operator_token", schema=None) as batch_op:
        batch_op.add_column(sa.Column("seen_s", SECONDS, nullable=True))
        batch_op.add_column(sa.Column("proven_s", SECONDS, nullable=True))
        batch_op.add_column(sa.Column("origin", sa.String(), server_default="", nullable=False))
        batch_op.add_column(sa.Column("by", sa.String(), server_default="password", nullable=False))
        batch_op.add_column(sa.Column("scopes", JSON, nullable=True))
        batch_op.add_column(sa.Column("groups", JSON, nullable=True))
    _scopes_of_tokens()
    _tables_of_accounts()
    _tables_of_the_provider()
    op.drop_table("sign_in_failure")
    _failures("bucket")
    with op.batch_alter_table("sign_in_failure", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sign_in_failure_last_s"), ["last_s"], unique=False)


def downgrade() -> None:
    """Back: an account keeps its password and loses its second factor, its groups, and the scopes of its tokens with them."""
    # What was limited must not be unlimited afterwards: such accounts and tokens end.
    op.execute("DELETE FROM operator_token")
    for table in ("provider_flow", "provider_subject", "recovery_code", "second_factor", "account_link", "sign_in_failure"):
        op.drop_table(table)
    _failures("name")
    op.execute("UPDATE operator SET disabled = true WHERE groups IS NOT NULL AND CAST(groups AS TEXT) <> 'null'")
    with op.batch_alter_table("operator_token", schema=None) as batch_op:
        for name in ("seen_s", "proven_s", "origin", "by", "scopes", "groups"):
            batch_op.drop_column(name)
    with op.batch_alter_table("operator", schema=None) as batch_op:
        for name in ("kind", "groups", "password_set_s", "signed_in_s"):
            batch_op.drop_column(name)


def _scopes_of_tokens() -> None:
    """A token of before may what its role may today: later it is widened by no promotion, and it makes no other token."""
    operator = sa.table("operator", sa.column("id"), sa.column("role"))
    token = sa.table("operator_token", sa.column("operator_id"), sa.column("kind"), sa.column("scopes", JSON))
    for role, scopes in SCOPES_OF_ROLES.items():
        of_role = sa.select(operator.c.id).where(operator.c.role == role)
        op.execute(sa.update(token).where(token.c.kind == "token", token.c.operator_id.in_(of_role)).values(scopes=scopes))


def _tables_of_accounts() -> None:
    op.create_table(
        "account_link",
        sa.Column("secret_hash", sa.String(), nullable=False),
        sa.Column("operator_id", BIG, nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("made_by", sa.String(), nullable=False),
        sa.Column("expires_s", SECONDS, nullable=False),
        sa.Column("used_s", SECONDS, nullable=True),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_account_link_operator_id_operator")),
        sa.PrimaryKeyConstraint("secret_hash", name=op.f("pk_account_link")),
    )
    op.create_index(op.f("ix_account_link_operator_id"), "account_link", ["operator_id"], unique=False)
    op.create_table(
        "second_factor",
        sa.Column("operator_id", BIG, nullable=False, autoincrement=False),
        sa.Column("sealed", sa.String(), nullable=False),
        sa.Column("made_s", SECONDS, nullable=False),
        sa.Column("confirmed_s", SECONDS, nullable=True),
        sa.Column("last_step", BIG, nullable=False),
        sa.Column("failures", BIG, nullable=False),
        sa.Column("locked_until_s", SECONDS, nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_second_factor_operator_id_operator")),
        sa.PrimaryKeyConstraint("operator_id", name=op.f("pk_second_factor")),
    )
    op.create_table(
        "recovery_code",
        sa.Column("operator_id", BIG, nullable=False),
        sa.Column("code_hash", sa.String(), nullable=False),
        sa.Column("used_s", SECONDS, nullable=True),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_recovery_code_operator_id_operator")),
        sa.PrimaryKeyConstraint("operator_id", "code_hash", name=op.f("pk_recovery_code")),
    )


def _tables_of_the_provider() -> None:
    op.create_table(
        "provider_subject",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("operator_id", BIG, nullable=False),
        sa.Column("linked_s", SECONDS, nullable=False),
        sa.Column("ruled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_provider_subject_operator_id_operator")),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_provider_subject")),
    )
    op.create_index(op.f("ix_provider_subject_operator_id"), "provider_subject", ["operator_id"], unique=False)
    op.create_table(
        "provider_flow",
        sa.Column("state_hash", sa.String(), nullable=False),
        sa.Column("browser_hash", sa.String(), nullable=False),
        sa.Column("nonce", sa.String(), nullable=False),
        sa.Column("verifier", sa.String(), nullable=False),
        sa.Column("following", sa.String(), nullable=False),
        sa.Column("operator_id", BIG, nullable=True),
        sa.Column("expires_s", SECONDS, nullable=False),
        sa.ForeignKeyConstraint(["operator_id"], ["operator.id"], name=op.f("fk_provider_flow_operator_id_operator")),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_provider_flow")),
    )
    op.create_index(op.f("ix_provider_flow_expires_s"), "provider_flow", ["expires_s"], unique=False)


def _failures(key: str) -> None:
    op.create_table(
        "sign_in_failure",
        sa.Column(key, sa.String(), nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.Column("last_s", SECONDS, nullable=False),
        sa.Column("locked_until_s", SECONDS, nullable=False),
        sa.PrimaryKeyConstraint(key, name=op.f("pk_sign_in_failure")),
    )
