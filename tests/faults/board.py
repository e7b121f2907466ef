"""A board whose whole update part is real down to its files: slots, state, history, signed metadata, downloads, outbox.

Held in the hand are only the server (``shop.py``), time, the self-test's answer and what the camera sees. ``promise`` is told of
everything that the code has promised to somebody: what was accepted, saved, verified, put into the outbox.
"""

import hashlib
import json
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from device_agent.adapters_disk import SpoolReports
from device_agent.spool.spool_disk import Outbox
from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.deployment import UpdateState
from device_agent.update.health import HealthWindow, Seen, TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.installed import Installed
from device_agent.update.policy import Policy
from device_agent.update.selftest import SelftestRequest, SelftestResult
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.slots.slots_disk import Slots
from ota.trust.assignment import sign_payload
from ota.trust.client_http import TrustClient
from ota.trust.content_http import Limits
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment, State, StateAnswer
from ota.wire.codec import decode, encode
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts
from tests.faults.shop import METADATA_URL, NOW_S, TARGETS_URL, Pool, Shop

DEVICE, NONCE = "cam-7", "n" * 32
FACTS = BoardFacts(
    profile="rpi-4", board_model="Raspberry Pi 4 Model B", machine="aarch64", memory_bytes=4 * 2**30,
    runtimes={"litert": "2.1"}, python="3.11", agent_version="0.1.0",
)  # fmt: skip
RUNS_OLD = {"offered", "waiting", "downloading", "verifying", "staging", "selftest", "refused", "superseded", "cancelled"}
DOWNLOADS = (("downloads",), ("agent-downloads",))
ROUNDS = 60
"""Of the loop until a deployment must have ended."""


@dataclass(frozen=True)
class Story:
    """What the server wants and what the board will find: in one file, so that any process can go on with it."""

    shop: Path
    factory: str
    previous: str
    old: str
    new: str
    answers: dict[str, str]
    """What the server may answer to a poll: ``new`` is wanted, the same ``again``, a ``newer`` one, nothing (``none``)."""
    blind: bool
    """The new release sees nothing: its trial ends with the old one."""
    newer: str = ""

    def keep(self, path: Path) -> None:
        """Write it down."""
        path.write_text(json.dumps({**vars(self), "shop": str(self.shop)}))

    @staticmethod
    def read(path: Path) -> "Story":
        """The kept one."""
        fields = json.loads(path.read_text())
        return Story(**{**fields, "shop": Path(fields["shop"])})


class _Told(StateFile):
    promise: Callable[[str], None]
    last = UpdateState()
    """What is on the disk."""
    after_save: Callable[[UpdateState], None] = staticmethod(lambda state: None)

    def load(self) -> UpdateState:
        self.last = super().load()
        return self.last

    def save(self, state: UpdateState) -> None:
        super().save(state)
        self.last = state
        self.after_save(state)
        word = "none" if state.deployment is None else state.deployment.state
        self.promise(f"saved {state.floor} {state.seen_seq} {word}")


class _Trusted(TrustClient):
    promise: Callable[[str], None]

    def refresh(self) -> Refusal | None:
        refused = super().refresh()
        if refused is None:
            self.promise(f"metadata {json.dumps(self.versions())}")
        return refused


class _Reports(SpoolReports):
    promise: Callable[[str], None]

    def put(self, report: DeploymentReport) -> None:
        number = self._outbox._next("reports")
        super().put(report)
        if number in self._outbox._known["reports"]:
            self.promise(f"report {number} {report.state}")


class Board:
    """One start of the agent's update part on the files below ``folder``."""

    def __init__(
        self, folder: Path, story: Story, promise: Callable[[str], None] = lambda text: None, now_s: float = NOW_S
    ) -> None:
        self.folder, self.story, self.promise = folder, story, promise
        self.clock_s, self.used = now_s, list[str]()
        self.outbox = Outbox(folder / "spool", max_bytes=10**7, min_free_bytes=0, now=self.now_s, free_bytes=lambda _: 10**9)
        self.slots = Slots(folder / "slots")
        pool = Pool(story.shop)
        self.trust = _Trusted(
            folder / "metadata", metadata_url=METADATA_URL, targets_url=TARGETS_URL, pool=pool,  # type: ignore[arg-type]
            bootstrap_root=(story.shop / "root.json").read_bytes(), reference_time=lambda: NOW_S,
        )  # fmt: skip
        self.memory, self.reports = _Told(folder / "state"), _Reports(self.outbox, lambda: None)
        self.trust.promise = self.memory.promise = self.reports.promise = promise
        self.performer = Performer(
            Bench(
                trust=self.trust, content=PoolContent(pool, TARGETS_URL, Limits(attempts=1)), slots=self.slots,  # type: ignore[arg-type]
                models=self, board=self, policy=Policy(), clock=self, selftest=self.selftest, folder=folder / "downloads",
                inhibit=folder / "inhibit",
            )
        )  # fmt: skip
        self.updater = Updater(
            DEVICE, memory=self.memory, actions=self.performer, trust=self.trust, clock=self, reports=self.reports,
            watch=TrialWatch(HistoryFile(folder / "history"), TrialLimits()),
        )  # fmt: skip

    # -- what the code asks of the board ------------------------------------------------------------------------------------

    def now_s(self) -> float:
        return self.clock_s

    def steady_s(self) -> float:
        return self.clock_s - NOW_S + 100.0

    def facts(self) -> BoardFacts:
        return FACTS

    def temperature_c(self) -> float | None:
        return 50.0

    def use(self, installed: Installed) -> Refusal | None:
        assert installed.model.is_file()
        self.used.append(installed.sha256)
        return None

    def selftest(self, request: SelftestRequest, *, should_stop: Callable[[], bool]) -> SelftestResult | Refusal:
        model = Path(request.model).read_bytes()
        if (self.folder.parent / "fails-its-test").exists():
            return SelftestResult(code="acceptance", detail="AP50 0.03")
        if not model.startswith(b"model of "):
            return Refusal("model", f"the self-test read {model[:20]!r}")
        return SelftestResult(figures={"parity_pairs": 12.0}, latency_ms=20.0, parity_reference="float32", acceptance="yard")

    # -- what happens to it -------------------------------------------------------------------------------------------------

    def poll(self, which: str = "new") -> Refusal | None:
        """The server's answer to the next poll: what it wants, which the board may know already. The refusal, if any."""
        judged = self.updater.poll_answer(decode(StateAnswer, self.story.answers[which].encode()), NONCE)
        return judged if isinstance(judged, Refusal) else None

    def see(self, gated: float, found: float) -> None:
        """Ten seconds pass, with motion and detections in them."""
        self.clock_s += 10.0
        self.updater.on_window(HealthWindow(10.0, {"bright": Seen(gated, found)}, fps=10.0, camera_fps=15.0, latency_ms=20.0))

    def step(self) -> bool:
        """One round of the agent's life; True once its deployment has ended and everything that belongs to the end is done."""
        self.clock_s += 10.0
        self.updater.tick()
        deployment = self.memory.last.deployment
        if deployment is not None and deployment.settled:
            return True
        if self.updater.status.state == "trial":
            self.see(60.0, 0.0 if self.story.blind else 50.0)
        return False

    def live(self) -> None:
        """Until the deployment has ended."""
        for _ in range(ROUNDS):
            if self.step():
                return
        raise AssertionError(f"the deployment did not end: {self.updater.status}")

    # -- what must hold -----------------------------------------------------------------------------------------------------

    def check_start(self, promises: Collection[str]) -> None:
        """At every start: a whole model runs, the factory's is there, and everything that was promised is kept."""
        self.check_runnable()
        self.check_promises(promises)

    def check_promises(self, promises: Collection[str]) -> None:
        """Floors have not fallen, what was seen and reported is still there."""
        state, versions = self.memory.last, self.trust.versions()
        waiting = {one.header.sequence: one.header.message["state"] for one in self.outbox.waiting("reports", 1000)}
        for promise in promises:
            word, _, said = promise.partition(" ")
            if word == "saved":
                floor, seq, _ = said.split(" ")
                assert state.floor >= int(floor), f"the floor fell from {floor} to {state.floor}"
                assert state.seen_seq >= int(seq), f"assignment {seq} was seen, now {state.seen_seq}"
            elif word == "metadata":
                for role, version in json.loads(said).items():
                    assert versions.get(role, 0) >= version, f"{role} fell from {version} to {versions.get(role)}"
            elif word == "report":
                number, name = said.split(" ")
                assert waiting.get(int(number)) == name, f"report {number} ({name}) is lost: {waiting}"

    def check_runnable(self) -> None:
        """The release that runs is the old one or the new one, and whole; so is the factory's."""
        story = self.story
        running, current, factory = self.performer.running(), self.slots.current(), self.slots.factory()
        assert running is not None, "the board has no runnable model"
        assert current is not None, "the pointer is lost"
        assert running.sha256 == current.sha256, "what runs is not what the pointer says"
        assert running.sha256 in (story.old, story.new, story.newer), f"{running.release} runs"
        assert self.slots.verify(running.sha256) == []
        assert factory is not None, "the factory's release is lost"
        assert factory.sha256 == story.factory
        assert self.slots.verify(story.factory) == []

    def check_end(self, promises: Collection[str]) -> None:
        """At rest: the release that should run runs, all reports are true, and nothing half-done lies about."""
        story = self.story
        self.check_rest("rolled_back" if story.blind else "committed", story.old if story.blind else story.new, promises)
        assert self.memory.last.floor == (0 if story.blind else 4)

    def check_rest(self, ended: str, runs: str, promises: Collection[str]) -> None:
        """The same for any end."""
        story, deployment = self.story, self.memory.last.deployment
        assert deployment is not None
        assert deployment.settled
        assert deployment.state == ended, f"{deployment.state} ({deployment.reason}) {deployment.detail}"
        self.check_start(promises)
        current = self.slots.current()
        assert current is not None
        assert current.sha256 == runs
        reports = [msgspec.convert(one.header.message, DeploymentReport) for one in self.outbox.waiting("reports", 1000)]
        assert (reports[-1].state, reports[-1].running_sha256) == (ended, runs), f"the last report is {reports[-1]}"
        for report in reports:
            expected = story.old if report.state in RUNS_OLD | {"rolled_back"} else report.target_sha256
            assert report.running_sha256 == expected, f"untrue: {report.state} with {report.running}"
        assert [one.header.sequence for one in self.outbox.waiting("reports", 1000)] == list(range(1, len(reports) + 1))
        left = leftovers(self.folder)
        assert left == [], f"left behind: {left}"
        places = {path.name for path in (self.folder / "slots").iterdir() if path.is_dir()}
        assert places <= {story.factory, story.previous if runs == story.old else story.old, runs}, f"not collected: {places}"


def leftovers(folder: Path) -> list[str]:
    """Whatever is half-done or no longer wanted on a board at rest."""
    begun, ends, found = (".new-", ".staging-", ".trash-", ".unpacking-"), (".part", ".unreadable"), []
    for where, names, files in os.walk(folder):
        downloaded = files if Path(where).relative_to(folder).parts[:1] in DOWNLOADS else []
        found += [f"{where}/{name}" for name in (*names, *files) if name.endswith(ends) or name.startswith(begun)]
        found += [f"{where}/{name}" for name in downloaded]
    return sorted(path.removeprefix(f"{folder}/") for path in found)


def set_up(folder: Path, *, blind: bool = False) -> Story:
    """``folder/board`` with three releases on it and a history, ``folder/shop`` with a fourth for it, ``folder/story.json``."""
    shop, board = Shop(folder / "shop"), folder / "board"
    slots, places = Slots(board / "slots"), []
    for number in (1, 2, 3):
        bundle, manifest, files = shop.publish(str(number), counter=number)
        sources = {}
        for path, data in files.items():
            sources[path] = folder / hashlib.sha256(data).hexdigest()
            sources[path].write_bytes(data)
        slots.stage(manifest, sources)
        places.append(bundle.sha256)
    slots.set_factory(places[0])
    slots.switch(places[1])
    slots.switch(places[2])
    # The board has seen the metadata of release 3; release 4 comes after.
    story = Story(folder / "shop", places[0], places[1], places[2], "", {}, blind)
    before = Board(board, story, now_s=NOW_S - 1000.0)
    assert before.trust.refresh() is None
    for _ in range(10):
        before.see(50.0, 42.0)
    before.updater.stop()
    bundle, _, files = shop.publish("4", counter=4)
    newer, _, _ = shop.publish("5", counter=5)
    if not blind:  # an earlier attempt broke off in the middle of the model
        model, begun = files["model.tflite"], board / "downloads" / "files"
        begun.mkdir(parents=True)
        (begun / f"{hashlib.sha256(model).hexdigest()}.part").write_bytes(model[:40])
    answers = {"new": answer_of(shop, bundle, 1), "again": answer_of(shop, bundle, 2), "newer": answer_of(shop, newer, 3),
               "none": answer_of(shop, None, 3)}  # fmt: skip
    story = Story(folder / "shop", places[0], places[1], places[2], bundle.sha256, answers, blind, newer.sha256)
    story.keep(folder / "story.json")
    return story


def answer_of(shop: Shop, bundle: AssignedBundle | None, seq: int, agent: AssignedBundle | None = None) -> str:
    """A signed answer of the server."""
    signer = shop.repository.assignment_signer()
    assignment = Assignment(device=DEVICE, seq=seq, bundle=bundle, agent=agent, issued_s=NOW_S, expires_s=NOW_S + 86400.0)
    signed = sign_payload(assignment, signer)
    digest = hashlib.sha256(signed.payload.encode()).hexdigest()
    state = sign_payload(State(device=DEVICE, nonce=NONCE, now_s=NOW_S, seq=seq, digest=digest, poll_s=5.0), signer)
    return encode(StateAnswer(state=state, assignment=signed)).decode()
