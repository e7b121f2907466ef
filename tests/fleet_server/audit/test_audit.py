"""The audit log."""

from typing import Any

import pytest

from fleet_server.audit import service
from fleet_server.context import Context
from fleet_server.database import Database


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


def test_what_failed_was_not_done_and_is_not_in_the_log(database: Database) -> None:
    """The deed and its record are one transaction: a deed that failed leaves no record, a done one always does."""
    with pytest.raises(RuntimeError), database.write() as session:  # noqa: PT012
        service.record(session, who="ada", what="rollout.create", target="r1", now_s=1.0)
        raise RuntimeError
    with database.write() as session:
        service.record(session, who="ada", what="rollout.abort", target="r1", before={"state": "running"}, now_s=2.0)
    with database.read() as session:
        found = service.entries(session)
    assert [(entry.what, entry.before) for entry in found] == [("rollout.abort", {"state": "running"})]


def test_the_log_is_read_in_pages(server: Any, sign_in: Any) -> None:
    """A long log: newest first, with a cursor, for one target if asked."""
    with server.database.write() as session:
        for number in range(5):
            service.record(session, who="ada", what="probe", target=f"t{number % 2}", now_s=float(number))
    client = sign_in("viewer")
    first = client.get("/api/v1/audit?limit=2").json
    assert [item["at_s"] for item in first["items"]] == [4.0, 3.0]
    second = client.get(f"/api/v1/audit?limit=2&cursor={first['next']}").json
    assert [item["at_s"] for item in second["items"]] == [2.0, 1.0]
    assert len(client.get("/api/v1/audit?target=t1").json["items"]) == 2
    assert sign_in("").get("/api/v1/audit").status_code == 401
