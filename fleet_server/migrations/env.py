"""Alembic's entry: all tables of the server, on the engine that the caller gives."""

from alembic import context

from fleet_server.app import load_tables
from fleet_server.database import Base

load_tables()
engine = context.config.attributes["engine"]
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
