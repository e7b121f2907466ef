"""What a configuration hides, whether or not the rest of it can be used: masks and blur hold before anything is judged. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from device_agent.configuration.plan import CameraPlan, Plan
from ota.wire.polygons import Point, points_of, polygon_faults

MOST_MASKS, MOST_LABELS, MOST_LABEL_CHARS = 50, 20, 100
"""As the wire's types have them; of more than that the first ones count."""


def tightened(plan: Plan, wanted: object) -> Plan:
    """A plan with what a configuration as it came hides besides: nothing is ever shown that the plan alone would hide.

    Masks and labels that cannot be read are left out one by one; never raises. Of a plan that was made of the same configuration
    nothing is changed.
    """
    if not isinstance(wanted, dict):
        return plan
    every, named = _table(wanted.get("every_camera")), _table(wanted.get("cameras"))
    return replace(plan, cameras=tuple(_hidden(camera, every, _table(named.get(camera.camera))) for camera in plan.cameras))


def hides(plan: Plan, wanted: object) -> bool:
    """Whether a configuration hides what the plan alone shows."""
    return tightened(plan, wanted) != plan


def _hidden(plan: CameraPlan, every: Mapping[str, Any], own: Mapping[str, Any]) -> CameraPlan:
    masks = [_polygon(mask) for mask in _either(own, every, "masks")[:MOST_MASKS]]
    more = tuple(dict.fromkeys(mask for mask in masks if mask is not None and mask not in plan.masks))
    labels = [label for label in _either(own, every, "blur")[:MOST_LABELS] if isinstance(label, str)]
    blur = tuple(dict.fromkeys((*plan.blur, *(label for label in labels if 0 < len(label) <= MOST_LABEL_CHARS))))
    return replace(plan, masks=plan.masks + more, blur=blur)


def _either(own: Mapping[str, Any], every: Mapping[str, Any], key: str) -> list[Any]:
    """A camera's own list, that of every camera where it has none that can be read."""
    for table in (own, every):
        if isinstance(table.get(key), list):
            return list(table[key])
    return []


def _polygon(mask: object) -> tuple[Point, ...] | None:
    entry = mask.get("polygon") if isinstance(mask, dict) else None
    return None if entry is None or polygon_faults(entry, "mask") else points_of(entry)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
