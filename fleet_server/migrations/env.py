"""Alembic's entry: all tables of the server, on the engine that the caller gives."""

from typing import Any, Literal

from alembic import context
from sqlalchemy import JSON

from fleet_server.app import load_tables
from fleet_server.database import Base


def render_item(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """How autogenerate writes our JSON column: Alembic's own text lacks an import."""
    if kind == "type" and isinstance(item, JSON):
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


load_tables()
engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
        compare_type=True,
        transactional_ddl=True,  # true of both: our SQLite connections begin by themselves, so half a migration is rolled back
        render_item=render_item,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
