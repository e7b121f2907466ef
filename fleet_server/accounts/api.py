"""Setting up, signing in and out, tokens for a password, one-time links; and the routes of one's own and others' accounts."""

from flask import Response, request, session
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.accounts import access, links, routes_own, routes_people, service
from fleet_server.accounts.passwords import GATE
from fleet_server.accounts.sign_in import Credentials, SignedIn, sign_in
from fleet_server.accounts.tokens import DEFAULT_TOKEN_S, MAX_TOKEN_S
from fleet_server.audit import service as audit
from fleet_server.context import context
from fleet_server.errors import InvalidError
from fleet_server.http_access import current_operator, open_to_all, origin, require
from fleet_server.http_json import reply

operator = APIBlueprint("accounts", __name__, url_prefix="/api/v1")
routes_own.add(operator)
routes_people.add(operator)


class SetupBody(BaseModel):
    """The first admin."""

    token: str = Field(max_length=200)
    name: str = Field(max_length=64)
    password: str = Field(max_length=1000)


class LoginBody(BaseModel):
    """Name and password, and a code where the account has a second factor."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=1000)
    code: str = Field("", max_length=40, description="of the second factor, or a recovery code; empty where there is none")


class TokenBody(LoginBody):
    """What the token is called, how long it lives, and how far it reaches."""

    token_name: str = Field("cli", min_length=1, max_length=100)
    expires_s: float | None = Field(None, gt=0, le=MAX_TOKEN_S, description="seconds from now")
    scopes: list[str] | None = Field(None, max_length=20, description="null: all that the role may today, one's own account too")
    groups: list[str] | None = Field(None, max_length=100, description="device groups; null: those of the account")


class WelcomeBody(BaseModel):
    """A one-time link, and the password that it sets."""

    token: str = Field(max_length=200)
    password: str = Field(max_length=1000)


def complete_setup(token: str, name: str, password: str) -> None:
    """Make the first admin by the one-time link, and remove the file that held it."""
    here = context()
    now_s = here.clock()
    with here.database.read() as db:
        service.check_setup_link(db, token, now_s)  # before the slow part: who has no link costs nothing
    with GATE.place(known=False):
        password_hash = service.hash_password(password, name)
    with here.database.write() as db:
        service.set_up(db, token=token, name=name, password_hash=password_hash, now_s=now_s)
        audit.record(db, who=name, what="setup", target=name, origin=origin(), now_s=now_s, after={"role": "admin"})
    (here.settings.data_dir / "setup-link").unlink(missing_ok=True)


def complete_link(token: str, password: str) -> str:
    """Set the password of the account that a one-time link is for; its name. ForbiddenError for a link that is not good."""
    here = context()
    now_s = here.clock()
    with here.database.read() as db:
        name, _ = links.look(db, token, now_s)
    with GATE.place(known=False):
        password_hash = service.hash_password(password, name)
    with here.database.write() as db:
        done = links.follow(db, token, password_hash, now_s)
        after = {"by": done.purpose, "link_by": done.made_by, "factor_removed": done.factor_removed, "ended": done.ended}
        audit.record(db, who=done.name, what="account.password", target=done.name, origin=origin(), now_s=now_s, after=after)
    return done.name


def sign_in_here(name: str, password: str, code: str) -> SignedIn:
    """A session for the browser that asks; the one that it had before ends."""
    here = context()
    shown = Credentials(name, password, code, origin(), access.browser_cookie(), access.session_cookie())
    agent = " ".join(request.headers.get("User-Agent", "").split()) or "a browser"
    signed = sign_in(here, shown, kind="session", label=agent, ttl_s=here.settings.session_ttl_s)
    session.clear()  # a CSRF token from before the sign-in must not live on
    return signed


@operator.post("/setup")
@open_to_all
def post_setup(body: SetupBody) -> Response:
    """Make the first admin, once."""
    complete_setup(body.token, body.name, body.password)
    return reply({"name": body.name, "role": "admin"}, 201)


@operator.post("/welcome")
@open_to_all
def post_welcome(body: WelcomeBody) -> Response:
    """Set a password by a one-time link: an invitation, or a way back in."""
    return reply({"name": complete_link(body.token, body.password)})


@operator.post("/login")
@open_to_all
def post_login(body: LoginBody) -> Response:
    """A session, in a cookie."""
    signed = sign_in_here(body.name, body.password, body.code)
    response = reply({"name": signed.grant.operator.name, "role": signed.grant.operator.role})
    access.set_session_cookie(response, signed.grant.token, signed.browser_cookie)
    return response


@operator.post("/logout")
@require("viewer", reach="nobody")
def post_logout() -> Response:
    """End this session or token."""
    end_this()
    response = Response(status=204)
    access.drop_session_cookie(response)
    return response


def end_this() -> None:
    """End the session or token of this request, and say so in the audit."""
    here, who = context(), current_operator()
    with here.database.write() as db:
        service.end_grant(db, who.token_id)
        audit.record(
            db, who=who.name, what=f"{who.kind}.end", target=who.name, origin=origin(), now_s=here.clock(),
            before={"id": who.token_id},
        )  # fmt: skip
    session.clear()


@operator.get("/whoami")
@require("viewer", reach="nobody")
def get_whoami() -> Response:
    """Who is signed in."""
    who = current_operator()
    return reply({"name": who.name, "role": who.role, "scopes": sorted(who.scopes)})


@operator.post("/tokens")
@open_to_all
def post_token(body: TokenBody) -> Response:
    """An API token for name and password, as `rookery login` asks for it."""
    label = " ".join(body.token_name.split())
    if not label or not label.isprintable():
        raise InvalidError("a token needs a name, by which you know later what it was for")
    shown = Credentials(body.name, body.password, body.code, origin(), access.browser_cookie())
    signed = sign_in(
        context(), shown, kind="token", label=label, ttl_s=body.expires_s or DEFAULT_TOKEN_S, scopes=body.scopes,
        groups=body.groups,
    )  # fmt: skip
    return reply({"token": signed.grant.token, "expires_s": signed.grant.expires_s}, 201)
