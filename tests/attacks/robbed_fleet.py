"""A fleet whose keys get stolen: real keys, a real repository, a real board; and a thief who stands where the server should be.

The thief serves a copy of the server's files, changed as he likes. Whatever he holds the key of he signs rightly; what he does
not he leaves as the fleet signed it (``careful``), signs with too few of the right keys (``hopeful``), or with keys of his own
(``brazen``). The board's whole update part is
real down to its files: trust client, device rule, downloads, install places, state. Held in the hand are time, the self-test (it
passes: a thief's model may be a good one), and what the camera sees.
"""

import hashlib
import io
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agent.update.actions_disk import Bench, Performer
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.health import HealthWindow, Seen, TrialLimits
from device_agent.update.history_disk import HistoryFile
from device_agent.update.installed import Installed
from device_agent.update.policy import Policy, load_policy
from device_agent.update.policy_target_disk import PolicyFollower, with_followed
from device_agent.update.selftest import SelftestRequest, SelftestResult
from device_agent.update.state_disk import StateFile
from device_agent.update.trial import TrialWatch
from device_agent.update.updater import Updater
from ota.bundle.manifest import FileEntry, Golden, Manifest, Variant, encode_manifest, target_path
from ota.bundle.tuf_types import Metadata, MetaFile
from ota.slots.slots_disk import Slots
from ota.trust import roles
from ota.trust.assignment import sign_payload
from ota.trust.client_http import TrustClient
from ota.trust.content_http import Limits
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.publishing import hashed_path
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository
from ota.wire.assignments import AssignedBundle, Assignment, State, StateAnswer
from ota.wire.deployments import DeploymentReport
from ota.wire.enrolment import BoardFacts
from tests.faults.shop import METADATA_URL, TARGETS_URL, Pool

DAY_S = 86_400.0
DEVICE, NONCE = "cam-7", "n" * 32
FACTS = BoardFacts(
    profile="rpi-4", board_model="Raspberry Pi 4 Model B", machine="aarch64", memory_bytes=4 * 2**30,
    runtimes={"litert": "2.1"}, python="3.11", agent_version="0.1.0",
)  # fmt: skip
OFFLINE = ("root-1", "root-2", "root-3", "targets", "stable-1", "stable-2", "beta", "policy")
ONLINE = ("snapshot", "timestamp", "assignment")
ROLE_KEYS = {"root": ("root-1", "root-2", "root-3"), "targets": ("targets",), "snapshot": ("snapshot",),
             "timestamp": ("timestamp",), "stable": ("stable-1", "stable-2"), "beta": ("beta",),
             "policy": ("policy",)}  # fmt: skip
FOLLOWED = "policy/shops.toml"
OWN_POLICY = f'follow = "{FOLLOWED}"\nchannels = ["stable"]\nserver_hosts = ["fleet.example"]\n'
WIDER = 'channels = ["stable", "beta"]\nlive_view = true\nserver_hosts = ["thief.example"]\n'
ROUNDS = 30
"""Of the board's loop until an update must have ended."""


class Fleet:
    """People's keys, the server's repository, four releases, a policy. Root needs two of three."""

    def __init__(self, folder: Path, channel_threshold: int = 1) -> None:
        self.folder, self.now_s = folder, 1_800_000_000.0
        self.repository = Repository(folder / "tuf", folder / "keys", lambda: self.now_s)
        self.thresholds = {"root": 2, "stable": channel_threshold}
        self.signers: dict[str, Any] = {}
        for name in OFFLINE:
            generate_key(folder / "people" / f"{name}.pem", None)
            self.signers[name] = load_signer(folder / "people" / f"{name}.pem", None)
        online = self.repository.online_keys()
        self.signers |= {name: self.repository._keys.signer(name) for name in ONLINE}
        named = {role: [online[role]] if role in online else self.keys(role) for role in roles.TOP_ROLES}
        root = roles.new_root(named, {"root": 2}, self.now_s + 365 * DAY_S)
        needed = {role: self.thresholds.get(role, 1) for role in ("stable", "beta", "policy")}
        delegated = {role: roles.ChannelKeys(self.keys(role), threshold) for role, threshold in needed.items()}
        targets = roles.new_targets(delegated, [online["assignment"]], self.now_s + 180 * DAY_S)
        self.root = self._signed("root", root)
        assert self.repository.initialise(self.root, self._signed("targets", targets)) is None
        self._targets = targets
        self.drafts = {role: roles.new_channel(self.now_s + 60 * DAY_S) for role in delegated}
        self.releases: dict[str, tuple[AssignedBundle, bytes, dict[str, bytes]]] = {}

    def keys(self, role: str) -> list[Any]:
        return [self.signers[name].public_key for name in ROLE_KEYS[role]]

    def _signed(self, role: str, metadata: Metadata[Any]) -> bytes:
        for name in ROLE_KEYS[role][: self.thresholds.get(role, 1)]:
            roles.sign(metadata, self.signers[name])
        return metadata.to_bytes()

    def publish(self, version: str, *, counter: int, **how: Any) -> AssignedBundle:
        """A release as people make it."""
        channel = how.get("channel", "stable")
        bundle, manifest, files = a_release(version, counter=counter, **how)
        self.put(files.values())
        self.drafts[channel] = roles.add_release(self.drafts[channel], bundle.path, manifest)
        published = self.repository.publish_channel(channel, self._signed(channel, self.drafts[channel]), [manifest])
        assert isinstance(published, list), published
        self.releases[version] = bundle, manifest, files
        return bundle

    def put(self, files: Iterable[bytes]) -> None:
        """Content on the server."""
        for data in files:
            self.repository.put_content(hashlib.sha256(data).hexdigest(), io.BytesIO(data))

    def present(self, role: str) -> Metadata[Any]:
        """What the server has of a role now."""
        folder = self.folder / "tuf" / "metadata"
        newest = max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))
        return Metadata.from_bytes(newest.read_bytes())

    def renew_targets(self) -> None:
        """The next version of targets: nothing changes but its end."""
        following = roles.next_version(self._targets, self.now_s + 190 * DAY_S)
        assert self.repository.initialise(None, self._signed("targets", following)) is None

    def publish_policy(self, text: str, counter: int) -> None:
        """The policy that boards follow, as people sign it."""
        data = text.encode()
        self.drafts["policy"] = roles.add_policy(self.drafts["policy"], FOLLOWED, data, counter, self.now_s + 60 * DAY_S)
        published = self.repository.publish_channel("policy", self._signed("policy", self.drafts["policy"]), [data])
        assert isinstance(published, list), published


def a_release(version: str, *, counter: int, min_counter: int = 0, channel: str = "stable", hardware: Iterable[str] = ("*",),
              words: str = "model") -> tuple[AssignedBundle, bytes, dict[str, bytes]]:  # fmt: skip
    """A small release: how an assignment names it, its manifest, its files."""
    files = {"model.tflite": f"{words} of {version} ".encode() * 9, "card.toml": f"card of {version}".encode(),
             "parity.json": f"parity of {version}".encode()}  # fmt: skip
    entries = {path: FileEntry(sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data)) for path, data in files.items()}
    variant = Variant(id="cpu", accelerator="cpu", runtimes=["litert"], model="model.tflite", card="card.toml", files=list(files))
    manifest = encode_manifest(
        Manifest(name="yard", version=version, channel=channel, counter=counter, min_counter=min_counter, created_s=1,
                 hardware=list(hardware), variants=[variant], files=entries, golden=Golden(parity="parity.json"))
    )  # fmt: skip
    path = target_path(channel, "yard", version)
    digest = hashlib.sha256(manifest).hexdigest()
    named = AssignedBundle(path=path, sha256=digest, length_bytes=len(manifest), channel=channel, release=f"yard@{version}")
    return named, manifest, files


@dataclass
class Thief:
    """Holds the keys of ``stolen`` (names as in ``Fleet.signers``) and answers boards in the server's place."""

    fleet: Fleet
    stolen: frozenset[str]
    folder: Path
    manner: str
    """careful, hopeful or brazen."""
    own: dict[str, Any] = field(default_factory=dict)
    assigns_with: Any = None

    def __post_init__(self) -> None:
        shutil.copytree(self.fleet.folder / "tuf", self.folder / "tuf")
        for name in ("a", "b"):
            generate_key(self.folder / f"{name}.pem", None)
            self.own[name] = load_signer(self.folder / f"{name}.pem", None)
        self.assigns_with = self._held("assignment")

    def _held(self, name: str) -> Any:
        return self.fleet.signers[name] if name in self.stolen else self.own["a"]

    @property
    def brazen(self) -> bool:
        return self.manner == "brazen"

    def commands(self, role: str) -> bool:
        """Whether he holds as many keys of a role as it needs; where he only hopes, one is enough for him."""
        needed = 1 if self.manner == "hopeful" else self.fleet.thresholds.get(role, 1)
        return len(self.stolen.intersection(ROLE_KEYS[role])) >= needed

    def present(self, role: str) -> Metadata[Any]:
        """What the server serves of a role now."""
        folder = self.folder / "tuf" / "metadata"
        if role == "timestamp":
            return Metadata.from_bytes((folder / "timestamp.json").read_bytes())
        newest = max(folder.glob(f"*.{role}.json"), key=lambda path: int(path.name.partition(".")[0]))
        return Metadata.from_bytes(newest.read_bytes())

    def serve(self, role: str, change: Callable[[Any], None], *, raise_version: bool = True, with_own: bool = False) -> None:
        """Change a role's text, sign it with what he has, put it where boards look. He touches nothing that he could not sign,
        unless he is brazen or his own keys are named for the role by now (``with_own``)."""
        if not (self.brazen or with_own or self.commands(role)):
            return
        metadata = self.present(role)
        metadata.signatures.clear()
        metadata.signed.version += int(raise_version)
        change(metadata.signed)
        for name in self.stolen.intersection(ROLE_KEYS[role]):
            roles.sign(metadata, self.fleet.signers[name])
        if with_own or not metadata.signatures or (role == "root" and not self.commands(role)):
            roles.sign(metadata, self.own["a"])
        version = "" if role == "timestamp" else f"{metadata.signed.version}."
        (self.folder / "tuf" / "metadata" / f"{version}{role}.json").write_bytes(metadata.to_bytes())

    def take_over(self) -> frozenset[str]:
        """Name keys of his own for every role below those that he commands; the roles that are his by that."""
        his: set[str] = set()
        mine = self.own["a"].public_key
        if self.brazen or self.commands("root"):
            self.serve("root", lambda root: [_only(root, mine, role) for role in ("targets", "snapshot", "timestamp")])
            his |= {"targets", "snapshot", "timestamp"}
        if "targets" in his or self.brazen or self.commands("targets"):
            def change(targets: Any) -> None:
                for role in ("stable", "beta", "policy"):
                    _only(targets, mine, role)
                listed = roles.new_targets({"x": roles.ChannelKeys([mine])}, [mine], 1.0).signed.targets
                targets.targets[roles.ASSIGNMENT_KEYS] = listed[roles.ASSIGNMENT_KEYS]
            # Where snapshot and timestamp are not his he puts it under the version that they name: in vain, they name its hash.
            self.serve("targets", change, raise_version="snapshot" in his or self.commands("snapshot"), with_own="targets" in his)
            his |= {"stable", "beta", "policy"}
            self.assigns_with = self.own["a"]
        return frozenset(his)

    def publish(
        self, role: str, path: str, data: bytes, files: Iterable[bytes] = (), custom: dict[str, Any] | None = None
    ) -> None:
        """A target of his in a delegated role, with all metadata above it that he can make."""
        his = self.take_over()
        online = {"snapshot", "timestamp"} <= his or (self.commands("snapshot") and self.commands("timestamp"))

        def change(signed: Any) -> None:
            entry = roles.TargetFile.from_data(path, data, ["sha256"])
            if custom is not None:
                entry.unrecognized_fields["custom"] = custom
            signed.targets[path] = entry

        self.serve(role, change, raise_version=online, with_own=role in his)
        self.refresh_online(his)
        targets = self.folder / "tuf" / "targets"
        place = targets / hashed_path(path, hashlib.sha256(data).hexdigest())
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        for one in files:
            (targets / "files" / hashlib.sha256(one).hexdigest()).write_bytes(one)

    def refresh_online(self, his: frozenset[str] = frozenset(), version: int | None = None) -> None:
        """The next snapshot of all that lies there, and the next timestamp."""
        def snapshot(signed: Any) -> None:
            for role in ("targets", "stable", "beta", "policy"):  # without their hashes, which nobody demands of a snapshot
                signed.meta[f"{role}.json"] = MetaFile(version or self.present(role).signed.version)
            signed.expires = roles.instant(self.fleet.now_s + 7 * DAY_S)
            signed.version = (version if stamped else 0) or signed.version

        def timestamp(signed: Any) -> None:
            signed.snapshot_meta = MetaFile(self.present("snapshot").signed.version)
            signed.expires = roles.instant(self.fleet.now_s + DAY_S)
            signed.version = version or signed.version

        stamped = self.brazen or "timestamp" in his or self.commands("timestamp")
        # Without the timestamp key he puts it under the version that the true timestamp names.
        self.serve("snapshot", snapshot, raise_version=stamped, with_own="snapshot" in his)
        self.serve("timestamp", timestamp, with_own="timestamp" in his)

    def answer(self, bundle: AssignedBundle) -> StateAnswer:
        """His word to a board on what it should run."""
        return assign(self.fleet, bundle, 9, self.assigns_with)


def _only(signed: Any, key: Any, role: str) -> None:
    named = signed.roles[role] if hasattr(signed, "roles") else signed.delegations.roles[role]
    for keyid in list(named.keyids):
        signed.revoke_key(keyid, role)
    signed.add_key(key, role)
    named.threshold = 1


class Board:
    """One board on the files below ``folder``; ``shop`` is whose files it is served."""

    def __init__(self, folder: Path, fleet: Fleet, shop: Path, policy: Policy | None = None) -> None:
        self.folder, self.fleet = folder, fleet
        self.policy = policy or load_policy(OWN_POLICY)
        self.passed_s, self.reports = 0.0, list[DeploymentReport]()
        self.slots, pool = Slots(folder / "slots"), Pool(shop)
        self.trust = TrustClient(
            folder / "metadata", metadata_url=METADATA_URL, targets_url=TARGETS_URL, pool=pool,  # type: ignore[arg-type]
            bootstrap_root=fleet.root, reference_time=lambda: fleet.now_s,
        )  # fmt: skip
        self.performer = Performer(
            Bench(
                trust=self.trust, content=PoolContent(pool, TARGETS_URL, Limits(attempts=1)), slots=self.slots,  # type: ignore[arg-type]
                models=self, board=self, policy=self.policy, clock=self, selftest=self.selftest, folder=folder / "downloads",
                inhibit=folder / "inhibit",
            )
        )  # fmt: skip
        self.updater = Updater(
            DEVICE, memory=StateFile(folder / "state"), actions=self.performer, trust=self.trust, clock=self, reports=self,
            watch=TrialWatch(HistoryFile(folder / "history"), TrialLimits()),
        )  # fmt: skip

    def now_s(self) -> float:
        return self.fleet.now_s + self.passed_s

    def steady_s(self) -> float:
        return 100.0 + self.passed_s

    def facts(self) -> BoardFacts:
        return FACTS

    def temperature_c(self) -> float | None:
        return 50.0

    def use(self, installed: Installed) -> Refusal | None:
        return None

    def put(self, report: DeploymentReport) -> None:
        self.reports.append(report)

    def selftest(self, request: SelftestRequest, *, should_stop: Callable[[], bool]) -> SelftestResult:
        return SelftestResult(figures={"parity_pairs": 12.0}, latency_ms=20.0, parity_reference="float32", acceptance="yard")

    def runs(self) -> str:
        """The release that would run after a restart, and the first word of its model."""
        found = self.performer.running()
        assert found is not None, "the board has no runnable model"
        return f"{found.release} {found.model.read_text().split(' of ')[0]}"

    def told(self, answer: StateAnswer) -> str:
        """The answer to a poll, and all that follows from it: the code of the refusal, empty where it is committed."""
        judged = self.updater.poll_answer(answer, NONCE)
        if isinstance(judged, Refusal):
            return judged.code
        for _ in range(ROUNDS):
            self.passed_s += 10.0
            self.updater.tick()
            last = self.reports[-1] if self.reports else None
            if last is not None and last.state in ("committed", "refused", "rolled_back"):
                return last.reason if last.state != "committed" else ""
            if self.updater.status.state == "trial":
                self.updater.on_window(
                    HealthWindow(10.0, {"bright": Seen(60.0, 50.0)}, fps=10.0, camera_fps=15.0, latency_ms=20.0)
                )
        raise AssertionError(f"the update did not end: {self.updater.status}")

    def policy_now(self) -> Policy:
        """The board's rules after it looked for a followed policy, and started anew."""
        (self.folder / "policy").mkdir(exist_ok=True)
        PolicyFollower(self.folder / "policy", FOLLOWED, OWN_POLICY, self.trust, lambda policy: []).look()
        return with_followed(load_policy(OWN_POLICY), OWN_POLICY, self.folder)


def assign(fleet: Fleet, bundle: AssignedBundle, seq: int, signer: Any) -> StateAnswer:
    """A server's word to the board, signed by ``signer``."""
    now_s = fleet.now_s
    signed = sign_payload(Assignment(device=DEVICE, seq=seq, bundle=bundle, issued_s=now_s, expires_s=now_s + DAY_S), signer)
    digest = hashlib.sha256(signed.payload.encode()).hexdigest()
    state = State(device=DEVICE, nonce=NONCE, now_s=now_s, seq=seq, digest=digest, poll_s=5.0)
    return StateAnswer(state=sign_payload(state, signer), assignment=signed)


def install_factory(folder: Path, fleet: Fleet, version: str) -> None:
    """A board's folder as it leaves the bench: one release in it."""
    bundle, manifest, files = fleet.releases[version]
    slots, sources = Slots(folder / "slots"), {}
    for path, data in files.items():
        sources[path] = folder / f"factory-{path}"
        sources[path].write_bytes(data)
    slots.stage(manifest, sources)
    slots.set_factory(bundle.sha256)
