"""The only file that chooses concrete classes for this board: settings in, a supervisor with all its duties out."""

import functools
import logging
import random
import secrets
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import urllib3

from device_agent.adapters_disk import ClaimFile, DetectorSwitch, FoundBoard, SpoolReports, UpdateSeat
from device_agent.assemble_base import Base, open_base
from device_agent.assemble_eyes import Eyes, look_out, open_eyes
from device_agent.duties.beating import Beating
from device_agent.duties.keeping_logs import KeepingLogs, LogSender
from device_agent.duties.linking import AfterLink, Linking
from device_agent.duties.polling import Polling
from device_agent.duties.seeing import Seeing
from device_agent.duties.sending import Sending
from device_agent.duties.turn import Bell, Duty, Stop
from device_agent.duties.updating import Updating, Watching
from device_agent.duties.watching_way import WatchingWay
from device_agent.link.api_http import DeviceApi
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.pool_http import counted_manager
from device_agent.link.tls_x509 import context
from device_agent.link.way_linux import look_at_way
from device_agent.own_folder_disk import read_root
from device_agent.self_report_linux import SelfReport
from device_agent.server_side_http import ServerSide
from device_agent.settings import Settings
from device_agent.spool.upload_http import Sender
from device_agent.supervise import Notifier, Supervisor
from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.health import TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.selftest_process import run_selftest
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.trust.client_http import TrustClient
from ota.wire import topics
from ota.wire.assignments import Assignment

BUILD_S = 1_790_000_000.0
"""September 2026: this code is not older, so no clock that is earlier is right."""
EVENT_GATHER_S = 0.5
"""After an event the sender waits this long for others: fewer requests, fewer bytes."""
log = logging.getLogger(__name__)


@contextmanager
def assembled(settings: Settings) -> Iterator[tuple[Supervisor, Stop]]:
    """The whole agent, ready to run; everything that was opened is closed at the end, whatever happens."""
    with ExitStack() as stack:
        base = open_base(settings, stack)
        eyes = open_eyes(base, stack)
        duties = _duties(base, eyes, stack)
        yield Supervisor(duties, base.stop, notifier=Notifier.from_environment()), base.stop


def _duties(base: Base, eyes: Eyes, stack: ExitStack) -> list[Duty]:
    settings, stop = base.settings, base.stop
    bells = {name: Bell(stop) for name in ("poll", "send", "logs", "beat", "update")}
    base.outbox.changed = bells["send"].ring
    api = DeviceApi(settings.server.url, _tls(base), base.count, timeout_s=settings.server.timeout_s, now_s=base.clock.now_s)
    stack.callback(api.close)
    pool = _pool(base, stack)
    trust = _trust(base, api, pool)
    content = PoolContent(pool, api.url(topics.BUNDLES))
    seat = UpdateSeat(lambda device: _updater(device, base, eyes, trust, content, bells["beat"]), eyes.installed)
    stop.on_set(seat.stop)
    side = ServerSide(api, settings.server.ca_file, base.clock, base.count, woken=bells["poll"].ring, device_known=seat.fill)
    side.keys = trust.assignment_keys
    stack.callback(side.close)
    store = IdentityStore(base.data / "identity")
    linking = Linking(
        store, api, ClaimFile(settings.server.claim_file), lambda: base.facts,
        use=side.use, confirm=side.confirm, learn_time=side.learn_time, now_s=base.clock.now_s, draw=random.random,
    )  # fmt: skip
    polling = Polling(
        api.state, seat, bells["poll"], new_nonce=lambda: secrets.token_hex(16),
        accepted=lambda accepted: base.clock.verified(accepted.state.now_s),
        assigned=functools.partial(_assigned, base, bells["update"]), poll_s=settings.server.poll_s,
        draw=random.random,
    )  # fmt: skip
    watchers, seeing = _watchers(base, eyes, seat, polling)
    report = SelfReport(
        settings.agent.board_root, base.data, base.facts, base.clock, base.count, base.outbox, base.levels, eyes.window,
        eyes.detector, eyes.slots, seat, seeing, trust.versions, side.broker_connected,
    )  # fmt: skip
    sender = Sender(base.outbox, api, boot_id=base.boot_id, standing=report.standing)
    log_sender = LogSender(base.ring, api, boot_id=base.boot_id, upload_level=settings.logs.upload_level)
    beating = Beating(
        report.heartbeat, lambda: side.broker, api.send_heartbeat, bells["beat"],
        every_s=settings.telemetry.heartbeat_s, https_every_s=settings.telemetry.https_heartbeat_s,
    )  # fmt: skip
    after = (
        polling, Updating(seat, bells["update"]), beating,
        Sending("outbox", sender.step, bells["send"], draw=random.random, gather_s=EVENT_GATHER_S),
        Sending("log upload", log_sender.step, bells["logs"], draw=random.random),
    )  # fmt: skip
    always: list[Duty] = [*seeing, *watchers, KeepingLogs(base.levels, base.ring, bells["logs"].ring), linking]
    return always + [AfterLink(duty, linking.linked) for duty in after]


def _watchers(base: Base, eyes: Eyes, seat: UpdateSeat, polling: Polling) -> tuple[list[Duty], list[Seeing]]:
    seeing: list[Seeing] = []
    look = functools.partial(look_at_way, base.settings.server.url)
    way = WatchingWay(look, reached=lambda: polling.reached, on_trial=lambda: seat.on_trial)
    watching = Watching(
        seat, lambda: [pipeline.counts() for pipeline in eyes.pipelines],
        dropped=lambda: sum(one.totals().dropped.get("late", 0) for one in seeing),
        crashes=lambda: eyes.detector.restarts, link=lambda: polling.reached, link_worse=lambda: way.worse,
        steady_s=base.clock.steady_s,
    )  # fmt: skip

    def timings(timings_ms: dict[str, float]) -> None:
        eyes.window.stage(timings_ms)
        watching.invoke(timings_ms)

    seeing += look_out(base, eyes, lambda: seat.running, timings)
    return [watching, way], seeing


def _assigned(base: Base, update_bell: Bell, assignment: Assignment) -> None:
    """A new assignment was believed: debug sessions as far as the board's policy allows them, and the update looks at once."""
    base.levels.adopt(assignment.debug if base.policy.debug_sessions else [])
    update_bell.ring()


def _tls(base: Base) -> ssl.SSLContext:
    """TLS before there is an identity; a board whose clock is behind judges dates by the trusted clock instead."""
    return context(base.settings.server.ca_file, check_dates=not base.clock.behind())


def _pool(base: Base, stack: ExitStack) -> urllib3.PoolManager:
    pool = counted_manager(_tls(base), base.count, urllib3.Timeout(base.settings.server.timeout_s), base.clock.now_s)
    stack.callback(pool.clear)
    return pool


def _trust(base: Base, api: DeviceApi, pool: urllib3.PoolManager) -> TrustClient:
    return TrustClient(
        base.data / "tuf", metadata_url=api.url(topics.METADATA), targets_url=api.url(topics.BUNDLES), pool=pool,
        bootstrap_root=read_root(base.settings.factory.root), reference_time=base.clock.now_s,
    )  # fmt: skip


def _updater(device: str, base: Base, eyes: Eyes, trust: TrustClient, content: PoolContent, beat: Bell) -> Updater:
    trial = base.settings.trial
    performer = Performer(
        Bench(
            trust=trust,
            content=content,
            slots=eyes.slots,
            models=DetectorSwitch(eyes.detector, base.settings.detector.threads),
            board=FoundBoard(base.facts, base.settings.agent.board_root),
            policy=base.policy,
            clock=base.clock,
            selftest=run_selftest,
            folder=base.data / "downloads",
            inhibit=base.data / "update-inhibit",
        )
    )
    limits = TrialLimits(trial.min_gated_frames, trial.deadline_s, trial.min_rate_ratio, trial.min_fps_ratio, trial.max_crashes)
    reports, factory = SpoolReports(base.outbox, beat.ring), eyes.slots.factory()
    came_with_it = factory is not None and factory.sha256 == eyes.installed.sha256
    reports.first_contact(eyes.installed, factory=came_with_it, now_s=base.clock.now_s())
    return Updater(
        device, memory=StateFile(base.data / "state"), actions=performer, trust=trust, clock=base.clock, reports=reports,
        watch=TrialWatch(HistoryFile(base.data / "history"), limits),
    )  # fmt: skip
