"""A board that updates its own agent: launcher, pointer, slots and both updaters are real; a start of the agent is a call here.

What the launcher chooses is what runs: the real ``Launcher`` reads the pointer, checks the slot, counts the starts of a trial;
then an agent "process" with that slot lives in ours until it asks to be ended for the switch. Held in the hand are the camera and
the self-test's child. The old agent is a slot, too; the one before it goes when the new one is committed.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

import msgspec

from device_agent.launcher import Launcher
from device_agent.launcher_disk import Pointer, agents_folder, read_pointer, slot_fault, write_pointer
from device_agent.update.agent_actions_disk import AgentBench, AgentPerformer
from device_agent.update.agent_environment_disk import Parts, build_slot, own_base
from device_agent.update.agent_place_disk import AgentMemory, AgentPlace, token_of
from device_agent.update.agent_selftest import AgentSelftestRequest, AgentSelftestResult
from device_agent.update.agent_trial import AgentJudge, AgentTrialLimits
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.deployment import UpdateState
from device_agent.update.health import HealthWindow
from device_agent.update.policy import Policy
from device_agent.update.state_disk import AGENT_STATE_FILE, StateFile
from device_agent.update.updater import Updater
from device_agent.update.wanted import AGENT
from ota.bundle.agent_release import LOCK, build_lock, parse_lock
from ota.bundle.manifest import AGENT as AGENT_KIND
from ota.bundle.manifest import Manifest, Variant, encode_manifest, target_path
from ota.trust.content_http import Limits
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, StateAnswer
from ota.wire.codec import decode
from ota.wire.deployments import DeploymentReport
from tests.fakes.wheels import ABI, make_wheel
from tests.faults.board import DEVICE, FACTS, NONCE, RUNS_OLD, Board, Story, answer_of, leftovers
from tests.faults.judging import scratch
from tests.faults.recording import ROOT, Recorder, run_below
from tests.faults.shop import NOW_S, TARGETS_URL, Pool, Shop

BOARD_FACTS = msgspec.structs.replace(FACTS, abi=ABI, libc="glibc 2.36")
ROUNDS = 60


@dataclass(frozen=True)
class AgentStory:
    """The digests of the agents, and the server's answer."""

    shop: str
    before: str
    old: str
    new: str
    answer: str


class AgentBoard:
    """The launcher and the agent that it has started, on the files below ``folder``."""

    def __init__(
        self, folder: Path, story: AgentStory, promise: Callable[[str], None] = lambda text: None, now_s: float = NOW_S
    ) -> None:
        self.folder, self.story, self.promise, self.clock_s = folder, story, promise, now_s
        self.launcher = Launcher(folder / "agent.toml", folder)
        self.starts = 0
        self.start()

    def start(self) -> None:
        """The launcher starts what it chooses."""
        self.starts += 1
        choice = self.launcher._choose(0)
        self.slot, self.frames, self.reached = choice.slot, 0, False
        assert self.slot in (self.story.old, self.story.new), f"the launcher starts {self.slot[:12] or 'the factory agent'}"
        story = Story(Path(self.story.shop), "", "", "", "", {}, False)
        self.model = Board(self.folder, story, self.promise, self.clock_s)
        place = AgentPlace(self.folder, self.slot, f"start-{self.starts}", True)
        self.memory = ToldMemory(StateFile(self.folder / "state", AGENT_STATE_FILE), place)
        self.memory.promise = self.promise
        judge = AgentJudge(
            lambda: {"yard": self.frames}, reached=lambda: self.reached, on_trial=lambda: self._deployed() == self.slot,
            before=self._before, limits=AgentTrialLimits(),
        )  # fmt: skip
        self.place, self.judge = place, judge
        content = PoolContent(Pool(story.shop), TARGETS_URL, Limits(attempts=1))  # type: ignore[arg-type]
        model = self.model
        self.performer = AgentPerformer(
            AgentBench(
                trust=model.trust, content=content, conditions=model.performer.conditions, policy=Policy(), clock=model,
                facts=lambda: BOARD_FACTS, place=place, folder=self.folder / "agent-downloads", config=self.folder / "agent.toml",
                model=lambda: None, seeing=judge.seeing, selftest=self._selftest,
            )
        )  # fmt: skip
        self.updater = Updater(
            DEVICE, memory=self.memory, actions=self.performer, trust=model.trust, clock=model, reports=model.reports,
            watch=judge, part=AGENT, orders=model.updater.orders,
        )  # fmt: skip

    def _deployed(self) -> str:
        deployment = self.memory.newest.deployment if self.memory.newest is not None else None
        return "" if deployment is None else deployment.bundle.sha256

    def _before(self) -> list[str] | None:
        deployment = self.memory.newest.deployment if self.memory.newest is not None else None
        found = None if deployment is None else self.place.before(token_of(deployment))
        return None if found is None else found.cameras

    def _selftest(self, python: Path, request: AgentSelftestRequest, *, should_stop: Callable[[], bool]) -> AgentSelftestResult:
        assert python == agents_folder(self.folder) / self.story.new / "bin" / "python"
        return AgentSelftestResult(version=request.version)

    def step(self) -> bool:
        """Ten seconds of the agent's life; True once its update has ended and all that belongs to the end is done."""
        self.clock_s += 10.0
        self.model.clock_s, self.frames = self.clock_s, self.frames + 100
        if not self.reached:
            answer = decode(StateAnswer, self.story.answer.encode())
            self.reached = not isinstance(self.model.updater.poll_answer(answer, NONCE), Refusal)
        self.updater.on_window(HealthWindow(10.0))
        self.place.say_alive()
        self.updater.tick()
        if self.performer.leaving:
            self.start()
        deployment = self.memory.newest.deployment if self.memory.newest is not None else None
        return deployment is not None and deployment.settled

    def live(self) -> None:
        """Until the update has ended."""
        for _ in range(ROUNDS):
            if self.step():
                return
        raise AssertionError(f"the update of the agent did not end: {self.updater.status}")

    def check_start(self, promises: Collection[str]) -> None:
        """What runs is whole, and what was promised is kept."""
        fault = slot_fault(agents_folder(self.folder) / self.slot)
        assert not fault, f"the agent that runs: {fault}"
        agent = self.memory.newest
        assert agent is not None
        mine = [promise for promise in promises if promise.startswith("agent-saved ")]
        assert all(agent.floor >= int(promise.split(" ")[1]) for promise in mine), f"the floor fell to {agent.floor}"
        self.model.check_promises([promise for promise in promises if not promise.startswith("agent-saved ")])

    def check_end(self, promises: Collection[str]) -> None:
        """At rest: the new agent runs and stays, all reports are true, and nothing half-done lies about."""
        state = self.memory.newest
        assert state is not None
        ended = state.deployment
        assert ended is not None
        assert ended.state == "committed", f"{ended.state} ({ended.reason}) {ended.detail}"
        assert state.floor == 3
        self.check_start(promises)
        assert read_pointer(self.folder) == Pointer(current=self.story.new, previous=self.story.old)
        assert self.slot == self.story.new
        reports = [msgspec.convert(one.header.message, DeploymentReport) for one in self.model.outbox.waiting("reports", 1000)]
        assert (reports[-1].state, reports[-1].running_sha256) == ("committed", self.story.new), reports[-1]
        for report in reports:
            allowed = {self.story.old} if report.state in RUNS_OLD else {self.story.new}
            # The switch is the launcher's: the report of the trial's begin is the old agent's last word.
            allowed |= {self.story.old} if report.state == "trial" else set()
            assert report.kind == "agent"
            assert report.running_sha256 in allowed, f"untrue: {report.state} with {report.running}"
        left = leftovers(self.folder)
        assert left == [], f"left behind: {left}"
        places = {path.name for path in agents_folder(self.folder).iterdir()}
        assert places <= {self.story.old, self.story.new}, f"not collected: {places}"


class ToldMemory(AgentMemory):
    """Says what was saved; ``after_save`` is called then."""

    promise: Callable[[str], None]
    after_save: Callable[[UpdateState], None] = staticmethod(lambda state: None)

    def save(self, state: UpdateState) -> None:
        super().save(state)
        self.after_save(state)
        self.promise(f"agent-saved {state.floor} {'none' if state.deployment is None else state.deployment.state}")


def small_agent(version: str, modules: int) -> dict[str, bytes]:
    """Two small wheels: the agent's own and one that it needs; each with that many modules."""
    own = {f"device_agent/m{n}.py": f"VERSION = {version!r}\n".encode() for n in range(modules)}
    other = {f"needed/m{n}.py": b"ANSWER = 42\n" for n in range(modules)}
    return dict([make_wheel("rookery", version, own), make_wheel("needed", "1.0", other)])


def real_agent(version: str) -> dict[str, bytes]:
    """The agent's own packages of this checkout, and pure Python ones that it needs, as they are installed here."""
    own = {}
    for package in ("device_agent", "ota", "hardware"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                own[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    made = [make_wheel("rookery", version, own)]
    for name in ("tuf", "securesystemslib", "urllib3"):
        found = distribution(name)
        files = {str(one): Path(str(found.locate_file(one))).read_bytes() for one in found.files or ()
                 if one.parts[0] == name and one.suffix != ".pyc"}  # fmt: skip
        made.append(make_wheel(name, found.version, files))
    return dict(made)


def publish(shop: Shop, version: str, wheels: dict[str, bytes], counter: int) -> tuple[AssignedBundle, bytes]:
    """Sign and publish a release of the agent: how an assignment names it, its lock."""
    lock = build_lock({name: hashlib.sha256(data).hexdigest() for name, data in wheels.items()}, ABI)
    files = {LOCK: lock} | {f"wheels/{name}": data for name, data in wheels.items()}
    variant = Variant(id=ABI, abi=ABI, machines=[FACTS.machine], files=sorted(files))
    manifest = encode_manifest(
        Manifest(kind=AGENT_KIND, name="rookery-agent", version=version, channel="stable", counter=counter, min_counter=counter,
                 created_s=1, hardware=["*"], variants=[variant], files={path: shop.put(data) for path, data in files.items()})
    )  # fmt: skip
    bundle = shop.sign(target_path("stable", "rookery-agent", version), manifest, f"rookery-agent@{version}")
    return bundle, lock


def set_up(folder: Path, modules: int = 1, newest: Callable[[str], dict[str, bytes]] | None = None) -> AgentStory:
    """``folder/board`` with two agents installed and one in use, ``folder/shop`` with a third for it, ``folder/story.json``."""
    shop, board = Shop(folder / "shop"), folder / "board"
    (board / "state").mkdir(parents=True)
    digests = []
    for counter in (1, 2, 3):
        version = f"{counter}.0"
        files = newest(version) if newest is not None and counter == 3 else small_agent(version, modules)
        bundle, lock = publish(shop, version, files, counter)
        digests.append(bundle.sha256)
        if counter == 3:
            break
        sources = {}
        for name, data in files.items():
            sources[name] = folder / f"{counter}-{name}"
            sources[name].write_bytes(data)
        build_slot(agents_folder(board), Parts(shop.manifests[bundle.sha256], lock, parse_lock(lock), sources), own_base())
    write_pointer(board, Pointer(current=digests[1], previous=digests[0]))
    story = AgentStory(str(folder / "shop"), *digests, answer_of(shop, None, 1, agent=bundle))
    (folder / "story.json").write_text(json.dumps(vars(story)))
    before = AgentBoard(board, story, now_s=NOW_S - 1000.0)
    assert before.model.trust.refresh() is None
    return story


@contextmanager
def recorded(modules: int = 1, newest: Callable[[str], dict[str, bytes]] | None = None) -> Iterator[tuple[Path, AgentStory]]:
    """A folder with ``log``, ``start`` and ``board`` of one update of the agent."""
    with scratch() as room:
        story = set_up(room, modules, newest)
        shutil.copytree(room / "board", room / "start", symlinks=True)
        run_below("tests.faults.agent_board", room, room / "log")
        yield room, story


def record(folder: Path, log: Path) -> None:
    """One whole update of the agent of ``folder/board``, written down."""
    story, recorder = AgentStory(**json.loads((folder / "story.json").read_text())), Recorder()
    recorder.watch(folder / "board", log)
    board = AgentBoard(folder / "board", story, recorder.mark)
    board.live()
    recorder.mark("end")
    board.check_end([])


if __name__ == "__main__":
    record(*map(Path, sys.argv[1:]))
