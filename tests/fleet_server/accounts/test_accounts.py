"""Operators: the first admin, sessions, tokens, lockout."""

import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.accounts import service
from fleet_server.accounts.sign_in import sign_in as do_sign_in
from fleet_server.app import create_operator_app
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, TooManyError, UnauthenticatedError

NOW_S = 1_790_000_000.0
PASSWORD = "correct horse battery"
HASH = service.hash_password(PASSWORD)


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


def _sign_in(database: Database, name: str, password: str, now_s: float = NOW_S) -> service.Grant:
    return do_sign_in(
        database, name=name, password=password, kind="session", token_name="t", ttl_s=3600, now_s=now_s, origin="192.0.2.1"
    )


def _admin(database: Database) -> None:
    with database.write() as session:
        service.add_operator(session, name="ada", password_hash=HASH, role="admin", now_s=NOW_S)


def test_the_setup_link_works_once_and_only_in_time(database: Database) -> None:
    """Someone finds an old link in a scroll-back: it must be worthless once used, replaced or expired."""
    with database.write() as session:
        old = service.new_setup_link(session, ttl_s=3600, now_s=NOW_S)
        link = service.new_setup_link(session, ttl_s=3600, now_s=NOW_S)
    for token, now_s in ((old.token, NOW_S), ("guess", NOW_S), (link.token, NOW_S + 3601)):
        with pytest.raises(ForbiddenError), database.write() as session:
            service.set_up(session, token=token, name="eve", password_hash=HASH, now_s=now_s)
    with database.write() as session:
        service.set_up(session, token=link.token, name="ada", password_hash=HASH, now_s=NOW_S)
    with pytest.raises(ForbiddenError), database.write() as session:
        service.set_up(session, token=link.token, name="eve", password_hash=HASH, now_s=NOW_S)
    with pytest.raises(ConflictError), database.write() as session:
        service.new_setup_link(session, ttl_s=3600, now_s=NOW_S)


def test_a_wrong_password_and_an_unknown_name_look_the_same(database: Database) -> None:
    """Someone tries out names: neither the words nor the lock may tell which exist."""
    _admin(database)
    words = set()
    for name in ("ada", "nobody"):
        for _ in range(service.FREE_FAILURES):
            with pytest.raises(UnauthenticatedError) as refused:
                _sign_in(database, name, "wrong password")
            words.add(refused.value.detail)
        with pytest.raises(TooManyError):
            _sign_in(database, name, "wrong password")
    assert len(words) == 1


def test_guesses_at_the_same_moment_are_counted_one_by_one(database: Database) -> None:
    """Twenty guesses arrive together, before the first slow check has ended: no more of them are checked than one by one."""
    _admin(database)
    refused: list[type[Exception]] = []

    def guess() -> None:
        try:
            _sign_in(database, "ada", "wrong password")
        except (UnauthenticatedError, TooManyError) as error:
            refused.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (refused.count(UnauthenticatedError), len(refused)) == (service.FREE_FAILURES, 20)


def test_the_lock_ends_and_success_forgets_the_failures(database: Database) -> None:
    """The right person comes back after an attack on her name: locked out for a while, never for good."""
    _admin(database)
    for _ in range(service.FREE_FAILURES):
        with pytest.raises(UnauthenticatedError):
            _sign_in(database, "ada", "wrong password")
    with pytest.raises(TooManyError):
        _sign_in(database, "ada", PASSWORD)
    assert _sign_in(database, "ada", PASSWORD, NOW_S + 61).operator.name == "ada"
    with pytest.raises(UnauthenticatedError):  # counted from one again, not locked
        _sign_in(database, "ada", "wrong password", NOW_S + 62)
    assert _sign_in(database, "ada", PASSWORD, NOW_S + 63).operator.role == "admin"


def test_a_grant_is_found_by_its_secret_until_it_ends(database: Database) -> None:
    """A session is a session, not an API token; it ends in time and when it is ended."""
    _admin(database)
    grant = _sign_in(database, "ada", PASSWORD)
    with database.read() as session:
        assert service.who(session, token=grant.token, kind="session", now_s=NOW_S + 1) is not None
        assert service.who(session, token=grant.token, kind="token", now_s=NOW_S + 1) is None
        assert service.who(session, token=grant.token, kind="session", now_s=NOW_S + 3601) is None
        assert service.who(session, token="guess", kind="session", now_s=NOW_S) is None
    with database.write() as session:
        service.end_grant(session, grant.operator.token_id)
    with database.read() as session:
        assert service.who(session, token=grant.token, kind="session", now_s=NOW_S + 1) is None


def test_secrets_are_not_in_the_database(database: Database) -> None:
    """A backup is stolen: no session, token or password can be read from it."""
    _admin(database)
    grant = _sign_in(database, "ada", PASSWORD)
    with database.engine.connect() as connection:
        found = [
            str(tuple(row))
            for table in ("operator", "operator_token", "setup_link", "audit")
            for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    assert found
    assert not any(grant.token in row or PASSWORD in row for row in found)


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_a_password_has_bounds(password: str) -> None:
    """Too short to hold, or so long that hashing it would be an attack."""
    with pytest.raises(InvalidError):
        service.hash_password(password)


@pytest.fixture
def browser(server: Any) -> FlaskClient:
    """A browser in front of a server whose first admin is ada."""
    _admin(server.database)
    app = create_operator_app(server)
    app.add_url_rule("/api/v1/csrf", "csrf_probe", _open(_csrf_token))
    return app.test_client()


def _open(view: Any) -> Any:
    from fleet_server.http_access import open_to_all

    return open_to_all(view)


def _csrf_token() -> str:
    from flask_wtf.csrf import generate_csrf

    return str(generate_csrf())


def test_signing_in_by_cookie_needs_the_csrf_token_to_change_anything(browser: FlaskClient) -> None:
    """A page elsewhere makes the signed-in browser send a request: without our token, or from another site, it is refused."""
    answer = browser.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    assert answer.status_code == 200
    cookie = answer.headers["Set-Cookie"] + str(answer.headers.getlist("Set-Cookie"))
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert browser.get("/api/v1/whoami").json["name"] == "ada"
    assert browser.post("/api/v1/logout").status_code == 400
    token = browser.get("/api/v1/csrf").text
    elsewhere = {"X-CSRFToken": token, "Sec-Fetch-Site": "cross-site"}
    assert browser.post("/api/v1/logout", headers=elsewhere).status_code == 403
    assert browser.post("/api/v1/logout", headers={"X-CSRFToken": token, "Sec-Fetch-Site": "same-origin"}).status_code == 204
    assert browser.get("/api/v1/whoami").status_code == 401


def test_a_token_for_the_command_line(browser: FlaskClient) -> None:
    """`rookery login`: a bearer token, which needs neither cookie nor CSRF token."""
    answer = browser.post("/api/v1/tokens", json={"name": "ada", "password": PASSWORD, "token_name": "laptop"})
    assert answer.status_code == 201
    bearer = {"Authorization": f"Bearer {answer.json['token']}"}
    assert browser.get("/api/v1/whoami", headers=bearer).json["role"] == "admin"
    assert browser.post("/api/v1/logout", headers=bearer).status_code == 204
    assert browser.get("/api/v1/whoami", headers=bearer).status_code == 401
    assert browser.get("/api/v1/whoami", headers={"Authorization": "Basic YTpi"}).status_code == 401


def test_a_wrong_password_is_a_problem_that_says_what_to_do(browser: FlaskClient) -> None:
    """A typo: 401 with plain words; what was typed does not come back."""
    answer = browser.post("/api/v1/login", json={"name": "ada", "password": "wrong password"})
    assert (answer.status_code, answer.json["detail"]) == (401, "name or password is wrong")
    answer = browser.post("/api/v1/login", json={"name": "ada", "password": ["s3cret-in-a-list"]})
    assert answer.status_code == 400
    assert "s3cret" not in answer.text


def test_an_address_that_tries_too_often_waits(browser: FlaskClient) -> None:
    """Many names from one address: after 60 tries a minute it is told to wait, before any hashing."""
    codes = [browser.post("/api/v1/login", json={"name": "a"}).status_code for _ in range(61)]
    assert codes[-1] == 429


def test_the_deeds_are_in_the_audit_log(server: Any, browser: FlaskClient) -> None:
    """Who signed in, and who tried to, from where."""
    browser.post("/api/v1/login", json={"name": "ada", "password": "wrong password"})
    browser.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    with server.database.read() as session:
        found = [(entry.what, entry.who, entry.origin) for entry in audit.entries(session)]
    assert found == [("session.open", "ada", "127.0.0.1"), ("sign-in.failed", "ada", "127.0.0.1")]
