"""The guard of the operator door: session cookie with CSRF token, or bearer token; then the scope that the route asks for."""

from urllib.parse import quote

from flask import Flask, Response, current_app, redirect, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as AnyResponse

from fleet_server.accounts import service
from fleet_server.context import context
from fleet_server.errors import ForbiddenError, UnauthenticatedError
from fleet_server.http_access import find_operator, install_operators, scope_of
from fleet_server.identities import Operator

SESSION_COOKIE = "rookery_session"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_csrf = CSRFProtect()


def protect(app: Flask) -> None:
    """Put the guard before every route of the operator app."""
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False  # the guard decides: a bearer token needs no CSRF token
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # it lives as long as the session
    _csrf.init_app(app)
    install_operators(app, _identify)
    app.before_request(_guard)


def _guard() -> AnyResponse | None:
    if request.endpoint is None:
        return None  # no such route: 404 or 405 by itself
    scope = scope_of(current_app.view_functions[request.endpoint])
    if request.endpoint == "static" or request.endpoint.endswith(".static"):
        return None  # style and scripts of the sign-in page too
    if scope is None:
        raise ForbiddenError("this route does not say who may use it")
    if request.method not in _SAFE:
        _same_site()
    if scope == "":
        if request.method not in _SAFE and request.mimetype != "application/json":
            _csrf.protect()  # a form may be sent from anywhere without asking; JSON may not
        return None
    operator = find_operator()
    if operator is None:
        if request.method == "GET" and not request.path.startswith("/api/"):
            return redirect("/login?next=" + quote(request.full_path.rstrip("?"), safe="/"))
        raise UnauthenticatedError("nobody is signed in", "sign in at /login, or with `rookery login`")
    if operator.kind == "session" and request.method not in _SAFE:
        _csrf.protect()
    if scope not in operator.scopes:
        raise ForbiddenError(f"this needs the scope {scope!r}; the role {operator.role!r} does not have it")
    return None


def _same_site() -> None:
    if "Authorization" in request.headers:
        return
    if request.headers.get("Sec-Fetch-Site", "none") not in {"same-origin", "none"}:
        raise ForbiddenError("this request comes from another site")


def _identify() -> Operator | None:
    here = context()
    header = request.headers.get("Authorization", "")
    if header:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer":
            return None
        look_for = ("token", token.strip())
    else:
        look_for = ("session", request.cookies.get(SESSION_COOKIE, ""))
    if not look_for[1]:
        return None
    with here.database.read() as session:
        return service.who(session, token=look_for[1], kind=look_for[0], now_s=here.clock())


def set_session_cookie(response: Response, token: str) -> None:
    """Hand the session to the browser: not readable by scripts, not sent from other sites."""
    settings = context().settings
    response.set_cookie(
        SESSION_COOKIE, token, max_age=int(settings.session_ttl_s), httponly=True, samesite="Lax", secure=settings.secure_cookies
    )  # fmt: skip


def drop_session_cookie(response: Response) -> None:
    """Make the browser forget it."""
    response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="Lax", secure=context().settings.secure_cookies)
