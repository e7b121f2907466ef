"""The only file that chooses concrete classes for this board: settings in, a supervisor with all its duties out."""

import functools
import logging
import random
import secrets
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import urllib3

from device_agent.adapters_disk import ClaimFile, SpoolReports, UpdateSeat
from device_agent.agent_side_disk import AgentParts, AgentSide
from device_agent.assemble_base import Base, open_base
from device_agent.assemble_eyes import Eyes, keeper_of, look_out, open_eyes
from device_agent.assemble_updates_http import following_of, hooks_beside, line_of, performer_of, updater_of
from device_agent.board_orders import BoardOrders
from device_agent.camera_place import CameraPlace, frames_of
from device_agent.duties.beating import Beating
from device_agent.duties.configuring import Configuring
from device_agent.duties.keeping_logs import KeepingLogs, LogSender
from device_agent.duties.linking import AfterLink, Linking
from device_agent.duties.living import Living
from device_agent.duties.marks_disk import read_marks, write_marks
from device_agent.duties.moving import Moving
from device_agent.duties.polling import Polling
from device_agent.duties.sending import Sending
from device_agent.duties.shadowing import Shadowing, ShadowSettings
from device_agent.duties.showing import Showing, refusal_of
from device_agent.duties.turn import Bell, Duty, Stop
from device_agent.duties.updating import Updating, Watching
from device_agent.duties.watching_way import WatchingWay
from device_agent.launcher import EXIT_FOR_SWITCH
from device_agent.link.addresses_disk import write_addresses
from device_agent.link.api_http import DeviceApi
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.pool_http import counted_manager
from device_agent.link.tls_x509 import context
from device_agent.link.way_linux import look_at_way
from device_agent.self_report_linux import SelfReport
from device_agent.server_side_http import ServerSide
from device_agent.settings import Settings
from device_agent.shadow_model_linux import ShadowChoice
from device_agent.spool.upload_http import Sender
from device_agent.spool.upload_rule import UploadRule
from device_agent.supervise import Notifier, Supervisor
from device_agent.telemetry.probes_linux import read_host
from device_agent.update.agent_trial import AgentTrialLimits
from device_agent.update.assignment_rule import Accepted
from device_agent.update.conditions_disk import Conditions
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.installed import Installed
from device_agent.update.policy import allows_host
from device_agent.update.shadow_fetch_disk import ShadowFetch
from device_agent.update.state_disk import StateFile
from device_agent.vision.live_view import LiveView
from device_agent.vision.shadow import BoardLimits
from ota.trust.client_http import TrustClient
from ota.wire.assignments import Assignment

EVENT_GATHER_S = 0.5
"""After an event the sender waits this long for others: fewer requests, fewer bytes."""
log = logging.getLogger(__name__)


@contextmanager
def assembled(settings: Settings, config: Path = Path("agent.toml")) -> Iterator[tuple[Supervisor, Stop]]:
    """The whole agent, ready to run; everything that was opened is closed at the end, whatever happens."""
    with ExitStack() as stack:
        base = open_base(settings, stack, config)
        eyes = open_eyes(base, stack)
        duties = _duties(base, eyes, stack)
        yield Supervisor(duties, base.stop, notifier=Notifier.from_environment()), base.stop


def _duties(base: Base, eyes: Eyes, stack: ExitStack) -> list[Duty]:
    settings, stop = base.settings, base.stop
    bells = {name: Bell(stop) for name in ("poll", "send", "logs", "beat", "update", "configuration")}
    base.outbox.changed = bells["send"].ring
    api = DeviceApi(settings.server.url, _tls(base), base.count, timeout_s=settings.server.timeout_s, now_s=base.clock.server_s)
    stack.callback(api.close)
    trust, content = line_of(base, api, _pool(base, stack), stack)
    performer, reports = performer_of(base, eyes, trust, content), SpoolReports(base.outbox, bells["beat"].ring)
    agent = functools.partial(_agent_parts, base, eyes, trust, content, performer.conditions, reports)
    seat = UpdateSeat(
        lambda device: updater_of(device, base, eyes, trust, performer, reports), eyes.installed,
        lambda device, model: AgentSide(device, model, agent(lambda: frames_of(places), lambda: seat.running)),
    )  # fmt: skip
    stop.on_set(seat.stop)
    side = _server_side(base, api, trust, seat, bells["poll"])
    stack.callback(side.close)
    linking = Linking(
        IdentityStore(base.data / "identity"), api, ClaimFile(settings.server.claim_file), lambda: base.facts,
        use=side.use, confirm=side.confirm, learn_time=side.learn_time, now_s=base.clock.now_s, draw=random.random,
        renew_late=side.renew_late,
    )  # fmt: skip
    shadow = _shadow(base, seat, trust, content)
    views, watchers, places = _watchers(base, eyes, seat, shadow, lambda: polling.reached)
    showing = _showing(base, eyes, views)
    moving = _moving(base, seat, side, lambda: polling.reached)
    polling = Polling(
        api.state, seat, bells["poll"], new_nonce=lambda: secrets.token_hex(16),
        accepted=functools.partial(_accepted, base, seat, moving),
        assigned=functools.partial(_assigned, base, showing, (bells["update"], bells["configuration"])),
        poll_s=settings.server.poll_s, draw=random.random, versions=trust.versions,
    )  # fmt: skip
    board = BoardOrders(base.levels, eyes.local, shadow)
    keeper = keeper_of(base, eyes, places, board, told=bells["beat"].ring)
    keeper.start()
    seeing = [place.parts.seeing for place in places]
    report = SelfReport(
        settings.agent.board_root, base.data, base.facts, base.clock, base.count, base.outbox, base.levels, eyes.window,
        eyes.detector, eyes.slots, seat, seeing, trust.versions, side.broker_connected,
        configuration=lambda: keeper.health, shadow=shadow.health, local_dropped=eyes.local.dropped,
    )  # fmt: skip
    sender = Sender(base.outbox, api, boot_id=base.boot_id, standing=report.standing, rule=_upload_rule(base))
    log_sender = LogSender(base.ring, api, boot_id=base.boot_id, upload_level=settings.logs.upload_level)
    beating = Beating(
        report.heartbeat, lambda: side.broker, api.send_heartbeat, bells["beat"],
        every_s=settings.telemetry.heartbeat_s, https_every_s=settings.telemetry.https_heartbeat_s,
    )  # fmt: skip
    after: tuple[Duty, ...] = (
        polling, Updating(seat, bells["update"]), beating,
        Sending("outbox", sender.step, bells["send"], draw=random.random, gather_s=EVENT_GATHER_S),
        Sending("log upload", log_sender.step, bells["logs"], draw=random.random),
        moving, *following_of(base, trust, reports, seat),
    )  # fmt: skip
    always: list[Duty] = [
        Living(base.place.say_alive),
        *seeing, *watchers, *eyes.local.duties, Configuring(keeper, bells["configuration"], lambda: seat.assignment), shadow,
        showing, KeepingLogs(base.levels, base.ring, bells["logs"].ring), linking,
    ]  # fmt: skip
    return always + [AfterLink(duty, linking.linked) for duty in after]


def _server_side(base: Base, api: DeviceApi, trust: TrustClient, seat: UpdateSeat, poll: Bell) -> ServerSide:
    server = base.settings.server
    side = ServerSide(
        api, server.ca_file, base.clock, base.count, woken=poll.ring, device_known=seat.fill, sign=server.signed_requests,
        broker_allowed=functools.partial(allows_host, base.policy.server_hosts), broker_at=base.addresses.broker_at,
    )  # fmt: skip
    side.keys = trust.assignment_keys
    return side


def _upload_rule(base: Base) -> UploadRule:
    server = urlsplit(base.settings.server.url)
    own = (server.hostname or "", server.port or 443)
    return UploadRule(frozenset(base.policy.upload_classes), base.policy.upload_hosts, own)


def _watchers(
    base: Base, eyes: Eyes, seat: UpdateSeat, shadow: Shadowing, reached: Callable[[], bool]
) -> tuple[dict[str, LiveView], list[Duty], list[CameraPlace]]:
    """The cameras in their places, and the duties that watch what they count."""
    look = functools.partial(look_at_way, base.settings.server.url)
    way = WatchingWay(look, reached=reached, on_trial=lambda: seat.on_trial)
    places: list[CameraPlace] = []
    watching = Watching(
        seat, lambda: [place.parts.pipeline.counts() for place in places],
        dropped=lambda: sum(place.parts.seeing.totals().dropped.get("late", 0) for place in places),
        crashes=lambda: eyes.detector.restarts, link=reached, link_worse=lambda: way.worse, steady_s=base.clock.steady_s,
        asked=lambda: tuple(place.parts.seeing.asked_fps for place in places),
    )  # fmt: skip

    def timings(timings_ms: dict[str, float]) -> None:
        eyes.window.stage(timings_ms)
        watching.invoke(timings_ms)

    places += look_out(base, eyes, shadow, lambda: seat.running, timings)
    views = {place.parts.pipeline.settings.camera: place.parts.view for place in places}
    return views, [watching, way], places


def _showing(base: Base, eyes: Eyes, views: dict[str, LiveView]) -> Showing:
    policy, marks = base.policy, base.data / "state" / "frames-answered.json"
    refusal = refusal_of(
        debug_sessions=policy.debug_sessions, live_view=policy.live_view, upload_classes=policy.upload_classes
    )
    return Showing(
        views, refusal, eyes.stills.answer, now_s=base.clock.now_s, steady_s=base.clock.steady_s, marks=read_marks(marks),
        keep_marks=functools.partial(write_marks, marks),
    )  # fmt: skip


def _shadow(base: Base, seat: UpdateSeat, trust: TrustClient, content: PoolContent) -> Shadowing:
    own = base.settings.shadow
    fetch = ShadowFetch(
        base.data / "shadow", trust=trust, content=content, policy=base.policy, facts=base.facts,
        floor=lambda: StateFile(base.data / "state").load().floor,
    )  # fmt: skip
    choice = ShadowChoice(
        None if own is None else (own.model, own.card), assignment=lambda: seat.assignment, fetch=fetch.fetch,
        stopping=base.stop.is_set, now_s=base.clock.now_s,
    )  # fmt: skip
    settings = ShadowSettings()
    if own is not None:
        settings = ShadowSettings(own.every_n, own.max_core_share, BoardLimits(own.max_temp_c, own.min_memory_bytes))
    host = functools.partial(read_host, base.settings.agent.board_root, base.data)
    return Shadowing(choice.wanted, settings, host, base.clock.steady_s)


def _moving(base: Base, seat: UpdateSeat, side: ServerSide, reached: Callable[[], bool]) -> Moving:
    """The duty that goes where the server went; the agent starts anew there."""

    def leave() -> None:
        base.stop.exit_code = EXIT_FOR_SWITCH
        base.stop.set()

    return Moving(
        base.addresses, allows=functools.partial(allows_host, base.policy.server_hosts), reached=reached, probe=side.probe,
        keep=functools.partial(write_addresses, base.addresses_file), leave=leave, busy=lambda: seat.busy,
        steady_s=base.clock.steady_s, draw=random.random,
    )  # fmt: skip


def _accepted(base: Base, seat: UpdateSeat, moving: Moving, accepted: Accepted) -> None:
    """An answer of the server was believed."""
    base.clock.verified(accepted.state.now_s)
    moving.hear(tuple(accepted.state.servers))
    seat.believed()


def _assigned(base: Base, showing: Showing, bells: tuple[Bell, ...], assignment: Assignment) -> None:
    """A new assignment was believed: debug sessions as far as the board's policy allows them; whoever waits looks at once."""
    base.levels.adopt(assignment.debug if base.policy.debug_sessions else [])
    showing.adopt(assignment.debug)
    for bell in bells:
        bell.ring()


def _tls(base: Base) -> ssl.SSLContext:
    """TLS before there is an identity; a board whose clock is behind judges dates by the trusted clock instead."""
    return context(base.settings.server.ca_file, check_dates=not base.clock.behind())


def _pool(base: Base, stack: ExitStack) -> urllib3.PoolManager:
    pool = counted_manager(_tls(base), base.count, urllib3.Timeout(base.settings.server.timeout_s), base.clock.server_s)
    stack.callback(pool.clear)
    return pool


def _agent_parts(
    base: Base, eyes: Eyes, trust: TrustClient, content: PoolContent, conditions: Conditions, reports: SpoolReports,
    frames: Callable[[], dict[str, int]], running: Callable[[], Installed],
) -> AgentParts:  # fmt: skip
    """What the agent's own update is made of."""
    trial = base.settings.trial

    def leave(exit_code: int) -> None:
        base.stop.exit_code = exit_code
        base.stop.set()

    return AgentParts(
        trust=trust, content=content, conditions=conditions, policy=base.policy, clock=base.clock, reports=reports,
        facts=base.facts, place=base.place, config=base.config,
        limits=AgentTrialLimits(trial.agent_settle_s, trial.agent_frames_s, trial.agent_link_s), alive_s=trial.agent_alive_s,
        frames=frames, model=lambda: (eyes.slots.current(), running()), leave=leave, hooks=hooks_beside(base.config),
    )  # fmt: skip
