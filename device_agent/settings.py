"""Every setting of the agent, with its unit and default. Read from agent.toml; all faults are reported at once. Pure."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from device_agent.errors import SettingsError
from device_agent.local.settings import LocalSection, local_faults, parse_local
from device_agent.settings_rules import BoardRules, rules_of
from device_agent.settings_table import section

Positive = Annotated[float, Meta(gt=0, le=1e9)]
NotNegative = Annotated[float, Meta(ge=0, le=1e9)]
PositiveInt = Annotated[int, Meta(ge=1, le=2**40)]
Share = Annotated[float, Meta(ge=0, le=1)]
ShortName = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9 _.-]+\Z")]
Level = Literal["debug", "info", "warning", "error", "critical"]
SidePx = Annotated[int, Meta(ge=16, le=16384)]
MAX_CAMERAS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class AgentSection:
    """``[agent]``: where the agent keeps everything, and where it reads the board's facts.

    data_dir: folder of identity, state, slots, spool and logs; made when missing. board_root: root of /proc and /sys that the
    board is detected from, default "/". name: shown on the board's own output, default none. log_level: default info.
    """

    data_dir: Path
    board_root: Path = Path("/")
    name: str = ""
    log_level: Level = "info"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSection:
    """``[server]``: the fleet server.

    url: https://host:port of the device door. ca_file: PEM of the authority that is pinned. claim_file: the one-time token,
    removed after enrolment; where none is named the board waits until an operator accepts it. poll_s: seconds between polls until
    the server says otherwise, default 1800. timeout_s: seconds for connecting and for each wait for bytes, default 20.
    signed_requests: sign each request with the board's key, for where TLS ends before the server (its ROOKERY_SIGNED_REQUESTS),
    default false.
    """

    url: Annotated[str, Meta(pattern=r"^https://[^\s/]+(/.*)?\Z")]
    ca_file: Path
    claim_file: Path | None = None
    poll_s: Positive = 1800.0
    timeout_s: Positive = 20.0
    signed_requests: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FactorySection:
    """``[factory]``: what the board runs before the first update, and the trust that it starts with.

    bundle: the signed bundle file (``.rookery``). root: the TUF root metadata that this board trusts first.
    """

    bundle: Path
    root: Path


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSection:
    """``[[camera]]``: one source of frames.

    name: unique. source: film:PATH, pictures:DIR, rendered:SEED[:LIGHT], opencv:DEVICE_OR_URL or picamera2[:NUMBER]. pacing: live
    (the latest frame wins, default) or recorded (every frame). loop: begin again at the end, default false. fps: frames per
    second that are processed at most, default as the source has. recall_per_day: frames with motion and without a detection that
    are sent a day, so that misses can be counted; default 0. weight: share of the detector against other cameras, default 1.
    tiles: [columns, rows] in which each frame is looked at for small objects, at the cost of as many looks; default [1, 1].
    timezone: IANA name for schedules and for "today", default UTC. size_px: [width, height] of a sensor's large stream, or what a
    USB camera is asked for. sensor_mode: [width, height, bits] that a sensor is pinned to (a Zero 2 W cannot try them all).
    sureness, sure_after_s: how far above its threshold a score is believed at once, and after how long a lower one is; default
    0.3 of what is left to 1, and 4. triggers, gate, crops, min_score: tables as in the configuration (docs/configuration.md).
    """

    name: ShortName
    source: Annotated[str, Meta(min_length=1, max_length=1000)] = field(repr=False)
    pacing: Literal["live", "recorded"] = "live"
    loop: bool = False
    fps: Positive | None = None
    recall_per_day: Annotated[int, Meta(ge=0, le=1000)] = 0
    weight: Annotated[float, Meta(gt=0, le=100)] = 1.0
    tiles: tuple[Annotated[int, Meta(ge=1, le=8)], Annotated[int, Meta(ge=1, le=8)]] = (1, 1)
    timezone: Annotated[str, Meta(min_length=1, max_length=100)] = "UTC"
    size_px: tuple[SidePx, SidePx] | None = None
    sensor_mode: tuple[SidePx, SidePx, Annotated[int, Meta(ge=8, le=16)]] | None = None
    triggers: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    crops: dict[str, Any] = field(default_factory=dict)
    min_score: dict[str, Any] = field(default_factory=dict)
    sureness: Share | None = None
    sure_after_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorSection:
    """``[detector]``: the inference.

    threads: of the interpreter, default 2. child: run it in a child process that may die alone; default by the board's memory.
    reply_deadline_ms: a child that is silent for longer is killed, default 2000; accelerator_deadline_ms: the same where the
    model runs on an accelerator, default 1000. load_deadline_s: to load a model, default 60.
    """

    threads: Annotated[int, Meta(ge=1, le=64)] = 2
    child: bool | None = None
    reply_deadline_ms: Positive = 2000.0
    accelerator_deadline_ms: Positive = 1000.0
    load_deadline_s: Positive = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ShadowSection:
    """``[shadow]``: a candidate model that runs beside the current one and decides nothing.

    model, card: its files. every_n: it sees every n-th frame that the current model answered, default 10. max_core_share: of one
    core at most, default 0.1. max_temp_c: it rests on a hotter board, default 75. min_memory_bytes: it rests below so much free
    memory, default 128 MiB.
    """

    model: Path
    card: Path
    every_n: Annotated[int, Meta(ge=1, le=10_000)] = 10
    max_core_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    max_temp_c: Annotated[float, Meta(gt=0, le=120)] = 75.0
    min_memory_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 128 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialSection:
    """``[trial]``: when a new model, or a new agent, has shown enough on this board.

    min_gated_frames: frames with motion before its behaviour is judged, default 50. deadline_s: longest trial, default 86400;
    then it commits marked *behaviour unseen*. min_rate_ratio: least share of this board's own detection rate, default 0.5.
    min_fps_ratio: least share of the frame rate before, default 0.7. max_crashes: of the detector during the trial, default 2.
    Of an agent: agent_settle_s: shortest trial, default 30; agent_frames_s: longest wait for frames of every camera that gave
    some before, default 600; agent_link_s: for the server, default 86400; agent_alive_s: from its start to its first sign,
    default 300.
    """

    min_gated_frames: PositiveInt = 50
    deadline_s: Positive = 86400.0
    min_rate_ratio: Share = 0.5
    min_fps_ratio: Share = 0.7
    max_crashes: Annotated[int, Meta(ge=0, le=1000)] = 2
    agent_settle_s: Positive = 30.0
    agent_frames_s: Positive = 600.0
    agent_link_s: Positive = 86400.0
    agent_alive_s: Annotated[float, Meta(ge=1, le=3600)] = 300.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolSection:
    """``[spool]``: the outbox. max_bytes: its budget, default 256 MiB. min_free_bytes: left free on the disk, default 64 MiB."""

    max_bytes: PositiveInt = 256 * 1024 * 1024
    min_free_bytes: Annotated[int, Meta(ge=0, le=2**40)] = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class TelemetrySection:
    """``[telemetry]``: heartbeat_s: seconds between heartbeats by broker, default 30; https_heartbeat_s: without one, 120."""

    heartbeat_s: Positive = 30.0
    https_heartbeat_s: Positive = 120.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LogsSection:
    """``[logs]``: ring_bytes: size of the ring on disk, default 4 MiB. upload_level: lines from this level on go to the server
    (in a debug session all do), default warning. max_lines_per_s: rate limit, default 50."""

    ring_bytes: Annotated[int, Meta(ge=64 * 1024, le=2**32)] = 4 * 1024 * 1024
    upload_level: Level = "warning"
    max_lines_per_s: Positive = 50.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All of agent.toml. ``rules``: by camera, of ``[[zone]]`` and ``[[line]]`` (``settings_rules``).

    ``policy``: the board's own file of what is allowed; None means the built-in, strictest policy.
    """

    agent: AgentSection
    server: ServerSection
    factory: FactorySection
    cameras: tuple[CameraSection, ...]
    rules: dict[str, BoardRules] = field(default_factory=dict)
    detector: DetectorSection = DetectorSection()
    trial: TrialSection = TrialSection()
    spool: SpoolSection = SpoolSection()
    telemetry: TelemetrySection = TelemetrySection()
    logs: LogsSection = LogsSection()
    shadow: ShadowSection | None = None
    local: LocalSection = field(default_factory=LocalSection)
    policy: Path | None = None


SECTIONS: dict[str, type] = {
    "agent": AgentSection,
    "server": ServerSection,
    "factory": FactorySection,
    "detector": DetectorSection,
    "trial": TrialSection,
    "spool": SpoolSection,
    "telemetry": TelemetrySection,
    "logs": LogsSection,
    "shadow": ShadowSection,
}
REQUIRED = ("agent", "server", "factory", "camera")


def parse(text: str, source: Path) -> Settings:
    """agent.toml as text; ``source`` is its path (for words, and as the base of relative paths). Raises SettingsError."""
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SettingsError(str(source), [f"not TOML: {error}"]) from None
    base = source.parent
    faults = [f"[{name}] is missing" for name in REQUIRED if name not in table]
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name in SECTIONS:
            values[name] = section(SECTIONS[name], value, name, base, faults)
        elif name == "camera":
            values["cameras"] = _cameras(value, base, faults)
        elif name == "local":
            values["local"] = parse_local(value, base, faults)
        elif name == "policy" and isinstance(value, str):
            values["policy"] = base / value
        elif name not in ("zone", "line"):
            faults.append(f"{name} is not a setting of agent.toml")
    faults += _cross_checks(values)
    values["rules"] = rules_of(table.get("zone", []), table.get("line", []), values.get("cameras", ()), faults)
    if faults:
        raise SettingsError(str(source), faults)
    return Settings(**values)


def _cameras(value: Any, base: Path, faults: list[str]) -> tuple[CameraSection, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
        faults.append("camera must be written as [[camera]]")
        return ()
    made = [section(CameraSection, entry, f"camera[{number}]", base, faults) for number, entry in enumerate(value, start=1)]
    return tuple(_based(entry, base) for entry in made if entry is not None)


def _based(entry: CameraSection, base: Path) -> CameraSection:
    """A camera's film or folder of pictures is meant from the file's own folder on, like every other path."""
    kind, _, rest = entry.source.partition(":")
    on_disk = kind in ("film", "pictures") and rest and "://" not in rest
    return replace(entry, source=f"{kind}:{base / rest}") if on_disk else entry


def _cross_checks(values: Mapping[str, Any]) -> list[str]:
    """What no single key shows: names that must differ or must exist."""
    faults = []
    names = [camera.name for camera in values.get("cameras", ())]
    faults += [f"two cameras are called {name!r}" for name in sorted({n for n in names if names.count(n) > 1})]
    if len(names) > MAX_CAMERAS:
        faults.append(f"{len(names)} cameras, at most {MAX_CAMERAS} share one detector")
    if values.get("local") is not None:
        faults += local_faults(values["local"], names)
    return faults
