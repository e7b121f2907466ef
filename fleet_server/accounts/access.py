"""The guard of the operator door: session cookie with CSRF token, or bearer token; then the scope that the route asks for."""

from urllib.parse import quote

from flask import Flask, Response, current_app, g, redirect, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.wrappers import Response as AnyResponse

from fleet_server.accounts import sessions
from fleet_server.accounts.links import Link
from fleet_server.accounts.lockout import KNOWN_BROWSER_S
from fleet_server.accounts.own import Me
from fleet_server.accounts.second_factor import required_roles
from fleet_server.accounts.sessions import SEEN_EVERY_S
from fleet_server.context import context
from fleet_server.errors import ForbiddenError, UnauthenticatedError
from fleet_server.http_access import (
    DEVICE_PARAMETERS,
    check_device,
    current_operator,
    find_operator,
    install_operators,
    origin,
    reach_of,
    reach_was_asked,
    scope_of,
)
from fleet_server.http_errors import problem
from fleet_server.identities import SCOPES, Operator, groups_in_words

SESSION_COOKIE, BROWSER_COOKIE, FLOW_COOKIE = "rookery_session", "rookery_browser", "rookery_flow"
"""The session; a browser in which somebody has signed in before; a sign-in that is at the identity provider at the moment."""
_OWING = frozenset({
    "dashboard.account_factor", "dashboard.account_factor_begin", "dashboard.account_factor_confirm", "dashboard.post_logout",
    "dashboard.account_prove",
    "accounts.get_account", "accounts.post_factor", "accounts.post_factor_confirm", "accounts.get_whoami", "accounts.post_logout",
})  # fmt: skip
"""All that is open to whoever must have a second factor and has none yet."""
_BY_ITSELF = frozenset({"overview.get_live"})
"""What an open page asks for without anybody there."""
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
    if operator.owes_factor and request.endpoint not in _OWING:
        return _to_the_factor(operator)
    if scope not in operator.scopes:
        raise ForbiddenError(f"this needs the scope {scope!r}; {_lacking(operator, scope)}")
    if operator.groups is not None:
        _keep_to_groups(reach_of(current_app.view_functions[request.endpoint]), operator.groups)
    _seen()
    return None


def _lacking(operator: Operator, scope: str) -> str:
    if scope in SCOPES[operator.role]:
        return "this token was not given it"
    return f"the role {operator.role!r} does not have it"


def _to_the_factor(operator: Operator) -> AnyResponse:
    if request.method == "GET" and not request.path.startswith("/api/"):
        return redirect("/account/second-factor")
    raise ForbiddenError(
        f"the role {operator.role} needs a second factor, and you have none yet", "set it up: My account, Second factor"
    )


def _keep_to_groups(reach: str, groups: frozenset[str]) -> None:
    """The limit of an account (or token) to device groups. What a ``filtered`` route does with it is looked at in ``_answer``."""
    if reach == "fleet":
        raise ForbiddenError(
            f"this is about the whole fleet, and your account is limited to {groups_in_words(groups)}",
            "ask somebody whose account is not limited, or an admin to widen yours",
        )
    if reach == "device":
        given = request.view_args or {}
        named = [str(given[name]) for name in DEVICE_PARAMETERS if name in given]
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
        response.status_code, response.mimetype = refusal.status_code, str(refusal.mimetype)
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
        look_for = ("session", session_cookie())
    if not look_for[1]:
        return None
    settings = here.settings
    with here.database.read() as db:
        found = sessions.find(
            db, secret=look_for[1], kind=look_for[0], now_s=here.clock(), idle_s=settings.session_idle_s,
            factor_roles=required_roles(settings.require_second_factor),
        )  # fmt: skip
    g.account_found = found
    return found.operator if found else None


def me() -> Me:
    """Who asks, for what somebody does with their own account."""
    current_operator()
    return Me(g.account_found, origin(), context().clock(), context().settings.oidc_issuer)


def _seen() -> None:
    # A page that refreshes itself is no sign of a person; and once a minute is enough to know.
    by_itself = request.endpoint in _BY_ITSELF or "HX-Request" in request.headers
    now_s, found = context().clock(), g.account_found
    if now_s - found.seen_s >= SEEN_EVERY_S and not (by_itself and found.operator.kind == "session"):
        with context().database.write() as db:
            sessions.seen(db, found.operator.token_id, now_s)


def link_url(link: Link) -> str:
    """Where a link leads, by the name under which this server was asked just now (checked against those that it knows)."""
    return f"{here_url()}{link.path}"


def here_url() -> str:
    """Scheme and name under which this server was asked."""
    return f"{'https' if context().settings.operator_over_tls else request.scheme}://{request.host}"


def cookie_name(name: str) -> str:
    """Over TLS with the prefix that lets no neighbour's host and no plain connection set it (RFC 6265bis §4.1.3)."""
    return f"__Host-{name}" if context().settings.operator_over_tls else name


def session_cookie() -> str:
    """The session that the browser brings, or nothing."""
    return request.cookies.get(cookie_name(SESSION_COOKIE), "")


def browser_cookie() -> str:
    """What says that somebody has signed in here before, or nothing."""
    return request.cookies.get(cookie_name(BROWSER_COOKIE), "")


def set_cookie(response: Response, name: str, value: str, max_age_s: float) -> None:
    """A cookie that no script reads and no other site sends along."""
    response.set_cookie(
        cookie_name(name), value, max_age=int(max_age_s), path="/", httponly=True, samesite="Lax",
        secure=context().settings.operator_over_tls,
    )  # fmt: skip


def drop_cookie(response: Response, name: str) -> None:
    """Make the browser forget it."""
    response.delete_cookie(
        cookie_name(name), path="/", httponly=True, samesite="Lax", secure=context().settings.operator_over_tls
    )  # fmt: skip


def set_session_cookie(response: Response, token: str, browser: str = "") -> None:
    """Hand the session to the browser, and what tells the next sign-in that it is known here."""
    set_cookie(response, SESSION_COOKIE, token, context().settings.session_ttl_s)
    if browser:
        set_cookie(response, BROWSER_COOKIE, browser, KNOWN_BROWSER_S)


def drop_session_cookie(response: Response) -> None:
    """Make the browser forget it."""
    drop_cookie(response, SESSION_COOKIE)
