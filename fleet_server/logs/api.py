"""Log batches from devices; log lines and debug sessions for operators."""

from flask import Blueprint, Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.context import context
from fleet_server.http_access import current_operator, device_identity, origin, require
from fleet_server.http_json import reply, reply_list
from fleet_server.http_wire import answer, read_message
from fleet_server.inventory import service as inventory
from fleet_server.logs import service
from ota.wire.logs import LogBatch
from ota.wire.topics import LOGS

operator = APIBlueprint("logs", __name__, url_prefix="/api/v1")
device = Blueprint("logs_device", __name__)


class DevicePath(BaseModel):
    """A device by id or unique name."""

    device: str = Field(max_length=100)


class SessionPath(DevicePath):
    """One debug session of a device."""

    session: str = Field(max_length=64)


class LogsQuery(BaseModel):
    """Which lines."""

    level: str | None = None
    since_s: float | None = None
    limit: int = Field(200, ge=1, le=5000)


class SessionBody(BaseModel):
    """What to ask of the device, how long, and why."""

    log_level: str
    duration_s: float
    reason: str = Field(max_length=500)


@device.post(LOGS)
def post_logs() -> Response:
    """A batch of lines; the answer is given after the commit."""
    who = device_identity()
    batch = read_message(LogBatch)
    here = context()
    with here.database.write() as session:
        stored = service.store_lines(session, who.device_id, batch)
        inventory.record_seen(session, who.device_id, here.clock())
    return answer(stored)


@operator.get("/devices/<device>/logs")
@require("viewer")
def list_logs(path: DevicePath, query: LogsQuery) -> Response:
    """The newest lines of this level and above, oldest first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        return reply_list(service.lines(session, device_id, level=query.level, since_s=query.since_s, limit=query.limit))


@operator.get("/devices/<device>/debug-sessions")
@require("viewer")
def list_sessions(path: DevicePath) -> Response:
    """All debug sessions of a device, newest first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        return reply_list(service.sessions(session, device_id, here.clock()))


@operator.post("/devices/<device>/debug-sessions")
@require("operator")
def post_session(path: DevicePath, body: SessionBody) -> Response:
    """Raise the log level for a while."""
    here = context()
    with here.database.write() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        made = service.create_session(
            session, device_id, log_level=body.log_level, duration_s=body.duration_s, reason=body.reason,
            who=current_operator().name, now_s=here.clock(), origin=origin(),
        )  # fmt: skip
    return reply(made, 201)


@operator.delete("/devices/<device>/debug-sessions/<session>")
@require("operator")
def delete_session(path: SessionPath) -> Response:
    """End a session before its time."""
    here = context()
    with here.database.write() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        service.end_session(session, device_id, path.session, who=current_operator().name, now_s=here.clock(), origin=origin())
    return Response(status=204)
