"""The update part, assembled: verified metadata, content over the line, the model's performer and its updater."""

from contextlib import ExitStack
from pathlib import Path

import urllib3

from device_agent.adapters_disk import DetectorSwitch, FoundBoard, SpoolReports, UpdateSeat
from device_agent.assemble_base import Base
from device_agent.assemble_eyes import Eyes
from device_agent.duties.following import Following
from device_agent.duties.turn import Duty
from device_agent.launcher import EXIT_FOR_SWITCH
from device_agent.link.api_http import DeviceApi
from device_agent.link.pool_http import store_manager
from device_agent.local_bench_disk import inbox_of, newest_root
from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.health import TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.hooks_process import Hooks
from device_agent.update.policy import Policy, allows_host, policy_faults
from device_agent.update.policy_target_disk import PolicyFollower
from device_agent.update.reports import report_of_refused_policy
from device_agent.update.selftest_process import run_selftest
from device_agent.update.state_disk import StateFile, floor_of
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.trust.client_http import TrustClient
from ota.trust.content_aim_http import Stores
from ota.trust.content_http import Limits
from ota.wire import topics
from ota.wire.addresses import plain_address


def line_of(base: Base, api: DeviceApi, pool: urllib3.PoolManager, stack: ExitStack) -> tuple[TrustClient, PoolContent]:
    """Both ends of what comes over the line: metadata that is verified, content that is hashed."""
    return trust_of(base, api, pool), content_of(base, api, pool, stack)


def trust_of(base: Base, api: DeviceApi, pool: urllib3.PoolManager) -> TrustClient:
    """Verified metadata of the server, from the root that came with the board, or a newer one that a stick has shown it."""
    made = TrustClient(
        base.data / "tuf", metadata_url=api.url(topics.METADATA), targets_url=api.url(topics.BUNDLES), pool=pool,
        bootstrap_root=newest_root(base.settings), reference_time=base.clock.now_s,
    )  # fmt: skip
    base.clock.bound_by(made.earliest_end_s)  # one wrong 2099 must not end this board
    return made


def content_of(base: Base, api: DeviceApi, pool: urllib3.PoolManager, stack: ExitStack) -> PoolContent:
    """Content of releases, as fast as the policy lets it, from the server and from where the policy lets it send us on to."""
    elsewhere = store_manager(urllib3.Timeout(base.settings.server.timeout_s))
    stack.callback(elsewhere.clear)
    limits = Limits(max_rate_bytes_s=base.policy.max_download_bytes_per_s)
    return PoolContent(pool, api.url(topics.BUNDLES), limits, Stores(elsewhere, lambda url: content_allowed(base.policy, url)))


def content_allowed(policy: Policy, url: str) -> bool:
    """Whether content may be fetched from an address that the server sent us on to: https, and a host of ``content_hosts``."""
    place = plain_address(url)
    return place is not None and place.scheme == "https" and allows_host(policy.content_hosts, place.host, place.port)


def hooks_beside(config: Path) -> Hooks:
    """The owner's hooks lie beside the settings."""
    return Hooks(config.absolute().parent / "hooks")


def performer_of(base: Base, eyes: Eyes, trust: TrustClient, content: PoolContent) -> Performer:
    """The executor of the model's deployments."""
    return Performer(
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
            hooks=hooks_beside(base.config),
            inbox=inbox_of(base.settings, base.policy, base.clock),
        )
    )


def following_of(base: Base, trust: TrustClient, reports: SpoolReports, seat: UpdateSeat) -> list[Duty]:
    """The duty that looks for a newer policy, where policy.toml names one to follow; none elsewhere."""
    settings, path = base.settings, base.policy.follow
    if not path or settings.policy is None:
        return []
    names = [camera.name for camera in settings.cameras]
    follower = PolicyFollower(
        base.data / "policy", path, settings.policy.read_text(encoding="utf-8"), trust,
        lambda policy: policy_faults(policy, names, settings.server.url, settings.local.hosts),
    )  # fmt: skip

    def leave() -> None:
        base.stop.exit_code = EXIT_FOR_SWITCH
        base.stop.set()

    return [
        Following(
            follower, busy=lambda: seat.busy, leave=leave,
            tell=lambda refused: reports.put(report_of_refused_policy(refused, path, seat.running, base.clock.now_s())),
        )
    ]  # fmt: skip


def updater_of(
    device: str, base: Base, eyes: Eyes, trust: TrustClient, performer: Performer, reports: SpoolReports
) -> Updater:
    """The model's updater; what the board came with is told first."""
    trial, factory = base.settings.trial, eyes.slots.factory()
    limits = TrialLimits(trial.min_gated_frames, trial.deadline_s, trial.min_rate_ratio, trial.min_fps_ratio, trial.max_crashes)
    came_with_it = factory is not None and factory.sha256 == eyes.installed.sha256
    reports.first_contact(eyes.installed, factory=came_with_it, now_s=base.clock.now_s())
    memory = StateFile(base.data / "state", installed=lambda state: floor_of(eyes.slots, state))
    updater = Updater(
        device, memory=memory, actions=performer, trust=trust, clock=base.clock, reports=reports,
        watch=TrialWatch(HistoryFile(base.data / "history"), limits),
    )  # fmt: skip
    updater.take_from(inbox_of(base.settings, base.policy, base.clock).next)
    return updater
