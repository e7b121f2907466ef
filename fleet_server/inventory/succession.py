"""Devices that begin anew, take another's place, or are gone for good: use cases beside those of ``service``."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from fleet_server.database import note_change
from fleet_server.errors import NotFoundError
from fleet_server.inventory.tables import DeviceRow

MAX_LINE = 100
"""Boards that stood in one place, one after another: more is a circle that nobody meant."""


@dataclass(frozen=True, slots=True)
class Locked:
    """A device whose row this transaction holds: what decides about it cannot change until the commit."""

    id: str
    name: str
    group: str
    serial: str
    revoked_s: float | None
    decommissioned_s: float | None
    held: str | None

    @property
    def state(self) -> str:
        """active, revoked or decommissioned: for the audit, before and after."""
        return "decommissioned" if self.decommissioned_s is not None else "revoked" if self.revoked_s is not None else "active"


def lock(session: Session, id_or_name: str) -> Locked:
    """The device of this id, or of this name, its row locked; NotFoundError."""
    for column in (DeviceRow.id, DeviceRow.name):
        query = select(DeviceRow).where(column == id_or_name).with_for_update()
        row = session.scalars(query.execution_options(populate_existing=True)).first()
        if row is not None:
            return Locked(row.id, row.name, row.group, row.serial, row.revoked_s, row.decommissioned_s, row.held)
    raise NotFoundError(f"there is no device {id_or_name!r}", "`rookery device list` shows them")


def names(session: Session, groups: Collection[str] | None = None) -> set[str]:
    """Every name and id that a device (of these groups) bears: none of them is free."""
    query = select(DeviceRow.name, DeviceRow.id)
    if groups is not None:
        query = query.where(DeviceRow.group.in_(sorted(groups)))
    return {word for row in session.execute(query) for word in row}


def of_serial(session: Session, serial: str) -> str:
    """The name of a device with this serial number that is not gone for good; empty for none."""
    if not serial:
        return ""
    query = select(DeviceRow.name).where(DeviceRow.serial == serial, DeviceRow.decommissioned_s.is_(None))
    return session.scalar(query.order_by(DeviceRow.name).limit(1)) or ""


def by_serial(session: Session, serials: Collection[str], groups: Collection[str] | None = None) -> dict[str, str]:
    """Names of the devices (of these groups) with these serial numbers that are not gone for good, by serial number."""
    if not serials:
        return {}
    query = select(DeviceRow.serial, DeviceRow.name).where(
        DeviceRow.serial.in_(sorted(serials)), DeviceRow.decommissioned_s.is_(None)
    )
    if groups is not None:
        query = query.where(DeviceRow.group.in_(sorted(groups)))
    return {row.serial: row.name for row in session.execute(query.order_by(DeviceRow.name.desc()))}


def record_readmitted(session: Session, device_id: str) -> None:
    """The device is one of ours again, and nothing holds it back."""
    session.execute(update(DeviceRow).where(DeviceRow.id == device_id).values(revoked_s=None, held=None))
    note_change(session, "devices")


def record_decommissioned(session: Session, device_id: str, now_s: float) -> str:
    """The device is gone for good: its name is free, its history stays under one that nobody can be given. Answers that one."""
    row = session.get_one(DeviceRow, device_id, with_for_update=True)
    if row.decommissioned_s is None:
        row.decommissioned_s = now_s
        row.revoked_s = row.revoked_s if row.revoked_s is not None else now_s
        row.name = f"{row.name}~{row.id}"
        row.held = row.wanted = row.wanted_agent = None
        session.flush()
        note_change(session, "devices")
    return row.name


def record_replaces(session: Session, new: str, old: str) -> None:
    """``new`` stands where ``old`` stood."""
    session.execute(update(DeviceRow).where(DeviceRow.id == new).values(replaces=old))
    note_change(session, "devices")


def line_of(session: Session, device_id: str) -> list[str]:
    """The ids of the boards that stood in this device's place, itself first, then the one before, and so on."""
    line = [device_id]
    while len(line) < MAX_LINE:
        before = session.scalar(select(DeviceRow.replaces).where(DeviceRow.id == line[-1]))
        if before is None or before in line:
            break
        line.append(before)
    return line


def successor_of(session: Session, device_id: str) -> str | None:
    """The id of the device that took this one's place."""
    return session.scalar(select(DeviceRow.id).where(DeviceRow.replaces == device_id).limit(1))
