"""The use cases of rollouts: create, tick, pause, resume, abort. ``gates`` decides; this carries it out, idempotently."""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.errors import ConflictError, InvalidError
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import DeploymentState, Device
from fleet_server.inventory.reach import within
from fleet_server.releases import service as releases
from fleet_server.rollouts import gates, plan
from fleet_server.rollouts.orders import Order, Timing
from fleet_server.rollouts.reach import check_seen, ids_reaching, reason_shown, selected, unknown_rollout
from fleet_server.rollouts.tables import RolloutDeviceRow, RolloutRow
from fleet_server.rollouts.targets import set_target, targets
from fleet_server.rollouts.views import Rollout, standing_of, view
from ota.bundle.manifest import AGENT

MAX_IDS_IN_QUERY = 5000
"""Databases bound the number of parameters; beyond this all devices are read."""


def create(session: Session, order: Order, *, who: str, now_s: float, dry_run: bool = False, origin: str = "") -> Rollout:
    """Send a release on its way, or (dry run) only say what would happen. Older rollouts give way on the same devices."""
    release = releases.release(session, order.release)
    if release.advisory:
        detail = f"{order.release} is not to be offered any more: {release.advisory}"
        raise ConflictError(detail, "take the advisory yank back first")
    if release.yanked:
        raise ConflictError(f"{order.release} was taken out of its channel's signed metadata", "publish a new version instead")
    problem = plan.shares_problem(order.stages)
    if problem is not None:
        raise InvalidError(problem, "for instance 0.05, 0.25, 1.0")
    if order.max_wait_s <= 0 or order.deadline_s <= 0 or (order.max_failed or 0) < 0:
        raise InvalidError("max_wait_s must be above 0 and max_failed must not be negative")
    devices = selected(session, order)
    rollout = RolloutRow(
        id=f"r-{secrets.token_hex(4)}", release=release.release, kind=release.kind, sha256=release.sha256,
        selector=order.selector, shares=[float(share) for share in order.stages],
        max_failed=order.max_failed, max_wait_s=order.max_wait_s,
        deadline_s=order.deadline_s, state="running", reason="", stage=-1, stage_opened_s=now_s, accepted={}, created_s=now_s,
        created_by=who, ended_s=None, fence=0,
    )  # fmt: skip
    standing = _standing(session, devices, release.kind)
    if not dry_run:
        _supersede(session, devices, rollout.id, release.kind, now_s)
    rows = [
        RolloutDeviceRow(
            rollout_id=rollout.id, device_id=device_id, stage=stage, state="pending", reason="", detail="", running="",
            at_s=now_s, previous=standing.get(device_id), withdrawn=False, behaviour_unseen=False,
        )
        for stage, members in enumerate(plan.stages(rollout.id, devices, order.stages)) for device_id in members
    ]  # fmt: skip
    if not dry_run:
        session.add(rollout)
        session.flush()
        session.add_all(rows)
        after = {"release": release.release, "devices": len(devices), "stages": rollout.shares, "selector": order.selector}
        audit.record(session, who=who, what="rollout.create", target=rollout.id, after=after, origin=origin, now_s=now_s)
        note_change(session, "rollouts")
    return view(session, rollout, rows, dry_run=dry_run)


def _standing(session: Session, devices: Sequence[str], kind: str) -> dict[str, str | None]:
    """What each device goes back to when an offer is withdrawn: its target, unless it never committed that one."""
    meant = targets(session, devices, kind)
    by_rollout = {one.source.removeprefix("rollout:") for one in meant.values() if one.source.startswith("rollout:")}
    rows = session.scalars(select(RolloutDeviceRow).where(RolloutDeviceRow.rollout_id.in_(by_rollout)))
    open_offers = {(row.rollout_id, row.device_id): row.previous for row in rows if row.state != "committed"}
    return {
        device_id: open_offers.get((one.source.removeprefix("rollout:"), device_id), one.release)
        for device_id, one in meant.items()
    }


def _supersede(session: Session, devices: Sequence[str], by: str, kind: str, now_s: float) -> None:
    """Older rollouts of the same kind let go of these devices."""
    wanted = set(devices)
    query = select(RolloutRow).where(RolloutRow.state.not_in(gates.TERMINAL), RolloutRow.kind == kind)
    for rollout in session.scalars(query.with_for_update()):
        rows = _rows(session, rollout.id)
        for row in rows:
            if row.device_id in wanted and row.state not in gates.ENDED:
                row.state, row.reason, row.detail, row.at_s = "superseded", "superseded", f"by rollout {by}", now_s
        if all(row.state in gates.ENDED for row in rows):
            _end(rollout, "superseded", f"rollout {by} took its devices over", now_s)


def tick(session: Session, now_s: float, fence: int, timing: Timing) -> int:
    """Take every open rollout one step further; answers how many changed. Ticking twice changes nothing more."""
    changed = 0
    query = select(RolloutRow).where(RolloutRow.state.not_in(gates.TERMINAL)).order_by(RolloutRow.created_s)
    for rollout in session.scalars(query.with_for_update()):
        if rollout.fence > fence:
            continue  # somebody with a newer lease has been here: our view may be old
        changed += _step(session, rollout, now_s, timing)
        rollout.fence = fence
    if changed:
        note_change(session, "rollouts")
    return changed


def _step(session: Session, rollout: RolloutRow, now_s: float, timing: Timing) -> bool:
    rows = {row.device_id: row for row in _rows(session, rollout.id)}
    some = list(rows) if len(rows) <= MAX_IDS_IN_QUERY else None
    heard = inventory.presences(session, some, now_s, timing.within_s)
    members = []
    for row in rows.values():
        one = heard.get(row.device_id)
        # A device that is held back is not offered anything; it stands apart like one that is offline.
        online = one is not None and one.online and not one.revoked and one.held is None
        silent_s = now_s - (one.last_seen_s or row.at_s) if one is not None else now_s - row.at_s
        name = one.name if one is not None else row.device_id
        members.append(gates.Member(row.device_id, row.stage, row.state, online, silent_s, name, row.reason, row.detail))
    limits = gates.Limits(rollout.max_failed, rollout.max_wait_s, rollout.deadline_s, timing.lost_after_s)
    progress = gates.Progress(
        rollout.state, rollout.stage, len(rollout.shares), rollout.created_s, rollout.stage_opened_s,
        {int(stage): int(count) for stage, count in rollout.accepted.items()}, rollout.reason,
    )  # fmt: skip
    step = gates.evaluate(progress, members, limits, now_s)
    _carry_out(session, rollout, rows, step, now_s)
    before = (progress.state, progress.reason, progress.stage)
    return before != (step.state, step.reason, step.stage) or bool(step.offer or step.offline or step.lost or step.withdraw)


def _carry_out(session: Session, rollout: RolloutRow, rows: dict[str, RolloutDeviceRow], step: gates.Step, now_s: float) -> None:
    for device_id in step.offer:
        _offer(session, rollout, rows[device_id], now_s)
    for device_id in step.offline:
        rows[device_id].state, rows[device_id].at_s = "pending_offline", now_s
    for device_id in step.lost:
        row = rows[device_id]
        row.state, row.reason, row.detail, row.at_s = "lost", "lost", "fell silent after it began", now_s
    for device_id in step.withdraw:
        _withdraw(session, rollout, rows[device_id], now_s)
    rollout.reason, rollout.stage, rollout.stage_opened_s = step.reason, step.stage, step.stage_opened_s
    away = [row for row in rows.values() if row.state == "pending_offline"]
    if step.state == "paused":
        for row in away:  # it was offered once and may come back at any moment: it must not begin now
            _take_back(session, rollout, row, now_s)
    elif step.state == "finished":
        for row in away:
            _aim(session, rollout, row, now_s)
    elif step.state == "aborted":
        _cancel_rest(session, rollout, list(rows.values()), now_s, also_begun=False)
    if step.state in gates.TERMINAL:
        _end(rollout, step.state, step.reason, now_s)
    rollout.state = step.state


def _offer(session: Session, rollout: RolloutRow, row: RolloutDeviceRow, now_s: float) -> None:
    _aim(session, rollout, row, now_s)
    row.state, row.reason, row.detail, row.at_s, row.withdrawn = "offered", "", "", now_s, False
    sha256, release, deployment = _runs(inventory.get(session, row.device_id, now_s), rollout.kind)
    trying = deployment is not None and deployment.state in gates.BEGUN
    if sha256 == rollout.sha256 and not trying:
        # It will report nothing, because nothing is to be done.
        row.state, row.detail, row.running = "committed", "it ran this release already", release


def _runs(device: Device, kind: str) -> tuple[str, str, DeploymentState | None]:
    """Digest and name of what the device runs of this kind (empty: not known), and its last deployment of it."""
    if kind == AGENT:
        return device.agent.sha256, device.agent.release, device.agent.deployment
    running = device.running
    return (running.bundle_sha256, running.release, device.deployment) if running is not None else ("", "", device.deployment)


def _aim(session: Session, rollout: RolloutRow, row: RolloutDeviceRow, now_s: float) -> None:
    meant = targets(session, [row.device_id], rollout.kind).get(row.device_id)
    if meant is None or meant.release != rollout.release or meant.source != f"rollout:{rollout.id}":
        set_target(session, row.device_id, rollout.release, source=f"rollout:{rollout.id}", now_s=now_s, kind=rollout.kind)


def _take_back(session: Session, rollout: RolloutRow, row: RolloutDeviceRow, now_s: float) -> None:
    meant = targets(session, [row.device_id], rollout.kind).get(row.device_id)
    source = f"rollout:{rollout.id}"
    if meant is not None and meant.source == source and meant.release == rollout.release and row.previous != rollout.release:
        set_target(session, row.device_id, row.previous, source=source, now_s=now_s, kind=rollout.kind)


def _withdraw(session: Session, rollout: RolloutRow, row: RolloutDeviceRow, now_s: float) -> None:
    _take_back(session, rollout, row, now_s)
    row.state, row.reason, row.at_s, row.withdrawn = "pending", "", now_s, True
    row.detail = "the offer was withdrawn when the rollout stopped"


def pause(session: Session, rollout_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """No further device begins, from this moment on; those that work on it go on. Pausing twice does no harm."""
    rollout = _open_rollout(session, rollout_id)
    before = standing_of(rollout)
    if rollout.state != "paused":
        rollout.state, rollout.reason = "paused", f"paused by {who}"
    for row in _rows(session, rollout.id):
        if row.state in gates.NOT_BEGUN:
            _withdraw(session, rollout, row, now_s)
        elif row.state == "pending_offline":
            _take_back(session, rollout, row, now_s)
    _record(session, rollout, "rollout.pause", before, who, origin, now_s)


def resume(session: Session, rollout_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """Go on: the failures so far are accepted by whoever resumes, new ones stop it again."""
    rollout = _open_rollout(session, rollout_id)
    if rollout.state == "running":
        return
    before = standing_of(rollout)
    failed: dict[str, int] = {}
    for row in _rows(session, rollout.id):
        if row.state in gates.BAD:
            failed[str(row.stage)] = failed.get(str(row.stage), 0) + 1
    rollout.accepted = failed
    rollout.state, rollout.reason, rollout.stage_opened_s = "running", f"resumed by {who}", now_s
    _record(session, rollout, "rollout.resume", before, who, origin, now_s)


def abort(session: Session, rollout_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """End it: devices that committed keep the release, all others are told to keep or take back what they had."""
    rollout = _open_rollout(session, rollout_id)
    before = standing_of(rollout)
    _cancel_rest(session, rollout, _rows(session, rollout.id), now_s, also_begun=True)
    _end(rollout, "aborted", f"aborted by {who}", now_s)
    _record(session, rollout, "rollout.abort", before, who, origin, now_s)


def _cancel_rest(
    session: Session, rollout: RolloutRow, rows: Sequence[RolloutDeviceRow], now_s: float, *, also_begun: bool
) -> None:
    for row in rows:
        if row.state in gates.BAD:
            _take_back(session, rollout, row, now_s)  # it said no; nothing should go on asking it
        if row.state in gates.ENDED or (row.state in gates.BEGUN and not also_begun):
            continue
        _withdraw(session, rollout, row, now_s)
        row.state, row.reason, row.detail = "cancelled", "cancelled", "the rollout was aborted"


def rollout(session: Session, rollout_id: str, groups: Collection[str] | None = None) -> Rollout:
    """One rollout with its devices (of these groups); NotFoundError."""
    check_seen(session, rollout_id, groups)
    row = session.get(RolloutRow, rollout_id)
    if row is None:
        raise unknown_rollout(rollout_id)
    return _seen(session, row, groups, with_devices=True)


def rollouts(
    session: Session, *, limit: int = 100, open_only: bool = False, groups: Collection[str] | None = None
) -> list[Rollout]:
    """Rollouts without their devices, newest first; with groups those that reach a device of them."""
    query = select(RolloutRow).order_by(RolloutRow.created_s.desc(), RolloutRow.id).limit(limit)
    if groups is not None:
        query = query.where(RolloutRow.id.in_(ids_reaching(groups)))
    if open_only:
        query = query.where(RolloutRow.state.not_in(gates.TERMINAL))
    return [_seen(session, row, groups, with_devices=False) for row in session.scalars(query)]


def _seen(session: Session, row: RolloutRow, groups: Collection[str] | None, *, with_devices: bool) -> Rollout:
    found = view(session, row, _rows(session, row.id, groups), with_devices=with_devices)
    return found if groups is None else replace(found, reason=reason_shown(session, row.id, row.reason, groups))


def any_open(session: Session) -> bool:
    """Whether a tick has anything to do."""
    return session.execute(select(RolloutRow.id).where(RolloutRow.state.not_in(gates.TERMINAL)).limit(1)).first() is not None


def _open_rollout(session: Session, rollout_id: str) -> RolloutRow:
    row = session.get(RolloutRow, rollout_id, with_for_update=True)
    if row is None:
        raise unknown_rollout(rollout_id)
    if row.state in gates.TERMINAL:
        raise ConflictError(f"rollout {rollout_id} has ended: it is {row.state}", "create a new one")
    return row


def _rows(session: Session, rollout_id: str, groups: Collection[str] | None = None) -> list[RolloutDeviceRow]:
    query = within(select(RolloutDeviceRow).where(RolloutDeviceRow.rollout_id == rollout_id), RolloutDeviceRow.device_id, groups)
    return list(session.scalars(query.order_by(RolloutDeviceRow.stage, RolloutDeviceRow.device_id)))


def _end(rollout: RolloutRow, state: str, reason: str, now_s: float) -> None:
    rollout.state, rollout.reason, rollout.ended_s = state, reason, now_s


def _record(session: Session, rollout: RolloutRow, what: str, old: dict[str, Any], who: str, origin: str, now_s: float) -> None:
    audit.record(
        session, who=who, what=what, target=rollout.id, before=old, after=standing_of(rollout), origin=origin, now_s=now_s
    )
    note_change(session, "rollouts")
