"""The frame of both doors: who may pass, and how errors look."""

import threading
from typing import Any

import pytest
from flask import Flask

from fleet_server.app import create_operator_app
from fleet_server.context import Context
from fleet_server.database import Database, changes_since, note_change


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


def test_a_route_that_names_no_scope_is_refused(server: Any) -> None:
    """A developer forgets @require: the route must be closed, not open."""
    app: Flask = create_operator_app(server)
    app.add_url_rule("/api/v1/forgotten", "forgotten", lambda: "secret")
    answer = app.test_client().get("/api/v1/forgotten")
    assert answer.status_code == 403
    assert b"secret" not in answer.data


def test_errors_are_problems_without_a_stack(server: Any, sign_in: Any) -> None:
    """Unknown path, broken JSON, wrong method: always application/problem+json, always with the strict headers."""
    client = sign_in("viewer")
    for answer in (client.get("/api/v1/nothing"), client.post("/api/v1/login", data=b"{", content_type="application/json")):
        assert answer.mimetype == "application/problem+json"
        assert answer.json["status"] == answer.status_code
        assert "Traceback" not in answer.text
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_a_thousand_brackets_are_the_callers_fault(sign_in: Any, caplog: Any) -> None:
    """Nobody signed in sends 2 MB of brackets again and again: a refusal, and no stack trace that fills the server's log."""
    for body in (b"[" * 1_900_000, b'{"name":' * 200_000):
        answer = sign_in("").post("/api/v1/login", data=body, content_type="application/json")
        assert (answer.status_code, answer.mimetype) == (400, "application/problem+json")
    assert "nested too deep" in answer.json["detail"]
    assert not caplog.records


def test_the_openapi_document_and_health_are_open(server: Any, sign_in: Any) -> None:
    """A monitor without an account sees that the server lives and what it offers."""
    client = sign_in("")
    assert client.get("/healthz").json == {"status": "ok"}
    assert "/api/v1/login" in client.get("/openapi.json").json["paths"]


def test_a_viewer_cannot_do_what_operators_do(sign_in: Any) -> None:
    """The role decides, and the answer says which scope is missing."""
    assert sign_in("").get("/api/v1/whoami").status_code == 401
    assert sign_in("viewer").get("/api/v1/whoami").json == {"name": "viewer-1", "role": "viewer", "scopes": ["account", "viewer"]}


def test_a_foreign_host_name_is_refused(sign_in: Any) -> None:
    """DNS rebinding: a page of another site gives our address its own name."""
    assert sign_in("viewer").get("/api/v1/whoami", headers={"Host": "evil.example"}).status_code == 400


def test_changes_are_seen_once_and_never_missed(database: Database) -> None:
    """Two writers note changes at the same time; a reader that follows the version sees both."""
    with database.write() as session:
        note_change(session, "devices")
    with database.read() as session:
        version, topics = changes_since(session, 0)
    assert topics == {"devices"}
    threads = [threading.Thread(target=_note, args=(database, f"topic-{n}")) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        latest, topics = changes_since(session, version)
    assert topics == {f"topic-{n}" for n in range(8)}
    assert latest == version + 8


def _note(database: Database, topic: str) -> None:
    with database.write() as session:
        note_change(session, topic)


def test_a_failed_block_leaves_nothing(database: Database) -> None:
    """An error in the middle of a use case: nothing of it is stored, not even the note of the change."""
    with pytest.raises(RuntimeError), database.write() as session:  # noqa: PT012
        note_change(session, "devices")
        raise RuntimeError
    with database.read() as session:
        assert changes_since(session, 0) == (0, set())
