"""The heartbeat: the periodic telemetry message of one device. It may be lost; ``sequence`` shows how many were."""

from typing import Annotated

from msgspec import Meta

from ota.wire.base import Code, Count, Instant, Message, Name, Number, Part, Sha256, Share, Text


class LineCount(Part, frozen=True, kw_only=True):
    """How often a line was crossed since the agent's start, by label and direction (the word of the side that was entered)."""

    line: Name
    label: Name
    direction: Code
    count: Count


class CameraHealth(Part, frozen=True, kw_only=True):
    """One camera since the heartbeat before: rates per second, counts over the window.

    ``state`` is ok, no_frames, black, frozen, covered, blurred, off (switched off) or ended. ``gated_frames`` passed the motion
    gate; ``frames_with_detection`` of them had a detection. ``brightness`` is the mean luma, 0 to 255. ``held_back``: events that
    a rule's cool-down swallowed since the agent's start, by rule; ``unsure``: visits and crossings that lacked nothing for an
    event but a track that is believed, likewise.
    """

    camera: Name
    state: Code = "ok"
    camera_fps: Number = 0.0
    processed_fps: Number = 0.0
    frames: Count = 0
    gated_frames: Count = 0
    frames_with_detection: Count = 0
    detections: Count = 0
    events: Count = 0
    brightness: Number = 0.0
    dropped: dict[Code, Count] = {}
    crossed: Annotated[list[LineCount], Meta(max_length=200)] = []
    held_back: Annotated[dict[Name, Count], Meta(max_length=100)] = {}
    unsure: Annotated[dict[Name, Count], Meta(max_length=100)] = {}


class StageLatency(Part, frozen=True, kw_only=True):
    """Milliseconds of one stage of the pipeline over the window."""

    p50_ms: Number
    p95_ms: Number
    count: Count


class SpoolHealth(Part, frozen=True, kw_only=True):
    """The durable outbox: what waits, how old the oldest is, what was given up (by reason, since start)."""

    items: Count = 0
    bytes: Count = 0
    oldest_age_s: Number = 0.0
    quarantined: Count = 0
    evicted: dict[Code, Count] = {}


class HostHealth(Part, frozen=True, kw_only=True):
    """The board. None where it cannot be read on this board."""

    cpu_temp_c: Number | None = None
    load_1m: Number | None = None
    memory_available_bytes: Count | None = None
    disk_free_bytes: Count | None = None
    agent_rss_bytes: Count | None = None
    throttled: Count | None = None
    """Raspberry Pi firmware bits: 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft limit; 16–19 the same since boot."""


class Running(Part, frozen=True, kw_only=True):
    """What the device runs now. ``bundle_sha256`` is the manifest's digest; ``slot`` names the install place."""

    name: Name
    version: Name
    bundle_sha256: Sha256
    variant: Code
    slot: Code
    accelerator: Code = "cpu"
    runtime: Name = "unknown"


class ShadowPair(Part, frozen=True, kw_only=True):
    """How often the current model and the shadow found the same object (``both``), or only one of them, since the shadow began.

    ``size`` is the larger side's share of the picture's: small (below 1/8), medium (below 1/3) or large.
    """

    label: Name
    size: Code
    both: Count = 0
    only_current: Count = 0
    only_candidate: Count = 0


class ShadowHealth(Part, frozen=True, kw_only=True):
    """A candidate model beside the current one, since it began; it decides nothing.

    ``state`` is running, paused or failed; ``reason`` says why it is not running: hot, memory, throttled, cost, idle, or the
    detector's word. ``frames`` were looked at by both. ``core_share`` is what it costs of one core.
    """

    release: Name
    state: Code
    reason: Text = ""
    frames: Count = 0
    skipped: dict[Code, Count] = {}
    """Frames whose turn it was and that were not looked at, by reason."""
    core_share: Number = 0.0
    invoke_ms: Number | None = None
    pairs: Annotated[list[ShadowPair], Meta(max_length=90)] = []
    """The most frequent first; ``left_out`` counts those that did not fit."""
    left_out: Count = 0


class ConfigurationHealth(Part, frozen=True, kw_only=True):
    """What became of the configuration that the server wants. ``digest``: of the wanted one, ``running``: of that in force.

    ``state`` is applied, trying, refused or rolled_back. ``reason``: all faults of a refused one, what went wrong with one that
    was rolled back; of an applied one what the present model does not know.
    """

    digest: Sha256
    state: Code
    reason: Text = ""
    running: Sha256 | None = None


class Heartbeat(Message, frozen=True, kw_only=True):
    """One device's health over the last window of ``window_s`` seconds."""

    sequence: Count
    boot_id: Code
    at_s: Instant
    uptime_s: Number
    window_s: Number
    state: Code
    """State of the deployment on this device (``idle`` when there is none)."""
    running: Running | None = None
    accelerator_reason: Text = ""
    """Why the accelerator that the board has is not the one in use; empty when it is."""
    detector_restarts: Count = 0
    cameras: list[CameraHealth] = []
    latency: dict[Code, StageLatency] = {}
    spool: SpoolHealth = SpoolHealth()
    host: HostHealth = HostHealth()
    bytes_sent: Count = 0
    """All bytes written to the network for this device's work since its start (payload and protocol as seen by the socket)."""
    bytes_baseline_gated_jpeg: Count = 0
    """What a JPEG (quality 85) of every motion-gated frame would have cost since start."""
    log_level: Code = "info"
    log_level_until_s: Instant | None = None
    broker_connected: bool = False
    detection_share: Share | None = None
    """Share of gated frames with a detection over the device's own history."""
    shadow: ShadowHealth | None = None
    """The candidate that runs beside the current model, None where there is none."""
    configuration: ConfigurationHealth | None = None
    """None before the server named any."""
    local_dropped: dict[Code, Count] = {}
    """Events that were not told on the spot since the start, by way and reason (``mqtt_stale``, ``webhook_failed``, …)."""
    left_out: Count = 0
    """Line counts, held-back rules and shadow pairs that were shed because the message would have been too large."""
