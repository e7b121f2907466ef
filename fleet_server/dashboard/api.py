"""The pages' blueprint: signing in, theme, static files. The pages themselves are in ``views``."""

from pathlib import Path

from flask import Blueprint, Response, make_response, redirect, render_template, request, send_from_directory, session, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from fleet_server import http_errors
from fleet_server.accounts import api as accounts
from fleet_server.accounts.access import drop_session_cookie, set_session_cookie
from fleet_server.accounts.service import MIN_PASSWORD, end_grant, is_set_up
from fleet_server.accounts.sign_in import sign_in
from fleet_server.context import context
from fleet_server.dashboard import words
from fleet_server.dashboard.actions import add_actions
from fleet_server.dashboard.audit_pages import add_audit_pages
from fleet_server.dashboard.configuring import add_configuring
from fleet_server.dashboard.views import add_pages
from fleet_server.errors import ServerError, TooManyError
from fleet_server.http_access import current_operator, find_operator, open_to_all, origin, require
from fleet_server.identities import groups_in_words

STATIC = Path(__file__).parent / "static"
THEMES = ("light", "dark")
YEAR_S = 365 * 86_400

operator = Blueprint("dashboard", __name__, template_folder="templates")
add_pages(operator)
add_actions(operator)
add_configuring(operator)
add_audit_pages(operator)

for name in ("sign", "tone", "say", "instant", "amount", "number", "meaning", "duration"):
    operator.add_app_template_filter(getattr(words, name), name)
operator.add_app_template_global(words.share, "share")


@operator.app_template_filter("ago")
def ago(at_s: float | None) -> str:
    """How long ago, by the server's clock."""
    return words.ago(at_s, context().clock())


@operator.context_processor
def frame() -> dict[str, object]:
    """What the frame of every page needs."""
    theme, who = request.cookies.get("theme", ""), find_operator()
    may_act = who is not None and "operator" in who.scopes
    limit = groups_in_words(who.groups) if who is not None and who.groups is not None else ""
    return {
        "theme": theme if theme in THEMES else "", "who": who, "may_act": may_act, "now_s": context().clock(), "limit": limit,
    }  # fmt: skip


@operator.get("/static/<path:name>")
@open_to_all
def static(name: str) -> Response:
    """Style, scripts and vendored libraries; paths of the latter carry their version and are cached for long."""
    response = send_from_directory(STATIC, name, conditional=True)
    if name.startswith("vendor/"):
        response.headers["Cache-Control"] = f"public, max-age={YEAR_S}, immutable"
    else:
        response.headers["Cache-Control"] = "no-cache"
    return response


@operator.get("/login")
@open_to_all
def login() -> str:
    """The form to sign in; where nobody can yet, it says how the first administrator is made."""
    with context().database.read() as db:
        ready = is_set_up(db)
    return render_template("login.html", following=safe_path(request.args.get("next", "/")), problem="", name="", ready=ready)


@operator.post("/login")
@open_to_all
def post_login() -> BaseResponse | tuple[str, int]:
    """Sign in, then go where the person wanted to go; only within this site."""
    name, following = request.form.get("name", ""), safe_path(request.form.get("next", "/"))
    try:
        return _signed_in(name, request.form.get("password", ""), following)
    except ServerError as error:
        status = 429 if isinstance(error, TooManyError) else 401
        return render_template("login.html", following=following, problem=words.sentence(error), name=name, ready=True), status


def _signed_in(name: str, password: str, following: str) -> BaseResponse:
    here = context()
    grant = sign_in(
        here.database, name=name, password=password, kind="session", token_name="browser",  # noqa: S106  a name, not a secret
        ttl_s=here.settings.session_ttl_s, now_s=here.clock(), origin=origin(),
    )  # fmt: skip
    session.clear()  # a CSRF token from before the sign-in must not live on
    response = make_response(redirect(following, 303))
    set_session_cookie(response, grant.token)
    return response


@operator.get("/setup")
@open_to_all
def setup() -> str:
    """The form that sets the first password; the link works once."""
    with context().database.read() as db:
        done = is_set_up(db)
    return render_template(
        "setup.html", token=request.args.get("token", ""), problem="", name="admin", done=done, shortest=MIN_PASSWORD
    )


@operator.post("/setup")
@open_to_all
def post_setup() -> BaseResponse | tuple[str, int]:
    """Make the first admin and sign them in."""
    token, name, password = (request.form.get(key, "") for key in ("token", "name", "password"))
    problem = "The two passwords differ." if password != request.form.get("again", "") else ""
    if not problem:
        try:
            accounts.complete_setup(token, name, password)
            return _signed_in(name, password, "/")
        except ServerError as error:
            problem = words.sentence(error)
    page = render_template("setup.html", token=token, problem=problem, name=name, done=False, shortest=MIN_PASSWORD)
    return page, 400


@operator.post("/logout")
@require("viewer", reach="nobody")
def post_logout() -> BaseResponse:
    """End this session."""
    with context().database.write() as db:
        end_grant(db, current_operator().token_id)
    session.clear()
    response = make_response(redirect(url_for("dashboard.login"), 303))
    drop_session_cookie(response)
    return response


@operator.post("/theme")
@open_to_all
def post_theme() -> BaseResponse:
    """Light, dark, or as the system has it; kept in a cookie so that the first paint is right."""
    chosen = request.form.get("theme", "")
    response = make_response(redirect(safe_path(request.form.get("next", "/")), 303))
    if chosen in THEMES:
        secure = context().settings.operator_over_tls
        response.set_cookie("theme", chosen, max_age=YEAR_S, httponly=True, samesite="Lax", secure=secure)
    else:
        response.delete_cookie("theme")
    return response


def safe_path(path: str) -> str:
    """A path of this site; anything that could lead elsewhere becomes the overview."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or any(ord(letter) < 32 for letter in path):
        return "/"
    return path


@operator.app_errorhandler(ServerError)
def on_server_error(error: ServerError) -> BaseResponse | tuple[str, int]:
    """A refusal as a page for people; programs get the problem document."""
    answer = http_errors.from_server_error(error)
    if not _is_person():
        return answer
    return render_template("problem.html", status=answer.status_code, detail=error.detail, hint=error.hint), answer.status_code


@operator.app_errorhandler(HTTPException)
def on_http_error(error: HTTPException) -> BaseResponse | tuple[str, int]:
    """An unknown page, a form that is too old: said as a page."""
    answer = http_errors.from_http_exception(error)
    if answer.status_code < 400 or not _is_person():
        return answer
    page = render_template("problem.html", status=answer.status_code, detail=error.description or error.name, hint="")
    return page, answer.status_code


def _is_person() -> bool:
    accepted = request.accept_mimetypes
    return not request.path.startswith("/api/") and accepted["text/html"] > accepted["application/json"]
