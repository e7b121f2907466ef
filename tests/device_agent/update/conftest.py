"""A board for the tests of updates: real slots, state, history and files; the server, the model and time are held in the hand."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.health import HealthWindow, Seen, TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.hooks_process import Hooks
from device_agent.update.installed import Installed
from device_agent.update.policy import Policy
from device_agent.update.selftest import SelftestRequest, SelftestResult
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.bundle.manifest import AcceptanceSet, Budget, FileEntry, Golden, Manifest, Variant, encode_manifest, target_path
from ota.slots.slots_disk import Slots
from ota.trust.assignment import sign_payload
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.refusal import Refusal
from ota.wire.assignments import AssignedBundle, Assignment, Signed, State, StateAnswer
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts

DEVICE = "cam-7"
NONCE = "n" * 32
FACTS = BoardFacts(
    profile="rpi-4", board_model="Raspberry Pi 4 Model B", machine="aarch64", memory_bytes=4 * 2**30,
    runtimes={"litert": "2.1"}, python="3.11", agent_version="0.1.0",
)  # fmt: skip
PICTURE = b"one labelled picture"
ACCEPTANCE = json.dumps(
    {
        "v": 1,
        "name": "yard-day-and-night",
        "min_ap50": 0.7,
        "images": [
            {
                "file": "a.jpg",
                "sha256": hashlib.sha256(PICTURE).hexdigest(),
                "objects": [{"label": "person", "bbox": [1, 2, 3, 4]}],
            }
        ],
    }
).encode()
ACCEPTANCE_SHA256 = hashlib.sha256(ACCEPTANCE).hexdigest()


class PowerCut(BaseException):
    """The board goes dark: nothing after this line happens."""


@dataclass
class Hands:
    """The server and the board as the tests hold them: what is published, what refuses, what ran, what was reported."""

    documents: dict[str, bytes] = field(default_factory=dict)
    content: dict[str, bytes] = field(default_factory=dict)
    refuse: dict[str, Refusal] = field(default_factory=dict)
    """refresh, use, or the sha256 of a content file -> refusal."""
    fetched: list[str] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    reports: list[DeploymentReport] = field(default_factory=list)
    cut_at: Callable[[str], bool] = lambda what: False
    now_s: float = 1_800_000_000.0
    steady: float = 100.0
    selftest: SelftestResult | Refusal = field(default_factory=lambda: SelftestResult(
        figures={"parity_pairs": 12.0, "acceptance_ap50": 0.9}, latency_ms=20.0, parity_reference="float32", acceptance="yard"))
    asked: SelftestRequest | None = None
    during_selftest: Callable[[], None] = lambda: None
    facts_now: BoardFacts = FACTS
    temperature: float | None = 50.0
    memory_bytes: int | None = None

    def at(self, what: str) -> None:
        if self.cut_at(what):
            raise PowerCut(what)

    # clock
    def now(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        self.steady += seconds


@dataclass
class Target:
    path: str
    sha256: str
    length_bytes: int


class HandTrust:
    """Signed metadata whose truth is the test's own dictionary."""

    def __init__(self, hands: Hands, keys: Mapping[str, object]) -> None:
        self.hands, self.keys = hands, keys

    def refresh(self) -> Refusal | None:
        self.hands.at("refresh")
        return self.hands.refuse.get("refresh")

    def find(self, path: str) -> Target | Refusal:
        data = self.hands.documents.get(path)
        if data is None:
            return Refusal("mismatch", f"{path} is not (or no longer) in the signed metadata")
        return Target(path, hashlib.sha256(data).hexdigest(), len(data))

    def manifest(self, path: str, expected_sha256: str, expected_length: int | None = None) -> bytes | Refusal:
        return self.hands.documents[path]

    def assignment_keys(self):
        return self.keys


class HandContent:
    def __init__(self, hands: Hands) -> None:
        self.hands = hands

    def fetch(self, sha256: str, length_bytes: int | None, destination: Path, should_stop: Callable[[], bool]) -> Refusal | None:
        self.hands.at("fetch")
        self.hands.fetched.append(sha256)
        refused = self.hands.refuse.get(sha256) or self.hands.refuse.get("content")
        if refused is not None:
            return refused
        data = self.hands.content[sha256]
        if hashlib.sha256(data).hexdigest() != sha256:
            return Refusal("hash", "what came is not what was signed")
        destination.parent.mkdir(parents=True, exist_ok=True)
        destination.write_bytes(data)
        return None


class HandBoard:
    """Board, models, reports and clock in one."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands

    def facts(self) -> BoardFacts:
        return self.hands.facts_now

    def temperature_c(self) -> float | None:
        return self.hands.temperature

    def now_s(self) -> float:
        return self.hands.now_s

    def steady_s(self) -> float:
        return self.hands.steady

    def use(self, installed: Installed) -> Refusal | None:
        self.hands.at("use")
        refused = self.hands.refuse.get("use")
        if refused is None or self.hands.used:
            self.hands.used.append(installed.release)
        return refused

    def put(self, report: DeploymentReport) -> None:
        self.hands.at(f"report-{report.state}")
        self.hands.reports.append(report)

    def selftest(self, request: SelftestRequest, *, should_stop: Callable[[], bool]) -> SelftestResult | Refusal:
        self.hands.at("selftest")
        self.hands.during_selftest()
        self.hands.asked = request
        return self.hands.selftest


class CuttingState(StateFile):
    """The real file, with a power cut before or after any write."""

    def __init__(self, folder: Path, hands: Hands) -> None:
        super().__init__(folder)
        self.hands = hands

    def save(self, state) -> None:
        name = "none" if state.deployment is None else state.deployment.state
        self.hands.at(f"before-save-{name}")
        super().save(state)
        self.hands.at(f"after-save-{name}")


class CuttingSlots(Slots):
    hands: Hands

    def switch(self, sha256: str) -> None:
        self.hands.at("before-switch")
        super().switch(sha256)
        self.hands.at("after-switch")

    def roll_back(self, from_sha256: str | None = None):
        self.hands.at("before-roll-back")
        info = super().roll_back(from_sha256)
        self.hands.at("after-roll-back")
        return info

    def stage(self, manifest_bytes: bytes, files: Mapping[str, Path], packed=()) -> Path:
        self.hands.at("before-stage")
        place = super().stage(manifest_bytes, files, packed)
        self.hands.at("after-stage")
        return place


class World:
    """One board with release 1 from the factory, and a server that publishes more."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hands = folder, Hands()
        generate_key(folder / "key.pem", None)
        self.signer = load_signer(folder / "key.pem", None)
        self.keys = {self.signer.public_key.keyid: self.signer.public_key}
        self.policy = Policy()
        self.limits = TrialLimits()
        self.seq = 0
        self.inbox = None
        self.slots = CuttingSlots(folder / "slots")
        self.slots.hands = self.hands
        first = self.publish("1", counter=1)
        manifest = self.hands.documents[first.path]
        sources = {}
        for path in ("model.tflite", "card.toml", "parity.json"):
            source = folder / f"factory-{path}"
            source.write_bytes(f"{path} of 1".encode())
            sources[path] = source
        Slots.stage(self.slots, manifest, sources)
        self.slots.set_factory(first.sha256)
        self.updater = self.restart()

    def restart(self) -> Updater:
        """The agent starts (again): everything that is not on the disk is gone."""
        board = HandBoard(self.hands)
        trust = HandTrust(self.hands, self.keys)
        self.performer = Performer(
            Bench(
                trust=trust, content=HandContent(self.hands), slots=self.slots, models=board, board=board, policy=self.policy,
                clock=board, selftest=board.selftest, folder=self.folder / "downloads", inhibit=self.folder / "inhibit",
                memory_bytes=lambda: self.hands.memory_bytes, hooks=Hooks(self.folder / "hooks"), inbox=self.inbox,
            )
        )  # fmt: skip
        self.watch = TrialWatch(HistoryFile(self.folder / "history"), self.limits)
        self.updater = Updater(
            DEVICE, memory=CuttingState(self.folder / "state", self.hands), actions=self.performer, trust=trust, clock=board,
            reports=board, watch=self.watch,
        )  # fmt: skip
        if self.inbox is not None:
            self.updater.take_from(self.inbox.next)
        return self.updater

    def publish(self, version: str, *, counter: int = 2, min_counter: int = 0, channel: str = "stable", **how) -> AssignedBundle:
        contents = {path: f"{path} of {version}".encode() for path in ("model.tflite", "card.toml", "parity.json")}
        extra = f"tpu of {version}".encode()
        everything = {**contents, "tpu.tflite": extra}
        everything |= how.get("files", {})
        entries = {p: FileEntry(sha256=hashlib.sha256(d).hexdigest(), length_bytes=len(d)) for p, d in everything.items()}
        entries |= how.get("entries", {})
        for data in [*everything.values(), PICTURE]:
            self.hands.content[hashlib.sha256(data).hexdigest()] = data
        acceptance = f"{channel}/acceptance/1/acceptance.json"
        self.hands.documents[acceptance] = ACCEPTANCE
        common = {"machines": [], "card": "card.toml"}
        variants = [
            Variant(id="tpu", accelerator="edgetpu", runtimes=["litert"], model="tpu.tflite",
                    files=["tpu.tflite", "card.toml", "parity.json"], **common),
            Variant(id="cpu-int8", accelerator="cpu", runtimes=["litert"], model="model.tflite",
                    files=["model.tflite", "card.toml", "parity.json"], **common),
        ]  # fmt: skip
        manifest = Manifest(
            name="yard", version=version, channel=channel, counter=counter, min_counter=min_counter, created_s=1,
            hardware=how.get("hardware", ["*"]), variants=how.get("variants", variants), files=entries,
            golden=Golden(parity="parity.json", acceptance=AcceptanceSet(path=acceptance, sha256=ACCEPTANCE_SHA256)),
            budget=how.get("budget", Budget()),
        )  # fmt: skip
        data = encode_manifest(manifest)
        path = target_path(channel, "yard", version)
        self.hands.documents[path] = data
        sha256 = hashlib.sha256(data).hexdigest()
        return AssignedBundle(path=path, sha256=sha256, length_bytes=len(data), channel=channel, release=f"yard@{version}")

    def answer(
        self, bundle: AssignedBundle | None, *, seq: int | None = None, nonce: str = NONCE, device: str = DEVICE, **how
    ) -> StateAnswer:
        """A signed answer with an assignment; ``seq`` rises by itself."""
        if seq is None:
            self.seq += 1
            seq = self.seq
        fields = {"issued_s": self.hands.now_s, "expires_s": self.hands.now_s + 7200.0, **how}
        signed = sign_payload(Assignment(device=device, seq=seq, bundle=bundle, **fields), self.signer)
        digest = hashlib.sha256(signed.payload.encode()).hexdigest()
        return StateAnswer(state=self.state(seq, digest, nonce, device), assignment=signed)

    def state(self, seq: int, digest: str, nonce: str = NONCE, device: str = DEVICE) -> Signed:
        state = State(device=device, nonce=nonce, now_s=self.hands.now_s, seq=seq, digest=digest, poll_s=5.0)
        return sign_payload(state, self.signer)

    def assign(self, bundle: AssignedBundle | None, **how):
        return self.updater.poll_answer(self.answer(bundle, **how), NONCE)

    def see(self, seconds: float = 10.0, **light: tuple[float, float]) -> None:
        """Time passes and the pipeline counts: ``dark=(gated, found)`` and so on."""
        self.hands.pass_s(seconds)
        seen = {word: Seen(*counts) for word, counts in light.items()}
        self.updater.on_window(HealthWindow(seconds, seen, fps=10.0, camera_fps=15.0, latency_ms=20.0))

    def ticks(self, count: int = 1, seconds: float = 1.0) -> None:
        for _ in range(count):
            self.hands.pass_s(seconds)
            self.updater.tick()

    def runs(self) -> str:
        """The release that would run after a restart; fails the test when there is none."""
        found = self.performer.running()
        assert found is not None, "the board has no runnable model"
        assert found.model.is_file()
        return found.release

    def states(self) -> list[str]:
        return [report.state for report in self.hands.reports]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
