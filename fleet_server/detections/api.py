"""Event batches from devices; events and crops for operators."""

from typing import Any

from flask import Blueprint, Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.audit.looks import KEPT_BY_BROWSERS, look_here
from fleet_server.blobs.store import check_key
from fleet_server.context import context
from fleet_server.detections import listing, service
from fleet_server.detections.cursor import MAX_CHARS, following, read_cursor
from fleet_server.errors import InvalidError, NotFoundError
from fleet_server.http_access import device_identity, reach_here, require
from fleet_server.http_json import reply, reply_list
from fleet_server.http_wire import answer, one_at_a_time, read_message
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession
from ota.wire.events import EventBatch
from ota.wire.topics import EVENTS

operator = APIBlueprint("detections", __name__, url_prefix="/api/v1")
device = Blueprint("detections_device", __name__)

VERDICTS = ("agree", "disagree", "unverified", "unreadable")
JPEG_MAGIC = b"\xff\xd8\xff"


class DetectionsQuery(BaseModel):
    """Which events."""

    device: str | None = None
    label: str | None = None
    verdict: str | None = None
    rule_kind: str | None = Field(
        None, max_length=60, description="zone, dwell, line or trigger; ``sample``: the recall samples, which no other list holds"
    )
    before_s: float | None = None
    cursor: str = Field("", max_length=MAX_CHARS, description="``next`` of the page before")
    limit: int = Field(50, ge=1, le=1000)


class EventPath(BaseModel):
    """One event."""

    event: str = Field(max_length=64)


class CropPath(BaseModel):
    """One crop by its key, which holds slashes."""

    key: str = Field(max_length=300)


@device.post(EVENTS)
def post_events() -> Response:
    """A batch of events; the answer is given after the commit."""
    who = device_identity()
    batch = read_message(EventBatch)
    here = context()
    with one_at_a_time(who.device_id, EVENTS), here.database.write() as session:
        stored = service.store_events(session, who.device_id, batch, now_s=here.clock())
        inventory.record_seen(session, who.device_id, here.clock())
    return answer(stored)


@operator.get("/detections")
@require("viewer", reach="filtered")
def list_detections(query: DetectionsQuery) -> Response:
    """Events with crops and verdicts, newest first."""
    if query.verdict is not None and query.verdict not in VERDICTS:
        raise InvalidError(f"verdict {query.verdict!r} is not one of {', '.join(VERDICTS)}")
    here = context()
    after = read_cursor(query.cursor) if query.cursor else None
    with here.database.read() as session:
        line = None
        if query.device:  # what the boards saw that stood in its place before belongs to its history
            line = succession.line_of(session, inventory.get(session, query.device, here.clock(), groups=reach_here()).id)
        found = listing.detections(
            session, device=line, label=query.label, verdict=query.verdict, rule_kind=query.rule_kind,
            before_s=query.before_s, after=after, limit=query.limit, groups=reach_here(),
        )  # fmt: skip
        names = {each: inventory.get(session, each, here.clock()).name for each in {item["device"] for item in found}}
    return reply_list([_named(item, names) for item in found], following(found) if len(found) == query.limit else None)


@operator.get("/detections/<event>")
@require("viewer", reach="filtered")
def get_detection(path: EventPath) -> Response:
    """One event."""
    here = context()
    with here.database.read() as session:
        found = listing.detection(session, path.event, groups=reach_here())
        name = inventory.get(session, found["device"], here.clock()).name
    return reply(_named(found, {found["device"]: name}))


@operator.get("/crops/<path:key>")
@require("viewer", reach="filtered")
def get_crop(path: CropPath) -> Response:
    """A crop's picture. The bytes came from a device: shown as JPEG and as nothing else. Looking stands in the audit."""
    here = context()
    try:
        check_key(path.key)
    except ValueError as error:
        raise NotFoundError(str(error)) from None
    with here.database.read() as session:
        if not listing.crop_is_known(session, path.key, reach_here()):
            raise NotFoundError("there is no such crop in the store (yet)")
    data = here.blobs.read(path.key)
    if not data.startswith(JPEG_MAGIC):
        raise NotFoundError("what was stored under this key is not a JPEG picture")
    look_here("crop.look", path.key)
    response = Response(data, mimetype="image/jpeg")
    name = path.key.rpartition("/")[2][:16]
    response.headers["Content-Disposition"] = f'inline; filename="{name}.jpg"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers.update(KEPT_BY_BROWSERS)
    return response


def _named(item: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {**item, "device_name": names[item["device"]]}
