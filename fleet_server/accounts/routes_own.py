"""Routes of one's own account: password, second factor, recovery codes, sessions, tokens."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.accounts import own
from fleet_server.accounts.access import me
from fleet_server.accounts.tokens import DEFAULT_TOKEN_S, MAX_TOKEN_S
from fleet_server.context import context
from fleet_server.http_access import require
from fleet_server.http_json import reply, reply_list
from fleet_server.identities import OWN


class ProofBody(BaseModel):
    """The password again (and a code), where it was not shown just before."""

    password: str = Field("", max_length=1000)
    code: str = Field("", max_length=40)


class PasswordBody(ProofBody):
    """The new password."""

    new_password: str = Field(max_length=1000)


class CodeBody(BaseModel):
    """The first code of a new second factor."""

    code: str = Field(max_length=40)


class OwnTokenBody(ProofBody):
    """A personal token."""

    token_name: str = Field(min_length=1, max_length=100)
    expires_s: float = Field(DEFAULT_TOKEN_S, gt=0, le=MAX_TOKEN_S, description="seconds from now")
    scopes: list[str] | None = Field(None, max_length=20, description="null: all that you have here but your own account")
    groups: list[str] | None = Field(None, max_length=100, description="device groups; null: yours")


class GrantPath(BaseModel):
    """Which session or token."""

    grant_id: str


def add(blueprint: APIBlueprint) -> None:
    """Register the routes."""
    blueprint.get("/account")(get_account)
    blueprint.post("/account/password")(post_password)
    blueprint.post("/account/second-factor")(post_factor)
    blueprint.post("/account/second-factor/confirm")(post_factor_confirm)
    blueprint.post("/account/second-factor/remove")(post_factor_remove)
    blueprint.post("/account/recovery-codes")(post_recovery_codes)
    blueprint.get("/account/sessions")(list_sessions)
    blueprint.delete("/account/sessions")(delete_sessions)
    blueprint.delete("/account/sessions/<grant_id>")(delete_session)
    blueprint.get("/account/tokens")(list_tokens)
    blueprint.post("/account/tokens")(post_own_token)
    blueprint.delete("/account/tokens/<grant_id>")(delete_token)


@require(OWN, reach="nobody")
def get_account() -> Response:
    """One's own account."""
    return reply(own.overview(context(), me()))


@require(OWN, reach="nobody")
def post_password(body: PasswordBody) -> Response:
    """Another password; every other session and token ends."""
    ended = own.change_password(context(), me(), password=body.password, code=body.code, new=body.new_password)
    return reply({"ended": ended})


@require(OWN, reach="nobody")
def post_factor(body: ProofBody) -> Response:
    """Begin a second factor: a secret for a telephone, shown once. It counts after its first code."""
    begun = own.begin_factor(context(), me(), password=body.password, code=body.code)
    return reply({"secret": begun.secret, "uri": begun.uri}, 201)


@require(OWN, reach="nobody")
def post_factor_confirm(body: CodeBody) -> Response:
    """Switch it on by its first right code; recovery codes, shown once."""
    return reply({"recovery_codes": own.confirm_factor(context(), me(), body.code)})


@require(OWN, reach="nobody")
def post_factor_remove(body: ProofBody) -> Response:
    """Switch the second factor off, by password and code."""
    own.remove_factor(context(), me(), password=body.password, code=body.code)
    return Response(status=204)


@require(OWN, reach="nobody")
def post_recovery_codes(body: ProofBody) -> Response:
    """Ten fresh recovery codes, shown once; the old ones end."""
    return reply({"recovery_codes": own.new_recovery_codes(context(), me(), password=body.password, code=body.code)}, 201)


@require(OWN, reach="nobody")
def list_sessions() -> Response:
    """One's own sessions, the last used first."""
    return reply_list(own.grants(context(), me(), "session"))


@require(OWN, reach="nobody")
def delete_sessions() -> Response:
    """End every session but this one."""
    return reply({"ended": own.end_others(context(), me())})


@require(OWN, reach="nobody")
def delete_session(path: GrantPath) -> Response:
    """End one of one's own sessions."""
    own.end_grant(context(), me(), path.grant_id)
    return Response(status=204)


@require(OWN, reach="nobody")
def list_tokens() -> Response:
    """One's own tokens, without their secrets."""
    return reply_list(own.grants(context(), me(), "token"))


@require(OWN, reach="nobody")
def post_own_token(body: OwnTokenBody) -> Response:
    """A personal token, shown once; never wider than what makes it. A token makes none that outlives it: see ``expires_s``."""
    made = own.make_token(
        context(), me(), password=body.password, code=body.code, name=body.token_name, ttl_s=body.expires_s, scopes=body.scopes,
        groups=body.groups,
    )  # fmt: skip
    return reply({"token": made.secret, "expires_s": made.expires_s}, 201)


@require(OWN, reach="nobody")
def delete_token(path: GrantPath) -> Response:
    """End one of one's own tokens."""
    own.end_grant(context(), me(), path.grant_id)
    return Response(status=204)
