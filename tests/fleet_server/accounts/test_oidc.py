"""Signing in through an identity provider: a real one over HTTP with real signatures, and what it or a thief may send."""

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from flask.testing import FlaskClient

from fleet_server.accounts import oidc, oidc_rules, people, service
from fleet_server.accounts.people import Actor
from fleet_server.app import create_operator_app
from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.errors import ConflictError, SettingsError
from fleet_server.settings import Settings
from tests.fakes.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, new_key, oidc_provider

PASSWORD = "correct horse battery"
RULES = "groups=fleet-admins -> admin; groups=shops -> operator @north,south"
pytestmark = pytest.mark.usefixtures("cheap_argon2")


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


@pytest.fixture
def provider(server: Context) -> Iterator[OidcProvider]:
    """The identity provider, which has the server's clock."""
    with oidc_provider(server.clock) as made:
        yield made


@pytest.fixture
def here(server: Context, provider: OidcProvider) -> Context:
    """A server that knows the provider; addresses of this machine are allowed to it, which they are not by themselves."""
    settings = replace(
        server.settings, oidc_issuer=provider.issuer, oidc_client_id=CLIENT_ID, oidc_client_secret=CLIENT_SECRET,
        oidc_rules=RULES, outgoing_hosts="127.0.0.1",
    )  # fmt: skip
    oidc_rules.check_settings(settings)
    return replace(server, settings=settings)


@pytest.fixture
def browser(here: Context) -> FlaskClient:
    """A browser in front of it."""
    return create_operator_app(here).test_client()


def leave(browser: FlaskClient, path: str = "/oidc/login?next=/rollouts") -> str:
    """Go to the provider, sign in there, and be sent back: the path with which the browser comes."""
    away = browser.get(path).headers["Location"]
    back = httpx.get(away, follow_redirects=False).headers["Location"]
    assert back.startswith("http://localhost/oidc/callback?")
    return back.removeprefix("http://localhost")


def who(browser: FlaskClient) -> Any:
    """Who is signed in in this browser."""
    answer = browser.get("/api/v1/whoami")
    return (answer.json["name"], answer.json["role"]) if answer.status_code == 200 else None


def test_a_rule_lets_people_in_and_follows_the_provider(here: Context, provider: OidcProvider, browser: FlaskClient) -> None:
    """Ada is in the group of the shops at the company's provider: she gets an account for it. She moves on: her role does, too.
    She leaves: at her next sign-in she is refused, and out of all that she had open."""
    provider.claims |= {"groups": ["staff", "shops"]}
    answer = browser.get(leave(browser))
    assert (answer.status_code, answer.headers["Location"]) == (303, "/rollouts")
    assert who(browser) == ("ada", "operator")
    with here.database.read() as session:
        assert people.get(session, "ada").groups == ["north", "south"]
    first = browser.get_cookie("rookery_session")
    provider.claims["groups"] = ["fleet-admins"]
    browser.get(leave(browser))
    assert who(browser) == ("ada", "admin")
    assert browser.get_cookie("rookery_session") != first
    elsewhere, program = browser.application.test_client(), browser.application.test_client()
    elsewhere.get(leave(elsewhere))
    made = _own_token(browser)
    program.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made}"
    assert (who(browser), who(elsewhere), who(program)) == (("ada", "admin"),) * 3
    provider.claims["groups"] = ["staff"]
    refused = browser.get(leave(browser))
    assert refused.status_code == 401
    assert "Sign out" not in refused.text
    assert (who(browser), who(elsewhere), who(program)) == (None,) * 3, "a token of 400 days does not stay behind"
    with here.database.read() as session:
        deeds = [(entry.who, entry.what) for entry in audit.entries(session)]
        ended = next(entry.after for entry in audit.entries(session) if entry.what == "account.provider-refuse")
    assert ended == {"ended": 3}
    assert deeds.count(("provider", "account.add")) == 1
    assert ("provider", "account.change") in deeds


def _own_token(browser: FlaskClient) -> str:
    """A personal token of 400 days, made in a session that has just shown its proof."""
    page = browser.get("/account").text
    form = {"csrf_token": page.split('name="csrf_token" value="')[1].split('"')[0], "name": "mine", "days": "400"}
    shown = browser.post("/account/tokens", data=form | {"scope": ["viewer", "admin"]})
    assert shown.status_code == 200, shown.text
    return "rkt_" + re.split(r"[^A-Za-z0-9_-]", shown.text.partition("rkt_")[2])[0]


def test_a_rule_takes_no_last_admin_away_and_says_the_way_back(
    here: Context, provider: OidcProvider, browser: FlaskClient
) -> None:
    """Ada is the only admin, by the provider's word, and an edit there makes her an operator: nobody would be left. The words
    name what she can do; with another admin of the same provider she is an operator, as the rule says."""
    provider.claims |= {"groups": ["fleet-admins"]}
    browser.get(leave(browser))
    provider.claims["groups"] = ["shops"]
    refused = browser.get(leave(browser))
    assert refused.status_code == 401
    assert "last admin" in refused.text
    assert "rookery-server recover ada" in refused.text
    assert who(browser) == ("ada", "admin"), "she can make somebody else an admin in the session that she has"
    provider.claims |= {"groups": ["fleet-admins"], "sub": "u-ben", "preferred_username": "ben"}
    other = browser.application.test_client()
    other.get(leave(other))
    assert who(other) == ("ben", "admin")
    provider.claims |= {"groups": ["shops"], "sub": "u-1", "preferred_username": "ada"}
    browser.get(leave(browser))
    assert who(browser) == ("ada", "operator")


def test_an_admin_of_a_provider_that_is_set_no_more_is_nobodys_way_back(here: Context, provider: OidcProvider) -> None:
    """The provider was given up: Ben, whom it alone knows, cannot sign in, so Ada with her password is the last admin who can."""
    digest = service.hash_password(PASSWORD)
    with here.database.write() as session:
        service.add_operator(session, name="ada", password_hash=digest, role="admin", now_s=here.clock())
        ben = people.add(session, name="ben", role="admin", password_hash="", now_s=here.clock())
        oidc.connect(session, Actor("ben", "", here.clock()), ben.id, issuer=provider.issuer, subject="u-ben")
    for issuer in ("", "https://accounts.example.org"):
        app = create_operator_app(replace(here, settings=replace(here.settings, oidc_issuer=issuer)))
        ada = app.test_client()
        made = ada.post("/api/v1/tokens", json={"name": "ada", "password": PASSWORD}).json["token"]
        ada.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made}"
        refused = ada.post("/api/v1/accounts/ada/disable")
        assert (refused.status_code, "last admin" in refused.json["detail"]) == (409, True)
    ada = create_operator_app(here).test_client()
    ada.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {made}"
    assert ada.post("/api/v1/accounts/ada/disable").status_code in (200, 204), "where the provider is there, Ben can"


def test_where_the_provider_knows_an_admin_there_is_no_set_up_link(
    here: Context, provider: OidcProvider, browser: FlaskClient
) -> None:
    """Each start printed a link that made a first admin, though there was one; a viewer of the provider's is none yet."""
    provider.claims |= {"groups": ["shops"]}
    browser.get(leave(browser))
    with here.database.write() as session:
        assert not service.is_set_up(session)
        link = service.new_setup_link(session, ttl_s=3600.0, now_s=here.clock())
    provider.claims["groups"] = ["fleet-admins"]
    browser.get(leave(browser))
    with pytest.raises(ConflictError), here.database.write() as session:
        service.set_up(session, token=link.token, name="eve", password_hash="x", now_s=here.clock())
    with here.database.read() as session:
        assert service.is_set_up(session)


def test_without_a_rule_nobody_gets_an_account(here: Context, provider: OidcProvider) -> None:
    """A provider of the whole world (or of a company of thousands) lets nobody in by itself."""
    browser = create_operator_app(replace(here, settings=replace(here.settings, oidc_rules=""))).test_client()
    answer = browser.get(leave(browser))
    assert answer.status_code == 401
    assert "Nobody here is connected" in answer.text
    assert browser.get("/oidc/callback?state=made-up&code=x").status_code == 401
    with here.database.read() as session:
        assert people.entries(session, here.clock()) == []
        rows = [(entry.what, entry.target, entry.after) for entry in audit.entries(session)]
    why = "nobody here is connected with this identity"
    assert rows == [("sign-in.failed", "nobody", {"wrong": "provider", "why": why})], "one row: who left for nowhere is no news"


def test_a_name_at_the_provider_is_no_proof(here: Context, provider: OidcProvider, browser: FlaskClient) -> None:
    """Eve calls herself ada at the provider: she does not become the admin of that name; no address makes her one."""
    digest = service.hash_password(PASSWORD)
    with here.database.write() as session:
        service.add_operator(session, name="ada", password_hash=digest, role="admin", now_s=here.clock())
    for claims in ({"preferred_username": "ada"}, {"preferred_username": "ADA"}, {"email": "ada", "email_verified": True}):
        provider.claims = {"sub": "eve", "groups": ["shops"], **claims}
        answer = browser.get(leave(browser))
        assert answer.status_code == 401
        assert "not connected with this identity" in answer.text
        assert who(browser) is None


def test_an_account_is_connected_by_its_owner_and_disconnected_again(here: Context, provider: OidcProvider) -> None:
    """Ada connects her account while she is signed in; from then on either way leads in, with her own role and no rule's."""
    digest = service.hash_password(PASSWORD)
    with here.database.write() as session:
        service.add_operator(session, name="ada", password_hash=digest, role="releaser", now_s=here.clock())
    app = create_operator_app(here)
    browser = app.test_client()
    browser.post("/api/v1/login", json={"name": "ada", "password": PASSWORD})
    page = browser.get("/account").text
    form = {"csrf_token": page.split('name="csrf_token" value="')[1].split('"')[0]}
    away = browser.post("/account/provider/connect", data=form).text.split('role="button" href="')[1].split('"')[0]
    back = httpx.get(away.replace("&amp;", "&"), follow_redirects=False).headers["Location"].removeprefix("http://localhost")
    stranger = app.test_client()
    assert stranger.get(back).status_code == 401, "the link to connect, opened in another browser"
    away = browser.post("/account/provider/connect", data=form).text.split('role="button" href="')[1].split('"')[0]
    back = httpx.get(away.replace("&amp;", "&"), follow_redirects=False).headers["Location"].removeprefix("http://localhost")
    assert browser.get(back).headers["Location"] == "/account?done=connected"
    other = app.test_client()
    other.get(leave(other))
    assert who(other) == ("ada", "releaser")
    assert browser.post("/account/provider/disconnect", data=form).status_code == 303
    again = app.test_client()
    assert again.get(leave(again)).status_code == 401


def unsigned(provider: OidcProvider) -> None:
    """alg none: what every library once took."""
    provider.change_header = lambda header: {**header, "alg": "none"}


def by_the_client_secret(provider: OidcProvider) -> None:
    """HS256 with what the client knows, or with the public key as the secret: key confusion."""
    provider.change_header = lambda header: {**header, "alg": "HS256"}


LIES: dict[str, Callable[[OidcProvider], Any]] = {
    "another nonce": lambda it: setattr(it, "change_claims", lambda claims: {**claims, "nonce": "another"}),
    "no nonce": lambda it: setattr(it, "change_claims", lambda claims: {k: v for k, v in claims.items() if k != "nonce"}),
    "for another client": lambda it: setattr(it, "change_claims", lambda claims: {**claims, "aud": "another-client"}),
    "for several, by another": lambda it: setattr(
        it, "change_claims", lambda claims: {**claims, "aud": [CLIENT_ID, "another"], "azp": "another"}
    ),
    "for nobody": lambda it: setattr(it, "change_claims", lambda claims: {k: v for k, v in claims.items() if k != "aud"}),
    "of another issuer": lambda it: setattr(it, "change_claims", lambda claims: {**claims, "iss": "https://accounts.example.org"}),
    "of no issuer": lambda it: setattr(it, "change_claims", lambda claims: {k: v for k, v in claims.items() if k != "iss"}),
    "expired": lambda it: setattr(it, "change_claims", lambda claims: {**claims, "exp": claims["iat"] - 61}),
    "without an end": lambda it: setattr(it, "change_claims", lambda claims: {k: v for k, v in claims.items() if k != "exp"}),
    "of tomorrow": lambda it: setattr(it, "change_claims", lambda claims: {**claims, "nbf": claims["iat"] + 86400}),
    "about nobody": lambda it: setattr(it, "change_claims", lambda claims: {k: v for k, v in claims.items() if k != "sub"}),
    "about a list": lambda it: setattr(it, "change_claims", lambda claims: {**claims, "sub": ["u-1"]}),
    "signed by another key": lambda it: setattr(it, "sign_with", new_key(1)),
    "signed by an unknown key": lambda it: setattr(it, "change_header", lambda header: {**header, "kid": "k9"}),
    "with the signature cut": lambda it: setattr(it, "change_token", lambda token: token[:-20]),
    "unsigned": unsigned,
    "unsigned, without a signature part": lambda it: (
        unsigned(it), setattr(it, "change_token", lambda token: token.rpartition(".")[0])
    ),
    "by HS256": by_the_client_secret,
    "no token at all": lambda it: setattr(it, "change_token", lambda token: "x"),
}


def test_a_token_that_is_not_right_in_every_part_lets_nobody_in(
    provider: OidcProvider, browser: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    """Stolen at another client, replayed, forged, or of a provider that is broken: refused, in the same words, with the reason in
    the log alone. The true one beside it is taken."""
    provider.claims |= {"groups": ["fleet-admins"]}
    for lie, tell in LIES.items():
        tell(provider)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            answer = browser.get(leave(browser))
        assert answer.status_code == 401, lie
        assert "The identity provider&#39;s answer was not accepted" in answer.text, lie
        assert who(browser) is None, lie
        assert "sign-in refused" in caplog.text, lie
        assert CLIENT_SECRET not in caplog.text
        provider.change_claims, provider.change_header, provider.change_token = (lambda same: same,) * 3  # type: ignore[assignment]
        provider.sign_with = None
    assert browser.get(leave(browser)).status_code == 303
    assert who(browser) == ("ada", "admin")


def test_an_answer_works_once_in_the_browser_that_left_and_in_time(
    here: Context, provider: OidcProvider, browser: FlaskClient
) -> None:
    """Login CSRF and replays: Eve sends Ada a link with Eve's code; somebody finds an old answer in a proxy's log."""
    provider.claims |= {"groups": ["shops"]}
    back = leave(browser)
    victim = create_operator_app(here).test_client()
    assert victim.get(back).status_code == 401, "another browser"
    assert who(victim) is None
    assert browser.get(back).status_code == 401, "it is used up by that, too"
    assert provider.redeemed == [], "and the code was never shown to the provider"
    back = leave(browser)
    assert browser.get(back).status_code == 303
    assert browser.get(back).status_code == 401, "replayed"
    back = leave(browser)
    here.clock.forward(oidc.FLOW_S + 1)  # type: ignore[attr-defined]
    assert browser.get(back).status_code == 401, "too late"
    back = leave(browser)
    state = parse_qs(urlsplit(back).query)["state"][0]
    assert browser.get(back.replace(state, state[:-1] + "_")).status_code == 401, "another state"
    back = leave(browser)
    assert browser.get(f"/oidc/callback?state={parse_qs(urlsplit(back).query)['state'][0]}&code=guessed").status_code == 401
    back = leave(browser)
    assert browser.get(back.replace("iss=http", "iss=https")).status_code == 401, "of another provider (RFC 9207)"
    for nothing in ("/oidc/callback", "/oidc/callback?state=&code=", "/oidc/callback?error=access_denied&state=x"):
        assert browser.get(nothing).status_code == 401


def test_where_a_sign_in_ends_lies_on_this_site(here: Context, provider: OidcProvider, browser: FlaskClient) -> None:
    """A link with next=//evil.example leads to the overview."""
    provider.claims |= {"groups": ["shops"]}
    assert browser.get(leave(browser, "/oidc/login?next=//evil.example/x")).headers["Location"] == "/"


@pytest.mark.parametrize("change", [
    {"issuer": "https://evil.example"}, {"token_endpoint": "http://192.0.2.1/token"}, {"jwks_uri": "file:///etc/passwd"},
    {"authorization_endpoint": None},
])  # fmt: skip
def test_a_document_that_leads_elsewhere_is_not_followed(here: Context, provider: OidcProvider, change: dict[str, Any]) -> None:
    """The provider's document is broken or not its own: the page says so, and nobody is sent anywhere."""
    provider.change_document = lambda document: {**document, **change}
    answer = create_operator_app(here).test_client().get("/oidc/login")
    assert answer.status_code == 503
    assert "Location" not in answer.headers


def test_the_guard_of_outgoing_requests_holds_for_the_provider(here: Context, provider: OidcProvider) -> None:
    """An issuer that lies in our own network is not asked unless somebody listed it (SSRF)."""
    shut = replace(here, settings=replace(here.settings, outgoing_hosts=""))
    assert create_operator_app(shut).test_client().get("/oidc/login").status_code == 503


def test_a_new_key_of_the_provider_is_fetched(here: Context, provider: OidcProvider, browser: FlaskClient) -> None:
    """The provider changes its keys, as it should: the first token by the new one is not refused for ever."""
    from fleet_server.accounts.oidc_http import KEYS_AGAIN_S, Provider

    now = [0.0]
    browser.application.extensions["rookery_provider"] = Provider(here.settings, lambda: now[0])
    provider.claims |= {"groups": ["shops"]}
    assert browser.get(leave(browser)).status_code == 303
    provider.key, provider.kid = new_key(1), "k2"
    now[0] += KEYS_AGAIN_S + 1
    assert browser.get(leave(browser)).status_code == 303


@pytest.mark.parametrize(("changed", "named"), [
    ({"oidc_issuer": "http://accounts.example.org"}, "oidc_issuer"), ({"oidc_issuer": "https://a.example/?x"}, "oidc_issuer"),
    ({"oidc_issuer": "ftp://a"}, "oidc_issuer"), ({"oidc_client_id": ""}, "oidc_client_id"), ({"oidc_scopes": "email"}, "openid"),
    ({"oidc_rules": "groups=x -> king"}, "oidc_rules"), ({"oidc_rules": "everybody"}, "oidc_rules"),
    ({"oidc_rules": "name=*@example.org -> viewer"}, "e-mail"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused_at_the_start(settings: Settings, changed: dict[str, str], named: str) -> None:
    """A typo in the rules must not let in everybody, or nobody, in silence."""
    good = replace(settings, oidc_issuer="https://accounts.example.org", oidc_client_id="x", oidc_rules=RULES)
    oidc_rules.check_settings(good)
    with pytest.raises(SettingsError, match=named):
        oidc_rules.check_settings(replace(good, **changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(("claims", "role"), [
    ({"email": "ben@shop.example", "email_verified": True}, "viewer"),
    ({"email": "ben@SHOP.example", "email_verified": True}, "viewer"),
    ({"email": "ben@shop.example"}, None), ({"email": "ben@shop.example", "email_verified": "true"}, None),
    ({"email": "x@evil.example@shop.example", "email_verified": True}, None),
    ({"email": "ben@shop.example.evil", "email_verified": True}, None),
    ({"dept": "anything"}, "operator"), ({"dept": ""}, None), ({"dept": 7}, None), ({"groups": "fleet-admins"}, "admin"),
    ({"groups": ["fleet-admins-2"]}, None), ({"groups": [["fleet-admins"]]}, None), ({}, None),
])  # fmt: skip
def test_a_rule_fits_whole_values_only(claims: dict[str, Any], role: str | None) -> None:
    """Nothing that only looks like it."""
    rules = oidc_rules.read_rules("groups=fleet-admins -> admin; email=*@shop.example -> viewer; dept=* -> operator @a, b")
    found = oidc_rules.decide(rules, claims)
    assert (found.role if found else None) == role


def test_an_address_that_begins_too_often_waits(server: Context) -> None:
    """A flood of begun sign-ins would leave no room for others: one address has sixty a minute, as with passwords."""
    browser = create_operator_app(server).test_client()
    assert [browser.get("/oidc/login").status_code for _ in range(61)][-1] == 429


def test_a_server_without_a_provider_has_no_such_door(server: Context) -> None:
    """Nobody set one: no button, no route that does anything."""
    browser = create_operator_app(server).test_client()
    assert "/oidc/login" not in browser.get("/login").text
    assert browser.get("/oidc/login").status_code in (401, 404)
    assert browser.get("/oidc/callback?state=x&code=y").status_code == 401
