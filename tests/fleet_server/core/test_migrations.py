"""The migrations make exactly the tables that the code means, on both kinds of database."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from fleet_server.app import load_tables
from fleet_server.database import Base, Database
from fleet_server.migrate import migrate, newest, revision


def test_migrated_tables_are_those_of_the_code(database_url: str) -> None:
    """A developer adds a column and forgets the migration: this test names it."""
    load_tables()
    database = Database(database_url)
    try:
        assert revision(database) == ""
        assert migrate(database) == newest()
        with database.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, Base.metadata) == []
    finally:
        database.dispose()


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    """A server that restarts runs the migrations again."""
    database = Database(database_url)
    try:
        assert migrate(database) == migrate(database)
    finally:
        database.dispose()
