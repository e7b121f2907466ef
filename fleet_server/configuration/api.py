"""GET and PUT of the fleet's and a device's configuration."""

from typing import Any

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.configuration import service
from fleet_server.context import context
from fleet_server.http_access import current_operator, origin, require
from fleet_server.http_json import reply
from fleet_server.inventory import service as inventory

operator = APIBlueprint("configuration", __name__, url_prefix="/api/v1")


class ConfigurationBody(BaseModel):
    """The new settings; ``version`` is the one that they replace."""

    content: dict[str, Any]
    version: int | None = Field(None, ge=0)


class ConfiguredDevice(BaseModel):
    """A device's id or unique name."""

    device: str


@operator.get("/configuration")
@require("viewer")
def get_fleet() -> Response:
    """The fleet's settings."""
    with context().database.read() as session:
        return reply(service.get(session, service.FLEET))


@operator.put("/configuration")
@require("operator")
def put_fleet(body: ConfigurationBody) -> Response:
    """Replace the fleet's settings."""
    return _put(service.FLEET, body)


@operator.get("/devices/<device>/configuration")
@require("viewer")
def get_of_device(path: ConfiguredDevice) -> Response:
    """A device's own settings."""
    here = context()
    with here.database.read() as session:
        return reply(service.get(session, inventory.get(session, path.device, here.clock()).id))


@operator.put("/devices/<device>/configuration")
@require("operator")
def put_of_device(path: ConfiguredDevice, body: ConfigurationBody) -> Response:
    """Replace a device's own settings."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
    return _put(device_id, body)


def _put(scope: str, body: ConfigurationBody) -> Response:
    here = context()
    with here.database.write() as session:
        made = service.put(
            session, scope, body.content, if_version=body.version, who=current_operator().name, origin=origin(),
            now_s=here.clock(),
        )  # fmt: skip
    return reply(made)
