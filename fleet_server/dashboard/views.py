"""The pages: each gathers values from services and hands them to one template. They change nothing: that is in ``actions``."""

from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, render_template, request
from sqlalchemy.orm import Session

from fleet_server.alerts import service as alerts
from fleet_server.audit.looks import look_here
from fleet_server.configuration import service as configuration
from fleet_server.context import context
from fleet_server.dashboard.columns import series
from fleet_server.detections import listing as detections
from fleet_server.detections.cursor import following, read_cursor
from fleet_server.enrolment import service as enrolment
from fleet_server.errors import NotFoundError
from fleet_server.experiments import service as experiments
from fleet_server.http_access import current_operator, reach_here, require
from fleet_server.inventory import listing as device_lists
from fleet_server.inventory import service as inventory
from fleet_server.inventory import succession
from fleet_server.inventory.device import Device
from fleet_server.logs import listing as frames
from fleet_server.logs import service as logs
from fleet_server.overview import service as overview
from fleet_server.releases import seen
from fleet_server.releases import service as releases
from fleet_server.rollouts import explain, reports
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.reach import is_inside
from fleet_server.telemetry import service as telemetry
from ota.trust.expiry_warnings import expiry_warnings

DEVICES_PER_PAGE = 100
EVENTS_PER_PAGE = 48
LINES = 300
SESSIONS_SHOWN = 3
BEATS = 120
NAMES_OFFERED = 200
"""Names that a field proposes while one types; a fleet has more than a list can show."""


def add_pages(blueprint: Blueprint) -> None:
    """Register every page."""
    pages: dict[str, Callable[..., str]] = {
        "/": home, "/devices": devices, "/devices/<device_id>": device, "/releases": release_list, "/rollouts": rollout_list,
        "/rollouts/<rollout_id>": rollout, "/detections": detection_list, "/detections/<event_id>": detection,
        "/logs": log_lines, "/experiments": experiment_list, "/alerts": alert_list,
    }  # fmt: skip
    for path, view in pages.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=["GET"])


@require("viewer", reach="filtered")
def home() -> str:
    """The overview: what needs a person first, then the fleet at a glance."""
    here = context()
    settings, now_s = here.settings, here.clock()
    with here.database.read() as db:
        shown = overview.overview(db, now_s=now_s, within_s=settings.online_within_s, groups=reach_here())
        waiting = [one for one in enrolment.enrolments(db, limit=20, groups=reach_here()) if one.state == "pending"]
    open_alerts = [one for one in shown.alerts if one.acknowledged_s is None]
    return render_template(
        "overview.html", shown=shown, alerts=open_alerts, pending=waiting, settings=settings,
        topics="devices rollouts alerts detections enrolments overview",
    )  # fmt: skip


@require("viewer", reach="filtered")
def devices() -> str:
    """All devices; the filter stands in the address, so that it survives reload and can be shared."""
    here = context()
    text, state, group, after = (request.args.get(key, "") for key in ("q", "state", "group", "cursor"))
    with here.database.read() as db:
        found = inventory.find(
            db, here.clock(), text=text, state=state or None, group=group or None, after_name=after, limit=DEVICES_PER_PAGE,
            within_s=here.settings.online_within_s, groups=reach_here(),
        )  # fmt: skip
        counts = inventory.counts(db, here.clock(), here.settings.online_within_s, reach_here())
        groups = device_lists.group_names(db, reach_here())
    following = found[-1].name if len(found) == DEVICES_PER_PAGE else None
    chosen = {"q": text, "state": state, "group": group}
    return render_template(
        "devices.html", devices=found, counts=counts, groups=groups, chosen=chosen, following=following, topics="devices"
    )


@require("viewer", reach="device")
def device(device_id: str) -> str:
    """One device: what it is, what it runs and why, how it has been."""
    here = context()
    now_s, within_s = here.clock(), here.settings.online_within_s
    with here.database.read() as db:
        found = inventory.get(db, device_id, now_s, within_s)
        reason = explain.explain(db, found.id, now_s=now_s, within_s=within_s, groups=reach_here())
        said = reports.reports(db, found.id, limit=30)
        beats = telemetry.heartbeats(db, found.id, limit=BEATS)
        line = succession.line_of(db, found.id)
        events = detections.detections(db, device=line, limit=8)
        successor = succession.successor_of(db, found.id)
        sessions = logs.sessions(db, found.id, now_s)
        told = configuration.explained(db, found.id, now_s)
    return render_template(
        "device.html", looked=_looked(found.id, sessions),
        device=found, why=reason, reports=said, events=events, topics="devices rollouts detections configuration", told=told,
        series=series([(beat.received_s, beat.heartbeat) for beat in beats]), sessions=[one for one in sessions if one.active],
        cameras=beats[0].heartbeat.get("cameras", []) if beats else [], line=line, successor=successor,
    )  # fmt: skip


@require("viewer", reach="filtered")
def release_list() -> str:
    """Releases and what runs where."""
    here = context()
    with here.database.read() as db:
        found = releases.releases(db)
        running = {count.release: count.devices for count in device_lists.running_counts(db, reach_here())}
        # Counted over the whole fleet: not for whoever is limited to a part of it.
        texts = seen.standing(db, here.repository.versions()).texts if reach_here() is None else []
    status = here.repository.status()
    ends = expiry_warnings(status.expires_s, here.clock())
    return render_template(
        "releases.html", releases=found, running=running, status=status, topics="releases devices",
        notes=[*texts, *(one.text for one in ends if not one.expired)],
    )  # fmt: skip


@require("viewer", reach="filtered")
def rollout_list() -> str:
    """Rollouts, newest first."""
    with context().database.read() as db:
        found = rollouts.rollouts(db, groups=reach_here())
    return render_template("rollouts.html", rollouts=found, topics="rollouts")


@require("viewer", reach="filtered")
def rollout(rollout_id: str) -> str:
    """One rollout: stages, and what became of it on each device."""
    with context().database.read() as db:
        found = rollouts.rollout(db, rollout_id, reach_here())
        mine = is_inside(db, rollout_id, reach_here())
    return render_template("rollout.html", rollout=found, mine=mine, topics="rollouts")


@require("viewer", reach="filtered")
def detection_list() -> str:
    """Events with their crops and verdicts; recall samples only where ``kind`` asks for them."""
    here = context()
    named, label, verdict, kind = (request.args.get(key, "").strip() for key in ("device", "label", "verdict", "kind"))
    cursor = request.args.get("cursor", "")
    after = read_cursor(cursor) if cursor else None
    with here.database.read() as db:
        only, problem = _device_named(db, named)
        found: list[dict[str, Any]] = []
        if not problem:
            found = detections.detections(
                db, device=succession.line_of(db, only.id) if only else None, label=label or None, verdict=verdict or None,
                rule_kind=kind or None,
                after=after, limit=EVENTS_PER_PAGE, groups=reach_here(),
            )  # fmt: skip
        seen = inventory.presences(db, {event["device"] for event in found}, here.clock())
        offered = _names(db)
    chosen = {"device": only.name if only else named, "label": label, "verdict": verdict, "kind": kind}
    older = following(found) if len(found) == EVENTS_PER_PAGE else None
    return render_template(
        "detections.html", events=found, names={one.id: one.name for one in seen.values()}, offered=offered, chosen=chosen,
        older=older, problem=problem, topics="detections",
    )  # fmt: skip


@require("viewer", reach="filtered")
def detection(event_id: str) -> str:
    """One event: why it was raised, and what the second look said."""
    here = context()
    with here.database.read() as db:
        found = detections.detection(db, event_id, request.args.get("device") or None, reach_here())
        name = inventory.get(db, found["device"], here.clock()).name
    return render_template("detection.html", event=found, name=name, topics="detections")


@require("viewer", reach="filtered")
def log_lines() -> str:
    """Log lines of one device, the newest first."""
    here = context()
    level, named = request.args.get("level") or None, request.args.get("device", "").strip()
    with here.database.read() as db:
        only, problem = _device_named(db, named)
        lines = logs.lines(db, only.id, level=level, limit=LINES)[::-1] if only else []
        sessions = logs.sessions(db, only.id, here.clock())[:5] if only else []
        offered = _names(db)
    if only is not None and any(line.session for line in lines):
        look_here("log.look", only.id)
    return render_template(
        "logs.html", offered=offered, device=only, named=named, problem=problem, lines=lines, sessions=sessions,
        level=level or "", topics="logs devices",
    )  # fmt: skip


@require("viewer", reach="filtered")
def experiment_list() -> str:
    """Experiments with figures per arm."""
    with context().database.read() as db:
        found = experiments.experiments(db, reach_here())
    return render_template("experiments.html", experiments=found, topics="experiments detections devices")


@require("viewer", reach="filtered")
def alert_list() -> str:
    """Alerts, open ones first."""
    with context().database.read() as db:
        found = sorted(alerts.alerts(db, groups=reach_here()), key=lambda one: (one.resolved_s is not None, -one.opened_s))
    return render_template("alerts.html", alerts=found, topics="alerts")


def _looked(device_id: str, sessions: Sequence[logs.DebugSessionEntry]) -> list[tuple[logs.DebugSessionEntry, list[Any]]]:
    """The newest sessions that asked for pictures, with what came: for those who may ask, and for nobody else."""
    if "operator" not in current_operator().scopes:
        return []
    asked = [one for one in sessions if one.frames_asked][:SESSIONS_SHOWN]
    return [(one, frames.answers(context().blobs, device_id, one.id)) for one in asked]


def _device_named(db: Session, named: str) -> tuple[Device | None, str]:
    """The device of that id or name, or what is wrong with it; neither where nothing was asked for."""
    if not named:
        return None, ""
    here = context()
    try:
        return inventory.get(db, named, here.clock(), here.settings.online_within_s, reach_here()), ""
    except NotFoundError as error:
        return None, error.detail


def _names(db: Session) -> Sequence[str]:
    return device_lists.device_names(db, reach_here(), NAMES_OFFERED)
