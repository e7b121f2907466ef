"""The pages: each gathers values from services and hands them to one template."""

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from fleet_server.alerts import service as alerts
from fleet_server.context import context
from fleet_server.detections import listing as detections
from fleet_server.enrolment import service as enrolment
from fleet_server.experiments import service as experiments
from fleet_server.http_access import current_operator, origin, require
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.overview import service as overview
from fleet_server.releases import service as releases
from fleet_server.rollouts import explain, reports
from fleet_server.rollouts import service as rollouts
from fleet_server.telemetry import service as telemetry

DEVICES_PER_PAGE = 100
EVENTS_PER_PAGE = 48
LINES = 300
BEATS = 120


def add_pages(blueprint: Blueprint) -> None:
    """Register every page and every form's action."""
    pages = {
        "/": home, "/devices": devices, "/devices/<device_id>": device, "/releases": release_list, "/rollouts": rollout_list,
        "/rollouts/<rollout_id>": rollout, "/detections": detection_list, "/detections/<event_id>": detection,
        "/logs": log_lines, "/experiments": experiment_list, "/alerts": alert_list,
    }  # fmt: skip
    for path, view in pages.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=["GET"])
    actions = {
        "/rollouts/<rollout_id>/<action>": rollout_action, "/devices/<device_id>/debug": begin_debug,
        "/enrolments/<enrolment_id>/<action>": enrolment_action, "/alerts/<alert_id>/acknowledge": acknowledge,
    }  # fmt: skip
    for path, view in actions.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=["POST"])


@require("viewer")
def home() -> str:
    """The overview: what needs a person first, then the fleet at a glance."""
    here = context()
    now_s = here.clock()
    with here.database.read() as db:
        shown = overview.overview(db, here.settings, now_s)
        waiting = enrolment.enrolments(db, limit=20)
    pending = [one for one in waiting if one.state == "pending"]
    return render_template("overview.html", shown=shown, pending=pending, topics="devices rollouts alerts events enrolments")


@require("viewer")
def devices() -> str:
    """All devices; the filter stands in the address and survives every action."""
    here = context()
    query, state, group = (request.args.get(key) or None for key in ("q", "state", "group"))
    with here.database.read() as db:
        found, following = _page(db, query, state, group, request.args.get("cursor"))
        counts = inventory.counts(db, here.clock(), here.settings.online_within_s)
    chosen = {"q": query or "", "state": state or "", "group": group or ""}
    return render_template("devices.html", devices=found, counts=counts, chosen=chosen, following=following, topics="devices")


def _page(db: Any, query: str | None, state: str | None, group: str | None, cursor: str | None) -> tuple[Any, str | None]:
    here = context()
    found = inventory.find(
        db, query=query, state=state, group=group, cursor=cursor, limit=DEVICES_PER_PAGE, now_s=here.clock(),
        within_s=here.settings.online_within_s,
    )  # fmt: skip
    return found


@require("viewer")
def device(device_id: str) -> str:
    """One device: what it is, what it runs and why, how it has been."""
    here = context()
    now_s = here.clock()
    with here.database.read() as db:
        found = inventory.get(db, device_id, now_s, here.settings.online_within_s)
        reason = explain.explain(db, found.id, now_s, here.settings.online_within_s)
        said = reports.reports(db, found.id, limit=30)
        beats = telemetry.heartbeats(db, found.id, limit=BEATS)
        events = detections.detections(db, device=found.id, limit=8)
        sessions = logs.sessions(db, found.id, now_s)
    return render_template(
        "device.html", device=found, why=reason, reports=said, series=series(beats), events=events, sessions=sessions,
        topics="devices rollouts events",
    )  # fmt: skip


def series(beats: Any) -> dict[str, list[float | None]]:
    """Heartbeats as columns, oldest first: what the charts and their tables show."""
    columns: dict[str, list[float | None]] = {"at_s": [], "temperature_c": [], "fps": [], "detection_percent": []}
    for entry in reversed(beats):
        beat = entry.heartbeat
        cameras = beat.get("cameras") or []
        gated = sum(camera.get("gated_frames", 0) for camera in cameras)
        seen = sum(camera.get("frames_with_detection", 0) for camera in cameras)
        columns["at_s"].append(float(beat["at_s"]))
        columns["temperature_c"].append((beat.get("host") or {}).get("cpu_temp_c"))
        columns["fps"].append(sum(camera.get("processed_fps", 0.0) for camera in cameras))
        columns["detection_percent"].append(100 * seen / gated if gated else None)
    return columns


@require("viewer")
def release_list() -> str:
    """Releases and what runs where."""
    here = context()
    with here.database.read() as db:
        found = releases.releases(db)
        running = {count.release: count.devices for count in inventory.running_counts(db)}
    status = here.repository.status()
    return render_template("releases.html", releases=found, running=running, status=status, topics="releases devices")


@require("viewer")
def rollout_list() -> str:
    """Rollouts, newest first."""
    with context().database.read() as db:
        found = rollouts.rollouts(db)
    return render_template("rollouts.html", rollouts=found, topics="rollouts")


@require("viewer")
def rollout(rollout_id: str) -> str:
    """One rollout: stages, and what became of it on each device."""
    with context().database.read() as db:
        found = rollouts.rollout(db, rollout_id)
    return render_template("rollout.html", rollout=found, topics="rollouts")


@require("viewer")
def detection_list() -> str:
    """Events with their crops and verdicts."""
    here = context()
    device_name, label, verdict = (request.args.get(key) or None for key in ("device", "label", "verdict"))
    before = request.args.get("before_s", type=float)
    with here.database.read() as db:
        only = inventory.get(db, device_name, here.clock()).id if device_name else None
        found = detections.detections(db, device=only, label=label, verdict=verdict, before_s=before, limit=EVENTS_PER_PAGE)
        names = {one.id: one.name for one in inventory.presences(db, None, here.clock()).values()}
    chosen = {"device": device_name or "", "label": label or "", "verdict": verdict or ""}
    older = found[-1]["started_at_s"] if len(found) == EVENTS_PER_PAGE else None
    return render_template("detections.html", events=found, names=names, chosen=chosen, older=older, topics="events")


@require("viewer")
def detection(event_id: str) -> str:
    """One event: why it was raised, and what the second look said."""
    here = context()
    with here.database.read() as db:
        found = detections.detection(db, event_id)
        name = inventory.get(db, found["device"], here.clock()).name
    return render_template("detection.html", event=found, name=name, topics="events")


@require("viewer")
def log_lines() -> str:
    """Log lines of one device."""
    here = context()
    level, chosen = request.args.get("level") or None, request.args.get("device") or ""
    with here.database.read() as db:
        names = sorted(inventory.presences(db, None, here.clock()).values(), key=lambda one: one.name)
        only = inventory.get(db, chosen, here.clock()) if chosen else None
        lines = logs.lines(db, only.id, level=level, limit=LINES) if only else []
        sessions = logs.sessions(db, only.id, here.clock()) if only else []
    return render_template(
        "logs.html", names=names, device=only, lines=lines, sessions=sessions, level=level or "", topics="logs devices"
    )


@require("viewer")
def experiment_list() -> str:
    """Experiments with figures per arm."""
    here = context()
    with here.database.read() as db:
        found = [experiments.experiment(db, one.id, here.clock()) for one in experiments.experiments(db)]
    return render_template("experiments.html", experiments=found, topics="events devices")


@require("viewer")
def alert_list() -> str:
    """Alerts, open ones first."""
    with context().database.read() as db:
        found = alerts.alerts(db, open_only=False)
    return render_template("alerts.html", alerts=found, topics="alerts")


@require("operator")
def rollout_action(rollout_id: str, action: str) -> Response:
    """Pause, resume or abort."""
    here, who = context(), current_operator().name
    verbs = {"pause": rollouts.pause_now, "resume": rollouts.resume, "abort": rollouts.abort}
    if action in verbs:
        with here.database.write() as db:
            verbs[action](db, rollout_id, who=who, now_s=here.clock(), origin=origin())
    return redirect(url_for("dashboard.rollout", rollout_id=rollout_id), 303)


@require("operator")
def begin_debug(device_id: str) -> Response:
    """Raise a device's log level for a while."""
    here, form = context(), request.form
    with here.database.write() as db:
        found = inventory.get(db, device_id, here.clock())
        logs.create_session(
            db, found.id, log_level=form.get("log_level", "debug"), duration_s=form.get("duration_s", 60.0, type=float),
            reason=form.get("reason", ""), who=current_operator().name, now_s=here.clock(), origin=origin(),
        )  # fmt: skip
    return redirect(url_for("dashboard.log_lines", device=found.name, level="debug"), 303)


@require("operator")
def enrolment_action(enrolment_id: str, action: str) -> Response:
    """Accept or reject a board that asks."""
    here, who = context(), current_operator().name
    if action == "accept":
        enrolment.accept_request(here, enrolment_id, who=who, origin=origin())
    elif action == "reject":
        with here.database.write() as db:
            enrolment.reject(db, enrolment_id, reason="rejected on the dashboard", who=who, origin=origin(), now_s=here.clock())
    return redirect(url_for("dashboard.home"), 303)


@require("operator")
def acknowledge(alert_id: str) -> Response:
    """Say that somebody is on it."""
    here = context()
    with here.database.write() as db:
        alerts.acknowledge(db, alert_id, who=current_operator().name, now_s=here.clock(), origin=origin())
    return redirect(url_for("dashboard.alert_list"), 303)
