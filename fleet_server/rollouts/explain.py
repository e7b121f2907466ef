"""Gather what is known of one device for ``why_not``."""

from collections.abc import Collection
from dataclasses import replace

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import GONE, DeploymentState, Device
from fleet_server.releases import service as releases
from fleet_server.rollouts import gates
from fleet_server.rollouts.reach import reason_shown
from fleet_server.rollouts.tables import RolloutDeviceRow, RolloutRow
from fleet_server.rollouts.targets import target
from fleet_server.rollouts.why_not import Case, WhyNot, why_not
from ota.bundle.manifest import AGENT, MODEL
from ota.bundle.variants import hardware_problem, resolve
from ota.wire.enrolment import BoardFacts


def explain(
    session: Session, id_or_name: str, *, now_s: float, within_s: float, groups: Collection[str] | None = None
) -> WhyNot:
    """Why the device does not run what is wanted, its model and its agent; NotFoundError for an unknown one."""
    device = inventory.get(session, id_or_name, now_s, within_s)
    model = why_not(_case(session, device, MODEL, now_s, groups))
    agent = _case(session, device, AGENT, now_s, groups)
    if not agent.wanted:
        return model
    of_agent = why_not(agent)
    return replace(model, sentences=[*model.sentences, *of_agent.sentences], agent=of_agent)


def _case(session: Session, device: Device, kind: str, now_s: float, groups: Collection[str] | None) -> Case:
    newest = _newest_rollout(session, device.id, kind)
    meant = target(session, device.id, kind)
    wanted = newest[1].release if newest is not None else (meant.release if meant is not None else None)
    if newest is not None and meant is not None and not meant.source.startswith("rollout:"):
        newest, wanted = None, meant.release  # an experiment, or whoever installed by hand, has taken the device over since
    row, rollout = newest if newest is not None else (None, None)
    release = releases.find_release(session, wanted) if wanted else None
    deployment = device.agent.deployment if kind == AGENT else device.deployment
    said: RolloutDeviceRow | DeploymentState | None = row or deployment
    if row is not None and row.state == "pending" and deployment is not None and deployment.target == wanted:
        # It was asked once and said no, and the offer was withdrawn since: its own last word of this release is the reason.
        said = deployment if deployment.state in gates.BAD else row
    if kind == AGENT:
        name = f"the agent of {device.name}"
        running, running_sha256 = device.agent.release or "the agent that it came with", device.agent.sha256
    else:
        name = device.name
        running = device.running.release if device.running else ""
        running_sha256 = device.running.bundle_sha256 if device.running else ""
    return Case(
        device=device.id,
        name=name,
        wanted=wanted or "",
        wanted_sha256=release.sha256 if release else "",
        running=running,
        running_sha256=running_sha256,
        online=device.state == "online",
        silent_s=now_s - device.last_seen_s if device.last_seen_s is not None else None,
        revoked=device.state in ("revoked", GONE),
        held=device.held or "",
        yanked=release is None or release.yanked,
        variant_problem=_variant_problem(session, wanted, device),
        rollout=rollout.id if rollout else "",
        rollout_state=rollout.state if rollout else "",
        rollout_reason=reason_shown(session, rollout.id, rollout.reason, groups) if rollout else "",
        stage=row.stage if row else 0,
        open_stage=rollout.stage if rollout else 0,
        state=said.state if said else "",
        reason=said.reason if said else "",
        detail=said.detail if said else "",
    )


def _newest_rollout(session: Session, device_id: str, kind: str) -> tuple[RolloutDeviceRow, RolloutRow] | None:
    query = (
        select(RolloutDeviceRow, RolloutRow)
        .join(RolloutRow, RolloutRow.id == RolloutDeviceRow.rollout_id)
        .where(RolloutDeviceRow.device_id == device_id, RolloutDeviceRow.state.not_in(gates.ASIDE), RolloutRow.kind == kind)
        .order_by(RolloutRow.created_s.desc(), RolloutRow.id)
    )
    found = session.execute(query.limit(1)).first()
    return (found[0], found[1]) if found is not None else None


def _variant_problem(session: Session, wanted: str | None, device: Device) -> str:
    manifest = releases.manifest_of(session, wanted) if wanted else None
    if manifest is None:
        return ""
    try:
        facts = msgspec.convert(device.facts, BoardFacts)
    except msgspec.ValidationError:
        return ""  # facts of an older agent: the device itself decides
    problem = hardware_problem(manifest, facts)
    if problem is not None:
        return problem
    resolution = resolve(manifest, facts)
    return "" if resolution.variant is not None else resolution.reason
