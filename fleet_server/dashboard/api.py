"""The pages' blueprint: signing in, theme, static files. The pages themselves are in ``views``."""

from pathlib import Path

from flask import Blueprint, Response, make_response, redirect, render_template, request, send_from_directory, session, url_for
from werkzeug.wrappers import Response as BaseResponse

from fleet_server.accounts import api as accounts
from fleet_server.accounts.access import drop_session_cookie, set_session_cookie
from fleet_server.accounts.service import end_grant
from fleet_server.accounts.sign_in import sign_in
from fleet_server.context import context
from fleet_server.dashboard import views, words
from fleet_server.errors import ServerError
from fleet_server.http_access import current_operator, find_operator, open_to_all, origin, require

STATIC = Path(__file__).parent / "static"
THEMES = ("light", "dark")
YEAR_S = 365 * 86_400

operator = Blueprint("dashboard", __name__, template_folder="templates")
views.add_pages(operator)

for name in ("sign", "tone", "instant", "amount", "number"):
    operator.add_app_template_filter(getattr(words, name), name)
operator.add_app_template_global(words.share, "share")


@operator.app_template_filter("ago")
def ago(at_s: float | None) -> str:
    """How long ago, by the server's clock."""
    return words.ago(at_s, context().clock())


@operator.context_processor
def frame() -> dict[str, object]:
    """What the frame of every page needs."""
    theme = request.cookies.get("theme", "")
    return {"theme": theme if theme in THEMES else "", "who": find_operator(), "now_s": context().clock()}


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
    """The form to sign in."""
    return render_template("login.html", following=request.args.get("next", "/"), problem="")


@operator.post("/login")
@open_to_all
def post_login() -> BaseResponse | tuple[str, int]:
    """Sign in, then go where the person wanted to go; only within this site."""
    here, form = context(), request.form
    following = safe_path(form.get("next", "/"))
    try:
        grant = sign_in(
            here.database, name=form.get("name", ""), password=form.get("password", ""), kind="session", token_name="browser",
            ttl_s=here.settings.session_ttl_s, now_s=here.clock(), origin=origin(),
        )  # fmt: skip
    except ServerError as error:
        return render_template("login.html", following=following, problem=str(error)), 401
    session.clear()
    response = make_response(redirect(following, 303))
    set_session_cookie(response, grant.token)
    return response


@operator.get("/setup/<token>")
@open_to_all
def setup(token: str) -> str:
    """The form that sets the first password; the link works once."""
    return render_template("setup.html", token=token, problem="", name="")


@operator.post("/setup/<token>")
@open_to_all
def post_setup(token: str) -> BaseResponse | tuple[str, int]:
    """Make the first admin, then ask them to sign in."""
    name, password = request.form.get("name", ""), request.form.get("password", "")
    problem = "the two passwords differ" if password != request.form.get("again", "") else ""
    if not problem:
        try:
            accounts.complete_setup(token, name, password)
        except ServerError as error:
            problem = str(error)
    if problem:
        return render_template("setup.html", token=token, problem=problem, name=name), 400
    return redirect(url_for("dashboard.login"), 303)


@operator.post("/logout")
@require("viewer")
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
        response.set_cookie("theme", chosen, max_age=YEAR_S, httponly=True, samesite="Lax")
    else:
        response.delete_cookie("theme")
    return response


def safe_path(path: str) -> str:
    """A path of this site; anything that could lead elsewhere becomes the overview."""
    if not path.startswith("/") or path.startswith("//") or "\\" in path or any(ord(letter) < 32 for letter in path):
        return "/"
    return path
