"""*People*: accounts as admins add, change and end them. Changes ask for the admin's own password, once in a while."""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from fleet_server.accounts import own, people, service
from fleet_server.accounts.access import link_url, me
from fleet_server.context import context
from fleet_server.dashboard.accounts_pages import DAYS
from fleet_server.errors import ForbiddenError, NotFoundError
from fleet_server.http_access import account_left, require
from fleet_server.identities import SCOPES
from fleet_server.inventory import service as inventory


def add_people_pages(blueprint: Blueprint) -> None:
    """Register the pages and their forms' actions."""
    rules: dict[tuple[str, str], Callable[..., Any]] = {
        ("GET", "/people"): people_list, ("POST", "/people"): people_add, ("GET", "/people/<name>"): person,
        ("POST", "/people/<name>/<action>"): person_action,
        ("POST", "/people/<name>/tokens/<grant_id>/end"): person_token_end,
    }  # fmt: skip
    for (method, path), view in rules.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@require("admin")
def people_list() -> str:
    """All accounts, and the form that adds one."""
    here, asking = context(), me()
    with here.database.read() as db:
        found = people.entries(db, here.clock())
    return render_template(
        "people.html", people=found, roles=list(SCOPES), fresh=asking.fresh, mine=own.overview(here, asking),
        following="/people",
    )  # fmt: skip


@require("admin")
def people_add() -> str | Response:
    """Add a person (the link is shown once) or a machine."""
    actor, form = _admin(), request.form
    name, role, groups = form.get("name", "").strip(), form.get("role", ""), _groups()
    with context().database.write() as db:
        if form.get("kind") == "machine":
            people.add_machine(db, actor, name=name, role=role, groups=groups)
            return redirect(url_for("dashboard.person", name=name), 303)
        link = service.invite(db, actor, name=name, role=role, groups=groups, ttl_s=context().settings.account_link_ttl_s)
    return _shown(f"Invitation for {name}", link_url(link), link.expires_s, name)


@require("admin")
def person(name: str) -> str:
    """One account."""
    here, asking = context(), me()
    with here.database.read() as db:
        found = people.entry(db, name, here.clock())
        tokens = service.tokens_of(db, name, here.clock())
        known = sorted({one.group for one in inventory.presences(db, None, here.clock()).values() if one.group})
    return render_template(
        "person.html", person=found, tokens=tokens, roles=list(SCOPES), fresh=asking.fresh, mine=own.overview(here, asking),
        following=url_for("dashboard.person", name=name), known=known, days=DAYS,
        scopes=sorted(SCOPES[found.role]), itself=asking.name == name,
    )  # fmt: skip


@require("admin")
def person_action(name: str, action: str) -> str | Response:
    """What a button says."""
    actor, here, form = _admin(), context(), request.form
    plain: dict[str, Callable[..., Any]] = {
        "disable": people.disable, "enable": people.enable, "remove": people.remove, "remove-factor": people.remove_factor,
        "end-all": people.end_everything,
    }  # fmt: skip
    with here.database.write() as db:
        if action in plain:
            plain[action](db, actor, name)
            if action in ("disable", "remove"):
                account_left(db, name, who=actor.name, now_s=actor.now_s)
        elif action == "change":
            groups = _groups()
            people.change(db, actor, name, role=form.get("role", ""), groups=groups, all_groups=groups is None)
        elif action == "link":
            recovery = form.get("recovery") == "yes"
            link = service.new_link(db, actor, name, recovery=recovery, ttl_s=here.settings.account_link_ttl_s)
        elif action == "tokens":
            token = service.machine_token(
                db, actor, name, token_name=form.get("token_name", ""), ttl_s=86400.0 * form.get("days", 30, type=int),
                scopes=form.getlist("scope"),
            )  # fmt: skip
        else:
            raise NotFoundError(f"an account cannot be told to {action[:20]!r}")
    if action == "link":
        return _shown(f"Link for {name}", link_url(link), link.expires_s, name)
    if action == "tokens":
        return render_template("shown_once.html", title=f"Token for {name}", value=token, expires_s=None, back=_back(name), text=(
            "Give it to the machine as ROOKERY_TOKEN, or let it send Authorization: Bearer …. It stands in no list again."
        ))  # fmt: skip
    return redirect("/people" if action == "remove" else _back(name), 303)


@require("admin")
def person_token_end(name: str, grant_id: str) -> Response:
    """End one token of an account."""
    actor = _admin()
    with context().database.write() as db:
        service.end_of_account(db, actor, name, grant_id)
    return redirect(_back(name), 303)


def _admin() -> people.Actor:
    asking = me()
    if not asking.fresh and asking.found.operator.kind == "session":
        raise ForbiddenError("changing accounts asks for your password again", "go back and show it")
    return asking.actor


def _groups() -> list[str] | None:
    # The word is the switch: without it an account that was meant to be limited would see all because of an empty field.
    if request.form.get("reach") != "groups":
        return None
    return [group.strip() for group in request.form.get("groups", "").split(",") if group.strip()]


def _shown(title: str, link: str, expires_s: float, name: str) -> str:
    return render_template("shown_once.html", title=title, value=link, expires_s=expires_s, back=_back(name), text=(
        f"Hand it to {name} yourself: whoever opens it first sets the password. It works once, and stands in no list again."
    ))  # fmt: skip


def _back(name: str) -> str:
    return url_for("dashboard.person", name=name)
