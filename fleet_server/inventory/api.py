"""GET /devices, GET /devices/<id>."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.context import context
from fleet_server.http_access import reach_here, require
from fleet_server.http_json import reply, reply_list
from fleet_server.inventory import service

operator = APIBlueprint("inventory", __name__, url_prefix="/api/v1")


class DevicesQuery(BaseModel):
    """Which devices."""

    q: str = Field("", max_length=100, description="part of a name, id or serial")
    group: str | None = None
    state: str | None = None
    limit: int = Field(100, ge=1, le=1000)
    cursor: str = ""


class DevicePath(BaseModel):
    """A device's id or unique name."""

    device: str = Field(max_length=100)


@operator.get("/devices")
@require("viewer", reach="filtered")
def list_devices(query: DevicesQuery) -> Response:
    """Devices in the order of their names."""
    here = context()
    with here.database.read() as session:
        found = service.find(
            session, here.clock(), text=query.q, group=query.group, state=query.state, after_name=query.cursor,
            limit=query.limit, within_s=here.settings.online_within_s, groups=reach_here(),
        )  # fmt: skip
    return reply_list(found, found[-1].name if len(found) == query.limit else None)


@operator.get("/devices/<device>")
@require("viewer", reach="device")
def get_device(path: DevicePath) -> Response:
    """One device."""
    here = context()
    with here.database.read() as session:
        return reply(service.get(session, path.device, here.clock(), here.settings.online_within_s))
