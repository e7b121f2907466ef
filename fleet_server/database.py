"""The database: SQLite in one file or PostgreSQL, the same code over both.

``Database.write()`` and ``.read()`` are the only ways to a session. SQLite: WAL, BEGIN IMMEDIATE for writers (a deferred
BEGIN that is upgraded after a read fails at once, whatever the timeout says), busy timeout, synchronous FULL.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    CursorResult,
    Engine,
    Float,
    Integer,
    MetaData,
    Table,
    create_engine,
    event,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import ConnectionPoolEntry

from fleet_server.errors import SettingsError

BUSY_TIMEOUT_MS = 10_000
"""How long an SQLite writer waits for the one before it (measured: 5 s saw no error with four busy writers)."""

_COUNTED = {"preserve_rowcount": True}
"""Without it SQLAlchemy asks no cursor how many rows an INSERT wrote: PostgreSQL's then answers -1."""
BigInt = BigInteger().with_variant(Integer, "sqlite")
"""64 bits on both; SQLite's rowid alias must be called INTEGER."""
Json = JSON().with_variant(postgresql.JSONB(), "postgresql")


class Base(DeclarativeBase):
    """The tables of all folders; constraint names follow one rule, so that a migration can find them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {int: BigInt, float: Float(53), dict[str, Any]: Json, list[Any]: Json}


class ChangedTopic(Base):
    """The latest change of one topic ("devices", "rollouts", …): what GET /live looks at."""

    __tablename__ = "changed_topic"

    topic: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(index=True)


class ChangeCounter(Base):
    """One row. Its lock orders the commits of all who noted a change, so that no reader can miss one."""

    __tablename__ = "change_counter"

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]


class Database:
    """One database by its URL (``sqlite:////path/file.sqlite3`` or ``postgresql://…``).

    Connections are opened when they are first needed. Raises SettingsError for a URL that is neither.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
        except Exception as error:  # noqa: BLE001  SQLAlchemy raises several kinds here, all of them mean the same
            raise SettingsError(f"the database URL cannot be read: {type(error).__name__}") from None
        backend = parsed.get_backend_name()
        self.is_sqlite = backend == "sqlite"
        if self.is_sqlite:
            if not parsed.database or parsed.database == ":memory:":
                raise SettingsError("an SQLite database needs a file: two connections share nothing else")
            self._writer = _sqlite_engine(url, "BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(url, "BEGIN")
        elif backend == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
            # What stands in a statement's parameters does not belong into a log with its error.
            engine = create_engine(parsed, pool_size=20, max_overflow=60, pool_pre_ping=True, hide_parameters=True)
            self._writer = self._reader = engine
        else:
            raise SettingsError(f"database {backend!r} is not one of sqlite, postgresql")

    @property
    def engine(self) -> Engine:
        """The writing engine, for migrations."""
        return self._writer

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction: committed at the end of the block, rolled back if it raises."""
        with Session(self._writer, expire_on_commit=False) as session:
            yield session
            _store_changes(session)
            _take_last_steps(session)
            session.commit()

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent look; whatever is changed in it is thrown away."""
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    def create_all(self) -> None:
        """All tables that were imported, without migrations: for tests."""
        Base.metadata.create_all(self._writer)

    def dispose(self) -> None:
        """Close every connection."""
        self._writer.dispose()
        self._reader.dispose()


def _sqlite_engine(url: str, begin: str) -> Engine:
    engine = create_engine(url, pool_size=20, max_overflow=60, hide_parameters=True)

    def on_connect(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver must not begin by itself: BEGIN below says which kind
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def note_change(session: Session, topic: str) -> None:
    """Say that something under this topic changed; written when the transaction commits."""
    session.info.setdefault("changed_topics", set()).add(topic)


def before_commit(session: Session, name: str, step: Callable[[Session], None]) -> None:
    """Have ``step`` run when all else of the transaction is written, as the last before its commit; once per ``name``.

    A lock that it takes is the last of all: whoever waits for it holds nothing that its holder could still want.
    """
    session.info.setdefault("last_steps", {})[name] = step


def changes_since(session: Session, version: int) -> tuple[int, set[str]]:
    """The present version and the topics that changed after ``version`` (0: all that ever did)."""
    now = session.scalar(select(ChangeCounter.version)) or 0
    topics = set(session.scalars(select(ChangedTopic.topic).where(ChangedTopic.version > version)))
    return now, topics


def _take_last_steps(session: Session) -> None:
    steps: dict[str, Callable[[Session], None]] = session.info.pop("last_steps", {})
    if steps:
        session.flush()
    for step in steps.values():
        step(session)


def _store_changes(session: Session) -> None:
    # Last in the transaction, counter first: whoever waits here holds nothing that the holder could still want.
    topics: set[str] = session.info.pop("changed_topics", set())
    if not topics:
        return
    session.flush()
    version = _next_version(session)
    rows = [{"topic": topic, "version": version} for topic in sorted(topics)]
    upsert(session, ChangedTopic, rows, keys=["topic"], update=["version"])


def _next_version(session: Session) -> int:
    insert = _insert(session, ChangeCounter)
    statement = insert.values(id=1, version=1).on_conflict_do_update(
        index_elements=["id"], set_={"version": _table(ChangeCounter).c.version + 1}
    )
    return int(session.execute(statement.returning(_table(ChangeCounter).c.version)).scalar_one())


def upsert(
    session: Session,
    into: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: Iterable[str],
    update: Iterable[str],
    only_if_newer: str | None = None,
) -> int:
    """Insert rows; where ``keys`` are there already, set the ``update`` columns to the new values.

    ``only_if_newer`` names a column that must not go back: a late message changes nothing. Rows of one call must differ in
    ``keys``. Answers how many rows were written.
    """
    if not rows:
        return 0
    table = _table(into)
    insert = _insert(session, into)
    where: ColumnElement[bool] | None = None
    if only_if_newer is not None:
        where = table.c[only_if_newer] <= insert.excluded[only_if_newer]
    statement = insert.on_conflict_do_update(
        index_elements=list(keys), set_={name: insert.excluded[name] for name in update}, where=where
    )
    return _count(session.execute(statement, [dict(row) for row in rows], execution_options=_COUNTED))


def insert_new(session: Session, into: type[Base], rows: Sequence[Mapping[str, Any]], *, keys: Iterable[str]) -> int:
    """Insert rows; those whose ``keys`` are there already are left as they are. Answers how many were new."""
    if not rows:
        return 0
    statement = _insert(session, into).on_conflict_do_nothing(index_elements=list(keys))
    return _count(session.execute(statement, [dict(row) for row in rows], execution_options=_COUNTED))


def _table(of: type[Base]) -> Table:
    table = of.__table__
    assert isinstance(table, Table)
    return table


def _insert(session: Session, into: type[Base]) -> sqlite.Insert | postgresql.Insert:
    if session.get_bind().dialect.name == "sqlite":
        return sqlite.insert(_table(into))
    return postgresql.insert(_table(into))


def _count(result: Any) -> int:
    # Rows go as parameters of one statement, never as one statement of all of them: to compile that for thousands took seconds,
    # inside the one lock that SQLite's writers have (measured: 2,720 rows, 2.5 s).
    assert isinstance(result, CursorResult)
    return max(result.rowcount, 0)
