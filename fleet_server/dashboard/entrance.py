"""The pages of who is not signed in: sign in, first administrator, one-time links; and signing out."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from fleet_server.accounts import api as accounts
from fleet_server.accounts.access import drop_session_cookie, set_session_cookie
from fleet_server.accounts.service import MIN_PASSWORD, is_set_up
from fleet_server.context import context
from fleet_server.dashboard import words
from fleet_server.errors import ServerError, TooManyError, UnavailableError
from fleet_server.http_access import open_to_all, require

Page = tuple[str, int]


def add_entrance(blueprint: Blueprint) -> None:
    """Register the pages and their forms' actions."""
    rules: dict[tuple[str, str], Callable[..., Any]] = {
        ("GET", "/login"): login, ("POST", "/login"): post_login, ("GET", "/setup"): setup, ("POST", "/setup"): post_setup,
        ("GET", "/welcome"): welcome, ("POST", "/welcome"): post_welcome, ("POST", "/logout"): post_logout,
    }  # fmt: skip
    for (method, path), view in rules.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@open_to_all
def login() -> str:
    """The form to sign in; where nobody can yet, it says how the first administrator is made."""
    with context().database.read() as db:
        ready = is_set_up(db)
    return _login_page(following=safe_path(request.args.get("next", "/")), name=request.args.get("name", "")[:64], ready=ready,
                       done="set" in request.args)  # fmt: skip


@open_to_all
def post_login() -> Response | Page:
    """Sign in, then go where the person wanted to go; only within this site."""
    name, following = request.form.get("name", "")[:64], safe_path(request.form.get("next", "/"))
    try:
        return _signed_in(name, request.form.get("password", ""), request.form.get("code", "")[:40], following)
    except ServerError as error:
        return login_refused(error, name=name, following=following)


def login_refused(error: ServerError, *, name: str = "", following: str = "/") -> Response | Page:
    """The form again, with what was wrong."""
    status = 429 if isinstance(error, TooManyError) else 503 if isinstance(error, UnavailableError) else 401
    page = make_response(_login_page(following=following, name=name, problem=words.sentence(error)), status)
    if isinstance(error, TooManyError | UnavailableError):
        page.headers["Retry-After"] = str(error.retry_after_s)
    return page


def _login_page(*, following: str, name: str = "", problem: str = "", ready: bool = True, done: bool = False) -> str:
    settings = context().settings
    return render_template(
        "login.html", following=following, problem=problem, name=name, ready=ready, done=done,
        provider=settings.oidc_name if settings.oidc_issuer else "",
    )  # fmt: skip


def _signed_in(name: str, password: str, code: str, following: str) -> Response:
    signed = accounts.sign_in_here(name, password, code)
    response = make_response(redirect(following, 303))
    set_session_cookie(response, signed.grant.token, signed.browser_cookie)
    return response


@open_to_all
def setup() -> str:
    """The form that sets the first password; the link works once."""
    with context().database.read() as db:
        done = is_set_up(db)
    return render_template(
        "setup.html", token=request.args.get("token", ""), problem="", name="admin", done=done, shortest=MIN_PASSWORD
    )


@open_to_all
def post_setup() -> Response | Page:
    """Make the first admin and sign them in."""
    token, name, password = (request.form.get(key, "") for key in ("token", "name", "password"))
    problem = "The two passwords differ." if password != request.form.get("again", "") else ""
    if not problem:
        try:
            accounts.complete_setup(token, name, password)
            return _signed_in(name, password, "", "/")
        except ServerError as error:
            problem = words.sentence(error)
    page = render_template("setup.html", token=token, problem=problem, name=name, done=False, shortest=MIN_PASSWORD)
    return page, 400


@open_to_all
def welcome() -> str:
    """The form behind an invitation or a link for a new password. It says nothing of the account: the link alone knows."""
    return render_template("welcome.html", token=request.args.get("token", "")[:200], problem="", shortest=MIN_PASSWORD)


@open_to_all
def post_welcome() -> Response | Page:
    """Set the password, then sign in with it."""
    token, password = (request.form.get(key, "") for key in ("token", "password"))
    problem = "The two passwords differ." if password != request.form.get("again", "") else ""
    if not problem:
        try:
            name = accounts.complete_link(token, password)
            return redirect(url_for("dashboard.login", name=name, set=1), 303)
        except ServerError as error:
            problem = words.sentence(error)
    return render_template("welcome.html", token=token[:200], problem=problem, shortest=MIN_PASSWORD), 400


@require("viewer", reach="nobody")
def post_logout() -> Response:
    """End this session."""
    accounts.end_this()
    response = make_response(redirect(url_for("dashboard.login"), 303))
    drop_session_cookie(response)
    return response


def safe_path(path: str) -> str:
    """A path of this site; anything that could lead elsewhere becomes the overview."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or any(ord(letter) < 32 for letter in path):
        return "/"
    return path
