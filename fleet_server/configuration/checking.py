"""What is wrong with a layer: by itself, together with the layers above and below, and for the boards that it is meant for."""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from fleet_server.configuration.tables import ConfigurationRow
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import Device
from ota.wire.configuration import MAX_LAYER_BYTES, laid_over
from ota.wire.configuration_faults import faults, faults_between
from ota.wire.typed_faults import Fault, below

DEVICES_LOOKED_AT = 1000
"""Whether a camera that a layer names is there is asked of so many boards at most; each board asks again for itself."""
STACKS_LOOKED_AT = 1000
"""With so many other layers a layer is checked together; a board refuses what is left."""


def check(session: Session, scope: str, content: Any, now_s: float) -> list[Fault]:
    """Everything that is wrong with a content for a scope, as boards would find it; nothing is changed."""
    found = faults(content)
    if found:
        return found
    size = len(msgspec.json.encode(content))
    if size > MAX_LAYER_BYTES:
        found.append(Fault("", f"has {size} bytes as JSON; a layer has at most {MAX_LAYER_BYTES}"))
    if content.get("cameras"):
        found += _cameras_missing(session, scope, content["cameras"], now_s)
    return found or _together(session, scope, content)


def cameras_of(board: Device) -> list[str] | None:
    """The cameras that a board said it has; None before it said any."""
    cameras = (board.heartbeat or {}).get("cameras") or []
    return sorted(str(camera.get("camera")) for camera in cameras) or None


def _cameras_missing(session: Session, scope: str, named: Collection[str], now_s: float) -> list[Fault]:
    """Cameras that a layer names and boards under it do not have: those boards would refuse the whole."""
    kind, _, name = scope.partition(":")
    if kind == "device":
        boards: Sequence[Device] = [inventory.get(session, name, now_s)]
    else:
        boards = inventory.find(session, now_s, group=name or None, limit=DEVICES_LOOKED_AT)
    found = []
    for camera in named:
        without = [board.name for board in boards if (known := cameras_of(board)) is not None and camera not in known]
        if without and kind == "device":
            there = ", ".join(cameras_of(boards[0]) or ["none"])
            found.append(Fault(below("cameras", camera), f"{without[0]} has no such camera; it has {there}"))
        elif without:
            shown = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
            found.append(Fault(below("cameras", camera), f"{shown} of {scope} have no such camera: say it of those that have it"))
    return found


def _together(session: Session, scope: str, content: Mapping[str, Any]) -> list[Fault]:
    """Faults that only show when layers lie over each other: a zone of one and a line of the other that are called alike."""
    for others, stack in _stacks(session, scope, content):
        merged: dict[str, Any] = functools.reduce(laid_over, stack, {})
        found = faults_between(merged)
        if found:
            return [Fault(fault.path, f"{fault.problem} (together with {others})") for fault in found]
    return []


def _stacks(session: Session, scope: str, content: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Every pile of layers that the scope's would be in: the names of the others, and the contents from the lowest up."""
    query = select(ConfigurationRow).order_by(ConfigurationRow.scope).limit(STACKS_LOOKED_AT)
    stored: dict[str, Mapping[str, Any]] = {row.scope: row.content for row in session.scalars(query)}
    stored[scope] = content
    ids = [name.partition(":")[2] for name in stored if name.startswith("device:")]
    groups = {one.id: one.group for one in inventory.presences(session, ids, 0.0).values()}
    piles = [["fleet", name] for name in stored if name.startswith("group:")]
    piles += [["fleet", f"group:{groups.get(device_id, '')}", f"device:{device_id}"] for device_id in ids]
    for pile in piles:
        if scope in pile:
            there = [name for name in pile if stored.get(name)]
            yield " and ".join(name for name in there if name != scope), [stored[name] for name in there]
