"""The pages of enrolment: boards that wait, claims, rules; and an operator's word about one device's identity.

They do not refresh themselves: a list in which a person compares keys and ticks boards must not move under the hand.
"""

from collections.abc import Callable
from typing import Any

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from fleet_server.context import context
from fleet_server.enrolment import service as enrolment
from fleet_server.enrolment.api import decide_many
from fleet_server.errors import InvalidError, NotFoundError, ServerError
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession

WAITING_PER_PAGE = 100
CLAIMS_PER_PAGE = 50
MOST_CLAIMS = 100
"""On a page of tokens; more are made from a file."""
DAY_S = 86_400.0
HOUR_S = 3_600.0
NEW_KEY: dict[str, Callable[..., tuple[str, enrolment.NewClaim]]] = {
    "readmit": enrolment.readmit, "replace": enrolment.replace,
}  # fmt: skip


def add_enrolment_pages(blueprint: Blueprint) -> None:
    """Register the pages and their forms' actions."""
    pages: dict[str, tuple[Callable[..., Any], str]] = {
        "/enrolment": (enrolment_page, "GET"), "/enrolment/decide": (decide, "POST"), "/enrolment/claims": (make_claims, "POST"),
        "/enrolment/claims/<claim>/end": (end_claim, "POST"), "/enrolment/rules": (add_rule, "POST"),
        "/enrolment/rules/<rule>/remove": (remove_rule, "POST"), "/devices/<device_id>/identity": (identity, "GET"),
        "/devices/<device_id>/identity/decommission": (decommission, "POST"),
        "/devices/<device_id>/identity/<verb>": (new_key, "POST"),
    }  # fmt: skip
    for path, (view, method) in pages.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@require("viewer", reach="filtered")
def enrolment_page() -> str:
    """Who waits, which claims there are, which rules."""
    return _page()


def _page(problems: list[dict[str, str]] | None = None, problem: str = "") -> str:
    here, groups = context(), reach_here()
    chosen = {key: request.args.get(key, "").strip()[:100] for key in ("q", "state", "claim", "cursor", "older")}
    with here.database.read() as db:
        waiting = enrolment.enrolments(
            db, WAITING_PER_PAGE, state="pending", text=chosen["q"], after=chosen["cursor"], groups=groups
        )
        decided = [] if chosen["cursor"] or chosen["q"] else [
            one for one in enrolment.enrolments(db, 2 * WAITING_PER_PAGE, groups=groups) if one.state != "pending"
        ][:10]  # fmt: skip
        claims = enrolment.claims(
            db, here.clock(), CLAIMS_PER_PAGE, state=chosen["state"] or None, text=chosen["claim"], after=chosen["older"],
            groups=groups,
        )  # fmt: skip
        rules = enrolment.all_rules(db, here.clock()) if groups is None else []
        away, away_s = enrolment.turned_away(db) if groups is None else (0, 0.0)
    return render_template(
        "enrolment.html", waiting=waiting, decided=decided, claims=claims, rules=rules, chosen=chosen, problems=problems or [],
        problem=problem, away=away if away_s > here.clock() - DAY_S else 0, away_s=away_s,
        more=waiting[-1].id if len(waiting) == WAITING_PER_PAGE else None,
        older=claims[-1].id if len(claims) == CLAIMS_PER_PAGE else None,
    )  # fmt: skip


@require("operator", reach="filtered")
def decide() -> Response | tuple[str, int]:
    """Accept or reject the boards that were ticked; what could not be decided is shown on top of the list."""
    form, groups = request.form, reach_here()
    chosen, accept = form.getlist("enrolment")[:WAITING_PER_PAGE], form.get("action") == "accept"
    if not chosen:
        return _page(problem="No board was ticked."), 400
    if form.get("action") not in ("accept", "reject"):
        raise InvalidError("a board that asks is accepted or rejected")
    told = decide_many(chosen, accept=accept, group=form.get("group", ""), reason=form.get("reason", "")[:1000], groups=groups)
    problems = [one for one in told if one["problem"]]
    if problems:
        return _page(problems=problems), 409
    return redirect(url_for("dashboard.enrolment_page"), 303)


@require("operator", reach="filtered")
def make_claims() -> Response | tuple[str, int]:
    """Fresh claims; their tokens are shown on this one answer and never again."""
    here, form, groups = context(), request.form, reach_here()
    count, days = form.get("count", 1, type=int), form.get("days", 7.0, type=float)
    terms = enrolment.ClaimTerms(
        profile=form.get("profile", "").strip() or None, serial=form.get("serial", "").strip() or None,
        group=form.get("group", "").strip() or "default", device_name=form.get("device_name", "").strip() or None,
        accept=not form.get("ask"),
    )  # fmt: skip
    try:
        if not (1 <= count <= MOST_CLAIMS and 0 < days <= 400):
            raise InvalidError(f"1 to {MOST_CLAIMS} claims at once, for at most 400 days")
        with here.database.write() as db:
            made = enrolment.make_claims(
                db, count=count, terms=terms, ttl_s=days * DAY_S, who=current_operator().name, now_s=here.clock(),
                origin=origin(), groups=groups,
            )  # fmt: skip
    except ServerError as error:
        return _page(problem=error.detail), 400
    return _tokens(made, "Fresh claims", url_for("dashboard.enrolment_page"), "")


@require("operator", reach="filtered")
def end_claim(claim: str) -> Response:
    """A claim is worthless from now on."""
    here, groups = context(), reach_here()
    with here.database.write() as db:
        enrolment.end_claim(db, claim, who=current_operator().name, origin=origin(), now_s=here.clock(), groups=groups)
    return redirect(url_for("dashboard.enrolment_page", _anchor="claims"), 303)


@require("operator")
def add_rule() -> Response | tuple[str, int]:
    """A new rule."""
    here, form = context(), request.form
    try:
        with here.database.write() as db:
            enrolment.add_rule(
                db, profile=form.get("profile", "").strip(), serial=form.get("serial", "").strip(),
                group=form.get("group", "").strip() or "default", most_per_day=form.get("most_per_day", 0, type=int),
                until_s=here.clock() + form.get("days", 30.0, type=float) * DAY_S, who=current_operator().name, origin=origin(),
                now_s=here.clock(),
            )  # fmt: skip
    except ServerError as error:
        return _page(problem=error.detail), 400
    return redirect(url_for("dashboard.enrolment_page", _anchor="rules"), 303)


@require("operator")
def remove_rule(rule: str) -> Response:
    """A rule lets nobody in any more."""
    here = context()
    with here.database.write() as db:
        enrolment.remove_rule(db, rule, who=current_operator().name, origin=origin(), now_s=here.clock())
    return redirect(url_for("dashboard.enrolment_page", _anchor="rules"), 303)


@require("viewer", reach="device")
def identity(device_id: str) -> str:
    """Who a device is, whose place it took, and the three ways on: let in again, replaced, gone for good."""
    return _identity(device_id)


def _identity(device_id: str, problem: str = "") -> str:
    here = context()
    with here.database.read() as db:
        device = inventory.get(db, device_id, here.clock(), here.settings.online_within_s)
        line = [inventory.get(db, one, here.clock()) for one in succession.line_of(db, device.id)[1:]]
        next_id = succession.successor_of(db, device.id)
        successor = inventory.get(db, next_id, here.clock()) if next_id else None
    return render_template("identity.html", device=device, line=line, successor=successor, problem=problem)


@require("security", reach="device")
def new_key(device_id: str, verb: str) -> Response:
    """A claim for the board of this device (readmit) or for the one that takes its place (replace); shown on this one answer."""
    here, form = context(), request.form
    if verb not in NEW_KEY:
        raise NotFoundError(f"a device's identity cannot be told to {verb[:20]!r}")
    hours = form.get("hours", 24.0, type=float)
    if not 1 <= hours <= 400 * 24:
        raise InvalidError("a claim may wait for 1 to 9600 hours")
    given: dict[str, Any] = {
        "ttl_s": hours * HOUR_S, "reason": form.get("reason", "").strip()[:1000], "who": current_operator().name,
        "origin": origin(), "now_s": here.clock(),
    }  # fmt: skip
    if verb == "replace":
        given["serial"] = form.get("serial", "").strip()[:64] or None
    with here.database.write() as db:
        found, claim = NEW_KEY[verb](db, device_id, **given)
        name = inventory.get(db, found, here.clock()).name
    title = f"Let {name} in again" if verb == "readmit" else f"Replace {name}"
    note = (
        f"Put it on the wiped board. When the board brings it, it is {name} again, and every older certificate of {name} ends."
        if verb == "readmit"
        else f"Put it on the new board. When the board brings it, it is {name}, and the old board is decommissioned."
    )
    return _tokens([claim], title, url_for("dashboard.device", device_id=found), note)


@require("security", reach="device")
def decommission(device_id: str) -> Response | tuple[str, int]:
    """The end of a device, after its name was typed."""
    here, form = context(), request.form
    with here.database.read() as db:
        device = inventory.get(db, device_id, here.clock())
    if form.get("name", "").strip() != device.name:
        return _identity(device_id, f"Nothing was done: type the device's name, {device.name}, to decommission it."), 400
    with here.database.write() as db:
        enrolment.decommission(
            db, device.id, reason=form.get("reason", "").strip()[:1000], who=current_operator().name, origin=origin(),
            now_s=here.clock(),
        )  # fmt: skip
    return redirect(url_for("dashboard.device", device_id=device.id), 303)


def _tokens(made: list[enrolment.NewClaim], title: str, back: str, note: str) -> Response:
    return make_response(render_template("tokens.html", made=made, title=title, back=back, note=note))
