"""What a leaked token with the scope ``account`` makes of itself: nothing wider, nothing that outlives it."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.accounts import own, people, service
from fleet_server.app import create_operator_app
from fleet_server.context import Context

PASSWORD = "correct horse battery"
DAY_S = 86_400.0
pytestmark = pytest.mark.usefixtures("cheap_argon2")


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough here."""
    return sqlite_server


def holder(app: Any, token: str) -> FlaskClient:
    """A program that has this token."""
    client: FlaskClient = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def of_person(server: Context, app: Any, **limits: Any) -> FlaskClient:
    """Ada's token, a moment after she showed her password for it."""
    digest = service.hash_password(PASSWORD)
    with server.database.write() as session:
        service.add_operator(session, name="ada", password_hash=digest, role="admin", now_s=server.clock())
    body = {"name": "ada", "password": PASSWORD, "token_name": "t", "scopes": ["account", "viewer"], **limits}
    return holder(app, app.test_client().post("/api/v1/tokens", json=body).json["token"])


def of_machine(server: Context, app: Any, *, groups: Any = None, expires_s: float = DAY_S) -> FlaskClient:
    """A machine's token, which no password guards."""
    actor = people.Actor("boss", "", server.clock())
    with server.database.write() as session:
        people.add_machine(session, actor, name="robot", role="viewer", groups=None)
        token = service.machine_token(
            session, actor, "robot", token_name="t", ttl_s=expires_s, scopes=["account", "viewer"], groups=groups
        )  # fmt: skip
    return holder(app, token)


@pytest.mark.parametrize("leak", [of_person, of_machine])
def test_a_token_of_some_groups_makes_none_of_all(server: Context, leak: Any) -> None:
    """A token for the north leaks. Its thief asks for another one and says nothing of groups: it is for the north, too."""
    app = create_operator_app(server)
    thief = leak(server, app, groups=["north"])
    for body, groups in (({}, ["north"]), ({"groups": None}, ["north"]), ({"groups": []}, [])):
        made = thief.post("/api/v1/account/tokens", json={"token_name": "wider", **body})
        assert made.status_code == 201, made.text
        with server.database.read() as session:
            found = service.who(session, token=made.json["token"], kind="token", now_s=server.clock())
        assert found is not None
        assert sorted(found.groups or []) == groups
        assert found.groups is not None
    assert thief.post("/api/v1/account/tokens", json={"token_name": "wider", "groups": ["south"]}).status_code == 403


@pytest.mark.parametrize("leak", [of_person, of_machine])
def test_a_token_of_a_minute_leaves_nothing_behind(server: Context, leak: Any) -> None:
    """A token for one minute leaks. What its thief makes of it in that minute ends with it, and the answer says so."""
    app = create_operator_app(server)
    thief, end_s = leak(server, app, expires_s=60), server.clock() + 60
    server.clock.forward(30)  # type: ignore[attr-defined]
    made = thief.post("/api/v1/account/tokens", json={"token_name": "longer", "expires_s": 347 * DAY_S, "scopes": ["account"]})
    assert (made.status_code, made.json["expires_s"]) == (201, end_s)
    heir = holder(app, made.json["token"])
    assert heir.get("/api/v1/account").status_code == 200
    more = {"token_name": "longest", "scopes": ["account"], "password": PASSWORD}
    again = heir.post("/api/v1/account/tokens", json={**more, "expires_s": 5})
    assert again.json["expires_s"] == end_s - 25, "a shorter life is taken as it was asked for"
    server.clock.forward(31)  # type: ignore[attr-defined]
    assert heir.get("/api/v1/account").status_code == 401


def test_a_machine_makes_the_server_hash_nothing(server: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine's token in a loop at /account/password: it has no password to change, and hears so before anything slow."""
    thief = of_machine(server, create_operator_app(server))
    slow: list[str] = []
    monkeypatch.setattr(own, "hash_password", lambda password, name: slow.append(password))
    answer = thief.post("/api/v1/account/password", json={"new_password": "correct horse battery staple"})
    assert (answer.status_code, slow) == (409, [])
    assert "no password" in answer.json["detail"]


def test_a_person_at_a_browser_makes_a_token_of_any_life(server: Context) -> None:
    """It outlives the session, and it follows the account: that is what it is for."""
    of_person(server, create_operator_app(server))
    browser = create_operator_app(server).test_client()
    browser.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    token = browser.get("/account").text.split('name="csrf_token" value="')[1].split('"')[0]
    made = browser.post(
        "/api/v1/account/tokens", json={"token_name": "ci", "expires_s": 300 * DAY_S}, headers={"X-CSRFToken": token}
    )  # fmt: skip
    assert (made.status_code, made.json["expires_s"]) == (201, server.clock() + 300 * DAY_S)
