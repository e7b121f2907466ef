"""The use cases of the inventory. ``received_s`` and ``now_s`` are the server's clock, never a device's."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, Select, and_, bindparam, false, func, or_, select, update
from sqlalchemy.orm import Session

from fleet_server.database import note_change
from fleet_server.errors import ConflictError, InvalidError
from fleet_server.inventory.device import (
    DEFAULT_ONLINE_WITHIN_S,
    GONE,
    CertificateSummary,
    DeploymentState,
    Device,
    DeviceCounts,
    Presence,
    RunningRelease,
    state_of,
    to_device,
    trouble_of,
)
from fleet_server.inventory.reach import check_device, in_groups, unknown_device
from fleet_server.inventory.tables import DeviceRow, DeviceStateRow
from ota.wire.codec import to_builtins
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts
from ota.wire.heartbeat import Heartbeat

STATES = ("online", "offline", "pending", "revoked")


def get(
    session: Session, id_or_name: str, now_s: float, within_s: float = DEFAULT_ONLINE_WITHIN_S,
    groups: Collection[str] | None = None,
) -> Device:  # fmt: skip
    """One device by its id, or by its name; NotFoundError, also for one outside of the groups."""
    check_device(session, id_or_name, groups)
    for column in (DeviceRow.id, DeviceRow.name):
        found = session.execute(_both().where(column == id_or_name)).first()
        if found is not None:
            return to_device(found[0], found[1], now_s, within_s)
    raise unknown_device(id_or_name)


def find(
    session: Session,
    now_s: float,
    *,
    text: str = "",
    group: str | None = None,
    state: str | None = None,
    after_name: str = "",
    limit: int = 100,
    within_s: float = DEFAULT_ONLINE_WITHIN_S,
    groups: Collection[str] | None = None,
) -> list[Device]:
    """Devices in the order of their names; ``text`` is looked for in name, id and serial. Revoked ones only when asked for."""
    query = in_groups(_both().order_by(DeviceRow.name).limit(limit), groups)
    if text:
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        columns = (DeviceRow.name, DeviceRow.id, DeviceRow.serial)
        query = query.where(or_(*(column.ilike(pattern, escape="\\") for column in columns)))
    if group is not None:
        query = query.where(DeviceRow.group == group)
    if after_name:
        query = query.where(DeviceRow.name > after_name)
    if state is not None and state not in (*STATES, GONE):
        raise InvalidError(f"state {state!r} is not one of {', '.join((*STATES, GONE))}")
    query = query.where(_in_state(state, now_s, within_s) if state else DeviceRow.revoked_s.is_(None))
    return [to_device(row, status, now_s, within_s) for row, status in session.execute(query)]


def counts(
    session: Session, now_s: float, within_s: float = DEFAULT_ONLINE_WITHIN_S, groups: Collection[str] | None = None
) -> DeviceCounts:
    """Devices by state, counted by the database."""
    found = {}
    for state in STATES:
        joined = select(func.count()).select_from(DeviceRow).join(DeviceStateRow, DeviceStateRow.device_id == DeviceRow.id)
        found[state] = session.scalar(in_groups(joined.where(_in_state(state, now_s, within_s)), groups)) or 0
    return DeviceCounts(found["online"] + found["offline"] + found["pending"], **found)


def select_ids(
    session: Session, *, group: str | None = None, devices: Iterable[str] | None = None, groups: Collection[str] | None = None
) -> list[str]:
    """Ids of the devices that a selector means, sorted: not revoked, in the group, among these ids or names (None: all)."""
    query = in_groups(select(DeviceRow.id).where(DeviceRow.revoked_s.is_(None)).order_by(DeviceRow.id), groups)
    if group is not None:
        query = query.where(DeviceRow.group == group)
    if devices is not None:
        wanted = list(devices)
        query = query.where(or_(DeviceRow.id.in_(wanted), DeviceRow.name.in_(wanted)))
    return list(session.scalars(query))


def active_ids(session: Session, ids: Iterable[str]) -> set[str]:
    """Those of the ids that belong to devices that are not revoked: from others nothing is ingested."""
    return set(session.scalars(select(DeviceRow.id).where(DeviceRow.id.in_(list(ids)), DeviceRow.revoked_s.is_(None))))


def presences(
    session: Session, ids: Collection[str] | None, now_s: float, within_s: float = DEFAULT_ONLINE_WITHIN_S
) -> dict[str, Presence]:
    """Presence of these devices (None: of all) by id; unknown ids are left out."""
    row, status = DeviceRow, DeviceStateRow
    query = select(
        row.id, row.name, row.group, row.held, row.revoked_s, status.last_seen_s, status.mqtt_online, status.trouble
    ).join(status, status.device_id == row.id)  # fmt: skip
    if ids is not None:
        query = query.where(row.id.in_(list(ids)))
    return {
        each.id: Presence(
            each.id, each.name, each.group,
            state_of(each.revoked_s, each.last_seen_s, each.mqtt_online, now_s, within_s) == "online",
            each.last_seen_s, each.held, each.revoked_s is not None, each.trouble,
        )
        for each in session.execute(query)
    }  # fmt: skip


def record_enrolled(
    session: Session, *, device_id: str, name: str, group: str, facts: BoardFacts, certificate: CertificateSummary, now_s: float
) -> None:
    """A new device; ConflictError when the name is taken."""
    if session.scalar(select(DeviceRow.id).where(DeviceRow.name == name)) is not None:
        raise ConflictError(f"there is a device named {name!r} already")
    session.add(
        DeviceRow(
            id=device_id, name=name, group=group, profile=facts.profile, board_model=facts.board_model, serial=facts.serial,
            facts=to_builtins(facts), enrolled_s=now_s, revoked_s=None, held=None, wanted=None, wanted_agent=None,
            certificate_serial=certificate.serial, certificate_not_after_s=certificate.not_after_s,
            certificate_key_sha256=certificate.key_sha256,
        )
    )  # fmt: skip
    session.flush()  # the device before its state: the foreign key
    session.add(
        DeviceStateRow(
            device_id=device_id, last_seen_s=None, mqtt_online=False, heartbeat_s=0.0, trouble="", variant_reason="",
            report_sequence=0,
        )
    )  # fmt: skip
    session.flush()
    note_change(session, "devices")


def name_is_free(session: Session, name: str) -> bool:
    """True if no device has the name."""
    return session.scalar(select(DeviceRow.id).where(or_(DeviceRow.name == name, DeviceRow.id == name))) is None


def record_certificate(session: Session, device_id: str, new: CertificateSummary) -> None:
    """The device was given a new certificate."""
    _update(
        session, device_id, certificate_serial=new.serial, certificate_not_after_s=new.not_after_s,
        certificate_key_sha256=new.key_sha256,
    )  # fmt: skip


def record_facts(session: Session, device_id: str, facts: BoardFacts) -> None:
    """The board is no longer what it was (an accelerator was plugged in, the agent was updated)."""
    _update(
        session, device_id, facts=to_builtins(facts), profile=facts.profile, board_model=facts.board_model, serial=facts.serial
    )


def record_revoked(session: Session, device_id: str, now_s: float) -> None:
    """The device is no longer one of ours."""
    _update(session, device_id, revoked_s=now_s)


def record_held(session: Session, device_id: str, reason: str | None) -> None:
    """Hold a device back from updates (a suspected clone), or let it go (None)."""
    _update(session, device_id, held=reason)


def record_wanted(session: Session, device_id: str, release: str | None, kind: str = "model") -> None:
    """What the device's assignment names now (``name@version``), for its model or its agent."""
    _update(session, device_id, **{"wanted_agent" if kind == "agent" else "wanted": release})


def record_seen(session: Session, device_id: str, at_s: float) -> None:
    """Something was heard of the device; ``last_seen_s`` never goes back."""
    seen = DeviceStateRow.last_seen_s
    session.execute(
        update(DeviceStateRow)
        .where(DeviceStateRow.device_id == device_id, or_(seen.is_(None), seen < at_s))
        .values(last_seen_s=at_s)
    )


def record_presence(session: Session, device_id: str, online: bool, at_s: float) -> None:
    """The broker says that the device is connected, or (its last will) that it no longer is."""
    session.execute(update(DeviceStateRow).where(DeviceStateRow.device_id == device_id).values(mqtt_online=online))
    if online:
        record_seen(session, device_id, at_s)
    note_change(session, "devices")


def forget_presence(session: Session) -> None:
    """The broker is gone: who is connected to it is not known any more."""
    session.execute(update(DeviceStateRow).where(DeviceStateRow.mqtt_online.is_(True)).values(mqtt_online=False))
    note_change(session, "devices")


def record_heartbeats(session: Session, received: Sequence[tuple[str, Heartbeat, float]]) -> None:
    """Many heartbeats (device id, message, when received) in one statement. Unknown devices and late ones change nothing."""
    latest = {device_id: (heartbeat, received_s) for device_id, heartbeat, received_s in received}
    table = DeviceStateRow.__table__
    rows = []
    for device_id, (heartbeat, received_s) in sorted(latest.items()):  # sorted: two writers lock rows in the same order
        running = _running(heartbeat)
        rows.append({
            "of_device": device_id, "at": received_s, "last_seen_s": received_s, "heartbeat": to_builtins(heartbeat),
            "heartbeat_s": received_s, "trouble": trouble_of(heartbeat), "running": asdict(running) if running else None,
            "running_sha256": running.bundle_sha256 if running else None, "running_release": running.release if running else None,
        })  # fmt: skip
    if not rows:
        return
    names = ("last_seen_s", "heartbeat", "heartbeat_s", "trouble", "running", "running_sha256", "running_release")
    statement = (
        update(DeviceStateRow)
        .where(DeviceStateRow.device_id == bindparam("of_device"), DeviceStateRow.heartbeat_s <= bindparam("at"))
        .values({name: bindparam(name, type_=table.c[name].type) for name in names})
    )
    session.connection().execute(statement, rows)
    note_change(session, "devices")


def _running(heartbeat: Heartbeat) -> RunningRelease | None:
    beat = heartbeat.running
    if beat is None:
        return None
    return RunningRelease(beat.name, beat.version, f"{beat.name}@{beat.version}", beat.bundle_sha256, beat.variant, beat.slot, "")


def record_report(session: Session, device_id: str, report: DeploymentReport, received_s: float) -> None:
    """One deployment report; one that comes late or twice changes nothing."""
    row = session.get(DeviceStateRow, device_id, with_for_update=True)
    if row is None or report.sequence <= row.report_sequence:
        return
    row.report_sequence = report.sequence
    row.last_seen_s = max(row.last_seen_s or 0.0, received_s)
    unseen = report.behaviour_unseen
    state = asdict(DeploymentState(report.state, report.reason, report.detail, report.target, report.at_s, unseen))
    if report.kind == "agent":
        # Of its own software; what its cameras see by is another matter. What agent runs stands in the board's facts.
        row.agent_deployment = state
        note_change(session, "devices")
        return
    row.deployment = state
    if report.running_sha256:
        before = row.running or {}
        same = before.get("bundle_sha256") == report.running_sha256
        name, _, version = report.running.partition("@")
        slot = str(before.get("slot", "")) if same else ""
        variant = str(before.get("variant", "")) if same else ""
        if report.target_sha256 == report.running_sha256:
            variant = report.variant
        running = RunningRelease(name, version, report.running, report.running_sha256, variant, slot, "")
        row.running, row.running_sha256, row.running_release = asdict(running), report.running_sha256, report.running
    if report.variant_reason:
        row.variant_reason, row.variant_reason_of = report.variant_reason, report.target_sha256
    note_change(session, "devices")


def forget_report_number(session: Session, device_id: str) -> None:
    """The board numbers its reports anew: the next one is taken whatever its number."""
    session.execute(update(DeviceStateRow).where(DeviceStateRow.device_id == device_id).values(report_sequence=0))


def _both() -> "Select[DeviceRow, DeviceStateRow]":
    return select(DeviceRow, DeviceStateRow).join(DeviceStateRow, DeviceStateRow.device_id == DeviceRow.id)


def _in_state(state: str, now_s: float, within_s: float) -> ColumnElement[bool]:
    # The same rule as device.state_of, in SQL.
    if state == GONE:
        return DeviceRow.decommissioned_s.is_not(None)
    if state == "revoked":
        return and_(DeviceRow.revoked_s.is_not(None), DeviceRow.decommissioned_s.is_(None))
    seen = DeviceStateRow.last_seen_s
    heard = or_(DeviceStateRow.mqtt_online.is_(True), func.coalesce(seen >= now_s - within_s, false()))
    known = DeviceRow.revoked_s.is_(None)
    if state == "online":
        return and_(known, heard)
    return and_(known, ~heard, seen.is_(None) if state == "pending" else seen.is_not(None))


def _update(session: Session, device_id: str, **values: object) -> None:
    session.execute(update(DeviceRow).where(DeviceRow.id == device_id).values(**values))
    note_change(session, "devices")
