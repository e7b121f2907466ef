"""The guard of the operator door: session cookie with CSRF token, or bearer token; then the scope that the route asks for."""

from urllib.parse import quote

from flask import Flask, Response, current_app, g, redirect, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as AnyResponse

from fleet_server.accounts import service
from fleet_server.context import context
from fleet_server.errors import ForbiddenError, UnauthenticatedError
from fleet_server.http_access import (
    DEVICE_PARAMETERS,
    check_device,
    find_operator,
    install_operators,
    reach_of,
    reach_was_asked,
    scope_of,
)
from fleet_server.http_errors import problem
from fleet_server.identities import Operator, groups_in_words

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
    app.after_request(_answer)


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
    if operator.groups is not None:
        _keep_to_groups(reach_of(current_app.view_functions[request.endpoint]), operator.groups)
    return None


def _keep_to_groups(reach: str, groups: frozenset[str]) -> None:
    """The limit of an account (or token) to device groups. What a ``filtered`` route does with it is looked at in ``_answer``."""
    if reach == "fleet":
        raise ForbiddenError(
            f"this is about the whole fleet, and your account is limited to {groups_in_words(groups)}",
            "ask somebody whose account is not limited, or an admin to widen yours",
        )
    if reach == "device":
        named = [str(request.view_args[name]) for name in DEVICE_PARAMETERS if name in (request.view_args or {})]
        if not named:
            raise ForbiddenError("this route names no device, so it cannot be kept to your groups")
        for each in named:
            check_device(each, groups)


def _answer(response: Response) -> Response:
    """A route that is to filter and never asked by what gives nothing away."""
    operator = g.get("operator")
    if operator is None or operator.groups is None or response.status_code >= 400 or request.endpoint is None:
        return response
    view = current_app.view_functions[request.endpoint]
    if scope_of(view) and reach_of(view) == "filtered" and not reach_was_asked():
        response.close()
        refusal = problem(403, "Refused", "this route does not keep to your groups, so its answer is withheld")
        response.direct_passthrough = False  # changed in place: the headers that others have put on it stay
        response.status_code, response.mimetype = refusal.status_code, refusal.mimetype
        response.set_data(refusal.get_data())
    return response


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
