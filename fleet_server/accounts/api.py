"""Setting up, signing in and out, tokens."""

from flask import Response, session
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.accounts import service
from fleet_server.accounts.access import drop_session_cookie, set_session_cookie
from fleet_server.accounts.sign_in import sign_in
from fleet_server.audit import service as audit
from fleet_server.context import context
from fleet_server.http_access import current_operator, open_to_all, origin, require
from fleet_server.http_json import reply

operator = APIBlueprint("accounts", __name__, url_prefix="/api/v1")

DEFAULT_TOKEN_S = 30 * 86400.0
MAX_TOKEN_S = 400 * 86400.0


class SetupBody(BaseModel):
    """The first admin."""

    token: str = Field(max_length=200)
    name: str = Field(max_length=64)
    password: str = Field(max_length=1000)


class LoginBody(BaseModel):
    """Name and password."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=1000)


class TokenBody(LoginBody):
    """What the token is called and how long it lives."""

    token_name: str = Field("cli", min_length=1, max_length=100)
    expires_s: float | None = Field(None, gt=0, le=MAX_TOKEN_S, description="seconds from now")


def complete_setup(token: str, name: str, password: str) -> None:
    """Make the first admin by the one-time link, and remove the file that held it."""
    here = context()
    now_s = here.clock()
    password_hash = service.hash_password(password)
    with here.database.write() as db:
        service.set_up(db, token=token, name=name, password_hash=password_hash, now_s=now_s)
        audit.record(db, who=name, what="setup", target=name, origin=origin(), now_s=now_s)
    (here.settings.data_dir / "setup-link").unlink(missing_ok=True)


@operator.post("/setup")
@open_to_all
def post_setup(body: SetupBody) -> Response:
    """Make the first admin, once."""
    complete_setup(body.token, body.name, body.password)
    return reply({"name": body.name, "role": "admin"}, 201)


@operator.post("/login")
@open_to_all
def post_login(body: LoginBody) -> Response:
    """A session, in a cookie."""
    here = context()
    grant = sign_in(
        here.database, name=body.name, password=body.password, kind="session", token_name="browser",
        ttl_s=here.settings.session_ttl_s, now_s=here.clock(), origin=origin(),
    )  # fmt: skip
    session.clear()  # a CSRF token from before the sign-in must not live on
    response = reply({"name": grant.operator.name, "role": grant.operator.role})
    set_session_cookie(response, grant.token)
    return response


@operator.post("/logout")
@require("viewer")
def post_logout() -> Response:
    """End this session or token."""
    with context().database.write() as db:
        service.end_grant(db, current_operator().token_id)
    session.clear()
    response = Response(status=204)
    drop_session_cookie(response)
    return response


@operator.get("/whoami")
@require("viewer")
def get_whoami() -> Response:
    """Who is signed in."""
    who = current_operator()
    return reply({"name": who.name, "role": who.role, "scopes": sorted(who.scopes)})


@operator.post("/tokens")
@open_to_all
def post_token(body: TokenBody) -> Response:
    """An API token for name and password, as `rookery login` asks for it."""
    here = context()
    grant = sign_in(
        here.database, name=body.name, password=body.password, kind="token", token_name=body.token_name,
        ttl_s=body.expires_s or DEFAULT_TOKEN_S, now_s=here.clock(), origin=origin(),
    )  # fmt: skip
    return reply({"token": grant.token, "expires_s": grant.expires_s}, 201)
