"""*My account*: password, second factor, recovery codes, sessions, tokens. Forms that work without scripts."""

from collections.abc import Callable
from typing import Any

import segno
from flask import Blueprint, redirect, render_template, request, url_for
from markupsafe import Markup
from werkzeug.wrappers import Response

from fleet_server.accounts import own
from fleet_server.accounts.access import me
from fleet_server.accounts.service import MIN_PASSWORD
from fleet_server.context import context
from fleet_server.dashboard import words
from fleet_server.dashboard.entrance import safe_path
from fleet_server.errors import InvalidError, ServerError
from fleet_server.http_access import current_operator, require
from fleet_server.http_errors import from_server_error
from fleet_server.identities import OWN

DAYS = (1, 7, 30, 90, 365)
QR_SCALE_PX, QR_QUIET = 5, 4
"""Pixels of one dot, and the quiet zone in dots (ISO/IEC 18004 §5.3.8)."""


def add_account_pages(blueprint: Blueprint) -> None:
    """Register the pages and their forms' actions."""
    rules: dict[tuple[str, str], Callable[..., Any]] = {
        ("GET", "/account"): account, ("POST", "/account/prove"): account_prove, ("POST", "/account/password"): account_password,
        ("GET", "/account/second-factor"): account_factor, ("POST", "/account/second-factor"): account_factor_begin,
        ("POST", "/account/second-factor/confirm"): account_factor_confirm,
        ("POST", "/account/second-factor/remove"): account_factor_remove,
        ("POST", "/account/recovery-codes"): account_recovery_codes, ("POST", "/account/tokens"): account_token,
        ("POST", "/account/sessions/end-others"): account_end_others, ("POST", "/account/grants/<grant_id>/end"): account_end,
    }  # fmt: skip
    for (method, path), view in rules.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@require(OWN, reach="nobody")
def account() -> str:
    """One's own account."""
    return _page()


@require(OWN, reach="nobody")
def account_prove() -> Response | tuple[str, int]:
    """The password again, for a while: then what matters can be changed."""
    following = safe_path(request.form.get("next", "/account"))
    try:
        own.prove(context(), me(), _text("password"), _text("code"), always=True)
    except ServerError as error:
        return _again(error) if following == "/account" else (render_template(
            "prove.html", following=following, problem=words.sentence(error), factor=_factor_is_on()
        ), 403)  # fmt: skip
    return redirect(following, 303)


@require(OWN, reach="nobody")
def account_password() -> Response | tuple[str, int]:
    """Another password; every other session and token ends."""
    try:
        if _text("new") != _text("again"):
            raise InvalidError("the two new passwords differ")
        own.change_password(context(), me(), password=_text("password"), code=_text("code"), new=_text("new"))
    except ServerError as error:
        return _again(error)
    return redirect(url_for("dashboard.account", done="password"), 303)


@require(OWN, reach="nobody")
def account_factor() -> str:
    """Setting up a second factor: the password, then the QR code and the first code."""
    return _factor_page()


@require(OWN, reach="nobody")
def account_factor_begin() -> Response | tuple[str, int]:
    """Make the secret; the page behind shows it."""
    try:
        own.begin_factor(context(), me(), password=_text("password"))
    except ServerError as error:
        return _factor_page(words.sentence(error)), from_server_error(error).status_code
    return redirect(url_for("dashboard.account_factor"), 303)


@require(OWN, reach="nobody")
def account_factor_confirm() -> str | tuple[str, int]:
    """Switch it on by its first code; the recovery codes are shown once."""
    try:
        codes = own.confirm_factor(context(), me(), _text("code"))
    except ServerError as error:
        return _factor_page(words.sentence(error)), from_server_error(error).status_code
    return render_template("codes.html", codes=codes, fresh_factor=True)


@require(OWN, reach="nobody")
def account_factor_remove() -> Response | tuple[str, int]:
    """Switch it off, by password and code."""
    try:
        own.remove_factor(context(), me(), password=_text("password"), code=_text("code"))
    except ServerError as error:
        return _again(error)
    return redirect(url_for("dashboard.account", done="factor-off"), 303)


@require(OWN, reach="nobody")
def account_recovery_codes() -> str | tuple[str, int]:
    """Fresh recovery codes, shown once."""
    try:
        codes = own.new_recovery_codes(context(), me(), password=_text("password"), code=_text("code"))
    except ServerError as error:
        return _again(error)
    return render_template("codes.html", codes=codes, fresh_factor=False)


@require(OWN, reach="nobody")
def account_token() -> str | tuple[str, int]:
    """A personal token, shown once."""
    form = request.form
    try:
        groups = [group.strip() for group in form.get("groups", "").split(",") if group.strip()]
        made = own.make_token(
            context(), me(), password="", code="", name=_text("name"), ttl_s=86400.0 * form.get("days", 30, type=int),
            scopes=form.getlist("scope"), groups=groups or None,
        )  # fmt: skip
    except ServerError as error:
        return _again(error)
    return render_template("shown_once.html", title="Your token", value=made.secret, back="/account", expires_s=None, text=(
        "Give it to your program as ROOKERY_TOKEN, or send it as Authorization: Bearer …. It stands in no list again."
    ))  # fmt: skip


@require(OWN, reach="nobody")
def account_end_others() -> Response:
    """End every session but this one."""
    own.end_others(context(), me())
    return redirect(url_for("dashboard.account", done="others"), 303)


@require(OWN, reach="nobody")
def account_end(grant_id: str) -> Response:
    """End one session or token of one's own."""
    own.end_grant(context(), me(), grant_id)
    return redirect(url_for("dashboard.account", done="ended"), 303)


def _page(problem: str = "") -> str:
    here, asking = context(), me()
    scopes = sorted(current_operator().scopes, key=lambda scope: (scope == OWN, scope))
    return render_template(
        "account.html", mine=own.overview(here, asking), sessions=own.grants(here, asking, "session"),
        tokens=own.grants(here, asking, "token"), this=asking.grant_id, problem=problem, done=request.args.get("done", ""),
        scopes=scopes, days=DAYS, shortest=MIN_PASSWORD, following="/account", own=OWN,
        provider=here.settings.oidc_name if here.settings.oidc_issuer else "",
    )  # fmt: skip


def _again(error: ServerError) -> tuple[str, int]:
    return _page(words.sentence(error)), from_server_error(error).status_code


def _factor_page(problem: str = "") -> str:
    here, asking = context(), me()
    mine, waiting = own.overview(here, asking), own.pending_factor(here, asking)
    drawn = Markup(segno.make(waiting.uri, error="m").svg_inline(  # noqa: S704  drawn by us; nothing of it is anybody's text
        scale=QR_SCALE_PX, border=QR_QUIET, dark="#000", light="#fff", svgclass="qr", lineclass=None
    )) if waiting else None  # fmt: skip
    return render_template("factor.html", mine=mine, waiting=waiting, drawn=drawn, problem=problem)


def _factor_is_on() -> bool:
    return own.overview(context(), me()).second_factor


def _text(name: str) -> str:
    return request.form.get(name, "")[:1000]
