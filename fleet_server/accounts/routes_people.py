"""Routes with which admins add, change and end accounts. A session must have shown its password a short while ago."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.accounts import own, people, service
from fleet_server.accounts.access import link_url, me
from fleet_server.accounts.tokens import DEFAULT_TOKEN_S, MAX_TOKEN_S
from fleet_server.context import context
from fleet_server.http_access import account_left, require
from fleet_server.http_json import reply, reply_list


class NewAccountBody(BaseModel):
    """Who is added."""

    name: str = Field(max_length=64)
    role: str = Field(max_length=20)
    groups: list[str] | None = Field(None, max_length=100, description="device groups; null: all")
    kind: str = Field("person", max_length=10, description="person, or machine: tokens and no password")


class ChangeBody(BaseModel):
    """What becomes different; what is left out stays."""

    role: str | None = Field(None, max_length=20)
    groups: list[str] | None = Field(None, max_length=100)
    all_groups: bool = Field(False, description="true: no limit to groups any more")


class LinkBody(BaseModel):
    """A link for a new password."""

    second_factor: bool = Field(False, description="true: following it removes the second factor, too")


class MachineTokenBody(BaseModel):
    """A token of a machine."""

    token_name: str = Field(min_length=1, max_length=100)
    expires_s: float = Field(DEFAULT_TOKEN_S, gt=0, le=MAX_TOKEN_S, description="seconds from now")
    scopes: list[str] | None = Field(None, max_length=20, description="null: all of its role")
    groups: list[str] | None = Field(None, max_length=100, description="device groups; null: those of the account")


class AccountPath(BaseModel):
    """Which account."""

    account: str


class AccountGrantPath(AccountPath):
    """Which of its sessions or tokens."""

    grant_id: str


def add(blueprint: APIBlueprint) -> None:
    """Register the routes."""
    blueprint.get("/accounts")(list_accounts)
    blueprint.post("/accounts")(post_account)
    blueprint.get("/accounts/<account>")(get_one)
    blueprint.put("/accounts/<account>")(put_account)
    blueprint.delete("/accounts/<account>")(delete_account)
    blueprint.post("/accounts/<account>/disable")(post_disable)
    blueprint.post("/accounts/<account>/enable")(post_enable)
    blueprint.post("/accounts/<account>/link")(post_link)
    blueprint.delete("/accounts/<account>/second-factor")(delete_factor)
    blueprint.delete("/accounts/<account>/sessions")(delete_account_sessions)
    blueprint.get("/accounts/<account>/tokens")(list_account_tokens)
    blueprint.post("/accounts/<account>/tokens")(post_machine_token)
    blueprint.delete("/accounts/<account>/tokens/<grant_id>")(delete_account_token)


@require("admin")
def list_accounts() -> Response:
    """All accounts, by name."""
    with context().database.read() as db:
        return reply_list(people.entries(db, context().clock()))


@require("admin")
def get_one(path: AccountPath) -> Response:
    """One account."""
    with context().database.read() as db:
        return reply(people.entry(db, path.account, context().clock()))


@require("admin")
def post_account(body: NewAccountBody) -> Response:
    """Add a person, by a one-time link that sets their first password; or a machine."""
    here, actor = context(), _admin()
    with here.database.write() as db:
        if body.kind == "machine":
            people.add_machine(db, actor, name=body.name, role=body.role, groups=body.groups)
            return reply({"name": body.name, "link": None, "expires_s": None}, 201)
        link = service.invite(
            db, actor, name=body.name, role=body.role, groups=body.groups, ttl_s=here.settings.account_link_ttl_s, kind=body.kind
        )  # fmt: skip
    return reply({"name": body.name, "link": link_url(link), "expires_s": link.expires_s}, 201)


@require("admin")
def put_account(path: AccountPath, body: ChangeBody) -> Response:
    """Another role or other groups; what the person has open ends."""
    here, actor = context(), _admin()
    with here.database.write() as db:
        people.change(db, actor, path.account, role=body.role, groups=body.groups, all_groups=body.all_groups)
        return reply(people.entry(db, path.account, here.clock()))


@require("admin")
def delete_account(path: AccountPath) -> Response:
    """Remove an account; its deeds stay in the audit."""
    actor = _admin()
    with context().database.write() as db:
        people.remove(db, actor, path.account)
        account_left(db, path.account, who=actor.name, now_s=actor.now_s)
    return Response(status=204)


@require("admin")
def post_disable(path: AccountPath) -> Response:
    """No sign-in, no session, no token any more, at once."""
    actor = _admin()
    with context().database.write() as db:
        people.disable(db, actor, path.account)
        account_left(db, path.account, who=actor.name, now_s=actor.now_s)
    return Response(status=204)


@require("admin")
def post_enable(path: AccountPath) -> Response:
    """Sign-in works again."""
    actor = _admin()
    with context().database.write() as db:
        people.enable(db, actor, path.account)
    return Response(status=204)


@require("admin")
def post_link(path: AccountPath, body: LinkBody) -> Response:
    """A one-time link with which a person sets a new password."""
    here, actor = context(), _admin()
    with here.database.write() as db:
        link = service.new_link(
            db, actor, path.account, recovery=body.second_factor, ttl_s=here.settings.account_link_ttl_s
        )  # fmt: skip
    return reply({"name": path.account, "link": link_url(link), "expires_s": link.expires_s}, 201)


@require("admin")
def delete_factor(path: AccountPath) -> Response:
    """Take a person's second factor away; what they have open ends."""
    actor = _admin()
    with context().database.write() as db:
        people.remove_factor(db, actor, path.account)
    return Response(status=204)


@require("admin")
def delete_account_sessions(path: AccountPath) -> Response:
    """End every session and token of an account."""
    actor = _admin()
    with context().database.write() as db:
        ended = people.end_everything(db, actor, path.account, keep=me().grant_id)
    return reply({"ended": ended})


@require("admin")
def list_account_tokens(path: AccountPath) -> Response:
    """An account's tokens, without their secrets."""
    with context().database.read() as db:
        return reply_list(service.tokens_of(db, path.account, context().clock()))


@require("admin")
def post_machine_token(path: AccountPath, body: MachineTokenBody) -> Response:
    """A token of a machine, shown once."""
    actor = _admin()
    with context().database.write() as db:
        secret = service.machine_token(
            db, actor, path.account, token_name=body.token_name, ttl_s=body.expires_s, scopes=body.scopes, groups=body.groups
        )  # fmt: skip
    return reply({"token": secret, "expires_s": actor.now_s + body.expires_s}, 201)


@require("admin")
def delete_account_token(path: AccountGrantPath) -> Response:
    """End one token of an account."""
    actor = _admin()
    with context().database.write() as db:
        service.end_of_account(db, actor, path.account, path.grant_id)
    return Response(status=204)


def _admin() -> people.Actor:
    """Who changes accounts. A browser must have shown the password a short while ago; a token has the scope for just this."""
    asking = me()
    if asking.found.operator.kind == "session":
        own.prove(context(), asking, "")
    return asking.actor
