"""The configuration: fleet, groups, devices; what holds in the end and why; history, undo, differences."""

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.configuration import service
from fleet_server.context import context
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.http_json import reply, reply_list
from fleet_server.inventory import service as inventory

operator = APIBlueprint("configuration", __name__, url_prefix="/api/v1")


class ConfigurationBody(BaseModel):
    """The new settings; ``version`` is the one that they replace. ``dry_run``: only say what is wrong with them."""

    content: dict[str, Any]
    version: int | None = Field(None, ge=0, lt=2**53)
    why: str = Field("", max_length=service.MAX_WHY)
    dry_run: bool = False


class UndoBody(BaseModel):
    """``to_version``: what to say again, the version before the present by default; ``version``: the present one."""

    to_version: int | None = Field(None, ge=0, lt=2**53)
    version: int | None = Field(None, ge=0, lt=2**53)
    why: str = Field("", max_length=service.MAX_WHY)


class ConfiguredDevice(BaseModel):
    """A device's id or unique name."""

    device: str = Field(max_length=100)


class Scope(BaseModel):
    """``fleet``, ``group:NAME`` or ``device:ID_OR_NAME``."""

    scope: str = Field(max_length=200)


class VersionQuery(BaseModel):
    """Which version; the present one by default."""

    version: int | None = Field(None, ge=0, lt=2**53)


class HistoryQuery(BaseModel):
    """How many, and from where on."""

    limit: int = Field(50, ge=1, le=500)
    cursor: int | None = Field(None, ge=0, lt=2**53)


class DiffQuery(BaseModel):
    """Two of ``LAYER``, ``LAYER@VERSION``, ``effective:DEVICE``."""

    left: str = Field(max_length=220)
    right: str = Field(max_length=220)


@operator.get("/configuration")
@require("viewer", reach="filtered")
def get_fleet() -> Response:
    """The fleet's settings."""
    return _get("fleet")


@operator.put("/configuration")
@require("operator", reach="filtered")
def put_fleet(body: ConfigurationBody) -> Response:
    """Replace the fleet's settings."""
    return _put("fleet", body)


@operator.get("/devices/<device>/configuration")
@require("viewer", reach="device")
def get_of_device(path: ConfiguredDevice) -> Response:
    """A device's own settings."""
    return _get(f"device:{path.device}")


@operator.put("/devices/<device>/configuration")
@require("operator", reach="device")
def put_of_device(path: ConfiguredDevice, body: ConfigurationBody) -> Response:
    """Replace a device's own settings."""
    return _put(f"device:{path.device}", body)


@operator.get("/devices/<device>/configuration/effective")
@require("viewer", reach="device")
def get_effective(path: ConfiguredDevice) -> Response:
    """What a device is told, where each value comes from, and what the device says of it."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        return reply(service.explained(session, device_id, here.clock()))


@operator.get("/configurations")
@require("viewer", reach="filtered")
def list_layers() -> Response:
    """Every layer that says something."""
    with context().database.read() as session:
        return reply_list(service.layers(session, reach_here()))


@operator.get("/configurations/<scope>")
@require("viewer", reach="filtered")
def get_layer(path: Scope, query: VersionQuery) -> Response:
    """What one layer says, or said at a version."""
    return _get(path.scope, query.version)


@operator.put("/configurations/<scope>")
@require("operator", reach="filtered")
def put_layer(path: Scope, body: ConfigurationBody) -> Response:
    """Replace what one layer says; 422 with all faults at once."""
    return _put(path.scope, body)


@operator.get("/configurations/<scope>/history")
@require("viewer", reach="filtered")
def list_history(path: Scope, query: HistoryQuery) -> Response:
    """The versions of one layer, newest first."""
    here = context()
    with here.database.read() as session:
        scope = service.scope_of(session, path.scope, here.clock(), reach_here())
        found = service.history(session, scope, limit=query.limit, before=query.cursor)
    return reply_list(found, str(found[-1].version) if len(found) == query.limit else None)


@operator.post("/configurations/<scope>/undo")
@require("operator", reach="filtered")
def post_undo(path: Scope, body: UndoBody) -> Response:
    """Say again what a layer said before: a new version."""
    here = context()
    author = _author(body.why)
    made = service.undo(here.database, path.scope, to_version=body.to_version, if_version=body.version, author=author)
    return reply(made)


@operator.get("/configuration-diff")
@require("viewer", reach="filtered")
def get_diff(query: DiffQuery) -> Response:
    """What differs between two layers, versions, or devices."""
    here = context()
    with here.database.read() as session:
        return reply_list(service.diff(session, query.left, query.right, here.clock(), reach_here()))


def _author(why: str) -> service.Author:
    return service.Author(current_operator().name, origin(), context().clock(), why, reach_here())


def _get(text: str, version: int | None = None) -> Response:
    here = context()
    with here.database.read() as session:
        return reply(service.get(session, service.scope_of(session, text, here.clock(), reach_here()), version))


def _put(text: str, body: ConfigurationBody) -> Response:
    here = context()
    if body.dry_run:
        with here.database.read() as session:
            scope = service.scope_to_change(session, text, here.clock(), reach_here())
            return reply({"faults": [fault._asdict() for fault in service.check(session, scope, body.content, here.clock())]})
    return reply(service.put(here.database, text, body.content, if_version=body.version, author=_author(body.why)))
