"""Bring the database's tables to this version of the server."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from fleet_server.database import Database
from fleet_server.errors import SchemaError


def configuration(database: Database) -> Config:
    """Alembic over our revisions, with the database handed in by value: its URL stands in no file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database) -> str:
    """Run what is missing; answers the revision that the database has now. SchemaError when it cannot be done."""
    try:
        command.upgrade(configuration(database), "head")
        return revision(database)
    except SQLAlchemyError as error:
        raise SchemaError(f"the database cannot be migrated: {str(error).splitlines()[0]}") from None


def revision(database: Database) -> str:
    """The database's revision; empty when it has none."""
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() or ""


def newest() -> str:
    """The revision that this version of the server needs."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return ScriptDirectory.from_config(config).get_current_head() or ""
