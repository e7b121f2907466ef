"""The ground of the agent: its folder, clock, log, policy, facts and outbox."""

import functools
import logging
import secrets
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.duties.keeping_logs import LogLevels
from device_agent.duties.turn import Stop
from device_agent.errors import SettingsError
from device_agent.facts_linux import read_facts
from device_agent.link.addresses import Addresses
from device_agent.link.addresses_disk import read_addresses
from device_agent.link.clock import TrustedClock
from device_agent.link.clock_disk import read_floor, write_floor
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.logs.debug_session import DebugSessions, Effective
from device_agent.logs.handler import RingHandler, set_level
from device_agent.logs.ring_disk import LogRing
from device_agent.logs.sessions_disk import read_sessions, write_sessions
from device_agent.own_folder_disk import open_folder, read_policy
from device_agent.settings import Settings
from device_agent.spool.spool_disk import Outbox
from device_agent.update.agent_place_disk import AgentPlace, facts_here
from device_agent.update.policy import Policy, allows_host, policy_faults
from ota.wire.enrolment import BoardFacts

BUILD_S = 1_790_000_000.0
"""September 2026: this code is not older, so no clock that is earlier is right."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Base:
    """What everything else stands on. ``config``: the file of the settings."""

    settings: Settings
    config: Path
    data: Path
    stop: Stop
    boot_id: str
    clock: TrustedClock
    count: ByteCount
    facts: BoardFacts
    policy: Policy
    outbox: Outbox
    ring: LogRing
    levels: LogLevels
    place: AgentPlace
    addresses: Addresses
    """Where the server is; ``settings.server.url`` is the one in use."""

    @property
    def addresses_file(self) -> Path:
        """Where they are kept."""
        return _addresses_file(self.data)


def open_base(settings: Settings, stack: ExitStack, config: Path = Path("agent.toml")) -> Base:
    """Everything that the other parts stand on; raises AgentError where this board has no ground."""
    data = settings.agent.data_dir
    open_folder(data, stack)
    floor_file = data / "state" / "clock"
    keep_floor = functools.partial(write_floor, floor_file)
    clock = TrustedClock(read_floor(floor_file, BUILD_S), now=time.time, steady=time.monotonic, keep=keep_floor)
    ring = LogRing(data / "logs", settings.logs.ring_bytes)
    handler = RingHandler(ring, clock.now_s, clock.steady_s, settings.logs.max_lines_per_s)
    logging.getLogger().addHandler(handler)
    stack.callback(ring.flush)
    stack.callback(logging.getLogger().removeHandler, handler)
    policy = read_policy(settings.policy, settings.agent.data_dir)
    names = [camera.name for camera in settings.cameras]
    faults = policy_faults(policy, names, settings.server.url, settings.local.hosts)
    if faults:
        raise SettingsError(str(settings.policy or "agent.toml"), faults)
    allows = functools.partial(allows_host, policy.server_hosts)
    addresses = read_addresses(_addresses_file(data), settings.server.url).allowed(allows)
    settings = replace(settings, server=replace(settings.server, url=addresses.current))
    levels = _levels(settings, policy, clock, handler)
    spool = settings.spool
    outbox = Outbox(data / "spool", max_bytes=spool.max_bytes, min_free_bytes=spool.min_free_bytes, now=clock.now_s)
    place = AgentPlace.here(data)
    facts = facts_here(read_facts(settings.agent.board_root), place)
    log.info("board: %s (%s), %d MiB", facts.board_model, facts.profile, facts.memory_bytes // 2**20)
    boot_id = secrets.token_hex(8)
    stop = Stop()
    return Base(settings, config, data, stop, boot_id, clock, ByteCount(), facts, policy, outbox, ring, levels, place, addresses)


def _addresses_file(data: Path) -> Path:
    return data / "state" / "server.json"


def _levels(settings: Settings, policy: Policy, clock: TrustedClock, handler: RingHandler) -> LogLevels:
    sessions_file = settings.agent.data_dir / "state" / "debug-sessions.json"

    def apply(effective: Effective) -> None:
        set_level(effective.level)
        handler.follow(effective)

    levels = LogLevels(
        DebugSessions(settings.agent.log_level),
        apply,
        functools.partial(write_sessions, sessions_file),
        now_s=clock.now_s,
        steady_s=clock.steady_s,
    )
    if policy.debug_sessions:
        levels.adopt(read_sessions(sessions_file))
    return levels
