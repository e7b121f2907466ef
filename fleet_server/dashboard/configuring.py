"""The pages of the configuration: what a layer says, what a device is told and why, changing it, going back."""

import json
from collections.abc import Callable
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from fleet_server.configuration import service as configuration
from fleet_server.context import context
from fleet_server.dashboard.drawing import drawn
from fleet_server.dashboard.places import marked
from fleet_server.errors import ConflictError, FaultyError, InvalidError
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.inventory import listing as device_lists
from fleet_server.inventory import service as inventory

VERSIONS = 30
MAX_IDS_IN_QUERY = 5000


def add_configuring(blueprint: Blueprint) -> None:
    """Register the pages and their forms' actions."""
    pages: dict[str, tuple[Callable[..., Any], str]] = {
        "/configuration": (configuration_list, "GET"), "/configuration/<scope>": (configuration_layer, "GET"),
        "/configuration/<scope>/change": (configuration_change, "POST"),
        "/configuration/<scope>/undo": (configuration_undo, "POST"),
    }  # fmt: skip
    for path, (view, method) in pages.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=[method])


@require("viewer", reach="filtered")
def configuration_list() -> str:
    """The layers: the fleet, the groups, and the devices that differ."""
    here = context()
    with here.database.read() as db:
        found = {layer.scope: layer for layer in configuration.layers(db, reach_here())}
        known = inventory.presences(db, _some([one.partition(":")[2] for one in found if one[:7] == "device:"]), here.clock())
        named = device_lists.group_names(db, reach_here())
    groups = sorted({f"group:{one}" for one in named if one} | {one for one in found if one[:6] == "group:"})
    scopes = ["fleet", *groups, *(scope for scope in found if scope.startswith("device:"))]
    names = {f"device:{one.id}": one.name for one in known.values()}
    return render_template("configurations.html", scopes=scopes, layers=found, names=names, topics="configuration devices")


def _some(ids: list[str]) -> list[str] | None:
    """Databases bound the number of parameters; beyond this all devices are read."""
    return ids if len(ids) <= MAX_IDS_IN_QUERY else None


@require("viewer", reach="filtered")
def configuration_layer(scope: str) -> str:
    """One layer, to read and to change; of a device also what it is told in the end."""
    version = request.args.get("version", type=int)
    return _page(scope, version=version)


@require("operator", reach="filtered")
def configuration_change(scope: str) -> Response | tuple[str, int]:
    """Take over what was written, or show it again with every fault under its line."""
    here, text = context(), request.form.get("content", "").replace("\r\n", "\n")
    try:
        content = _parsed(text)
        configuration.put(here.database, scope, content, if_version=request.form.get("version", type=int), author=_author())
    except FaultyError as error:
        return _page(scope, text=text, faults=error.faults), 422
    except (ConflictError, InvalidError) as error:
        return _page(scope, text=text, faults=[{"path": "", "problem": f"{error.detail}; {error.hint}".rstrip("; ")}]), 409
    return redirect(url_for("dashboard.configuration_layer", scope=scope), 303)


@require("operator", reach="filtered")
def configuration_undo(scope: str) -> Response | tuple[str, int]:
    """Say again what the layer said at a version."""
    here, form = context(), request.form
    try:
        configuration.undo(
            here.database, scope, to_version=form.get("to_version", type=int), if_version=form.get("version", type=int),
            author=_author(),
        )  # fmt: skip
    except (FaultyError, ConflictError) as error:
        faults = error.faults if isinstance(error, FaultyError) else [{"path": "", "problem": error.detail}]
        return _page(scope, faults=faults), 409
    return redirect(url_for("dashboard.configuration_layer", scope=scope), 303)


def _author() -> configuration.Author:
    why = request.form.get("why", "").strip()
    return configuration.Author(current_operator().name, origin(), context().clock(), why, reach_here())


def _parsed(text: str) -> Any:
    try:
        return json.loads(text or "{}", parse_constant=lambda word: word)
    except RecursionError:
        raise FaultyError("nested too deep", [{"path": "", "problem": "is nested too deep"}]) from None
    except ValueError as error:
        raise FaultyError("not JSON", [{"path": "", "problem": f"is not JSON: {error}"}]) from None


def _page(scope: str, *, version: int | None = None, text: str | None = None, faults: list[dict[str, str]] | None = None) -> str:
    here = context()
    with here.database.read() as db:
        stored = configuration.scope_of(db, scope, here.clock(), reach_here())
        present = configuration.get(db, stored)
        chosen = configuration.get(db, stored, version) if version is not None else None
        versions = configuration.history(db, stored, limit=VERSIONS)
        told, name = _told(db, stored)
        differs = configuration.diff(db, f"{stored}@{version}", stored, here.clock()) if version is not None else []
    shown = text if text is not None else json.dumps(present.content, indent=2, ensure_ascii=False)
    return render_template(
        "configuration.html", scope=stored, name=name, present=present, chosen=chosen, versions=versions, told=told,
        differs=differs, text=shown, drawings=drawn(told.content if told else present.content),
        changeable=reach_here() is None or stored != configuration.FLEET,
        faults=faults or [], lines=marked(shown, faults) if faults else [], said=_said(told),
    )  # fmt: skip


def _told(db: Session, scope: str) -> tuple[configuration.Effective | None, str]:
    """What a device is told, and the name that the page bears; nothing for a fleet or a group."""
    kind, _, name = scope.partition(":")
    if kind != "device":
        return None, f"group {name}" if name else "the fleet"
    found = inventory.get(db, name, context().clock())
    return configuration.explained(db, found.id, context().clock()), found.name


def _said(told: configuration.Effective | None) -> str:
    """What the device says of what it is told, as a state of its own: unheard where it speaks of another."""
    if told is None or told.said is None:
        return "pending"
    return str(told.said["state"]) if told.said["digest"] == told.digest else "pending"

