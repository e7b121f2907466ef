"""The migrations make exactly the tables that the code means, on both kinds of database."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from fleet_server.accounts import sessions
from fleet_server.accounts.sealing import plain_hash
from fleet_server.app import load_tables
from fleet_server.database import Base, Database
from fleet_server.identities import SCOPES
from fleet_server.migrate import configuration, migrate, newest, revision


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


def test_what_devices_should_run_outlives_the_step_to_agent_releases(database_url: str) -> None:
    """A server of before is updated: its targets, releases and rollouts are of models, and none is lost. And back."""
    database = Database(database_url)
    try:
        command.upgrade(configuration(database), "0001")
        with database.engine.begin() as connection:
            connection.execute(text(
                "INSERT INTO target (device_id, release, role, arm, source, set_s, woken) "
                "VALUES ('yard-1', 'yard@2', 'run', NULL, 'rollout:r-1', 5.0, :woken)"
            ), {"woken": True})
        command.upgrade(configuration(database), "0002")
        with database.engine.begin() as connection:
            rows = connection.execute(text("SELECT device_id, kind, release, woken FROM target")).all()
            assert [(*row[:3], bool(row[3])) for row in rows] == [("yard-1", "model", "yard@2", True)]
            connection.execute(text(
                "INSERT INTO target (device_id, kind, release, role, arm, source, set_s, woken) "
                "VALUES ('yard-1', 'agent', 'rookery-agent@2', 'run', NULL, 'rollout:r-2', 6.0, :woken)"
            ), {"woken": False})
        command.downgrade(configuration(database), "0001")
        with database.engine.begin() as connection:
            assert connection.execute(text("SELECT device_id, release FROM target")).all() == [("yard-1", "yard@2")]
    finally:
        database.dispose()


@pytest.mark.parametrize(("role", "scopes"), [
    ("viewer", ["viewer"]), ("operator", ["operator", "viewer"]), ("releaser", ["operator", "releaser", "viewer"]),
    ("security", ["security", "viewer"]), ("admin", ["admin", "operator", "releaser", "security", "viewer"]),
])  # fmt: skip
def test_a_token_of_before_has_the_scopes_of_its_role_and_makes_no_other(
    tmp_path: Path, role: str, scopes: list[str]
) -> None:
    """Tokens of a server of before knew no scopes: each gets those of its role, so that no promotion widens it."""
    _scopes_after_0004(f"sqlite:///{tmp_path / 't.sqlite3'}", role, scopes)


def test_on_postgresql_a_token_of_before_has_its_scopes_too(postgres_database_url: str) -> None:
    """The same where JSON is another type."""
    _scopes_after_0004(postgres_database_url, "releaser", ["operator", "releaser", "viewer"])


def _scopes_after_0004(url: str, role: str, scopes: list[str]) -> None:
    load_tables()
    database = Database(url)
    try:
        command.upgrade(configuration(database), "0003")
        with database.engine.begin() as connection:
            connection.execute(text(
                "INSERT INTO operator (id, name, role, password_hash, created_s, disabled) "
                "VALUES (7, 'ci', :role, '', 5.0, :no)"
            ), {"role": role, "no": False})
            for kind in ("token", "session"):
                connection.execute(text(
                    "INSERT INTO operator_token (id, secret_hash, operator_id, kind, name, created_s, expires_s) "
                    "VALUES (:kind, :hash, 7, :kind, 'x', 5.0, 2000000000.0)"
                ), {"kind": kind, "hash": plain_hash(kind)})
        command.upgrade(configuration(database), "0004")
        command.upgrade(configuration(database), "head")
        with database.read() as session:
            found = {kind: sessions.find(session, secret=kind, kind=kind, now_s=6.0) for kind in ("token", "session")}
        assert found["token"] is not None
        assert sorted(found["token"].operator.scopes) == scopes
        assert found["session"] is not None
        assert found["session"].operator.scopes == SCOPES[role]
    finally:
        database.dispose()
