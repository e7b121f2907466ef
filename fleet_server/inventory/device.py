"""A device as everybody outside this folder sees it: the JSON of the operator API."""

from dataclasses import dataclass, replace
from typing import Any

from fleet_server.inventory.tables import DeviceRow, DeviceStateRow
from ota.wire.heartbeat import Heartbeat

DEFAULT_ONLINE_WITHIN_S = 90.0
GONE = "decommissioned"


@dataclass(frozen=True, slots=True)
class AcceleratorUse:
    """``wanted``: what the board has (edgetpu or cpu); ``running``: what is used (None: not yet heard); why they differ."""

    wanted: str
    running: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class RunningRelease:
    """What a device runs, by its own word."""

    name: str
    version: str
    release: str
    bundle_sha256: str
    variant: str
    slot: str
    variant_reason: str


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """The last step of the last deployment that the device reported."""

    state: str
    reason: str
    detail: str
    target: str
    at_s: float
    behaviour_unseen: bool = False
    """Committed, but the trial saw too little to judge how the model behaves."""


@dataclass(frozen=True, slots=True)
class CertificateSummary:
    """The certificate that was issued last. ``key_sha256``: of its SubjectPublicKeyInfo (DER), hexadecimal."""

    serial: str
    not_after_s: float
    key_sha256: str


@dataclass(frozen=True, slots=True)
class AgentState:
    """The device's own software: ``release`` and ``sha256`` of the installed one, empty for the agent that it came with."""

    release: str
    sha256: str
    version: str
    abi: str
    wanted: str | None
    deployment: DeploymentState | None


@dataclass(frozen=True, slots=True)
class Device:
    """One device. ``state`` is online, offline, pending (enrolled but never heard), revoked or decommissioned; ``facts`` a wire
    BoardFacts."""

    id: str
    name: str
    group: str
    state: str
    last_seen_s: float | None
    profile: str
    board_model: str
    serial: str
    facts: dict[str, Any]
    accelerator: AcceleratorUse
    runtime: str | None
    running: RunningRelease | None
    deployment: DeploymentState | None
    wanted: str | None
    log_level: str
    log_level_until_s: float | None
    heartbeat: dict[str, Any] | None
    enrolled_s: float
    certificate: CertificateSummary
    held: str | None
    agent: AgentState
    replaces: str | None = None
    """Id of the device whose place this one took."""
    decommissioned_s: float | None = None
    """Since when it is gone for good; its ``state`` is decommissioned then."""


@dataclass(frozen=True, slots=True)
class Presence:
    """Who a device is and whether it is heard, without what is large: for walks over the whole fleet."""

    id: str
    name: str
    group: str
    online: bool
    last_seen_s: float | None
    held: str | None
    revoked: bool
    trouble: str = ""
    """What its last heartbeat says that needs a person."""


SEEING = ("ok", "ended", "off")
"""Camera states in which nobody needs to be called."""
MAX_TROUBLE_CHARS = 500


def trouble_of(heartbeat: Heartbeat) -> str:
    """What a heartbeat says that needs a person: cameras that do not see, a configuration that was not taken. Empty: nothing."""
    bad = [f"camera {one.camera}: {one.state.replace('_', ' ')}" for one in heartbeat.cameras if one.state not in SEEING]
    kept = heartbeat.configuration
    if kept is not None and kept.state in ("refused", "rolled_back"):
        bad.append(f"configuration {kept.state.replace('_', ' ')}: {kept.reason}")
    return "; ".join(bad)[:MAX_TROUBLE_CHARS]


@dataclass(frozen=True, slots=True)
class DeviceCounts:
    """How many devices are in which state; revoked ones are in none but their own and not in ``total``."""

    total: int
    online: int
    offline: int
    pending: int
    revoked: int


@dataclass(frozen=True, slots=True)
class RunningCount:
    """How many devices run one release (None: they have not said)."""

    release: str | None
    devices: int


def state_of(revoked_s: float | None, last_seen_s: float | None, mqtt_online: bool, now_s: float, within_s: float) -> str:
    """online, offline, pending or revoked. Clocks of devices play no part: ``last_seen_s`` is the server's."""
    if revoked_s is not None:
        return "revoked"
    if mqtt_online or (last_seen_s is not None and last_seen_s >= now_s - within_s):
        return "online"
    return "pending" if last_seen_s is None else "offline"


def to_device(row: DeviceRow, state: DeviceStateRow, now_s: float, within_s: float) -> Device:
    """The two rows of a device as one value."""
    heartbeat = state.heartbeat or {}
    running = RunningRelease(**state.running) if state.running else None
    if running is not None and state.variant_reason_of == running.bundle_sha256:
        running = replace(running, variant_reason=state.variant_reason)
    beating = heartbeat.get("running") or {}
    return Device(
        id=row.id,
        name=row.name,
        group=row.group,
        state=GONE if row.decommissioned_s is not None else state_of(
            row.revoked_s, state.last_seen_s, state.mqtt_online, now_s, within_s
        ),
        last_seen_s=state.last_seen_s,
        profile=row.profile,
        board_model=row.board_model,
        serial=row.serial,
        facts=row.facts,
        accelerator=_accelerator(row.facts, beating.get("accelerator"), str(heartbeat.get("accelerator_reason", ""))),
        runtime=beating.get("runtime"),
        running=running,
        deployment=DeploymentState(**state.deployment) if state.deployment else None,
        wanted=row.wanted,
        log_level=str(heartbeat.get("log_level", "info")),
        log_level_until_s=heartbeat.get("log_level_until_s"),
        heartbeat=state.heartbeat,
        enrolled_s=row.enrolled_s,
        certificate=CertificateSummary(row.certificate_serial, row.certificate_not_after_s, row.certificate_key_sha256),
        held=row.held,
        agent=_agent(row, state),
        replaces=row.replaces,
        decommissioned_s=row.decommissioned_s,
    )


def _agent(row: DeviceRow, state: DeviceStateRow) -> AgentState:
    said = {name: str(row.facts.get(name, "")) for name in ("agent_release", "agent_sha256", "agent_version", "abi")}
    deployment = DeploymentState(**state.agent_deployment) if state.agent_deployment else None
    return AgentState(
        said["agent_release"], said["agent_sha256"], said["agent_version"], said["abi"], row.wanted_agent, deployment
    )


def _accelerator(facts: dict[str, Any], running: str | None, reason: str) -> AcceleratorUse:
    present = [each for each in facts.get("accelerators", []) if each.get("present")]
    wanted = "edgetpu" if any(str(each.get("kind", "")).startswith("edgetpu") for each in present) else "cpu"
    if not reason:
        reason = next((str(each["reason"]) for each in present if not each.get("usable") and each.get("reason")), "")
    return AcceleratorUse(wanted, running, reason)
