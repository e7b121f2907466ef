"""Signing in through the identity provider: away, and back again; connecting an account with it."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, current_app, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from fleet_server.accounts import oidc
from fleet_server.accounts.access import (
    FLOW_COOKIE,
    cookie_name,
    drop_cookie,
    here_url,
    me,
    session_cookie,
    set_cookie,
    set_session_cookie,
)
from fleet_server.accounts.oidc_http import Provider
from fleet_server.context import context
from fleet_server.dashboard.entrance import login_refused, safe_path
from fleet_server.errors import ForbiddenError, NotFoundError, ServerError, UnavailableError
from fleet_server.http_access import find_operator, open_to_all, origin, require
from fleet_server.identities import OWN


def add_provider_pages(blueprint: Blueprint) -> None:
    """Register the routes."""
    rules: dict[tuple[str, str], Callable[..., Any]] = {
        ("GET", "/oidc/login"): oidc_login, ("GET", "/oidc/callback"): oidc_callback,
        ("POST", "/account/provider/connect"): provider_connect, ("POST", "/account/provider/disconnect"): provider_disconnect,
    }  # fmt: skip
    for (method, path), view in rules.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@open_to_all
def oidc_login() -> Any:
    """Send the browser to the provider."""
    following = safe_path(request.args.get("next", "/"))
    try:
        url, browser = _begin(following, None)
    except ServerError as error:
        return login_refused(error, following=following)
    response = make_response(redirect(url, 303))
    set_cookie(response, FLOW_COOKIE, browser, oidc.FLOW_S)
    return response


@open_to_all
def oidc_callback() -> Any:
    """Back from the provider: the code is looked at once, and only in the browser that left."""
    here, given, following, flow = context(), request.args, "/", None
    try:
        with here.database.write() as db:
            flow = oidc.take(
                db, state=given.get("state", ""), browser=request.cookies.get(cookie_name(FLOW_COOKIE), ""), now_s=here.clock()
            )  # fmt: skip
        # RFC 9207: an answer of another provider that was led here.
        if flow is None or given.get("iss", here.settings.oidc_issuer) != here.settings.oidc_issuer:
            raise oidc.lost_flow()
        following = flow.following
        claims = _provider().redeem(
            code=given.get("code", ""), redirect_uri=_redirect_uri(), nonce=flow.nonce, verifier=flow.verifier, now_s=here.clock()
        )  # fmt: skip
        if flow.connects is not None:
            return _connected(flow.connects, claims)
        agent = " ".join(request.headers.get("User-Agent", "").split()) or "a browser"
        grant = oidc.sign_in(here, claims, agent=agent, origin=origin(), replaces=session_cookie())
    except ServerError as error:
        if flow is not None and not isinstance(error, UnavailableError):  # an answer that nobody waits for is noise of anybody
            oidc.note_refused(here, error, origin=origin())
        page = make_response(login_refused(error, following=following))
        drop_cookie(page, FLOW_COOKIE)
        return page
    response = make_response(redirect(following, 303))
    set_session_cookie(response, grant.token)
    drop_cookie(response, FLOW_COOKIE)
    return response


@require(OWN, reach="nobody")
def provider_connect() -> Response:
    """Connect one's own account: the page leads to the provider, because no form may (CSP form-action)."""
    asking = me()
    if not asking.fresh:
        raise ForbiddenError("this asks for your password again", "go back and show it")
    url, browser = _begin("/account", asking.found.account_id)
    response = make_response(render_template("provider.html", url=url, provider=context().settings.oidc_name))
    set_cookie(response, FLOW_COOKIE, browser, oidc.FLOW_S)
    return response


@require(OWN, reach="nobody")
def provider_disconnect() -> Response:
    """Only by password from now on."""
    asking = me()
    if not asking.fresh:
        raise ForbiddenError("this asks for your password again", "go back and show it")
    with context().database.write() as db:
        oidc.disconnect(db, asking.actor, asking.found.account_id)
    return redirect(url_for("dashboard.account", done="disconnected"), 303)


def _connected(account_id: int, claims: dict[str, Any]) -> Response:
    here = context()
    if find_operator() is None or me().found.account_id != account_id:
        raise oidc.lost_flow()  # somebody else has signed in here meanwhile
    with here.database.write() as db:
        oidc.connect(db, me().actor, account_id, issuer=here.settings.oidc_issuer, subject=claims["sub"])
    response = make_response(redirect(url_for("dashboard.account", done="connected"), 303))
    drop_cookie(response, FLOW_COOKIE)
    return response


def _begin(following: str, connects: int | None) -> tuple[str, str]:
    here = context()
    left = _provider().leave(_redirect_uri())
    with here.database.write() as db:
        oidc.begin(db, left, following=following, connects=connects, now_s=here.clock())
    return left.url, left.browser


def _redirect_uri() -> str:
    return f"{here_url()}/oidc/callback"


def _provider() -> Provider:
    settings = context().settings
    if not settings.oidc_issuer:
        raise NotFoundError("this server has no identity provider", "sign in with your password")
    made: Provider | None = current_app.extensions.get("rookery_provider")
    if made is None:
        made = current_app.extensions["rookery_provider"] = Provider(settings)
    return made
