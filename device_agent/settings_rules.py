"""``[[zone]]``, ``[[line]]`` and ``[camera.triggers]`` of agent.toml: rules as in a zone file, each with its camera. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from device_agent.vision.rule_file import MAX_LINES, MAX_ZONES, make_line, make_zone, name_faults
from device_agent.vision.schedule import timezone_faults
from device_agent.vision.trigger_settings import make_triggers
from device_agent.vision.zones import Line, Zone
from ota.wire.configuration_faults import faults as configuration_faults


class NamedCamera(Protocol):
    """As much of a ``[[camera]]`` as rules need."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def timezone(self) -> str:
        """What its schedules are written in."""
        ...

    @property
    def triggers(self) -> dict[str, Any]:
        """Its table of triggers."""
        ...

    @property
    def gate(self) -> dict[str, Any]:
        """Its table of the motion gate."""
        ...

    @property
    def crops(self) -> dict[str, Any]:
        """Its table of pictures' bounds."""
        ...

    @property
    def min_score(self) -> dict[str, Any]:
        """Its least scores by label."""
        ...

    @property
    def sureness(self) -> float | None:
        """How far above its threshold a score is believed at once."""
        ...

    @property
    def sure_after_s(self) -> float | None:
        """After how long a lower one is."""
        ...


@dataclass(frozen=True, slots=True)
class BoardRules:
    """One camera's zones and lines."""

    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def all(self) -> list[Zone | Line]:
        """Both."""
        return [*self.zones, *self.lines]


def rules_of(zones: object, lines: object, cameras: Sequence[NamedCamera], faults: list[str]) -> dict[str, BoardRules]:
    """The rules by camera; adds to ``faults`` what is wrong with any of them, and with the cameras' time zones and triggers."""
    timezones: dict[str, str] = {}
    for number, camera in enumerate(cameras, start=1):
        wrong = timezone_faults(camera.timezone, f"camera[{number}].timezone")
        faults += wrong
        timezones[camera.name] = "UTC" if wrong else camera.timezone
        make_triggers(camera.triggers, f"camera[{number}].triggers", faults, timezones[camera.name])
        faults += [f"camera[{number}]: {fault}" for fault in configuration_faults(configuration_of(camera))]
    found: dict[str, tuple[list[Zone], list[Line]]] = {camera.name: ([], []) for camera in cameras}
    for where, entry, owner in _entries("zone", zones, MAX_ZONES, timezones, faults):
        zone = make_zone(entry, where, faults, timezones.get(owner, "UTC"))
        if zone is not None and owner in found:
            found[owner][0].append(zone)
    for where, entry, owner in _entries("line", lines, MAX_LINES, timezones, faults):
        line = make_line(entry, where, faults, timezones.get(owner, "UTC"))
        if line is not None and owner in found:
            found[owner][1].append(line)
    for name, (own_zones, own_lines) in found.items():
        names = [zone.name for zone in own_zones] + [line.name for line in own_lines]
        faults += [f"camera {name!r}: {fault}" for fault in name_faults(names)]
    return {name: BoardRules(tuple(own_zones), tuple(own_lines)) for name, (own_zones, own_lines) in found.items()}


def configuration_of(camera: NamedCamera) -> dict[str, Any]:
    """What a camera's tables say, in the shape of a configuration: there they are judged and applied."""
    tables = {"gate": camera.gate, "crops": camera.crops, "min_score": camera.min_score}
    numbers = {"sureness": camera.sureness, "sure_after_s": camera.sure_after_s}
    said = {name: table for name, table in tables.items() if table}
    return {"cameras": {camera.name: said | {name: number for name, number in numbers.items() if number is not None}}}


def _entries(
    kind: str, listed: object, most: int, cameras: Mapping[str, str], faults: list[str]
) -> list[tuple[str, dict[str, Any], str]]:
    """Each entry with its place and its camera, which is taken out of it."""
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed) or len(listed) > most:
        faults.append(f"{kind} must be written as [[{kind}]], at most {most} times")
        return []
    found = []
    for number, entry in enumerate(listed, start=1):
        where, rest = f"{kind}[{number}]", dict(entry)
        camera = rest.pop("camera", None)
        if not isinstance(camera, str):
            faults.append(f"{where}.camera is missing: the name of a [[camera]]")
        elif camera not in cameras:
            faults.append(f"{where}.camera: there is no camera {camera!r}")
        found.append((where, rest, str(camera)))
    return found
