"""Operators: the first admin, sessions, tokens, what their doors answer."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.accounts import people, service
from fleet_server.accounts.sign_in import WRONG, Credentials, SignedIn
from fleet_server.accounts.sign_in import sign_in as do_sign_in
from fleet_server.app import create_operator_app
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, UnauthenticatedError

NOW_S = 1_790_000_000.0
PASSWORD = "correct horse battery"
HASH = service.hash_password(PASSWORD)


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


def _sign_in(here: Context, name: str, password: str, **more: Any) -> SignedIn:
    return do_sign_in(here, Credentials(name, password, origin="192.0.2.1", **more), kind="session", label="t", ttl_s=3600)


def _admin(database: Database) -> None:
    with database.write() as session:
        service.add_operator(session, name="ada", password_hash=HASH, role="admin", now_s=NOW_S)


def test_the_setup_link_works_once_and_only_in_time(database: Database) -> None:
    """Someone finds an old link in a scroll-back: worthless once used, replaced or expired, and in the same words each time."""
    with database.write() as session:
        old = service.new_setup_link(session, ttl_s=3600, now_s=NOW_S)
        link = service.new_setup_link(session, ttl_s=3600, now_s=NOW_S)
    said = set()
    for token, now_s in ((old.token, NOW_S), ("guess", NOW_S), (link.token, NOW_S + 3601)):
        with pytest.raises(ForbiddenError) as refused, database.write() as session:
            service.set_up(session, token=token, name="eve", password_hash=HASH, now_s=now_s)
        said.add((refused.value.detail, refused.value.hint))
    with database.write() as session:
        service.set_up(session, token=link.token, name="ada", password_hash=HASH, now_s=NOW_S)
    with pytest.raises(ForbiddenError) as refused, database.write() as session:
        service.set_up(session, token=link.token, name="eve", password_hash=HASH, now_s=NOW_S)
    assert {*said, (refused.value.detail, refused.value.hint)} == said
    assert len(said) == 1
    with pytest.raises(ConflictError), database.write() as session:
        service.new_setup_link(session, ttl_s=3600, now_s=NOW_S)


def test_a_grant_is_found_by_its_secret_until_it_ends(server: Context) -> None:
    """A session is a session, not an API token; it ends in time and when it is ended."""
    database = server.database
    _admin(database)
    grant = _sign_in(server, "ada", PASSWORD).grant
    with database.read() as session:
        assert service.who(session, token=grant.token, kind="session", now_s=NOW_S + 1) is not None
        assert service.who(session, token=grant.token, kind="token", now_s=NOW_S + 1) is None
        assert service.who(session, token=grant.token, kind="session", now_s=NOW_S + 3601) is None
        assert service.who(session, token="guess", kind="session", now_s=NOW_S) is None
    with database.write() as session:
        service.end_grant(session, grant.operator.token_id)
    with database.read() as session:
        assert service.who(session, token=grant.token, kind="session", now_s=NOW_S + 1) is None


def test_secrets_are_not_in_the_database(server: Context) -> None:
    """A backup is stolen: no session, token, link or password can be read from it."""
    _admin(server.database)
    actor = people.Actor("ada", "", NOW_S)
    signed = _sign_in(server, "ada", PASSWORD)
    with server.database.write() as session:
        link = service.invite(session, actor, name="ben", role="viewer", groups=None, ttl_s=3600)
        people.add_machine(session, actor, name="door", role="viewer", groups=None)
        token = service.machine_token(session, actor, "door", token_name="t", ttl_s=60)
    found = []
    with server.database.engine.connect() as connection:
        tables = [row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            found += [str(tuple(row)) for row in connection.exec_driver_sql(f'SELECT * FROM "{table}"')]
    assert len(found) > 5
    for secret in (signed.grant.token, signed.browser_cookie, PASSWORD, link.token, token):
        assert not any(secret in row for row in found)


@pytest.mark.parametrize("password", [
    "short", "x" * 201, "aaaaaaaaaaaaa", "password123", "Password1234!", "1234567890", "qwertyuiop", "ada-ada-2026",
    "rookery-2026",     "abcdefghijkl", "lkjhgfdsa1234", "letmein-letmein", "pass\x00word with nul",
])  # fmt: skip
def test_a_password_that_is_tried_first_is_refused(password: str) -> None:
    """Too short to hold, so long that hashing it would be an attack, or at the head of every list."""
    with pytest.raises(InvalidError):
        service.hash_password(password, "ada")


@pytest.mark.parametrize("password", [
    PASSWORD, "8402957183", "gGk3-9vvQ-12xx", "ein Pferd frisst keinen Salat", "パスワードではない言葉です",
])  # fmt: skip
def test_a_password_needs_no_signs_and_digits(password: str) -> None:
    """Words are enough, in any script, and so is what a machine made."""
    assert service.hash_password(password, "ada").startswith("$argon2id$v=19$m=65536,t=3,p=4$")


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
    """`rookery login`: a bearer token, which needs neither cookie nor CSRF token; scanners of leaks know it by its sign."""
    answer = browser.post("/api/v1/tokens", json={"name": "ada", "password": PASSWORD, "token_name": "laptop"})
    assert answer.status_code == 201
    assert answer.json["token"].startswith("rkt_")
    bearer = {"Authorization": f"Bearer {answer.json['token']}"}
    assert browser.get("/api/v1/whoami", headers=bearer).json["role"] == "admin"
    assert browser.post("/api/v1/logout", headers=bearer).status_code == 204
    assert browser.get("/api/v1/whoami", headers=bearer).status_code == 401
    assert browser.get("/api/v1/whoami", headers={"Authorization": "Basic YTpi"}).status_code == 401


def test_a_wrong_password_is_a_problem_that_says_what_to_do(browser: FlaskClient) -> None:
    """A typo: 401 with plain words; what was typed does not come back."""
    answer = browser.post("/api/v1/login", json={"name": "ada", "password": "wrong password"})
    assert (answer.status_code, answer.json["detail"]) == (401, WRONG)
    answer = browser.post("/api/v1/login", json={"name": "ada", "password": ["s3cret-in-a-list"]})
    assert answer.status_code == 400
    assert "s3cret" not in answer.text


def test_an_address_that_tries_too_often_waits(browser: FlaskClient) -> None:
    """Many names from one address, or from all those of one IPv6 line: after 60 tries a minute it waits, before any hashing."""
    codes = [browser.post("/api/v1/login", json={"name": "a"}).status_code for _ in range(61)]
    assert codes[-1] == 429

    def knock(address: str) -> int:
        return browser.post("/api/v1/login", json={"name": "a"}, environ_base={"REMOTE_ADDR": address}).status_code

    codes = [knock(f"2001:db8::{host:x}") for host in range(1, 62)]
    assert (codes[0], codes[-1]) == (400, 429)
    assert knock("2001:db8:0:1::1") == 400, "a neighbour is somebody else"


def test_the_deeds_are_in_the_audit_log(server: Any, browser: FlaskClient) -> None:
    """Who signed in, and who tried to, from where. A name that nobody has is not written: people type passwords there."""
    browser.post("/api/v1/login", json={"name": "ada", "password": "wrong password"})
    browser.post("/api/v1/login", json={"name": "s3cret typed into the wrong field", "password": "x"})
    browser.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    with server.database.read() as session:
        found = [(entry.what, entry.who, entry.origin) for entry in audit.entries(session)]
        assert "s3cret" not in str(audit.entries(session))
    assert found == [
        ("session.open", "ada", "127.0.0.1"), ("sign-in.failed", "nobody", "127.0.0.1"), ("sign-in.failed", "ada", "127.0.0.1")
    ]  # fmt: skip


def test_a_sign_in_of_an_outdated_hash_makes_a_new_one(server: Context) -> None:
    """The parameters of argon2 are raised: a password is hashed anew when its owner signs in, and stays what it was."""
    from argon2 import PasswordHasher

    old = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with server.database.write() as session:
        service.add_operator(session, name="ada", password_hash=old, role="admin", now_s=NOW_S)
    _sign_in(server, "ada", PASSWORD)
    with server.database.read() as session:
        found = people.get(session, "ada").password_hash
    assert found != old
    assert "m=65536,t=3,p=4" in found
    _sign_in(server, "ada", PASSWORD)
    with pytest.raises(UnauthenticatedError):
        _sign_in(server, "ada", "wrong password")
