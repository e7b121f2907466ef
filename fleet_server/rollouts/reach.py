"""Which devices an order means, and which rollouts a group-limited account sees and may steer.

It sees a rollout that reaches a device of its groups, with those devices and their numbers alone. It may steer one that
reaches no other device. Why a rollout waits is said in names of devices, so that is shown of the latter only.
"""

from collections.abc import Collection

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from fleet_server.errors import ForbiddenError, InvalidError, NotFoundError
from fleet_server.identities import groups_in_words
from fleet_server.inventory import service as inventory
from fleet_server.inventory.reach import ids_in
from fleet_server.rollouts.orders import Order
from fleet_server.rollouts.tables import RolloutDeviceRow, RolloutRow

ELSEWHERE = "it reaches devices outside of your groups, too; why it stands as it does may name them"


def selected(session: Session, order: Order) -> list[str]:
    """The devices that an order means. InvalidError where there is none; ForbiddenError where a limited account means all."""
    if order.groups is not None and order.group is None and order.devices is None:
        raise ForbiddenError(
            f"this would reach the whole fleet, and your account is limited to {groups_in_words(frozenset(order.groups))}",
            "name a group or devices, or ask somebody whose account is not limited",
        )
    found = inventory.select_ids(session, group=order.group, devices=order.devices, groups=order.groups)
    if order.devices is not None:
        names = inventory.presences(session, found, 0.0)
        known = set(found) | {one.name for one in names.values()}
        missing = [each for each in order.devices if each not in known]
        if missing:
            raise InvalidError(
                f"no device fits {', '.join(missing[:5])}", "`rookery device list` names them; revoked ones do not count"
            )
    if not found:
        raise InvalidError("the selection holds no device", "enrol devices first, or choose another group")
    return found


def ids_reaching(groups: Collection[str]) -> "Select[str]":
    """A query of the ids of rollouts with a device in these groups."""
    return select(RolloutDeviceRow.rollout_id).where(RolloutDeviceRow.device_id.in_(ids_in(groups)))


def ids_inside(groups: Collection[str]) -> "Select[str]":
    """A query of the ids of rollouts all of whose devices lie in these groups."""
    here, elsewhere = RolloutRow.id == RolloutDeviceRow.rollout_id, RolloutDeviceRow.device_id.not_in(ids_in(groups))
    outside = select(RolloutDeviceRow.rollout_id).where(here, elsewhere)
    return select(RolloutRow.id).where(RolloutRow.id.in_(ids_reaching(groups)), ~outside.exists())


def unknown_rollout(rollout_id: str) -> NotFoundError:
    """There is no such rollout, or none that the caller may know of: the same words for both."""
    return NotFoundError(f"there is no rollout {rollout_id}", "`rookery rollout list` lists them")


def check_seen(session: Session, rollout_id: str, groups: Collection[str] | None) -> None:
    """NotFoundError unless the rollout reaches a device in the groups."""
    if groups is None:
        return
    query = select(RolloutRow.id).where(RolloutRow.id == rollout_id, RolloutRow.id.in_(ids_reaching(groups)))
    if session.execute(query).first() is None:
        raise unknown_rollout(rollout_id)


def is_inside(session: Session, rollout_id: str, groups: Collection[str] | None) -> bool:
    """Whether all devices of the rollout lie in the groups."""
    return groups is None or session.execute(ids_inside(groups).where(RolloutRow.id == rollout_id)).first() is not None


def check_inside(session: Session, rollout_id: str, groups: Collection[str] | None) -> None:
    """NotFoundError for a rollout that the account does not see, ForbiddenError for one that it may not steer."""
    check_seen(session, rollout_id, groups)
    if groups is not None and not is_inside(session, rollout_id, groups):
        raise ForbiddenError(
            f"rollout {rollout_id} reaches others, too, and your account is limited to {groups_in_words(frozenset(groups))}",
            "ask somebody whose account is not limited",
        )


def reason_shown(session: Session, rollout_id: str, reason: str, groups: Collection[str] | None) -> str:
    """Why a rollout stands as it does, as far as it is the account's to know."""
    return reason if not reason or is_inside(session, rollout_id, groups) else ELSEWHERE
