"""The poll and the reports of devices; rollouts and why-not for operators."""

from flask import Blueprint, Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.context import context
from fleet_server.errors import InvalidError
from fleet_server.http_access import current_operator, device_identity, origin, reach_here, require
from fleet_server.http_json import reply, reply_list
from fleet_server.http_wire import answer, one_at_a_time, read_message
from fleet_server.inventory import service as inventory
from fleet_server.places_disk import told_urls
from fleet_server.releases import seen as metadata_seen
from fleet_server.rollouts import assignments, reports, service
from fleet_server.rollouts.contact import Contacts
from fleet_server.rollouts.explain import explain
from fleet_server.rollouts.orders import DEFAULT_STAGES, MAX_WAIT_S, Order
from fleet_server.rollouts.reach import check_inside
from ota.wire.assignments import StateRequest
from ota.wire.deployments import ReportBatch
from ota.wire.topics import REPORTS, STATE

operator = APIBlueprint("rollouts", __name__, url_prefix="/api/v1")
device = Blueprint("rollouts_device", __name__)


class DevicePath(BaseModel):
    """A device by id or unique name."""

    device: str = Field(max_length=100)


class RolloutPath(BaseModel):
    """A rollout by its id."""

    rollout: str = Field(max_length=40)


class ReportsQuery(BaseModel):
    """How many."""

    limit: int = Field(200, ge=1, le=2000)


class Selector(BaseModel):
    """Which devices: a group, or devices by id or name; empty means all."""

    group: str | None = None
    devices: list[str] | None = Field(default=None, max_length=10_000)


class RolloutBody(BaseModel):
    """A rollout to create."""

    release: str = Field(max_length=200)
    selector: Selector = Field(default_factory=Selector)
    stages: list[float] = Field(default=list(DEFAULT_STAGES), min_length=1, max_length=20)
    max_failed: int | None = Field(None, ge=0)
    max_wait_s: float = Field(MAX_WAIT_S, gt=0, le=90 * 86400)
    dry_run: bool = False


@device.post(STATE)
def post_state() -> Response:
    """The poll: signed state, and the signed assignment when the device does not hold it."""
    who = device_identity()
    asked = read_message(StateRequest)
    here = context()
    settings, now_s = here.settings, here.clock()
    contacts: Contacts = current_app.extensions.setdefault("rookery_contacts", Contacts())
    seen = contacts.is_due(who.device_id, now_s)
    ours = here.repository.versions()
    with here.database.read() as session:
        ahead = metadata_seen.is_device_ahead(session, who.device_id, asked.metadata_versions, ours)
        row = assignments.present(session, who.device_id, asked, now_s, settings.assignment_ttl_s, ahead=ahead)
        urgent = assignments.is_urgent(session, who.device_id, now_s)
    if row is None or seen:
        with here.database.write() as session:
            if seen:
                inventory.record_seen(session, who.device_id, now_s)
            metadata_seen.note(session, who.device_id, asked.metadata_versions, ours, now_s)
            if row is None:
                row = assignments.renew(
                    session, who.device_id, asked, signer=here.signer, now_s=now_s, ttl_s=settings.assignment_ttl_s, ahead=ahead
                )
    poll_s = min(settings.fast_poll_s, settings.poll_s) if urgent else settings.poll_s
    servers = told_urls(settings.pki_dir, settings.device_url)
    return answer(assignments.state_answer(row, asked, signer=here.signer, now_s=now_s, poll_s=poll_s, servers=servers))


@device.post(REPORTS)
def post_reports() -> Response:
    """A batch of deployment reports; the answer is given after the commit."""
    who = device_identity()
    batch = read_message(ReportBatch)
    here = context()
    with one_at_a_time(who.device_id, REPORTS), here.database.write() as session:
        stored = reports.store_reports(session, who.device_id, batch, now_s=here.clock())
        metadata_seen.note(session, who.device_id, batch.metadata_versions, here.repository.versions(), here.clock())
    return answer(stored)


@operator.get("/devices/<device>/reports")
@require("viewer", reach="device")
def list_reports(path: DevicePath, query: ReportsQuery) -> Response:
    """What the device reported of its deployments, newest first."""
    here = context()
    with here.database.read() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        return reply_list(reports.reports(session, device_id, query.limit))


@operator.get("/devices/<device>/why-not")
@require("viewer", reach="device")
def get_why_not(path: DevicePath) -> Response:
    """Why the device does not run what is wanted."""
    here = context()
    with here.database.read() as session:
        found = explain(
            session, path.device, now_s=here.clock(), within_s=here.settings.online_within_s, groups=reach_here()
        )
    return reply(found)


@operator.post("/devices/<device>/unhold")
@require("operator", reach="device")
def post_unhold(path: DevicePath) -> Response:
    """Let a device that was held back as a suspected clone take part in updates again."""
    here = context()
    with here.database.write() as session:
        device_id = inventory.get(session, path.device, here.clock()).id
        reports.release_hold(session, device_id, who=current_operator().name, now_s=here.clock(), origin=origin())
    return Response(status=204)


@operator.post("/rollouts")
@require("operator", reach="filtered")
def post_rollout(body: RolloutBody) -> Response:
    """Send a release on its way, or say what would happen."""
    here = context()
    order = Order(
        release=body.release, group=body.selector.group, devices=body.selector.devices, stages=body.stages,
        max_failed=body.max_failed, max_wait_s=body.max_wait_s, selector=body.selector.model_dump(exclude_none=True),
        groups=reach_here(),
    )  # fmt: skip
    if order.devices is not None and not order.devices:
        raise InvalidError("selector.devices is empty", "leave it out to mean every device")
    who = current_operator().name
    if body.dry_run:
        with here.database.read() as session:
            return reply(service.create(session, order, who=who, now_s=here.clock(), dry_run=True))
    with here.database.write() as session:
        made = service.create(session, order, who=who, now_s=here.clock(), origin=origin())
    return reply(made, 201)


@operator.get("/rollouts")
@require("viewer", reach="filtered")
def list_rollouts() -> Response:
    """Rollouts, newest first, without their devices."""
    with context().database.read() as session:
        return reply_list(service.rollouts(session, groups=reach_here()))


@operator.get("/rollouts/<rollout>")
@require("viewer", reach="filtered")
def get_rollout(path: RolloutPath) -> Response:
    """One rollout with its devices."""
    return _rollout(path.rollout)


@operator.post("/rollouts/<rollout>/pause")
@require("operator", reach="filtered")
def post_pause(path: RolloutPath) -> Response:
    """No further device begins."""
    here = context()
    with here.database.write() as session:
        check_inside(session, path.rollout, reach_here())
        service.pause(session, path.rollout, who=current_operator().name, now_s=here.clock(), origin=origin())
    return _rollout(path.rollout)


@operator.post("/rollouts/<rollout>/resume")
@require("operator", reach="filtered")
def post_resume(path: RolloutPath) -> Response:
    """Go on; the failures so far are accepted."""
    here = context()
    with here.database.write() as session:
        check_inside(session, path.rollout, reach_here())
        service.resume(session, path.rollout, who=current_operator().name, now_s=here.clock(), origin=origin())
    return _rollout(path.rollout)


@operator.post("/rollouts/<rollout>/abort")
@require("operator", reach="filtered")
def post_abort(path: RolloutPath) -> Response:
    """End it; devices that committed keep the release."""
    here = context()
    with here.database.write() as session:
        check_inside(session, path.rollout, reach_here())
        service.abort(session, path.rollout, who=current_operator().name, now_s=here.clock(), origin=origin())
    return _rollout(path.rollout)


def _rollout(rollout_id: str) -> Response:
    with context().database.read() as session:
        return reply(service.rollout(session, rollout_id, reach_here()))
