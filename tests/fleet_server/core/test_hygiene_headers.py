"""What each answer of both doors tells a browser, and what no page elsewhere can make a browser do to us."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from fleet_server.accounts import service as accounts
from fleet_server.app import create_device_app, create_operator_app
from fleet_server.context import Context
from fleet_server.errors import SettingsError
from fleet_server.headers_http import CONTENT_SECURITY_POLICY, NOTHING_POLICY
from fleet_server.settings import Settings
from fleet_server.settings_checks import check_operator_door, proxies

PASSWORD = "correct horse battery"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "NONSENSE")
WORDS = {"int": "1", "path": "a/b", "default": "abc", "string": "abc", "uuid": "0" * 32}


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


def paths_of(app: Flask) -> list[str]:
    """Every route of an app with something put in for its parameters, and what is none."""
    found = set()
    for rule in app.url_map.iter_rules():
        found.add(re.sub(r"<(?:(\w+)(?:\([^)]*\))?:)?\w+>", lambda match: WORDS.get(match[1] or "default", "abc"), rule.rule))
    return [
        *sorted(found),
        "/nowhere",
        "/api/v1/nowhere",
        "/static/style.css",
        "/static/icon.svg",
        "/static/none.js",
        "/%00",
        "/a\nb",
    ]


def open_all(client: FlaskClient, app: Flask, look: Callable[[str, str, Any], None]) -> int:
    """Every route with every method; what streams is not read to its end."""
    count = 0
    for path in paths_of(app):
        for method in METHODS:
            answer = client.open(path, method=method, buffered=False)
            look(method, path, answer)
            answer.close()
            count += 1
    return count


def test_every_answer_of_the_operator_door_carries_every_header(sign_in: Callable[[str], FlaskClient], server: Context) -> None:
    """Pages, problems, redirects, files, the wrong method, the unknown path, for a stranger and for an admin: a new route without
    the headers, or with a looser policy of its own, is found here."""
    app = create_operator_app(server)

    def look(method: str, path: str, answer: Any) -> None:
        where, headers = f"{method} {path}: {answer.status}", answer.headers
        policy = headers["Content-Security-Policy"]
        assert policy == CONTENT_SECURITY_POLICY or (policy.startswith("default-src 'none'") and "sandbox" in policy), where
        assert "unsafe" not in policy, where
        assert headers["X-Content-Type-Options"] == "nosniff", where
        assert headers["X-Frame-Options"] == "DENY", where
        assert headers["Referrer-Policy"] == "same-origin", where
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", where
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", where
        assert "camera=()" in headers["Permissions-Policy"], where
        assert "Strict-Transport-Security" not in headers, where  # this one speaks plain HTTP, on loopback
        assert not [name for name, _ in headers if name.lower().startswith("access-control")], where
        kept = headers["Cache-Control"]
        assert "public" not in kept or path.startswith("/static/vendor/"), where
        assert "no-store" in kept or path.startswith("/static/") or answer.status_code == 304, where
        assert answer.status_code < 500 or answer.status_code in (501, 503), where
        if method in ("TRACE", "NONSENSE"):
            assert answer.status_code in (404, 405), where
        # No answer becomes a page of somebody's making.
        kind = answer.mimetype
        assert (
            kind
            in {
                "text/html",
                "application/json",
                "application/problem+json",
                "application/x-ndjson",
                "text/css",
                "text/javascript",
                "image/svg+xml",
                "image/jpeg",
                "text/event-stream",
                "application/octet-stream",
                "image/png",
                "text/plain",
                "text/csv",
                "",
            }
            or answer.status_code == 204
        ), f"{where} {kind}"

    assert open_all(app.test_client(), app, look) > 300
    admin = sign_in("admin")
    assert open_all(admin, admin.application, look) > 300


def test_every_answer_of_the_device_door_carries_its_headers(server: Context) -> None:
    app = create_device_app(replace(server, certificate_of=lambda _environ: None))

    def look(method: str, path: str, answer: Any) -> None:
        where, headers = f"{method} {path}: {answer.status}", answer.headers
        assert headers["Content-Security-Policy"] == NOTHING_POLICY, where
        assert headers["X-Content-Type-Options"] == "nosniff", where
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin", where
        assert headers["Strict-Transport-Security"].startswith("max-age="), where
        assert "Cache-Control" in headers, where
        assert answer.mimetype != "text/html" or answer.content_length in (0, None), where
        assert "Set-Cookie" not in headers, where

    assert open_all(app.test_client(), app, look) > 50


def person(server: Context, **settings: Any) -> tuple[FlaskClient, dict[str, str]]:
    """A browser with a session, and the CSRF token of its pages."""
    here = replace(server, settings=replace(server.settings, **settings)) if settings else server
    client = create_operator_app(here).test_client()
    with here.database.write() as session:
        accounts.add_operator(session, name="ada", password_hash="$argon2id$", role="admin", now_s=here.clock())
        grant = accounts.open_grant(session, name="ada", kind="session", token_name="browser", ttl_s=3600.0, now_s=here.clock())
    over_tls = here.settings.operator_over_tls
    for name in ("__Host-rookery_session", "rookery_session"):
        client.set_cookie(name, grant.token, secure=over_tls)
    page = client.get("/alerts", base_url="https://localhost" if over_tls else None)
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return client, {"csrf_token": found[1]}


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://evil@localhost:1/x"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_elsewhere_changes_nothing_even_with_the_right_token(server: Context, headers: dict[str, str]) -> None:
    """A form on another site, sent by the browser of somebody who is signed in, who somehow knows the token, too."""
    client, token = person(server)
    assert client.post("/theme", data={**token, "theme": "dark"}, headers=headers).status_code == 403
    assert client.post("/api/v1/logout", json={}, headers={**headers, "X-CSRFToken": token["csrf_token"]}).status_code == 403
    assert client.get("/api/v1/whoami").status_code == 200
    assert client.post("/theme", data={**token, "theme": "dark"}, headers={"Origin": "http://localhost"}).status_code == 303


@pytest.mark.parametrize(
    "body",
    [
        {"data": '{"count":1}', "content_type": "text/plain"},
        {"data": '{"count":1}', "content_type": "text/plain;application/json"},
        {"data": {"count": "1"}},
        {"data": '{"count":1}', "content_type": "application/json"},
        {"data": b""},
        {"data": '{"count":1}', "content_type": "application/x-www-form-urlencoded; x=application/json"},
    ],
)
def test_without_the_token_a_session_changes_nothing(server: Context, body: dict[str, Any]) -> None:
    """An old browser says nothing of where a request comes from: then the token decides, whatever the body calls itself."""
    client, _token = person(server)
    answer = client.post("/api/v1/claims", **body)
    assert answer.status_code == 400
    assert "CSRF" in answer.text
    assert client.get("/api/v1/claims").json["items"] == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_nobody_is_signed_in_as_somebody_else_by_a_page_elsewhere(server: Context, kind: str) -> None:
    """Login CSRF: the victim's browser is signed in as the attacker, and what it does there is his to read."""
    client = create_operator_app(server).test_client()
    with server.database.write() as session:
        accounts.add_operator(
            session, name="mal", password_hash=accounts.hash_password(PASSWORD), role="admin", now_s=server.clock()
        )
    body = f'{{"name":"mal","password":"{PASSWORD}"}}'
    for path in ("/api/v1/login", "/api/v1/tokens", "/login"):
        answer = client.post(path, data=body, content_type=kind)
        assert answer.status_code in (400, 415), (path, answer.status)
        assert "session" not in str(answer.headers.getlist("Set-Cookie"))
    assert (
        client.post(
            "/api/v1/login", json={"name": "mal", "password": PASSWORD}, headers={"Sec-Fetch-Site": "cross-site"}
        ).status_code
        == 403
    )


def test_our_data_is_not_embedded_in_other_pages(server: Context) -> None:
    """A page elsewhere loads our JSON as a script or our pictures as an object; our own page shows pictures as pictures."""
    client, _token = person(server)
    for headers in (
        {"Sec-Fetch-Dest": "script"},
        {"Sec-Fetch-Dest": "object"},
        {"Sec-Fetch-Dest": "iframe"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert client.get("/api/v1/devices", headers=headers).status_code == 403, headers
    assert client.get("/api/v1/devices", headers={"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}).status_code == 200
    assert (
        client.get("/devices", headers={"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}).status_code == 200
    )  # a link


def test_a_name_that_was_pointed_at_us_is_not_ours(server: Context) -> None:
    """DNS rebinding: evil.example resolves to our address, and its scripts would read our pages as their own.

    Also where we listen on every address; there an address in place of a name is nobody's trick."""
    for settings, known, unknown in (
        (
            {},
            ["localhost", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST"],
            ["evil.example", "10.0.0.5", "localhost.evil.example", "a b", "localhost@evil"],
        ),
        (
            {"host": "0.0.0.0", "device_host": "fleet.example", "operator_hosts": "cams.example"},
            ["fleet.example:8080", "cams.example", "10.0.0.5:8080", "[fd00::1]", "localhost"],
            ["evil.example", "fleet.example.evil", "[fe80::1%25x]", ""],
        ),
        ({"host": "10.0.0.5"}, ["10.0.0.5:8080"], ["evil.example"]),
    ):
        client = create_operator_app(replace(server, settings=replace(server.settings, **settings))).test_client()
        for host in known:
            assert client.get("/login", headers={"Host": host}).status_code == 200, host
            assert client.get("/nowhere", headers={"Host": host}).status_code == 404, host
        for host in unknown:
            for path in ("/login", "/healthz", "/nowhere", "/static/live.js"):
                assert client.get(path, headers={"Host": host}).status_code == 400, (host, path)
        # What a proxy of somebody else's may have added decides nothing.
        assert client.get("/login", headers={"Host": "evil.example", "X-Forwarded-Host": "localhost"}).status_code == 400


def test_over_tls_cookies_are_secure_and_hsts_is_said(server: Context) -> None:
    client, token = person(server, host="0.0.0.0", device_host="fleet.example")
    answer = client.post(
        "/theme", data={**token, "theme": "dark"}, base_url="https://localhost", headers={"Referer": "https://localhost/alerts"}
    )
    assert answer.status_code == 303
    assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
    fresh = create_operator_app(
        replace(server, settings=replace(server.settings, host="0.0.0.0", device_host="fleet.example"))
    ).test_client()
    given = [
        *answer.headers.getlist("Set-Cookie"),
        *fresh.get("/login", base_url="https://localhost").headers.getlist("Set-Cookie"),
    ]
    assert len(given) >= 2
    for cookie in given:
        assert "Secure" in cookie
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
    assert any(cookie.startswith("__Host-rookery_csrf=") for cookie in given)


@pytest.mark.parametrize(
    "following",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/%0d%0aSet-Cookie: a=b",
        "javascript:alert(1)",
        "/\t/evil.example",
        "///evil.example",
        "/\r\nLocation: https://evil.example",
        " //evil.example",
        "http:evil.example",
        "/..//evil.example",
    ],
)
def test_nobody_is_sent_on_to_another_site(server: Context, following: str) -> None:
    """A link to our sign-in that ends on somebody else's page which looks like ours."""
    client, token = person(server)
    answer = client.post("/theme", data={**token, "theme": "dark", "next": following})
    assert answer.status_code == 303
    place = answer.headers["Location"]
    assert place.startswith("/")
    assert not place.startswith(("//", "/\\", "/\t"))
    assert "Set-Cookie: a" not in str(answer.headers)
    assert len(answer.headers.getlist("Location")) == 1
    page = client.get("/login", query_string={"next": following})
    assert f'value="{following}"' not in page.text or following.startswith(("/..", "/%0d"))
    stranger = create_operator_app(server).test_client().get("/devices", query_string={"q": following})
    assert stranger.headers["Location"].startswith("/login?next=/devices")


def test_a_method_is_the_one_of_the_request_line(server: Context) -> None:
    """No header and no field turns a GET, which needs no token, into something that changes."""
    client, token = person(server)
    for headers in ({"X-HTTP-Method-Override": "POST"}, {"X-Method-Override": "DELETE"}, {"X-HTTP-Method": "PUT"}):
        assert client.get("/logout", headers=headers).status_code in (404, 405)
        assert client.post("/api/v1/claims", json={"_method": "GET"}, headers=headers).status_code == 400
    assert client.get("/logout?_method=POST").status_code in (404, 405)
    assert client.get("/api/v1/whoami").status_code == 200
    assert client.head("/alerts").data == b""
    assert token


def test_who_goes_round_the_proxy_is_refused_and_only_its_word_about_clients_counts(server: Context) -> None:
    """The operator door speaks plain HTTP to a proxy with TLS; on the same network somebody speaks to it directly."""
    settings = replace(server.settings, host="10.0.0.5", operator_proxy="10.0.0.9", operator_tls="auto")
    assert settings.operator_tls_kind == "off"
    check_operator_door(settings)
    app = create_operator_app(replace(server, settings=settings))
    seen: list[str] = []
    app.before_request(lambda: seen.append(request.remote_addr))
    client = app.test_client()

    def ask(peer: str, said: str = "") -> int:
        return client.get(
            "/login", headers={"Host": "10.0.0.5", "X-Forwarded-For": said}, environ_overrides={"REMOTE_ADDR": peer}
        ).status_code

    assert ask("10.0.0.7") == 403
    assert ask("10.0.0.7", "127.0.0.1") == 403
    assert ask("10.0.0.9", "1.2.3.4, 203.0.113.7") == 200
    assert ask("10.0.0.9", "nonsense") == 200
    assert ask("127.0.0.1", "203.0.113.8") == 200
    assert seen == ["203.0.113.7", "10.0.0.9", "127.0.0.1"]
    unproxied = create_operator_app(server)
    unproxied.before_request(lambda: seen.append(request.remote_addr))
    unproxied.test_client().get("/login", headers={"X-Forwarded-For": "203.0.113.9"})
    assert seen[-1] == "127.0.0.1"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({}, "off"),
        ({"host": "::1"}, "off"),
        ({"host": "0.0.0.0"}, "own"),
        ({"host": "10.0.0.5"}, "own"),
        ({"operator_certificate": "a", "operator_key": "b"}, "files"),
        ({"host": "10.0.0.5", "operator_proxy": "10.0.0.9"}, "off"),
        ({"operator_tls": "own"}, "own"),
    ],
)
def test_passwords_do_not_cross_a_network_in_the_clear(settings: Settings, given: dict[str, Any], kind: str) -> None:
    made = replace(settings, **given)
    assert made.operator_tls_kind == kind
    check_operator_door(made)
    assert made.operator_over_tls == (kind != "off" or bool(made.operator_proxy))
    assert made.operator_url.startswith("https:" if kind != "off" else "http:")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"host": "0.0.0.0", "operator_tls": "off"}, "plain HTTP"),
        ({"host": "10.0.0.5", "operator_tls": "off"}, "plain HTTP"),
        ({"operator_tls": "files"}, "certificate and its key"),
        ({"operator_certificate": "a"}, "certificate and its key"),
        ({"operator_tls": "perhaps"}, "not one of"),
        ({"operator_proxy": "yes"}, "addresses"),
        ({"host": "0", "operator_tls": "off"}, "plain HTTP"),
    ],
)
def test_doors_that_nobody_should_open_are_refused_in_words(settings: Settings, given: dict[str, Any], word: str) -> None:
    with pytest.raises(SettingsError, match=word):
        check_operator_door(replace(settings, **given))
    assert proxies(replace(settings, operator_proxy="10.0.0.0/24, ::1"))
