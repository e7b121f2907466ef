"""Heartbeats by HTTPS where there is no broker; the recent ones for operators."""

from flask import Blueprint, Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.context import context
from fleet_server.http_access import device_identity, require
from fleet_server.http_json import reply_list
from fleet_server.http_wire import read_message
from fleet_server.inventory import service as inventory
from fleet_server.telemetry import service
from ota.wire.heartbeat import Heartbeat
from ota.wire.topics import HEARTBEATS

operator = APIBlueprint("telemetry", __name__, url_prefix="/api/v1")
device = Blueprint("telemetry_device", __name__)


class DevicePath(BaseModel):
    """A device by id or unique name."""

    device: str = Field(max_length=100)


class HeartbeatsQuery(BaseModel):
    """How many."""

    limit: int = Field(100, ge=1, le=5000)


@device.post(HEARTBEATS)
def post_heartbeat() -> Response:
    """One heartbeat."""
    who = device_identity()
    beat = read_message(Heartbeat)
    here = context()
    with here.database.write() as session:
        service.store_heartbeats(session, [(who.device_id, beat, here.clock())])
    return Response(status=204)


@operator.get("/devices/<device>/heartbeats")
@require("viewer", reach="device")
def list_heartbeats(path: DevicePath, query: HeartbeatsQuery) -> Response:
    """The newest heartbeats, newest first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        return reply_list(service.heartbeats(session, device_id, query.limit))
