"""What the pages' forms do: each is one use case of a service, then back to a page (303), so that reload repeats nothing."""

from collections.abc import Callable

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response

from fleet_server.alerts import service as alerts
from fleet_server.context import context
from fleet_server.enrolment import service as enrolment
from fleet_server.enrolment.api import issuer_here
from fleet_server.errors import NotFoundError
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.inventory import service as inventory
from fleet_server.logs import service as logs
from fleet_server.rollouts import reports
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.reach import check_inside

ROLLOUT_VERBS = {"pause": rollouts.pause, "resume": rollouts.resume, "abort": rollouts.abort}


def add_actions(blueprint: Blueprint) -> None:
    """Register every form's action."""
    actions: dict[str, Callable[..., Response]] = {
        "/rollouts/<rollout_id>/<action>": rollout_action, "/devices/<device_id>/debug": begin_debug,
        "/devices/<device_id>/debug/<session_id>/end": end_debug,
        "/devices/<device_id>/debug/<session_id>/frames": ask_frames, "/devices/<device_id>/unhold": unhold,
        "/enrolments/<enrolment_id>/<action>": enrolment_action, "/alerts/<alert_id>/acknowledge": acknowledge,
    }  # fmt: skip
    for path, view in actions.items():
        blueprint.add_url_rule(path, view.__name__, view, methods=["POST"])


@require("operator", reach="filtered")
def rollout_action(rollout_id: str, action: str) -> Response:
    """Pause, resume or abort."""
    here = context()
    if action not in ROLLOUT_VERBS:
        raise NotFoundError(f"a rollout cannot be told to {action[:20]!r}")
    with here.database.write() as db:
        check_inside(db, rollout_id, reach_here())
        ROLLOUT_VERBS[action](db, rollout_id, who=current_operator().name, now_s=here.clock(), origin=origin())
    return redirect(url_for("dashboard.rollout", rollout_id=rollout_id), 303)


@require("operator", reach="device")
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


@require("operator", reach="device")
def end_debug(device_id: str, session_id: str) -> Response:
    """Let the log level fall back now."""
    here = context()
    with here.database.write() as db:
        logs.end_session(db, device_id, session_id, who=current_operator().name, now_s=here.clock(), origin=origin())
    return redirect(url_for("dashboard.device", device_id=device_id), 303)


@require("operator", reach="device")
def ask_frames(device_id: str, session_id: str) -> Response:
    """Ask for pictures within a debug session; the board's own policy decides whether any come."""
    here, form = context(), request.form
    with here.database.write() as db:
        logs.ask_frames(
            db, device_id, session_id, frames=form.get("frames", "last"), camera=form.get("camera", "").strip() or None,
            who=current_operator().name, now_s=here.clock(), origin=origin(),
        )  # fmt: skip
    return redirect(url_for("dashboard.device", device_id=device_id, _anchor="debug"), 303)


@require("operator", reach="device")
def unhold(device_id: str) -> Response:
    """A person has looked into a suspected clone: the device takes part in updates again."""
    here = context()
    with here.database.write() as db:
        found = inventory.get(db, device_id, here.clock())
        reports.release_hold(db, found.id, who=current_operator().name, now_s=here.clock(), origin=origin())
    return redirect(url_for("dashboard.device", device_id=found.id), 303)


@require("operator", reach="filtered")
def enrolment_action(enrolment_id: str, action: str) -> Response:
    """Accept or reject a board that asks."""
    here, who, groups = context(), current_operator().name, reach_here()
    if action not in ("accept", "reject"):
        raise NotFoundError(f"a request to join cannot be told to {action[:20]!r}")
    issuer = issuer_here()
    with here.database.write() as db:
        if action == "accept":
            enrolment.accept(db, enrolment_id, issuer, who=who, origin=origin(), now_s=here.clock(), groups=groups)
        else:
            enrolment.reject(
                db, enrolment_id, reason="rejected on the dashboard", who=who, origin=origin(), now_s=here.clock(), groups=groups
            )
    return redirect(url_for("dashboard.home"), 303)


@require("operator", reach="filtered")
def acknowledge(alert_id: str) -> Response:
    """Say that somebody is on it."""
    here = context()
    with here.database.write() as db:
        alerts.acknowledge(
            db, alert_id, who=current_operator().name, now_s=here.clock(), origin=origin(), groups=reach_here()
        )
    return redirect(url_for("dashboard.alert_list"), 303)
