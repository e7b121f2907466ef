"""The update machine without an agent around it: no server, no cameras; a carried bundle goes as far as its trial."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from device_agent.adapters_disk import FoundBoard, SpoolReports
from device_agent.facts_linux import read_facts
from device_agent.own_folder_disk import read_root
from device_agent.settings import Settings
from device_agent.spool.spool_disk import Outbox
from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.health import TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.hooks_process import Hooks
from device_agent.update.installed import Installed
from device_agent.update.local_disk import Inbox
from device_agent.update.local_trust_disk import FILE as LOCAL_TRUST
from device_agent.update.local_trust_disk import LocalTrust, LocalTrustError
from device_agent.update.policy import Policy
from device_agent.update.ports import Clock, SignedTarget
from device_agent.update.selftest_process import run_selftest
from device_agent.update.state_disk import StateFile, floor_of
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.slots.slots_disk import Slots
from ota.trust.key_types import Key
from ota.trust.refusal import Refusal

NO_SERVER = Refusal("download", "no server is asked during a local install")

log = logging.getLogger("rookery.update")


class NoServer:
    """``ports.Trust`` and ``ports.Content`` of a board that asks nobody."""

    def refresh(self) -> Refusal | None:
        """Nobody to ask."""
        return NO_SERVER

    def find(self, path: str) -> SignedTarget | Refusal:
        """Nobody to ask."""
        return NO_SERVER

    def manifest(self, path: str, expected_sha256: str, expected_length: int | None = None) -> bytes | Refusal:
        """Nobody to ask."""
        return NO_SERVER

    def assignment_keys(self) -> Mapping[str, Key]:
        """No assignment is judged here."""
        return {}

    def fetch(
        self, sha256: str, length_bytes: int | None, destination: Path, should_stop: Callable[[], bool]
    ) -> Refusal | None:
        """Nobody to ask."""
        return NO_SERVER


class NoPipeline:
    """``ports.ModelSwitch`` where nothing sees: the agent loads what the pointer says at its next start."""

    def use(self, installed: Installed) -> Refusal | None:
        """Nothing to change."""
        return None


def inbox_of(settings: Settings, policy: Policy, clock: Clock) -> Inbox:
    """This board's inbox."""
    data = settings.agent.data_dir
    return Inbox(data / "inbox", local_trust_of(settings), policy, clock)


def local_trust_of(settings: Settings) -> LocalTrust:
    """What this board knows of roots and versions, by its server and by sticks."""
    data = settings.agent.data_dir
    return LocalTrust(data / "state" / LOCAL_TRUST, lambda: read_root(settings.factory.root), data / "tuf")


def newest_root(settings: Settings) -> bytes:
    """Where the trust client begins: the newest root known here, or the factory's where that is unreadable."""
    try:
        return local_trust_of(settings).root()
    except LocalTrustError as error:
        log.error("%s; the server's metadata is judged from the factory's root", error.refusal.detail)
        return read_root(settings.factory.root)


def updater_without_agent(settings: Settings, policy: Policy, clock: Clock, inbox: Inbox, hooks: Path) -> Updater:
    """An updater over this board's own folders; whoever calls holds the folder's lock."""
    data, spool, server = settings.agent.data_dir, settings.spool, NoServer()
    outbox = Outbox(data / "spool", max_bytes=spool.max_bytes, min_free_bytes=spool.min_free_bytes, now=clock.now_s)
    slots = Slots(data / "slots")
    performer = Performer(
        Bench(
            trust=server, content=server, slots=slots, models=NoPipeline(),
            board=FoundBoard(read_facts(settings.agent.board_root), settings.agent.board_root), policy=policy, clock=clock,
            selftest=run_selftest, folder=data / "downloads", inhibit=data / "update-inhibit", hooks=Hooks(hooks), inbox=inbox,
        )
    )  # fmt: skip
    memory = StateFile(data / "state", installed=lambda state: floor_of(slots, state))
    updater = Updater(
        "local", memory=memory, actions=performer, trust=server, clock=clock,
        reports=SpoolReports(outbox, lambda: None), watch=TrialWatch(HistoryFile(data / "history"), TrialLimits()),
    )  # fmt: skip
    updater.take_from(inbox.next)
    return updater
