"""Accounts of people and machines, their links, sessions and tokens: who may change what, and what ends with it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.accounts import links, people, service
from fleet_server.accounts.people import Actor
from fleet_server.app import create_operator_app
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, ServerError

NOW_S = 1_790_000_000.0
PASSWORD = "correct horse battery"
BOSS = Actor("boss", "192.0.2.1", NOW_S)
pytestmark = pytest.mark.usefixtures("cheap_argon2")


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database, but where rows are locked."""
    return sqlite_server


def join(database: Database, name: str, role: str = "admin", **more: Any) -> None:
    """An account with a password."""
    digest = service.hash_password(PASSWORD)
    with database.write() as session:
        service.add_operator(session, name=name, password_hash=digest, role=role, now_s=NOW_S, **more)


@pytest.fixture
def signed(server: Context) -> Callable[..., FlaskClient]:
    """A client that signed in for a token (``scopes`` of it) as a new person of that role."""
    app = create_operator_app(server)

    def client(name: str, role: str = "admin", *, groups: Any = None, **body: Any) -> FlaskClient:
        join(server.database, name, role, groups=groups)
        made = app.test_client()
        made.environ_base["REMOTE_ADDR"] = "192.0.2.44"
        answer = made.post("/api/v1/tokens", json={"name": name, "password": PASSWORD, **body})
        assert answer.status_code == 201, answer.text
        made.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {answer.json['token']}"
        return made

    return client


def browse(app: Any, name: str) -> FlaskClient:
    """A browser in which somebody signed in."""
    client: FlaskClient = app.test_client()
    assert client.post("/api/v1/login", json={"name": name, "password": PASSWORD}).status_code == 200
    return client


def cookie(client: FlaskClient, name: str = "rookery_session") -> str:
    """What the browser keeps."""
    found = client.get_cookie(name)
    assert found is not None
    return found.value


def test_an_invitation_lets_one_person_in_once(server: Context, signed: Callable[..., FlaskClient]) -> None:
    """Ada invites Ben. He sets a password by the link; who finds the link in his mail later gets nowhere."""
    ada = signed("ada")
    answer = ada.post("/api/v1/accounts", json={"name": "ben", "role": "operator", "groups": ["north"]})
    assert answer.status_code == 201
    token = answer.json["link"].partition("/welcome?token=")[2]
    stranger = create_operator_app(server).test_client()
    refused = {
        (each.status_code, each.json["detail"], each.json["hint"])
        for guess in ("x", token[:-1], "")
        for each in [stranger.post("/api/v1/welcome", json={"token": guess, "password": PASSWORD})]
    }
    weak = stranger.post("/api/v1/welcome", json={"token": token, "password": "short"})
    assert weak.status_code == 400, "a link outlives a password that is refused"
    assert stranger.post("/api/v1/welcome", json={"token": token, "password": PASSWORD}).json == {"name": "ben"}
    again = stranger.post("/api/v1/welcome", json={"token": token, "password": "another good password"})
    assert {*refused, (again.status_code, again.json["detail"], again.json["hint"])} == refused
    assert len(refused) == 1
    assert stranger.post("/api/v1/login", json={"name": "ben", "password": PASSWORD}).json == {"name": "ben", "role": "operator"}
    listed = {one["name"]: one for one in ada.get("/api/v1/accounts").json["items"]}
    assert (listed["ben"]["state"], listed["ben"]["groups"]) == ("active", ["north"])


@pytest.mark.parametrize("ending", ["expired", "replaced", "disabled", "removed"])
def test_a_link_ends_with_time_with_a_newer_one_and_with_its_account(database: Database, ending: str) -> None:
    """A link that was never used does not stay a door for ever."""
    with database.write() as session:
        old = service.invite(session, BOSS, name="ben", role="viewer", groups=None, ttl_s=3600)
        at_s = NOW_S + 3601 if ending == "expired" else NOW_S
        if ending == "replaced":
            service.new_link(session, BOSS, "ben", recovery=False, ttl_s=3600)
        elif ending != "expired":
            {"disabled": people.disable, "removed": people.remove}[ending](session, BOSS, "ben")
    with pytest.raises(ForbiddenError) as refused, database.write() as session:
        links.follow(session, old.token, "$argon2id$", at_s)
    assert refused.value.detail == links.invalid_link().detail


def test_of_two_who_follow_a_link_at_once_one_wins(database: Database) -> None:
    """The link was forwarded, and two open it in the same second (both databases)."""
    with database.write() as session:
        link = service.invite(session, BOSS, name="ben", role="viewer", groups=None, ttl_s=3600)
    ends: list[str] = []
    start = threading.Barrier(4)

    def follow(number: int) -> None:
        start.wait()
        try:
            with database.write() as session:
                links.follow(session, link.token, f"hash {number}", NOW_S)
            ends.append(f"hash {number}")
        except ForbiddenError:
            ends.append("refused")

    threads = [threading.Thread(target=follow, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends.count("refused") == 3
    with database.read() as session:
        assert people.get(session, "ben").password_hash in ends


def test_two_admins_who_disable_each_other_at_the_same_moment_do_not_both_succeed(database: Database) -> None:
    """A quarrel: somebody who can sign in as an admin is left, whatever the order (both databases)."""
    for name in ("ada", "ben"):
        join(database, name)
    ends: list[type[BaseException] | None] = []
    start = threading.Barrier(2)

    def strike(whom: str) -> None:
        start.wait()
        try:
            with database.write() as session:
                people.disable(session, BOSS, whom)
            ends.append(None)
        except ServerError as error:
            ends.append(type(error))

    threads = [threading.Thread(target=strike, args=(name,)) for name in ("ada", "ben")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == sorted(map(str, [None, ConflictError]))


def test_the_last_admin_stays(server: Context) -> None:
    """Nobody locks all out by a click: not by role, groups, disabling, removing. Invited and limited admins do not count."""
    join(server.database, "ada")
    join(server.database, "lim", groups=["north"])
    with server.database.write() as session:
        service.invite(session, BOSS, name="new", role="admin", groups=None, ttl_s=60)
        people.add_machine(session, BOSS, name="robot", role="admin", groups=None)
    for deed in (
        lambda session: people.change(session, BOSS, "ada", role="viewer"),
        lambda session: people.change(session, BOSS, "ada", groups=["north"]),
        lambda session: people.disable(session, BOSS, "ada"),
        lambda session: people.remove(session, BOSS, "ada"),
    ):
        with pytest.raises(ConflictError, match="last admin"), server.database.write() as session:
            deed(session)
    with server.database.write() as session:
        for name in ("lim", "new", "robot"):
            people.remove(session, BOSS, name)


@pytest.mark.parametrize("deed", ["role", "groups", "disable", "password", "remove", "end all"])
def test_what_changes_an_account_ends_what_it_has_open(server: Context, signed: Callable[..., FlaskClient], deed: str) -> None:
    """Ben leaves, moves on, or was phished: his browser and his tokens are out at the next request."""
    ada, token = signed("ada"), signed("ben", "operator")
    browser = browse(create_operator_app(server), "ben")
    assert browser.get("/api/v1/whoami").status_code == token.get("/api/v1/whoami").status_code == 200
    answer = {
        "role": lambda: ada.put("/api/v1/accounts/ben", json={"role": "viewer"}),
        "groups": lambda: ada.put("/api/v1/accounts/ben", json={"groups": ["north"]}),
        "disable": lambda: ada.post("/api/v1/accounts/ben/disable"),
        "remove": lambda: ada.delete("/api/v1/accounts/ben"),
        "end all": lambda: ada.delete("/api/v1/accounts/ben/sessions"),
        "password": lambda: token.post(
            "/api/v1/account/password", json={"password": PASSWORD, "new_password": "another good password"}
        ),
    }[deed]()
    assert answer.status_code in (200, 204), answer.text
    assert browser.get("/api/v1/whoami").status_code == 401
    assert token.get("/api/v1/whoami").status_code == (200 if deed == "password" else 401), "the one that did it stays"
    with server.database.read() as session:
        newest = next(entry for entry in audit.entries(session) if entry.target == "ben")
    assert newest.after is not None
    assert newest.after["ended"] >= 1
    if deed == "role":
        assert newest.before is not None
        assert (newest.who, newest.origin) == ("ada", "192.0.2.44")
        assert (newest.before["role"], newest.after["role"]) == ("operator", "viewer")


def test_signing_in_gives_a_new_session_whatever_the_browser_brought(server: Context) -> None:
    """Session fixation: Eve plants her cookie in Ada's browser, then waits for Ada to sign in. Hers ends, Ada's is another."""
    for name in ("eve", "ada"):
        join(server.database, name, "viewer" if name == "eve" else "admin")
    app = create_operator_app(server)
    eve = browse(app, "eve")
    planted = cookie(eve)
    victim: FlaskClient = app.test_client()
    victim.set_cookie("rookery_session", planted)
    victim.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    assert cookie(victim) != planted
    assert victim.get("/api/v1/whoami").json["name"] == "ada"
    assert eve.get("/api/v1/whoami").status_code == 401
    with server.database.read() as session:
        ended = [(entry.who, entry.target) for entry in audit.entries(session) if entry.what == "session.end"]
    assert ended == [("ada", "eve")], "and the audit says whose ended by whose sign-in"
    guess: FlaskClient = app.test_client()
    guess.set_cookie("rookery_session", "made up by eve")
    guess.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    assert cookie(guess) != "made up by eve"


def test_cookies_over_tls_can_be_set_by_no_neighbour(server: Context) -> None:
    """A sister site under the same domain, or a plain connection, tries to plant a session: the name alone forbids it."""
    join(server.database, "ada")
    app = create_operator_app(replace(server, settings=replace(server.settings, secure_cookies=True)))
    answer = app.test_client().post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    kept = {header.split("=")[0]: header for header in answer.headers.getlist("Set-Cookie")}
    for name in ("__Host-rookery_session", "__Host-rookery_browser"):
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in kept[name].split(";")}
        assert "Domain" not in kept[name]


def test_a_session_that_nobody_uses_ends_before_its_time(server: Context) -> None:
    """A browser stays open over night. Use keeps it, up to its end; a page that refreshes itself is no use."""
    join(server.database, "ada")
    browser = browse(create_operator_app(server), "ada")
    hour_s, forward = 3600.0, server.clock.forward  # type: ignore[attr-defined]
    for _ in range(3):
        forward(1.5 * hour_s)
        assert browser.get("/api/v1/whoami").status_code == 200
    forward(1.5 * hour_s)
    assert browser.get("/api/v1/whoami", headers={"HX-Request": "true"}).status_code == 200
    forward(1.0 * hour_s)
    assert browser.get("/api/v1/whoami").status_code == 401
    browser = browse(create_operator_app(server), "ada")
    for _ in range(11):
        forward(1.0 * hour_s)
        assert browser.get("/api/v1/whoami").status_code == 200
    forward(1.1 * hour_s)
    assert browser.get("/api/v1/whoami").status_code == 401, "after twelve hours it ends, used or not"


def test_sessions_are_listed_and_ended_one_by_one_or_all(server: Context) -> None:
    """Ada left herself signed in at a customer's: she sees the browser and its address, and ends it from home."""
    join(server.database, "ada")
    app = create_operator_app(server)
    away, home = app.test_client(), app.test_client()
    for client, agent, address in ((away, "Firefox at the customer's", "203.0.113.5"), (home, "Chromium", "192.0.2.9")):
        body = {"name": "ada", "password": PASSWORD}
        client.post("/api/v1/login", json=body, headers={"User-Agent": agent}, environ_overrides={"REMOTE_ADDR": address})
    page = home.get("/account").text
    assert "Firefox at the customer" in page
    assert "203.0.113.5" in page
    listed = {one["origin"]: one for one in home.get("/api/v1/account/sessions").json["items"]}
    token = page.split('name="csrf_token" value="')[1].split('"')[0]
    form = {"csrf_token": token}
    assert home.post(f"/account/grants/{listed['203.0.113.5']['id']}/end", data=form).status_code == 303
    assert away.get("/api/v1/whoami").status_code == 401
    third = browse(app, "ada")
    assert home.post("/account/sessions/end-others", data=form).status_code == 303
    assert third.get("/api/v1/whoami").status_code == 401
    assert home.get("/api/v1/whoami").status_code == 200


def test_nobody_ends_or_sees_what_belongs_to_another(server: Context, signed: Callable[..., FlaskClient]) -> None:
    """Ben tries Ada's token ids: as if they were not there."""
    ada, ben = signed("ada"), signed("ben", "operator")
    hers = ada.get("/api/v1/account/tokens").json["items"][0]["id"]
    answers = [ben.delete(f"/api/v1/account/tokens/{each}") for each in (hers, "no-such-id")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json["detail"] == answers[1].json["detail"]
    for method, path in (("get", "/accounts"), ("get", "/accounts/ada"), ("put", "/accounts/ben"), ("post", "/accounts"),
                         ("post", "/accounts/ada/link"), ("delete", "/accounts/ada")):  # fmt: skip
        answer = getattr(ben, method)(f"/api/v1{path}", json={"role": "admin", "name": "x"})
        assert answer.status_code == 403
    assert ada.get("/api/v1/whoami").status_code == 200


def test_a_token_reaches_no_further_than_it_was_given(server: Context, signed: Callable[..., FlaskClient]) -> None:
    """A token leaks from a build machine: it does what it was made for, makes no token, changes no account."""
    ada = signed("ada")
    body = {"token_name": "ci", "scopes": ["viewer", "releaser"], "password": PASSWORD}
    made = ada.post("/api/v1/account/tokens", json=body)
    assert made.status_code == 201
    leaked = create_operator_app(server).test_client()
    leaked.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made.json['token']}"
    assert leaked.get("/api/v1/whoami").json["scopes"] == ["releaser", "viewer"]
    assert leaked.get("/api/v1/devices").status_code == 200
    for method, path in (("get", "/account"), ("post", "/account/tokens"), ("get", "/accounts"), ("post", "/account/password"),
                         ("get", "/account/sessions"), ("post", "/accounts")):  # fmt: skip
        answer = getattr(leaked, method)(f"/api/v1{path}", json={})
        assert answer.status_code == 403, (method, path)
    keeper = ada.post("/api/v1/account/tokens", json={**body, "scopes": ["account", "viewer"]})
    leaked.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {keeper.json['token']}"
    wider = leaked.post("/api/v1/account/tokens", json={**body, "scopes": ["viewer", "admin"]})
    assert wider.status_code == 403, "a token makes no wider one, not even with the password"
    server.clock.forward(700)  # type: ignore[attr-defined]
    alone = leaked.post("/api/v1/account/tokens", json={"token_name": "x", "scopes": ["viewer"]})
    assert alone.status_code == 403, "nor one without it"


@pytest.mark.parametrize(("body", "status"), [
    ({"scopes": []}, 400), ({"scopes": ["root"]}, 400), ({"scopes": ["admin"]}, 403), ({"groups": ["south"]}, 403),
    ({"groups": ["north"]}, 201), ({"groups": []}, 201), ({"expires_s": 401 * 86400}, 400), ({"expires_s": 0}, 400),
    ({"expires_s": 1e999}, 400), ({"token_name": ""}, 400), ({"token_name": " \t "}, 400), ({"groups": ["a\nb"]}, 400),
    ({"groups": [str(number) for number in range(101)]}, 400),
])  # fmt: skip
def test_limits_of_a_token_are_checked(signed: Callable[..., FlaskClient], body: dict[str, Any], status: int) -> None:
    """Scopes of the role, groups of the account, at most 400 days, a name."""
    ben = signed("ben", "operator", groups=["north"])
    wanted = {"token_name": "t", "scopes": ["viewer"], "password": PASSWORD} | body
    assert ben.post("/api/v1/account/tokens", data=_json(wanted), content_type="application/json").status_code == status


def _json(body: dict[str, Any]) -> str:
    import json

    return json.dumps(body)


def test_a_promotion_widens_no_token(server: Context, signed: Callable[..., FlaskClient]) -> None:
    """A machine's token was made while it was a viewer: as an admin's it still is a viewer's."""
    ada = signed("ada")
    ada.post("/api/v1/accounts", json={"name": "door", "role": "viewer", "kind": "machine"})
    token = ada.post("/api/v1/accounts/door/tokens", json={"token_name": "t"}).json["token"]
    assert ada.put("/api/v1/accounts/door", json={"role": "admin"}).status_code == 200
    door = create_operator_app(server).test_client()
    door.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    assert door.get("/api/v1/whoami").json["scopes"] == ["viewer"]
    assert ada.put("/api/v1/accounts/door", json={"groups": ["north"]}).status_code == 200
    assert door.get("/api/v1/overview").status_code == 200
    assert door.get("/api/v1/audit").status_code == 403, "and its groups are read anew: this is about the whole fleet"
    with server.database.read() as session:
        found = service.who(session, token=token, kind="token", now_s=NOW_S)
    assert found is not None
    assert found.groups == {"north"}


def test_a_token_made_on_the_servers_machine_neither_widens_nor_outlives_itself(server: Context) -> None:
    """An hour's token of a viewer, made on the server, leaks: it makes no token of a year, and when the machine is an admin's for
    an hour later on, the old token is a viewer's still. The audit says which role was before."""
    tokens = []
    with server.database.write() as session:
        for role in ("viewer", "admin"):
            tokens.append(service.machine_grant(session, Actor("local:root", "", NOW_S), name="ci", role=role, ttl_s=3600).token)
    thief = create_operator_app(server).test_client()
    for token, scopes in zip(tokens, (["viewer"], ["admin", "operator", "releaser", "security", "viewer"]), strict=True):
        thief.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        assert thief.get("/api/v1/whoami").json["scopes"] == scopes
        for body in ({"scopes": ["viewer"]}, {"scopes": ["account"]}, {}):
            made = thief.post("/api/v1/account/tokens", json={"token_name": "longer", "expires_s": 400 * 86400, **body})
            assert made.status_code == 403, "a token makes no other that lives longer"
    with server.database.read() as session:
        told = [(entry.who, entry.before, (entry.after or {})["role"]) for entry in audit.entries(session)
                if entry.what == "token.local"]  # fmt: skip
    assert told == [("local:root", {"role": "viewer"}, "admin"), ("local:root", None, "viewer")]


def test_a_disabled_machine_gets_no_token_on_the_servers_machine(server: Context) -> None:
    """Somebody was let go with the machine that he ran: the verb says so, instead of a file with a token that opens nothing."""
    with server.database.write() as session:
        people.add_machine(session, BOSS, name="ci", role="viewer", groups=None)
        people.disable(session, BOSS, "ci")
    with pytest.raises(ConflictError, match="disabled"), server.database.write() as session:
        service.machine_grant(session, BOSS, name="ci", role="admin", ttl_s=3600)
    with server.database.read() as session:
        assert people.get(session, "ci").role == "viewer"


def test_a_machine_has_tokens_and_no_password(server: Context, signed: Callable[..., FlaskClient]) -> None:
    """Nobody signs in as a machine by a link, and no admin makes tokens in another person's name."""
    ada, _ = signed("ada"), signed("ben", "operator")
    assert ada.post("/api/v1/accounts", json={"name": "door", "role": "viewer", "kind": "machine"}).json["link"] is None
    assert ada.post("/api/v1/accounts/door/link", json={}).status_code == 409
    assert ada.post("/api/v1/accounts/ben/tokens", json={"token_name": "t"}).status_code == 409
    made = ada.post("/api/v1/accounts/door/tokens", json={"token_name": "t", "scopes": ["viewer"]})
    listed = ada.get("/api/v1/accounts/door/tokens").json["items"]
    assert [(one["name"], one["by"]) for one in listed] == [("t", "admin")]
    assert made.json["token"] not in str(listed)
    assert ada.delete(f"/api/v1/accounts/door/tokens/{listed[0]['id']}").status_code == 204
    assert ada.get("/api/v1/accounts/door/tokens").json["items"] == []


@pytest.mark.parametrize("name", ["", " ada", "a b", "-x", "ada\n", "a" * 65, "server", "Nobody", "../x", "ada'", "ädä"])
def test_a_name_is_one_that_can_be_read_in_one_way(database: Database, name: str) -> None:
    """No blanks, no look-alikes, none of the words that the audit uses for others."""
    with pytest.raises(InvalidError), database.write() as session:
        people.add(session, name=name, role="viewer", password_hash="", now_s=NOW_S)


def test_a_name_is_taken_in_whatever_letters(database: Database) -> None:
    """ADA beside ada would be taken for her in the audit."""
    join(database, "ada")
    with pytest.raises(ConflictError), database.write() as session:
        people.add(session, name="ADA", role="viewer", password_hash="", now_s=NOW_S)
    with pytest.raises(NotFoundError), database.read() as session:
        people.get(session, "ben")


def test_the_way_back_in_on_the_servers_machine(server: Context) -> None:
    """The only admin lost telephone and password: somebody at the machine makes a link. It says in the audit who did."""
    from fleet_server.accounts import second_factor

    join(server.database, "ada")
    browser = browse(create_operator_app(server), "ada")
    with server.database.write() as session:
        account = people.get(session, "ada")
        second_factor.begin(session, account, secret="A" * 32, nonce=b"n" * 12, key=server.factor_key, now_s=NOW_S)
    with server.database.write() as session:
        link = service.recover(session, Actor("local:root", "", NOW_S), "ada")
    assert browser.get("/api/v1/whoami").status_code == 200, "making it ends nothing yet: it may be a trick"
    answer = browser.post("/api/v1/welcome", json={"token": link.token, "password": "another good password"})
    assert answer.json == {"name": "ada"}
    assert browser.get("/api/v1/whoami").status_code == 401
    assert browser.post("/api/v1/login", json={"name": "ada", "password": "another good password"}).status_code == 200
    with server.database.read() as session:
        deeds = [(entry.who, entry.what) for entry in audit.entries(session)]
        state = second_factor.state(session, people.get(session, "ada").id)
    assert ("local:root", "account.link") in deeds
    assert ("ada", "account.password") in deeds
    assert state.confirmed_s is None


def test_recovery_of_nobody_names_the_admins(server: Context) -> None:
    """Who is locked out of everything does not remember what the admin was called: the words at the machine say it."""
    with pytest.raises(NotFoundError) as refused, server.database.write() as session:
        service.recover(session, BOSS, "admin")
    assert "setup-link" in str(refused.value.hint)
    join(server.database, "ada")
    join(server.database, "ben", "viewer")
    with pytest.raises(NotFoundError) as refused, server.database.write() as session:
        service.recover(session, BOSS, "admin")
    assert refused.value.hint == "admins: ada"


def test_recovery_of_a_disabled_account_must_be_said(server: Context) -> None:
    """Somebody was disabled on purpose: a link alone does not undo that."""
    for name in ("ada", "ben"):
        join(server.database, name)
    with server.database.write() as session:
        people.disable(session, BOSS, "ben")
    with pytest.raises(ConflictError, match="disabled"), server.database.write() as session:
        service.recover(session, BOSS, "ben")
    with server.database.write() as session:
        service.recover(session, BOSS, "ben", enable=True)


def test_pages_that_change_accounts_ask_for_the_password_again(server: Context) -> None:
    """Ada's browser stands open: a passer-by cannot make himself an admin, and reads no old link."""
    join(server.database, "ada")
    browser = browse(create_operator_app(server), "ada")
    page = browser.get("/people").text
    form = {"csrf_token": page.split('name="csrf_token" value="')[1].split('"')[0]}
    new = {**form, "name": "eve", "role": "admin", "kind": "person", "reach": "all"}
    server.clock.forward(601)  # type: ignore[attr-defined]
    assert browser.post("/people", data=new).status_code == 403
    assert "asks for your password again" in browser.get("/people").text
    assert browser.post("/account/prove", data={**form, "password": "wrong password", "next": "/people"}).status_code == 403
    proven = browser.post("/account/prove", data={**form, "password": PASSWORD, "next": "//evil.example"})
    assert proven.headers["Location"] == "/"
    shown = browser.post("/people", data=new).text
    assert "/welcome?token=" in shown
    assert "/welcome?token=" not in browser.get("/people/eve").text
    assert "invited" in browser.get("/people").text
