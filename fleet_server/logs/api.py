"""Log batches from devices; log lines and debug sessions for operators."""

from flask import Blueprint, Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.audit.looks import KEPT_BY_BROWSERS, look_here
from fleet_server.context import context
from fleet_server.errors import NotFoundError
from fleet_server.http_access import current_operator, device_identity, origin, require
from fleet_server.http_json import reply, reply_list
from fleet_server.http_wire import answer, one_at_a_time, read_message
from fleet_server.inventory import service as inventory
from fleet_server.logs import listing, service
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


class PicturePath(SessionPath):
    """One picture of a debug session, by its hash."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class SessionBody(BaseModel):
    """What to ask of the device, how long, and why. ``frames``: none, last or burst, of ``camera`` or of each."""

    log_level: str
    duration_s: float
    reason: str = Field(max_length=500)
    frames: str = Field("none", max_length=20)
    camera: str | None = Field(None, max_length=100)


class FramesBody(BaseModel):
    """Which pictures: ``last`` or ``burst``, of ``camera`` or of each."""

    frames: str = Field(max_length=20)
    camera: str | None = Field(None, max_length=100)


@device.post(LOGS)
def post_logs() -> Response:
    """A batch of lines; the answer is given after the commit."""
    who = device_identity()
    batch = read_message(LogBatch)
    here = context()
    with one_at_a_time(who.device_id, LOGS), here.database.write() as session:
        stored = service.store_lines(session, who.device_id, batch)
        inventory.record_seen(session, who.device_id, here.clock())
    return answer(stored)


@operator.get("/devices/<device>/logs")
@require("viewer", reach="device")
def list_logs(path: DevicePath, query: LogsQuery) -> Response:
    """The newest lines of this level and above, oldest first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        found = service.lines(session, device_id, level=query.level, since_s=query.since_s, limit=query.limit)
    if any(line.session for line in found):  # what a board tells within a debug session was asked for, and may be of people
        look_here("log.look", device_id)
    return reply_list(found)


@operator.get("/devices/<device>/debug-sessions")
@require("viewer", reach="device")
def list_sessions(path: DevicePath) -> Response:
    """All debug sessions of a device, newest first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        return reply_list(service.sessions(session, device_id, here.clock()))


@operator.post("/devices/<device>/debug-sessions")
@require("operator", reach="device")
def post_session(path: DevicePath, body: SessionBody) -> Response:
    """Raise the log level for a while."""
    here = context()
    with here.database.write() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        made = service.create_session(
            session, device_id, log_level=body.log_level, duration_s=body.duration_s, reason=body.reason,
            who=current_operator().name, now_s=here.clock(), origin=origin(), frames=body.frames, camera=body.camera,
        )  # fmt: skip
    return reply(made, 201)


@operator.post("/devices/<device>/debug-sessions/<session>/frames")
@require("operator", reach="device")
def post_frames(path: SessionPath, body: FramesBody) -> Response:
    """Ask for pictures within an open session. The board's own policy decides whether any come."""
    here = context()
    with here.database.write() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        asked = service.ask_frames(
            session, device_id, path.session, frames=body.frames, camera=body.camera, who=current_operator().name,
            now_s=here.clock(), origin=origin(),
        )  # fmt: skip
    return reply(asked, 201)


@operator.get("/devices/<device>/debug-sessions/<session>/frames")
@require("operator", reach="device")
def list_frames(path: SessionPath) -> Response:
    """What the device answered to each request for pictures, the newest request first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        service.find_session(session, device_id, path.session, here.clock())
    return reply_list(listing.answers(here.blobs, device_id, path.session))


@operator.get("/devices/<device>/debug-sessions/<session>/pictures/<sha256>")
@require("operator", reach="device")
def get_picture(path: PicturePath) -> Response:
    """A picture of a session. The bytes came from a device: shown as JPEG and as nothing else. Looking stands in the audit."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        service.find_session(session, device_id, path.session, here.clock())
    data = listing.picture(here.blobs, device_id, path.session, path.sha256)
    if data is None:
        raise NotFoundError("there is no such picture in the store (yet, or any more)")
    look_here("frame.look", f"{device_id}/debug/{path.session}/{path.sha256}")
    response = Response(data, mimetype="image/jpeg")
    response.headers["Content-Disposition"] = f'inline; filename="{path.sha256[:16]}.jpg"'
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers.update(KEPT_BY_BROWSERS)
    return response


@operator.delete("/devices/<device>/debug-sessions/<session>")
@require("operator", reach="device")
def delete_session(path: SessionPath) -> Response:
    """End a session before its time."""
    here = context()
    with here.database.write() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        service.end_session(session, device_id, path.session, who=current_operator().name, now_s=here.clock(), origin=origin())
    return Response(status=204)
