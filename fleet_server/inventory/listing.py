"""Lists of names and numbers over the inventory. ``groups``: those that an account is limited to; None: all."""

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from fleet_server.inventory.device import RunningCount
from fleet_server.inventory.reach import in_groups
from fleet_server.inventory.tables import DeviceRow, DeviceStateRow


def running_counts(session: Session, groups: Collection[str] | None = None) -> list[RunningCount]:
    """Releases and how many devices run each, the most used first."""
    release, number = DeviceStateRow.running_release, func.count()
    query = (
        select(release, number).join(DeviceRow, DeviceRow.id == DeviceStateRow.device_id)
        .where(DeviceRow.revoked_s.is_(None)).group_by(release).order_by(number.desc(), release)
    )  # fmt: skip
    return [RunningCount(name, count) for name, count in session.execute(in_groups(query, groups))]


def group_names(session: Session, groups: Collection[str] | None) -> list[str]:
    """The groups that devices are in, by name; of those that the account is limited to, all, also one without a device."""
    if groups is not None:
        return sorted(groups)
    return sorted(session.scalars(select(DeviceRow.group).distinct()))


def device_names(session: Session, groups: Collection[str] | None, limit: int) -> list[str]:
    """The first names of devices in their order."""
    return list(session.scalars(in_groups(select(DeviceRow.name).order_by(DeviceRow.name).limit(limit), groups)))
