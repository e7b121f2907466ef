"""The chain in a real database: many writers, roll-backs, triggers, the owner who drops them, rows from before the chain."""

import json
import threading
from collections.abc import Callable

import pytest
import sqlalchemy
from alembic import command
from sqlalchemy import text

from fleet_server.audit import looks, service
from fleet_server.database import Database, note_change
from fleet_server.errors import OperatorError
from fleet_server.migrate import configuration, migrate

WRITERS = 50


def deed(database: Database, number: int = 0) -> None:
    with database.write() as session:
        service.record(session, who="ada", what="probe.do", target=f"t{number}", now_s=1000.0 + number, after={"n": number})


def faults(database: Database) -> list[tuple[int, str]]:
    return [(one.id, one.problem) for one in service.checked(database).findings]


def as_owner(database: Database, *statements: str) -> None:
    with database.engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def without_triggers(database: Database) -> None:
    """What only the owner of the database can do."""
    if database.is_sqlite:
        as_owner(database, *(f"DROP TRIGGER audit_{one}" for one in ("update", "delete", "head_update", "head_delete")))
    else:
        as_owner(database, "ALTER TABLE audit DISABLE TRIGGER USER", "ALTER TABLE audit_head DISABLE TRIGGER USER")


def in_threads(count: int, what: Callable[[int], None]) -> None:
    """All at once; the first failure of any is raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(count)

    def one(number: int) -> None:
        try:
            start.wait(60)
            what(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(240)
    assert not any(each.is_alive() for each in threads), "writers wait for each other"
    if failures:
        raise failures[0]


def test_fifty_writers_make_one_chain_without_gap_or_fork(database: Database) -> None:
    """Fifty people act at the same moment, each on rows of their own and on one that all want; every fifth deed fails."""

    # SQLite lets waiting writers in by chance, for ten seconds: fifty at once, but once each.
    turns = 1 if database.is_sqlite else 4

    def act(number: int) -> None:
        for turn in range(turns):
            try:
                with database.write() as session:
                    service.record(session, who=f"p{number}", what="probe.do", target=f"t{turn}", now_s=float(turn))
                    service.looked(session, who="all", what="crop.look", target="the same", now_s=0.0)
                    note_change(session, f"topic{number % 3}")
                    if (number + turn) % 5 == 0:
                        raise InterruptedError
            except InterruptedError:
                continue

    in_threads(WRITERS, act)
    kept = sum((number + turn) % 5 != 0 for number in range(WRITERS) for turn in range(turns))
    assert faults(database) == []
    with database.read() as session:
        found = service.entries(session, after_id=0, limit=1000)
        assert service.head(session) == service.Head(found[-1].id, found[-1].hash)
    assert [one.id for one in found] == list(range(1, kept + 2)), "no gap, also where deeds failed; one look of all"
    assert [one.what for one in found].count("crop.look") == 1


def test_several_rows_of_one_deed_follow_each_other(database: Database) -> None:
    with database.write() as session:
        for number in range(3):
            service.record(session, who="ada", what="probe.do", target=f"t{number}", now_s=1.0)
    deed(database)
    assert service.checked(database).count == 4
    assert faults(database) == []


def test_rows_are_neither_changed_nor_deleted_nor_the_head_set_back(database: Database) -> None:
    """A hole in our own code, or somebody at the database's prompt by mistake: refused by the database itself."""
    for number in range(3):
        deed(database, number)
    statements = [
        "UPDATE audit SET who = 'eve' WHERE id = 2", "DELETE FROM audit WHERE id = 3", "DELETE FROM audit",
        "UPDATE audit_head SET id = 1", "UPDATE audit_head SET hash = 'x'", "DELETE FROM audit_head",
    ]  # fmt: skip
    if not database.is_sqlite:
        statements += ["TRUNCATE audit", "TRUNCATE audit_head"]
    for statement in statements:
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="never"):
            as_owner(database, statement)
    assert service.checked(database).count == 3
    assert faults(database) == []


@pytest.mark.parametrize(
    ("done", "found"),
    [
        ("UPDATE audit SET who = 'eve' WHERE id = 3", [3]),
        ("UPDATE audit SET at_s = at_s - 1 WHERE id = 3", [3]),
        ("UPDATE audit SET after = '{\"n\": 7}' WHERE id = 3", [3]),
        ("DELETE FROM audit WHERE id = 2 OR id = 3", [2]),
        ("DELETE FROM audit WHERE id > 4", [6]),
        ("DELETE FROM audit WHERE id < 3", [3]),
    ],
)
def test_what_the_owner_did_without_triggers_is_found(database: Database, done: str, found: list[int]) -> None:
    """The owner drops the triggers and changes a row, takes rows from the middle, or cuts off the end."""
    for number in range(6):
        deed(database, number)
    without_triggers(database)
    as_owner(database, done)
    assert {number for number, _ in faults(database)} >= set(found)
    deed(database, 9)
    assert faults(database), "going on as before hides nothing"


def test_a_head_that_was_set_back_or_deleted_stops_the_next_deed(database: Database) -> None:
    """Who sets the head back to hide the end makes the next deed fail, with words for whoever runs the server."""
    for number in range(3):
        deed(database, number)
    without_triggers(database)
    as_owner(database, "UPDATE audit_head SET id = 1")
    with pytest.raises(OperatorError, match="row 2 of the audit is there already"):
        deed(database)
    assert faults(database)
    as_owner(database, "DELETE FROM audit_head")
    with pytest.raises(OperatorError, match="the head of the audit is gone"):
        deed(database)


def test_a_look_is_written_once_in_ten_minutes(database: Database) -> None:
    """One person opens a picture again and again; another one, another picture, and the same one later are rows of their own."""

    def look(who: str, target: str, now_s: float) -> bool:
        with database.write() as session:
            return service.looked(session, who=who, what="crop.look", target=target, now_s=now_s, origin="10.0.0.7")

    assert [look("ada", "p1", 1000.0), look("ada", "p1", 1599.0), look("ada", "p1", 1600.0)] == [True, False, True]
    assert [look("bob", "p1", 1600.0), look("ada", "p2", 1600.0)] == [True, True]
    assert not look("ada", "p1", 2199.0)
    assert look("ada", "p1", 5.0), "a clock that was set back hides nothing"
    with database.write() as session:
        assert service.forget_looks(session, 2300.0) == 3
    with database.read() as session:
        assert {one.origin for one in service.entries(session)} == {"10.0.0.7"}


def test_many_looks_at_once_share_a_transaction_and_none_returns_before_it_is_written(database: Database) -> None:
    """A page of 48 pictures, asked for by many threads at once, while another writer holds the database."""
    noted = looks.Looks(database)
    transactions: list[int] = []
    sqlalchemy.event.listen(database.engine, "commit", lambda _connection: transactions.append(1))
    missing: list[int] = []

    def look(number: int) -> None:
        noted.note(looks.Look("ada", "crop.look", f"p{number}", 1000.0, "10.0.0.7"))
        with database.read() as session:
            if not service.entries(session, target=f"p{number}"):
                missing.append(number)

    in_threads(48, look)
    assert missing == []
    with database.read() as session:
        assert len(service.entries(session)) == 48
    before = len(transactions)
    in_threads(48, look)
    assert len(transactions) == before, "what is known to be written asks nobody"
    assert faults(database) == []


def test_a_look_that_cannot_be_written_is_refused_for_all_who_wait(database: Database) -> None:
    noted = looks.Looks(database)
    deed(database)
    without_triggers(database)
    as_owner(database, "DELETE FROM audit_head")
    refused: list[int] = []

    def look(number: int) -> None:
        try:
            noted.note(looks.Look("ada", "crop.look", f"p{number}", 1000.0, ""))
        except OperatorError:
            refused.append(number)

    in_threads(8, look)
    assert sorted(refused) == list(range(8))


def test_rows_from_before_the_chain_are_chained(database_url: str) -> None:
    """A server of before is updated: its rows (with holes in their numbers, where deeds had failed) are all there, in order, and
    chained; new ones go on behind them. And back, and forward again."""
    database = Database(database_url)
    try:
        command.upgrade(configuration(database), "0004")
        with database.engine.begin() as connection:
            for number, after in ((3, '{"a": 1.0, "b": 1.5e-07}'), (4, None), (9, '{"ü": [1e22, "x"]}')):
                connection.execute(text(
                    "INSERT INTO audit (id, at_s, who, what, target, before, after, origin) "
                    "VALUES (:id, :at, 'ada', 'probe.do', 't', NULL, :after, '')"
                ), {"id": number, "at": number + 0.5, "after": after})
        for _ in range(2):
            migrate(database)
            with database.read() as session:
                first = service.entries(session, after_id=0, limit=3)
                assert [(one.id, one.at_s) for one in first] == [(1, 3.5), (2, 4.5), (3, 9.5)]
            assert faults(database) == []
            deed(database)
            assert faults(database) == []
            with pytest.raises(sqlalchemy.exc.DBAPIError, match="never"):
                as_owner(database, "DELETE FROM audit WHERE id = 1")
            command.downgrade(configuration(database), "0004")
            as_owner(database, "INSERT INTO audit (at_s, who, what, target, origin) VALUES (1, 'bob', 'x', 't', '')")
    finally:
        database.dispose()


def test_a_log_is_read_in_pieces(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of years is never in memory as a whole; the pieces meet without a seam."""
    monkeypatch.setattr(service, "BATCH", 3)
    for number in range(8):
        deed(sqlite_database, number)
    found = [json.loads(line) for line, _ in service.texts(sqlite_database, 3, 7)]
    assert [one["id"] for one in found] == [3, 4, 5, 6, 7]
    assert service.checked(sqlite_database).count == 8
    with sqlite_database.read() as session:
        assert service.span(session, 1002.0, 1005.0) == (3, 5)
        assert service.span(session, 5000.0, None) == (1, 0)
