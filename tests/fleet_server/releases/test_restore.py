"""A server restored from yesterday's copy, real files and database: its devices know more than it does, and it comes back."""

import hashlib
import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from werkzeug.serving import make_server

from fleet_server.accounts import service as accounts
from fleet_server.app import create_device_app, create_operator_app, load_tables
from fleet_server.check_disk import check
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.ingest.conditions_disk import gather
from fleet_server.ingest.worker import Worker
from fleet_server.inventory import service as inventory
from fleet_server.releases import seen
from fleet_server.releases import service as releases
from fleet_server.releases.published_disk import published_channels
from fleet_server.restored_disk import reconcile
from fleet_server.rollouts import service as rollouts
from fleet_server.rollouts.orders import Order, Timing
from fleet_server.rollouts.targets import set_target, target
from fleet_server.settings import Settings
from ota.bundle.manifest import FileEntry, Manifest, Variant, encode_manifest, target_path
from ota.trust.assignment import verify_payload
from ota.trust.client_http import TrustClient
from ota.trust.key_types import CryptoSigner
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository
from ota.trust.roles import ChannelKeys, add_release, new_channel, new_root, new_targets, parse_metadata, sign
from ota.wire import codec
from ota.wire.assignments import Assignment, StateAnswer, StateRequest
from ota.wire.topics import BUNDLES, METADATA, STATE

DAY_S = 86_400.0


class Clocks:
    """One time for all, moved by the test. It begins now: the verbs of the server ask the system's clock."""

    def __init__(self) -> None:
        self.now_s = float(int(time.time()))

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Server:
    """A data folder with a server over it, which can be saved and put back."""

    data: Path
    clock: Clocks
    context: Context = field(init=False)
    certificate: bytes | None = None

    def open(self, make_context: Callable[..., Context]) -> None:
        load_tables()
        database = Database(f"sqlite:///{self.data / 'server.sqlite3'}")
        database.create_all()
        repository = Repository(self.data / "tuf", self.data / "keys", self.clock)
        settings = Settings(data_dir=self.data, database_url=f"sqlite:///{self.data / 'server.sqlite3'}")
        made = make_context(settings, database, self.clock, repository)
        self.context = replace(made, signer=repository.assignment_signer(), certificate_of=lambda _environ: self.certificate)

    def save(self, copy: Path) -> None:
        """As docs/operations.md says: with the server stopped, all of its folder."""
        self.context.database.dispose()
        shutil.copytree(self.data, copy)

    def put_back(self, copy: Path, make_context: Callable[..., Context]) -> None:
        self.context.database.dispose()
        shutil.rmtree(self.data)
        shutil.copytree(copy, self.data)
        self.open(make_context)


@dataclass
class Device:
    """Polls like a board, and installs what it is told: its trust is the real client over real HTTP."""

    server: Server
    trust: TrustClient
    seq: int = 0
    digest: str | None = None
    running: str | None = None
    installed: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def poll(self) -> Assignment | None:
        asked = StateRequest(nonce="n" * 16, seq=self.seq, digest=self.digest, metadata_versions=self.trust.versions())
        client = create_device_app(self.server.context).test_client()
        answer = client.post(STATE, data=codec.encode(asked), content_type="application/json")
        assert answer.status_code == 200, answer.data
        found = codec.decode(StateAnswer, answer.data)
        if found.assignment is None:
            return None
        payload = verify_payload(found.assignment, self.trust.assignment_keys() or self._first_keys())
        assignment = codec.decode(Assignment, payload.encode())
        assert assignment.seq > self.seq, "a device never follows an older word"
        self.seq, self.digest = assignment.seq, hashlib.sha256(payload.encode()).hexdigest()
        if assignment.bundle is not None and assignment.bundle.sha256 != self.running:
            self._install(assignment)
        return assignment

    def _first_keys(self) -> Any:
        assert self.trust.refresh() is None
        return self.trust.assignment_keys()

    def _install(self, assignment: Assignment) -> None:
        bundle = assignment.bundle
        assert bundle is not None
        got = self.trust.refresh() or self.trust.manifest(bundle.path, bundle.sha256, bundle.length_bytes)
        if isinstance(got, Refusal):
            self.refused.append(got)
            return
        self.running = bundle.sha256
        self.installed.append(bundle.release)


class Releaser:
    """The offline keys, and what was ever signed with them."""

    def __init__(self, clock: Clocks) -> None:
        self.clock, self.root, self.release = clock, CryptoSigner.generate_ecdsa(), CryptoSigner.generate_ecdsa()
        self.root_bytes = b""
        self.channel: Any = None
        self.pushed: list[tuple[bytes, bytes]] = []

    def begin(self, repository: Repository) -> None:
        online = repository.online_keys()
        keys = {"root": [self.root.public_key], "targets": [self.root.public_key],
                "snapshot": [online["snapshot"]], "timestamp": [online["timestamp"]]}  # fmt: skip
        root = new_root(keys, {}, self.clock() + 365 * DAY_S)
        targets = new_targets(
            {"stable": ChannelKeys([self.release.public_key])}, [online["assignment"]], self.clock() + 300 * DAY_S
        )
        for metadata in (root, targets):
            sign(metadata, self.root)
        self.root_bytes = root.to_bytes()
        assert repository.initialise(self.root_bytes, targets.to_bytes()) is None

    def make(self, version: str) -> None:
        """Sign one more release into the channel; ``push`` brings it to a server."""
        files = {name: f"{name} of {version}".encode() for name in ("m.tflite", "c.toml")}
        manifest = encode_manifest(Manifest(
            name="yard", version=version, channel="stable", counter=int(version), created_s=1_700_000_000, hardware=["*"],
            variants=[Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="m.tflite", card="c.toml", files=[*files])],
            files={at: FileEntry(sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data)) for at, data in files.items()},
        ))  # fmt: skip
        before = new_channel(self.clock() + 60 * DAY_S) if self.channel is None else self.channel
        self.channel = add_release(before, target_path("stable", "yard", version), manifest, self.clock() + 60 * DAY_S)
        sign(self.channel, self.release)
        self.pushed.append((self.channel.to_bytes(), manifest))

    def push(self, server: Server, index: int = -1) -> Any:
        metadata, manifest = self.pushed[index]
        repository = server.context.repository
        version = json.loads(manifest)["version"]
        for name in ("m.tflite", "c.toml"):
            data = f"{name} of {version}".encode()
            repository.put_content(hashlib.sha256(data).hexdigest(), io.BytesIO(data))
        with server.context.database.read() as session:
            newest = seen.believed_version(session, "stable", repository.versions())
        outcome = repository.publish_channel("stable", metadata, [one[1] for one in self.pushed], seen=newest)
        with server.context.database.write() as session:
            releases.take_over(session, published_channels(repository, server.data), self.clock())
        return outcome


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def make_context_of() -> Callable[..., Context]:
    from tests.fleet_server.conftest import make_context

    return make_context


@pytest.fixture
def server(tmp_path: Path, clocks: Clocks, make_context_of: Any, new_board: Any) -> Iterator[Server]:
    """A server with one enrolled device."""
    made = Server(tmp_path / "data", clocks)
    made.data.mkdir()
    made.open(make_context_of)
    issuer = enrolment.Issuer(authority_x509.prepare(made.data / "pki", ["localhost"], clocks()), 90)
    with made.context.database.write() as session:
        claim = enrolment.make_claims(session, count=1, terms=enrolment.ClaimTerms(), ttl_s=60, who="t", now_s=clocks())[0]
        outcome = enrolment.enrol(session, new_board().request(claim.token), issuer, origin="", now_s=clocks())
    made.certificate = x509.load_pem_x509_certificate(outcome.certificate_pem.encode()).public_bytes(Encoding.DER)
    yield made
    made.context.database.dispose()


@pytest.fixture
def releaser(server: Server, clocks: Clocks) -> Releaser:
    made = Releaser(clocks)
    made.begin(server.context.repository)
    made.make("1")
    assert not isinstance(made.push(server), Refusal)
    return made


@pytest.fixture
def device(server: Server, releaser: Releaser, clocks: Clocks, tmp_path: Path) -> Iterator[Device]:
    """A board whose trust client asks the server's device door over HTTP, whatever server stands there at the moment."""
    http = make_server("127.0.0.1", 0, lambda environ, start: create_device_app(server.context)(environ, start), threaded=False)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{http.server_port}"
    trust = TrustClient(
        tmp_path / "board", metadata_url=url + METADATA, targets_url=url + BUNDLES, pool=urllib3.PoolManager(),
        bootstrap_root=releaser.root_bytes, reference_time=clocks,
    )  # fmt: skip
    yield Device(server, trust)
    http.shutdown()
    http.server_close()
    thread.join()


def aim(server: Server, device_release: str) -> None:
    with server.context.database.write() as session:
        (found,) = _ids(session)
        set_target(session, found, device_release, source="rollout:r", now_s=server.clock())


def _ids(session: Any) -> list[str]:
    return list(inventory.presences(session, None, 0.0))


def alerts_of(server: Server) -> dict[str, str]:
    here = server.context
    with here.database.read() as session:
        found = gather(
            session, data_dir=server.data, now_s=server.clock(), within_s=90.0, versions=here.repository.versions(),
            expires_s=here.repository.expires_s(),
        )  # fmt: skip
    return {one.kind: one.text for one in found}


def test_restored_from_yesterdays_copy(
    server: Server, releaser: Releaser, device: Device, clocks: Clocks, tmp_path: Path, make_context_of: Any
) -> None:
    """Backup at night; in the morning release 2 is pushed and installed; at noon the disk dies and the copy is put back.

    The device has seen a newer timestamp, snapshot and channel, and a higher number than the server remembers. It is offered
    nothing that it would have to refuse, nothing is installed twice, and it is not sent back to what ran yesterday.
    """
    aim(server, "yard@1")
    device.poll()
    assert device.installed == ["yard@1"]
    server.save(tmp_path / "copy")
    clocks.now_s += DAY_S / 2
    releaser.make("2")
    assert not isinstance(releaser.push(server), Refusal)
    for _ in range(3):
        assert server.context.repository.refresh_timestamp(force=True) is True
    aim(server, "yard@2")
    device.poll()
    assert device.installed == ["yard@1", "yard@2"]
    known = device.trust.versions()

    clocks.now_s += 3600.0
    server.put_back(tmp_path / "copy", make_context_of)
    assert isinstance(device.trust.refresh(), Refusal), "what the copy holds is a roll-back attack to this device"
    worker = Worker(server.context)
    for _ in range(4):
        told = device.poll()
        assert told is None or told.bundle is None, "it keeps what it runs"
        clocks.now_s += 60.0
    with server.context.database.read() as session:
        kept = target(session, _ids(session)[0])
    assert kept is not None
    assert (kept.release, kept.source) == (None, "restore"), "what it should run by yesterday's word is forgotten"
    aim(server, "yard@1")  # somebody is in a hurry: still nothing is offered that the device would have to refuse
    told = device.poll()
    assert told is None or told.bundle is None
    assert device.refused == []
    assert "devices have seen" in alerts_of(server)["reconcile"]
    worker.tick_housekeeping(1)
    ours = server.context.repository.versions()
    assert (ours["timestamp"], ours["snapshot"]) > (known["timestamp"], known["snapshot"])

    # What people signed is theirs to bring again: it is named, on the page, as an alert and in the check.
    said = alerts_of(server)["reconcile"]
    assert "stable: 1 devices have seen version 2, this server has 1: whoever signs stable must push version 2 again" in said
    lines: list[str] = []
    assert check(server.context.settings, lines.append) == 1
    assert any("push version 2 again" in line for line in lines)
    assert isinstance(device.trust.refresh(), Refusal)
    device.poll()
    assert (device.installed, device.refused) == (["yard@1", "yard@2"], [])
    aim(server, "yard@2")
    assert not isinstance(releaser.push(server), Refusal)
    assert device.trust.refresh() is None
    device.poll()
    assert "reconcile" not in alerts_of(server)
    aim(server, "yard@2")
    device.poll()
    assert device.installed == ["yard@1", "yard@2"], "it runs that already"
    releaser.make("3")
    assert not isinstance(releaser.push(server), Refusal)
    aim(server, "yard@3")
    device.poll()
    assert (device.installed, device.refused) == (["yard@1", "yard@2", "yard@3"], [])


def test_a_releaser_may_pass_what_was_lost_by_one(
    server: Server, releaser: Releaser, device: Device, tmp_path: Path, make_context_of: Any
) -> None:
    """The metadata of version 2 is nowhere any more: version 3, built upon 1, is taken in its place."""
    aim(server, "yard@1")
    device.poll()
    server.save(tmp_path / "copy")
    first = releaser.channel
    releaser.make("2")
    releaser.push(server)
    aim(server, "yard@2")
    device.poll()
    server.put_back(tmp_path / "copy", make_context_of)
    device.poll()
    Worker(server.context).tick_housekeeping(1)
    releaser.channel = parse_metadata(first.to_bytes(), "stable")
    releaser.channel.signed.version = 2  # as the command line does: above what devices have seen
    releaser.make("3")
    assert releaser.channel.signed.version == 3
    assert not isinstance(releaser.push(server), Refusal)
    assert device.trust.refresh() is None
    device.poll()
    aim(server, "yard@3")
    device.poll()
    assert device.installed[-1] == "yard@3"


def test_a_captured_device_does_not_drive_the_numbers(server: Server, releaser: Releaser, device: Device, clocks: Clocks) -> None:
    """It says at each poll that it has seen 900 more than we have: once in a day that is believed, 2^40 never."""
    aim(server, "yard@1")
    device.poll()
    worker = Worker(server.context)
    for others in range(5):
        with server.context.database.write() as session:
            seen.note(session, f"honest-{others}", device.trust.versions(), server.context.repository.versions(), clocks())
    begun = server.context.repository.versions()["timestamp"]

    def claim(version: int) -> int:
        ours = server.context.repository.versions()
        with server.context.database.write() as session:
            seen.note(session, "evil", {"timestamp": version}, ours, clocks())
        worker.tick_housekeeping(1)
        return server.context.repository.versions()["timestamp"]

    assert claim(2**40) == begun
    after = claim(begun + 900)
    assert after == begun + 901
    for _ in range(5):
        clocks.now_s += 60.0
        assert claim(after + 900) == after
    assert "for the second time in a day" in alerts_of(server)["trust"]
    clocks.now_s += DAY_S
    assert claim(after + 900) > after + 900, "once a day, more it cannot do"
    # The others are served as ever.
    device.poll()
    assert device.refused == []


def test_what_ends_soon_is_an_alert_before_it_has_ended(
    server: Server, releaser: Releaser, clocks: Clocks, sign_in_to: Any
) -> None:
    """Nobody has released for seven weeks, and the worker is dead: what ends is told before it has ended."""
    clocks.now_s += 0.4 * DAY_S
    assert "expiry" not in alerts_of(server)
    clocks.now_s += 0.5 * DAY_S
    assert "timestamp expires in" in alerts_of(server)["expiry"]
    clocks.now_s += 49 * DAY_S
    here = server.context
    with here.database.read() as session:
        texts = [
            one.text
            for one in gather(session, data_dir=server.data, now_s=clocks(), within_s=90.0, expires_s=here.repository.expires_s())
            if one.kind == "expiry"
        ]
    assert any(text.startswith("stable expires in 10 days") for text in texts), texts
    assert any(text.startswith("snapshot has expired") for text in texts)
    trust = sign_in_to(here).get("/api/v1/trust").json
    assert any(text.startswith("stable expires in") for text in trust["warnings"])
    assert trust["reconcile"]["state"] == "well"


@pytest.fixture
def sign_in_to(server: Server) -> Callable[[Context], Any]:
    """A client of the operator door over the given context."""

    def client(here: Context) -> Any:
        made = create_operator_app(here).test_client()
        with here.database.write() as session:
            accounts.add_operator(session, name="v", password_hash="$argon2id$", role="viewer", now_s=here.clock())
            grant = accounts.open_grant(session, name="v", kind="token", token_name="test", ttl_s=1e6, now_s=here.clock())
        made.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {grant.token}"
        return made

    return client


def test_the_verb_after_a_restore_needs_no_device(
    server: Server, releaser: Releaser, device: Device, tmp_path: Path, make_context_of: Any
) -> None:
    """`rookery-server reconcile`: the channel was not touched since the backup, so devices take the server's word at once."""
    aim(server, "yard@1")
    device.poll()
    server.save(tmp_path / "copy")
    for _ in range(20):
        server.context.repository.refresh_timestamp(force=True)
    assert device.trust.refresh() is None
    server.put_back(tmp_path / "copy", make_context_of)
    with server.context.database.write() as session:
        order = Order(release="yard@1", group=None, devices=None, stages=[1.0])
        made = rollouts.create(session, order, who="ann", now_s=server.clock())
    assert isinstance(device.trust.refresh(), Refusal)
    lines: list[str] = []
    assert reconcile(server.context.settings, lines.append, server.clock) == 0
    assert "paused  rollout" in lines[0]
    assert lines[-1] == "here    root 1, stable 1, targets 1: push again what was signed after these"
    with server.context.database.read() as session:
        assert rollouts.rollout(session, made.id).state == "paused"
    assert device.trust.refresh() is None
    assert reconcile(server.context.settings, lines.append, server.clock) == 0, "once too often does no harm"
    assert device.trust.refresh() is None


def test_a_board_that_is_kept_from_the_metadata_is_told_of(
    server: Server, releaser: Releaser, device: Device, clocks: Clocks
) -> None:
    """Freeze: somebody between board and server lets polls through and metadata not. A day after the offer people hear of it."""
    device.poll()
    with server.context.database.write() as session:
        seen.note(session, _ids(session)[0], device.trust.versions(), server.context.repository.versions(), clocks())
        order = Order(release="yard@1", group=None, devices=None, stages=[1.0])
        made = rollouts.create(session, order, who="ann", now_s=clocks())
        assert rollouts.tick(session, clocks(), 1, Timing(90.0, 600.0)) >= 0
    assert rollout_state(server, made.id) == "offered"
    clocks.now_s += 23 * 3600.0
    heard(server)
    assert "metadata_lag" not in alerts_of(server)
    clocks.now_s += 2 * 3600.0
    heard(server)
    assert "was offered yard@1 25 hours ago and has fetched no signed metadata since" in alerts_of(server)["metadata_lag"]
    assert server.context.repository.refresh_timestamp() is True  # as the worker does all the time
    device.poll()  # the way is free again: it fetches what it was told
    device.poll()
    with server.context.database.write() as session:
        seen.note(session, _ids(session)[0], device.trust.versions(), server.context.repository.versions(), clocks())
    assert "metadata_lag" not in alerts_of(server)
    assert device.installed == ["yard@1"]


def heard(server: Server) -> None:
    with server.context.database.write() as session:
        inventory.record_seen(session, _ids(session)[0], server.clock())


def rollout_state(server: Server, rollout: Any) -> str:
    with server.context.database.read() as session:
        (one,) = rollouts.rollout(session, rollout).devices
    return str(one.state)
