"""The pages' blueprint: signing in, theme, static files. The pages themselves are in ``views``."""

from pathlib import Path

from flask import Blueprint, Response, make_response, redirect, render_template, request, send_from_directory
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from fleet_server import http_errors
from fleet_server.context import context
from fleet_server.dashboard import words
from fleet_server.dashboard.accounts_pages import add_account_pages
from fleet_server.dashboard.actions import add_actions
from fleet_server.dashboard.audit_pages import add_audit_pages
from fleet_server.dashboard.configuring import add_configuring
from fleet_server.dashboard.enrolment_pages import add_enrolment_pages
from fleet_server.dashboard.entrance import add_entrance, safe_path
from fleet_server.dashboard.people_pages import add_people_pages
from fleet_server.dashboard.provider_pages import add_provider_pages
from fleet_server.dashboard.views import add_pages
from fleet_server.errors import ServerError
from fleet_server.http_access import find_operator, open_to_all
from fleet_server.identities import groups_in_words

STATIC = Path(__file__).parent / "static"
THEMES = ("light", "dark")
YEAR_S = 365 * 86_400

operator = Blueprint("dashboard", __name__, template_folder="templates")
add_pages(operator)
add_actions(operator)
add_configuring(operator)
add_entrance(operator)
add_account_pages(operator)
add_people_pages(operator)
add_provider_pages(operator)
add_audit_pages(operator)
add_enrolment_pages(operator)

for name in ("sign", "tone", "say", "instant", "amount", "number", "meaning", "duration", "browser"):
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
