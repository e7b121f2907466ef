"""``rookery-agent local-install BUNDLE``: an install from a USB stick, by the authority of root or of the board's own policy.

The bundle is proved without a network and put into ``data/inbox/``. A running agent takes it from there and this verb watches;
without one the verb runs the update machine itself as far as the trial, which the agent goes on with at its next start.
"""

import contextlib
import errno
import os
import stat
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from device_agent.assemble_base import BUILD_S
from device_agent.doctor_disk import agent_runs
from device_agent.errors import AgentError, BoardError, OwnerError, PassingError
from device_agent.factory_disk import install_factory
from device_agent.facts_linux import read_facts
from device_agent.link.clock import TrustedClock
from device_agent.link.clock_disk import read_floor
from device_agent.local_bench_disk import inbox_of, updater_without_agent
from device_agent.own_folder_disk import open_folder, read_policy, read_settings
from device_agent.owner_linux import as_owner
from device_agent.settings import Settings
from device_agent.update.deployment import LOCAL, Deployment
from device_agent.update.inbox_folder_disk import copy_in, words_of
from device_agent.update.local_disk import REFUSED, Inbox
from device_agent.update.policy import Policy
from device_agent.update.ports import Clock
from device_agent.update.state_disk import STATE_FILE, peek
from device_agent.update.states import STATES
from ota.plain_disk import open_plain
from ota.slots.slots_disk import Slots
from ota.trust.refusal import Refusal

LOOK_S = 0.2


class CarriedRefusedError(OwnerError):
    """The bundle is not installed: what it is or what this board allows forbids it; the message carries the reason code."""

    exit_code = 6


def run_local_install(config: Path, bundle: Path, *, wait_s: float) -> int:
    """Prove, put, and watch or do; prints each state as it comes. Returns the exit code; raises AgentError."""
    settings = read_settings(config)
    policy = read_policy(settings.policy, settings.agent.data_dir)
    clock = TrustedClock(
        read_floor(settings.agent.data_dir / "state" / "clock", BUILD_S), now=time.time, steady=time.monotonic,
        keep=lambda floor_s: None,
    )  # fmt: skip
    inbox = inbox_of(settings, policy, clock)
    _must_be_a_file(bundle)
    if os.geteuid() != 0 and not policy.local_install:
        raise CarriedRefusedError(
            "a local install needs the board's authority (policy)", "run it as root, or set local_install = true in policy.toml"
        )
    opened = inbox.prove(bundle)
    if isinstance(opened, Refusal):
        raise _refused(bundle.name, opened.code, opened.detail)
    release, sha256 = opened.manifest.release, opened.manifest_sha256
    if _runs(settings, release, sha256):
        return 0
    deadline_s = time.monotonic() + wait_s
    if agent_runs(settings):
        before = _deployments(settings)
        _put(bundle, inbox.file(sha256))
        return _watch(settings, inbox, release, sha256, before, deadline_s)
    with ExitStack() as stack:
        with as_owner(settings.agent.data_dir):
            open_folder(settings.agent.data_dir, stack)
            _nothing_under_way(settings)
            _something_to_fall_back_to(settings)
        if _runs(settings, release, sha256):
            return 0
        _put(bundle, inbox.file(sha256))  # whose file it is says who let it in
        with as_owner(settings.agent.data_dir):
            return _carry_out(settings, policy, clock, inbox, config, sha256, deadline_s)


def _must_be_a_file(bundle: Path) -> None:
    try:
        mode = bundle.stat().st_mode
        if stat.S_ISREG(mode):
            bundle.open("rb").close()
    except FileNotFoundError:
        raise OwnerError(f"{bundle} is not there", "name the .rookery file; is the stick mounted?") from None
    except OSError as error:
        raise OwnerError(f"{bundle} cannot be read: {error.strerror}", "name a .rookery file that may be read") from None
    if not stat.S_ISREG(mode):
        raise OwnerError(f"{bundle} is {'a folder' if stat.S_ISDIR(mode) else 'no plain file'}", "name the .rookery file")


def _runs(settings: Settings, release: str, sha256: str) -> bool:
    """Whether this release runs already, which is said then."""
    current = Slots(settings.agent.data_dir / "slots").current()
    if current is None or current.sha256 != sha256:
        return False
    _say(f"{release} runs already")
    return True


def _something_to_fall_back_to(settings: Settings) -> None:
    """A trial must be able to end with another release: on a new board the factory's, installed now. Raises OwnerError."""
    slots = Slots(settings.agent.data_dir / "slots")
    if slots.factory() is not None:
        return
    factory, facts = settings.factory, read_facts(settings.agent.board_root)
    try:
        install_factory(slots, factory.bundle, factory.root, facts, settings.agent.data_dir / "downloads")
    except AgentError as error:
        current = slots.current()
        if current is not None and not slots.verify(current.sha256):
            return
        raise OwnerError(
            f"there is no release on this board to fall back to, and the factory's cannot be installed: {error.message}",
            f"a trial must be able to fail: copy the factory bundle to {factory.bundle} (factory.bundle), then try again",
        ) from None
    installed = slots.factory()
    _say(f"the factory release {installed.manifest.release if installed is not None else ''} is installed first, to fall back to")


def _refused(name: str, code: str, detail: str) -> CarriedRefusedError:
    return CarriedRefusedError(f"{name} is not installed ({code}): {detail}", "what runs on this board goes on running")


def _deployments(settings: Settings) -> int:
    state = peek(settings.agent.data_dir / "state" / STATE_FILE)
    return 0 if isinstance(state, str) else state.deployments


def _nothing_under_way(settings: Settings) -> None:
    state = peek(settings.agent.data_dir / "state" / STATE_FILE)
    deployment = None if isinstance(state, str) else state.deployment
    if deployment is not None and not deployment.settled and deployment.origin != LOCAL:
        raise OwnerError(
            f"an install of {deployment.bundle.release} is under way here ({deployment.state})",
            "start the agent, let it end, and try again",
        )


def _put(bundle: Path, target: Path) -> None:
    """Copy it into the inbox: whole or not at all, and through no link. Raises BoardError."""
    try:
        with open_plain(bundle) as source:
            copy_in(target.parent, target.name, source)
    except OSError as error:
        told = f"{bundle} cannot be copied to {target.parent}: {error.strerror}"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise BoardError(told, "free some space on the board" if full else "`rookery-agent repair` says what is wrong") from None


def _carry_out(
    settings: Settings, policy: Policy, clock: Clock, inbox: Inbox, config: Path, sha256: str, deadline_s: float
) -> int:
    """Run the machine here, as far as the trial."""
    updater = updater_without_agent(settings, policy, clock, inbox, config.absolute().parent / "hooks")
    told = _Told(sha256)
    try:
        while True:
            updater.tick()
            deployment = told.look(settings)
            if deployment is None and not inbox.file(sha256).exists():
                raise _refused(sha256[:12], "policy", _why_put_aside(inbox, sha256))
            if deployment is not None and deployment.state == "trial":
                _say("the agent goes on with the trial at its next start")
                return 0
            if deployment is not None and deployment.settled:
                return _ended(deployment)
            if time.monotonic() > deadline_s:
                raise _goes_on("start the agent: it goes on with it")
            time.sleep(LOOK_S)
    finally:
        with contextlib.suppress(OSError):
            updater.stop()


def _watch(settings: Settings, inbox: Inbox, release: str, sha256: str, before: int, deadline_s: float) -> int:
    """What the running agent makes of it."""
    told = _Told(sha256, before)
    _say(f"{release} is in the inbox of the running agent")
    while True:
        deployment = told.look(settings)
        if deployment is not None and STATES[deployment.state].ended:
            return _ended(deployment)
        if deployment is None and not inbox.file(sha256).exists() and told.look(settings) is None:
            raise _refused(release, "policy", _why_put_aside(inbox, sha256))
        if time.monotonic() > deadline_s:
            raise _goes_on("the agent goes on with it; its state stands in the heartbeat and on the server")
        time.sleep(LOOK_S)


class _Told:
    """Prints each state of the one deployment once."""

    def __init__(self, sha256: str, before: int = -1) -> None:
        self._sha256, self._before = sha256, before
        self._last = ("", "")

    def look(self, settings: Settings) -> Deployment | None:
        """The deployment as it is on the disk now; None before it began."""
        state = peek(settings.agent.data_dir / "state" / STATE_FILE)
        if isinstance(state, str) or state.deployment is None or state.deployments <= self._before:
            return None
        deployment = state.deployment
        if deployment.origin != LOCAL or deployment.bundle.sha256 != self._sha256:
            return None
        now = (deployment.state, deployment.reason)
        if now != self._last:
            why = f" ({deployment.reason}) {deployment.detail}".rstrip() if deployment.reason else ""
            _say(f"{deployment.bundle.release}: {deployment.state}{why}")
            self._last = now
        return deployment


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _ended(deployment: Deployment) -> int:
    return 0 if deployment.state == "committed" else CarriedRefusedError.exit_code


def _goes_on(hint: str) -> PassingError:
    return PassingError("it was not over within the time that --wait gives", hint)


def _why_put_aside(inbox: Inbox, sha256: str) -> str:
    try:
        return words_of(inbox.folder, inbox.file(sha256).name + REFUSED)
    except OSError:
        return "the agent put it aside; its log says why"
