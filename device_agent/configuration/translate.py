"""The wire's configuration as settings of the rooms: laid over what agent.toml says of each camera. Pure."""

from collections.abc import Collection
from dataclasses import replace

import msgspec
from msgspec import UNSET

from device_agent.configuration.plan import BoardPlan, CameraPlan, Plan
from device_agent.vision.best_crop import CropSettings
from device_agent.vision.motion import GateSettings
from device_agent.vision.rule_file import make_line, make_zone, name_faults
from device_agent.vision.schedule import timezone_faults
from device_agent.vision.trigger_settings import make_triggers
from ota.wire.configuration import CameraConfiguration, Configuration, Crops, Gate, for_camera
from ota.wire.configuration_faults import ConfigurationError, faults, parse
from ota.wire.polygons import points_of
from ota.wire.typed_faults import Fault

STEEPNESS = 4.0
"""Full sensitivity halves the built-in thresholds of the gate, none doubles them: beyond that noise or blindness begins."""


def judge(value: object, basis: Plan, labels: Collection[str]) -> Plan:
    """A configuration as it came, as a plan for this board; raises ConfigurationError with all faults."""
    cameras = [plan.camera for plan in basis.cameras]
    found = faults(value, cameras, labels)
    if found:
        raise ConfigurationError(found)
    return translated(parse(value, cameras, labels), basis)


def unknown_classes(value: object, labels: Collection[str]) -> list[Fault]:
    """What a configuration in force asks for and the present model does not know: those rules are silent until it changes."""
    silent = {str(fault) for fault in faults(value)}
    return [fault for fault in faults(value, None, labels) if str(fault) not in silent]


def translated(configuration: Configuration, basis: Plan) -> Plan:
    """The typed configuration over the board's own plan; raises ConfigurationError for what only this board can tell."""
    found: list[str] = []
    cameras = tuple(_camera(for_camera(configuration, plan.camera), plan, found) for plan in basis.cameras)
    if found:
        raise ConfigurationError([Fault("", sentence) for sentence in found])
    return Plan(cameras, _board(configuration, basis.board))


def _board(configuration: Configuration, basis: BoardPlan) -> BoardPlan:
    outputs = msgspec.to_builtins(configuration.local_output) if configuration.local_output is not UNSET else {}
    return BoardPlan(
        shadow_duty=basis.shadow_duty if configuration.shadow_duty is UNSET else configuration.shadow_duty,
        silenced=frozenset(name for name, speaks in outputs.items() if not speaks),
        log_level=basis.log_level if configuration.log_level is UNSET else configuration.log_level,
    )


def _camera(wanted: CameraConfiguration, basis: CameraPlan, found: list[str]) -> CameraPlan:
    where = f"cameras.{basis.camera}"
    said = msgspec.to_builtins(wanted)
    timezone = said.get("timezone", basis.timezone)
    wrong = timezone_faults(timezone, f"{where}.timezone")
    found += wrong
    zone_text = "UTC" if wrong else timezone
    pipeline = replace(
        basis.pipeline,
        gate=_gate(wanted.gate, basis.pipeline.gate) if wanted.gate is not UNSET else basis.pipeline.gate,
        crops=_crops(wanted.crops, basis.pipeline.crops) if wanted.crops is not UNSET else basis.pipeline.crops,
        min_score=dict(said.get("min_score", basis.pipeline.min_score)),
        rules=replace(
            basis.pipeline.rules,
            sure_share=said.get("sureness", basis.pipeline.rules.sure_share),
            sure_after_s=said.get("sure_after_s", basis.pipeline.rules.sure_after_s),
        ),
    )
    if "zones" in said:
        made = [make_zone(entry, f"{where}.zones[{n}]", found, zone_text) for n, entry in enumerate(said["zones"])]
        pipeline = replace(pipeline, zones=tuple(zone for zone in made if zone is not None))
    if "lines" in said:
        drawn = [make_line(entry, f"{where}.lines[{n}]", found, zone_text) for n, entry in enumerate(said["lines"])]
        pipeline = replace(pipeline, lines=tuple(line for line in drawn if line is not None))
    triggers = said.get("triggers", basis.triggers)
    make_triggers(dict(triggers), f"{where}.triggers", found, zone_text)
    if not found:
        names = [zone.name for zone in pipeline.zones] + [line.name for line in pipeline.lines]
        found += [f"{where}: {sentence} (together with agent.toml)" for sentence in name_faults(names)]
    return CameraPlan(
        camera=basis.camera,
        pipeline=pipeline,
        enabled=said.get("enabled", basis.enabled),
        fps=_slower(said.get("fps"), basis.fps),
        timezone=zone_text,
        masks=basis.masks + tuple(points_of(mask["polygon"]) for mask in said.get("masks", ())),
        blur=tuple(dict.fromkeys((*basis.blur, *said.get("blur", ())))),
        triggers=triggers,
        recall_per_day=said.get("recall_per_day", basis.recall_per_day),
    )


def _gate(wanted: Gate, basis: GateSettings) -> GateSettings:
    factor = STEEPNESS ** (0.5 - wanted.sensitivity) if wanted.sensitivity is not UNSET else 1.0
    return replace(
        basis,
        difference=basis.difference * factor,
        least_difference=basis.least_difference * factor,
        tolerance=basis.tolerance * factor,
        keep_alive_s=basis.keep_alive_s if wanted.keepalive_s is UNSET else wanted.keepalive_s,
        enabled=basis.enabled if wanted.enabled is UNSET else wanted.enabled,
    )


def _crops(wanted: Crops, basis: CropSettings) -> CropSettings:
    return replace(
        basis,
        longest_side_px=min(basis.most_px, basis.longest_side_px if wanted.longest_side_px is UNSET else wanted.longest_side_px),
        jpeg_quality=basis.jpeg_quality if wanted.jpeg_quality is UNSET else wanted.jpeg_quality,
        max_bytes=min(basis.most_bytes, basis.max_bytes if wanted.max_bytes is UNSET else wanted.max_bytes),
    )


def _slower(wanted: float | None, own: float | None) -> float | None:
    """Both are upper bounds."""
    return own if wanted is None else wanted if own is None else min(wanted, own)
