"""An account that is disabled is nobody, whatever of it is still open somewhere: each request reads it anew."""

import pytest
from sqlalchemy import update

from fleet_server.accounts import service
from fleet_server.accounts.tables import OperatorRow
from fleet_server.app import create_operator_app
from fleet_server.context import Context

NOW_S = 1_790_000_000.0
PASSWORD = "correct horse battery"
pytestmark = pytest.mark.usefixtures("cheap_argon2")


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database."""
    return sqlite_server


def _say(server: Context, *, disabled: bool) -> None:
    with server.database.write() as session:
        session.execute(update(OperatorRow).where(OperatorRow.name == "ben").values(disabled=disabled))


def test_what_was_opened_at_the_same_moment_ends_all_the_same(server: Context) -> None:
    """Ben signs in while an admin disables him: the session and token from in between open nothing, nor does his password."""
    digest = service.hash_password(PASSWORD)
    with server.database.write() as session:
        service.add_operator(session, name="ben", password_hash=digest, role="operator", now_s=NOW_S)
    app = create_operator_app(server)
    browser, program = app.test_client(), app.test_client()
    mine = {"name": "ben", "password": PASSWORD}
    assert browser.post("/api/v1/login", json=mine).status_code == 200
    token = program.post("/api/v1/tokens", json=mine).json["token"]
    program.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    assert [one.get("/api/v1/devices").status_code for one in (browser, program)] == [200, 200]
    _say(server, disabled=True)
    assert [one.get("/api/v1/devices").status_code for one in (browser, program)] == [401, 401]
    assert app.test_client().post("/api/v1/login", json=mine).status_code == 401
    _say(server, disabled=False)
    assert [one.get("/api/v1/devices").status_code for one in (browser, program)] == [200, 200], "it was that, and nothing else"
