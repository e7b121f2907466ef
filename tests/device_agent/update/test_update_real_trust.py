"""Nothing held in the hand: real TUF metadata and content over HTTP, the real model in the real self-test child, real slots."""

import functools
import hashlib
import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.health import TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.policy import Policy
from device_agent.update.selftest_process import run_selftest
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from models.golden import parse_acceptance
from ota.bundle.manifest import AcceptanceSet, FileEntry, Golden, Manifest, Variant, encode_manifest, target_path
from ota.slots.slots_disk import Slots
from ota.trust import roles
from ota.trust.client_http import TrustClient
from ota.trust.content_http import Limits
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.repository_disk import Repository
from ota.wire.assignments import AssignedBundle
from tests.fakes import spoiled_models as spoiled

RENDERED = Path(__file__).resolve().parents[3] / "models" / "rendered"
ACCEPTANCE_PATH = "stable/acceptance/1/acceptance.json"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


class Server:
    """The server's repository with one channel, and a person with the offline keys."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now_s = folder, float(int(time.time()))
        self.repository = Repository(folder / "tuf", folder / "keys", lambda: self.now_s)
        self.signers = {}
        for name in ("root", "targets", "stable"):
            generate_key(folder / f"{name}.pem", None)
            self.signers[name] = load_signer(folder / f"{name}.pem", None)
        online = self.repository.online_keys()
        keys = {name: [self.signers[name].public_key] for name in ("root", "targets")}
        keys |= {name: [online[name]] for name in ("snapshot", "timestamp")}
        self.root = roles.new_root(keys, {}, self.now_s + 1e6)
        channel = roles.ChannelKeys([self.signers["stable"].public_key])
        targets = roles.new_targets({"stable": channel}, [online["assignment"]], self.now_s + 1e6)
        roles.sign(self.root, self.signers["root"])
        roles.sign(targets, self.signers["targets"])
        assert self.repository.initialise(self.root.to_bytes(), targets.to_bytes()) is None
        self.channel = roles.new_channel(self.now_s + 1e6)

    def put(self, data: bytes) -> FileEntry:
        digest = hashlib.sha256(data).hexdigest()
        self.repository.put_content(digest, io.BytesIO(data))
        return FileEntry(sha256=digest, length_bytes=len(data))

    def publish(self, version: str, model: bytes) -> AssignedBundle:
        """A release of the yard model, with the channel's acceptance set."""
        card = (RENDERED / "releases" / "yard-1" / "card.toml").read_bytes()
        acceptance = (RENDERED / "acceptance" / "acceptance.json").read_bytes()
        for image in parse_acceptance(acceptance).images:
            self.put((RENDERED / "acceptance" / image.file).read_bytes())
        variant = Variant(id="cpu-int8", accelerator="cpu", runtimes=["litert"], model="model.tflite", card="card.toml",
                          files=["model.tflite", "card.toml"])  # fmt: skip
        named = AcceptanceSet(path=ACCEPTANCE_PATH, sha256=hashlib.sha256(acceptance).hexdigest())
        manifest = encode_manifest(
            Manifest(name="yard", version=version, channel="stable", counter=2, created_s=1, hardware=["*"], variants=[variant],
                     files={"model.tflite": self.put(model), "card.toml": self.put(card)}, golden=Golden(acceptance=named))
        )  # fmt: skip
        path = target_path("stable", "yard", version)
        self.channel = roles.add_acceptance(self.channel, ACCEPTANCE_PATH, acceptance)
        self.channel = roles.add_release(self.channel, path, manifest)
        roles.sign(self.channel, self.signers["stable"])
        published = self.repository.publish_channel("stable", self.channel.to_bytes(), [manifest, acceptance])
        assert isinstance(published, list), published
        sha256 = hashlib.sha256(manifest).hexdigest()
        return AssignedBundle(path=path, sha256=sha256, length_bytes=len(manifest), channel="stable", release=f"yard@{version}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Server, str]]:
    behind = Server(tmp_path / "server")
    handler = functools.partial(Quiet, directory=str(behind.folder / "tuf"))
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behind, f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()
    thread.join()


def board(world, behind: Server, url: str) -> None:
    """The world's board, its trust and content exchanged for the real ones."""
    hand = world.performer._bench
    pool = urllib3.PoolManager()
    trust = TrustClient(
        world.folder / "tuf-client", metadata_url=f"{url}/metadata", targets_url=f"{url}/targets", pool=pool,
        bootstrap_root=behind.root.to_bytes(), reference_time=lambda: behind.now_s,
    )  # fmt: skip
    content = PoolContent(pool, f"{url}/targets", Limits(attempts=1))
    world.hands.now_s = behind.now_s
    performer = Performer(
        Bench(trust=trust, content=content, slots=Slots(world.folder / "slots"), models=hand.models, board=hand.board,
              policy=Policy(), clock=hand.clock, selftest=run_selftest, folder=world.folder / "downloads",
              inhibit=world.folder / "inhibit")
    )  # fmt: skip
    world.performer = performer
    world.updater = Updater(
        "cam-7", memory=StateFile(world.folder / "state"), actions=performer, trust=trust, clock=hand.clock, reports=hand.board,
        watch=TrialWatch(HistoryFile(world.folder / "history"), TrialLimits()),
    )  # fmt: skip
    world.signer = behind.repository.assignment_signer()


def test_a_real_release_over_real_metadata_reaches_its_trial_and_commits(world, server) -> None:
    behind, url = server
    board(world, behind, url)
    world.assign(behind.publish("2", (RENDERED / "releases" / "yard-1" / "model_int8.tflite").read_bytes()))
    world.ticks()
    assert world.states() == ["offered", "downloading", "verifying", "staging", "selftest", "trial"], world.hands.reports[-1]
    world.see(3.0, bright=(60.0, 50.0))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, world.runs()) == ("committed", "yard@2")
    assert last.figures["acceptance_ap50"] >= last.figures["acceptance_min_ap50"]


@pytest.mark.parametrize(("what", "code"), [("content", "hash"), ("metadata", "signature")])
def test_one_byte_flipped_in_the_servers_own_store_after_publication(world, server, what: str, code: str) -> None:
    """Somebody with the server's disk in his hands: no device installs it, and each says why."""
    behind, url = server
    board(world, behind, url)
    model = (RENDERED / "releases" / "yard-1" / "model_int8.tflite").read_bytes()
    bundle = behind.publish("2", model)
    tuf = behind.folder / "tuf"
    if what == "content":
        victim = tuf / "targets" / "files" / hashlib.sha256(model).hexdigest()
    else:
        victim = max((tuf / "metadata").glob("*.stable.json"))
    data = bytearray(victim.read_bytes())
    at = data.index(b"sha256") + 12 if what == "metadata" else len(data) // 2
    data[at] ^= 1
    victim.chmod(0o644)
    victim.write_bytes(data)
    world.assign(bundle)
    world.ticks(10)
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", code, "yard@1")
    assert world.runs() == "yard@1"


def test_a_model_cut_in_half_before_it_was_signed_is_refused_by_the_board(world, server) -> None:
    behind, url = server
    board(world, behind, url)
    model = (RENDERED / "releases" / "yard-1" / "model_int8.tflite").read_bytes()
    world.assign(behind.publish("2", model[: len(model) // 2]))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", "model", "yard@1")


@pytest.mark.parametrize(
    "change", [spoiled.classes_turned, spoiled.boxes_shifted(12.0), spoiled.one_scale_for_all, spoiled.coarse(2)],
    ids=["label map", "boxes", "scales", "two bits"],
)  # fmt: skip
def test_a_spoiled_model_that_people_signed_never_gets_to_its_switch(world, server, change) -> None:
    """Converted wrongly, not noticed, rightly signed and fetched: the board's own self-test says no, what ran goes on."""
    behind, url = server
    board(world, behind, url)
    model = (RENDERED / "releases" / "yard-1" / "model_int8.tflite").read_bytes()
    before = world.slots.pointers()
    world.assign(behind.publish("2", spoiled.spoil(model, change)))
    world.ticks()
    last = world.hands.reports[-1]
    assert (last.state, last.reason, last.running) == ("refused", "acceptance", "yard@1")
    assert "selftest" in world.states()
    assert "trial" not in world.states()
    assert world.slots.pointers() == before
