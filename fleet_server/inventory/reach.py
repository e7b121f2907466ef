"""Which devices an account reaches that is limited to groups. ``groups`` None means all, and no query is any dearer for it."""

from collections.abc import Collection
from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from fleet_server.errors import NotFoundError
from fleet_server.inventory.tables import DeviceRow

Q = TypeVar("Q", bound=Select[Any])


def ids_in(groups: Collection[str]) -> "Select[str]":
    """A query of the ids of all devices in these groups, revoked ones too: for use inside of other queries."""
    return select(DeviceRow.id).where(DeviceRow.group.in_(sorted(groups)))


def within(query: Q, device_id: InstrumentedAttribute[str], groups: Collection[str] | None) -> Q:
    """The query, limited to rows whose device (by this column) lies in the groups; None: the query as it is."""
    return query if groups is None else query.where(device_id.in_(ids_in(groups)))


def in_groups(query: Q, groups: Collection[str] | None) -> Q:
    """A query over the table of devices itself, limited to the groups."""
    return query if groups is None else query.where(DeviceRow.group.in_(sorted(groups)))


def unknown_device(id_or_name: str) -> NotFoundError:
    """There is no such device, or none that the caller may know of: the same words for both."""
    return NotFoundError(f"there is no device {id_or_name!r}", "`rookery device list` shows them")


def check_device(session: Session, id_or_name: str, groups: Collection[str] | None) -> None:
    """NotFoundError unless the device lies in the groups; found as ``service.get`` finds it: by id, else by name."""
    if groups is None:
        return
    query = select(DeviceRow.id, DeviceRow.group).where((DeviceRow.id == id_or_name) | (DeviceRow.name == id_or_name))
    found = {row.id: row.group for row in session.execute(query)}
    # A device may bear another's id as its name: whoever is found by id is meant, as everywhere.
    group = found[id_or_name] if id_or_name in found else next(iter(found.values()), None)
    if group is None or group not in groups:
        raise unknown_device(id_or_name)
