"""Experiments: set the arms, and read what each side saw."""

import secrets
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from fleet_server.audit import service as audit
from fleet_server.database import note_change
from fleet_server.detections import listing as detections
from fleet_server.errors import ConflictError, InvalidError, NotFoundError
from fleet_server.experiments.tables import ExperimentDeviceRow, ExperimentRow
from fleet_server.inventory import service as inventory
from fleet_server.inventory.reach import within
from fleet_server.releases import service as releases
from fleet_server.rollouts.targets import set_target, targets
from fleet_server.statistics.cohorts import in_share, rate_interval
from fleet_server.telemetry import service as telemetry
from ota.bundle.manifest import MODEL


@dataclass(frozen=True, slots=True)
class Arm:
    """One side. ``rate``: frames with a detection per motion-gated frame, ``rate_ci90`` its interval; None: nothing seen yet."""

    arm: str
    release: str
    devices: int
    events: int
    gated_frames: int
    frames_with_detection: int
    rate: float | None
    rate_ci90: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment with both sides."""

    id: str
    name: str
    a: str
    b: str
    share_b: float
    state: str
    created_s: float
    created_by: str
    ended_s: float | None
    arms: list[Arm]


def create(
    session: Session, *, name: str, a: str, b: str, share_b: float, group: str | None, devices: list[str] | None, who: str,
    now_s: float, origin: str = "",
) -> Experiment:  # fmt: skip
    """Put each selected device on its side, sticky by hash of the experiment's name, and aim it at that side's release."""
    if not 0 < share_b < 1:
        raise InvalidError(f"share_b is {share_b:g}; it lies between 0 and 1, so that both sides have devices")
    if a == b:
        raise InvalidError("both sides are the same release")
    for each in (a, b):
        found = releases.release(session, each)
        if found.kind != MODEL:
            raise InvalidError(f"{each} is a release of kind {found.kind}: an experiment compares models")
        if found.yanked:
            raise ConflictError(f"{each} was taken out of its channel's signed metadata")
        if found.advisory:
            raise ConflictError(f"{each} is not to be offered any more: {found.advisory}")
    if session.scalar(select(ExperimentRow.id).where(ExperimentRow.name == name)) is not None:
        raise ConflictError(f"there is an experiment named {name!r} already", "its name decides the sides; choose another")
    chosen = inventory.select_ids(session, group=group, devices=devices)
    if len(chosen) < 2:
        raise InvalidError(f"the selection holds {len(chosen)} devices; two sides need at least two")
    selector = {key: value for key, value in (("group", group), ("devices", devices)) if value is not None}
    row = ExperimentRow(
        id=f"x-{secrets.token_hex(4)}", name=name, a=a, b=b, share_b=share_b, selector=selector, state="running",
        created_s=now_s, created_by=who, ended_s=None,
    )  # fmt: skip
    session.add(row)
    session.flush()
    for device_id in chosen:
        arm = "b" if in_share(name, device_id, share_b) else "a"
        session.add(ExperimentDeviceRow(experiment_id=row.id, device_id=device_id, arm=arm))
        set_target(session, device_id, b if arm == "b" else a, source=f"experiment:{row.id}", now_s=now_s, role="arm", arm=arm)
    after = {"name": name, "a": a, "b": b, "share_b": share_b, "selector": selector, "devices": len(chosen)}
    audit.record(session, who=who, what="experiment.create", target=row.id, after=after, origin=origin, now_s=now_s)
    note_change(session, "experiments")
    session.flush()
    return _experiment(session, row)


def end(session: Session, experiment_id: str, *, who: str, now_s: float, origin: str = "") -> None:
    """Stop comparing: every device keeps the release that it runs. Ending twice does no harm."""
    row = _row(session, experiment_id)
    if row.state == "ended":
        return
    row.state, row.ended_s = "ended", now_s
    audit.record(
        session, who=who, what="experiment.end", target=row.id, before={"state": "running"}, after={"state": "ended"},
        origin=origin, now_s=now_s,
    )  # fmt: skip
    note_change(session, "experiments")


def experiments(session: Session, groups: Collection[str] | None = None) -> list[Experiment]:
    """All experiments, newest first; with groups those on a device of them, with the figures of those devices alone."""
    query = _reaching(select(ExperimentRow).order_by(ExperimentRow.created_s.desc()), groups)
    return [_experiment(session, row, groups) for row in session.scalars(query)]


def experiment(session: Session, experiment_id: str, groups: Collection[str] | None = None) -> Experiment:
    """One experiment; NotFoundError."""
    return _experiment(session, _row(session, experiment_id, groups), groups)


def _reaching(query: "Select[ExperimentRow]", groups: Collection[str] | None) -> "Select[ExperimentRow]":
    if groups is None:
        return query
    member = ExperimentDeviceRow
    return query.where(ExperimentRow.id.in_(within(select(member.experiment_id), member.device_id, groups)))


def _row(session: Session, experiment_id: str, groups: Collection[str] | None = None) -> ExperimentRow:
    row = session.scalars(_reaching(select(ExperimentRow).where(ExperimentRow.id == experiment_id), groups)).first()
    if row is None:
        raise NotFoundError(f"there is no experiment {experiment_id}")
    return row


def _experiment(session: Session, row: ExperimentRow, groups: Collection[str] | None = None) -> Experiment:
    sides: dict[str, list[str]] = {"a": [], "b": []}
    query = select(ExperimentDeviceRow).where(ExperimentDeviceRow.experiment_id == row.id)
    for member in session.scalars(within(query, ExperimentDeviceRow.device_id, groups)):
        sides[member.arm].append(member.device_id)
    arms = [_arm(session, row, "a", row.a, sides["a"]), _arm(session, row, "b", row.b, sides["b"])]
    return Experiment(row.id, row.name, row.a, row.b, row.share_b, row.state, row.created_s, row.created_by, row.ended_s, arms)


def _arm(session: Session, row: ExperimentRow, arm: str, release: str, devices: list[str]) -> Arm:
    # A device that a rollout has taken over since no longer belongs to its side.
    meant = targets(session, devices)
    if row.state == "running":
        devices = [each for each in devices if each in meant and meant[each].source == f"experiment:{row.id}"]
    found = releases.find_release(session, release)
    sha256 = found.sha256 if found else ""
    seen = telemetry.seen(session, devices, sha256, row.created_s)
    events = detections.count_events(session, devices, sha256, row.created_s)
    # A device's own figures can be nonsense; the page must not fall over them.
    hits = min(seen.frames_with_detection, seen.gated_frames)
    rate = hits / seen.gated_frames if seen.gated_frames else None
    interval = rate_interval(hits, seen.gated_frames)
    return Arm(arm, release, len(devices), events, seen.gated_frames, seen.frames_with_detection, rate, interval)
