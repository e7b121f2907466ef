"""``rookery-agent local-install``: a stick, a board, no network. Real signed bundles, the real machine as far as its trial."""

import hashlib
import os
import platform
import shutil
import time
from pathlib import Path

import pytest

from device_agent.__main__ import main
from device_agent.factory_disk import install_factory
from device_agent.facts_linux import read_facts
from device_agent.link.clock import TrustedClock
from device_agent.local_bench_disk import inbox_of
from device_agent.own_folder_disk import FOLDERS, read_settings
from device_agent.update.deployment import LOCAL, Deployment
from device_agent.update.local_disk import REFUSED
from device_agent.update.local_trust_disk import LocalTrustError, known_versions
from device_agent.update.policy import Policy
from device_agent.update.state_disk import StateFile
from ota.bundle.agent_release import LOCK, build_lock
from ota.bundle.manifest import AGENT, Manifest, Variant
from ota.bundle.writer_disk import file_entry
from ota.slots.slots_disk import Slots
from ota.trust.refusal import Refusal
from tests.fakes.release_fleet import DAY_S, ReleaseFleet
from tests.fakes.wheels import ABI, thin_agent

TOML = """
policy = "policy.toml"
[agent]
data_dir = "data"
[server]
url = "https://127.0.0.1:1"
ca_file = "ca.pem"
[factory]
bundle = "{bundle}"
root = "{root}"
[spool]
min_free_bytes = 1048576
[[camera]]
name = "yard"
source = "rendered:7:day"
"""


class Board:
    """A board with the factory's release 1, an agent that does not run, and a stick."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.fleet = ReleaseFleet(folder / "fleet")
        self.first, self.one = self.fleet.publish("1")
        for name in FOLDERS:
            (self.data / name).mkdir(parents=True)
        (self.data / "agent.lock").touch()
        self.config = folder / "agent.toml"
        self.config.write_text(TOML.format(bundle=self.first, root=self.fleet.root_file))
        self.policy("local_install = true")
        self.slots = Slots(self.data / "slots")
        install_factory(self.slots, self.first, self.fleet.root_file, read_facts(Path("/")), self.data / "downloads")

    def policy(self, text: str) -> None:
        (self.folder / "policy.toml").write_text(text)

    def install(self, bundle: Path, capsys: pytest.CaptureFixture[str], wait_s: float = 300.0) -> tuple[int, str]:
        code = main(["local-install", str(bundle), "--config", str(self.config), "--wait", str(wait_s)])
        said = capsys.readouterr()
        return code, said.out + said.err

    def deployment(self) -> Deployment | None:
        return StateFile(self.data / "state").load().deployment

    def inbox(self, now_s: float | None = None, policy: Policy | None = None):
        clock = TrustedClock(0.0, now=lambda: now_s or time.time(), steady=time.monotonic, keep=lambda floor_s: None)
        return inbox_of(read_settings(self.config), policy or Policy(local_install=True), clock)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_stick_without_any_network_reaches_its_trial(board: Board, capsys) -> None:
    """The server's address leads nowhere. Each state is printed as it passes; the self-test ran on the real runtime; the trial
    is what the agent goes on with; the report that waits in the outbox says ``local``."""
    bundle, assigned = board.fleet.publish("2", model="yard-2", counter=2)
    code, said = board.install(bundle, capsys)
    assert code == 0, said
    assert "yard@2: trial" in said
    deployment = board.deployment()
    assert (deployment.state, deployment.origin, deployment.bundle.sha256) == ("trial", LOCAL, assigned.sha256)
    assert board.slots.current().sha256 == assigned.sha256
    assert board.slots.previous().sha256 == board.one.sha256
    reports = b"".join(path.read_bytes() for path in sorted((board.data / "spool" / "reports").iterdir()))
    assert b'"origin":"local"' in reports
    assert b'"state":"trial"' in reports


def test_the_same_release_again_is_no_install(board: Board, capsys) -> None:
    """What runs already is said to run."""
    code, said = board.install(board.first, capsys)
    assert (code, "runs already" in said) == (0, True)


def test_a_release_below_the_floor_is_refused(board: Board, capsys) -> None:
    """The floor was raised to 5 by a commit: a stick from last year's drawer does not bring an old fault back."""
    StateFile(board.data / "state").save(StateFile(board.data / "state").load().__class__(floor=5))
    bundle, _ = board.fleet.publish("2", model="yard-2", counter=2)
    code, said = board.install(bundle, capsys)
    assert code == 6
    assert "refused (counter)" in said
    assert board.slots.current().sha256 == board.one.sha256
    assert list((board.data / "inbox").glob("*.rookery")) == []


@pytest.mark.parametrize("what", ["flipped", "foreign", "unsigned-channel", "expired", "older-metadata", "no-bundle"])
def test_what_is_not_rightly_signed_for_this_board_never_gets_into_the_inbox(board: Board, tmp_path: Path, capsys, what) -> None:
    """A flipped byte; another fleet's release; a channel that the board does not allow; metadata past its expiry; metadata
    older than what this board has seen (a key may have been revoked since); a film."""
    bundle, _ = board.fleet.publish("2", model="yard-2", counter=2)
    code_word = {"flipped": "", "foreign": "signature", "unsigned-channel": "channel", "older-metadata": "sequence"}.get(what, "")
    if what == "flipped":
        data = bytearray(bundle.read_bytes())
        data[len(data) // 2] ^= 1
        bundle.write_bytes(bytes(data))
    elif what == "foreign":
        bundle, _ = ReleaseFleet(tmp_path / "other").publish("2", model="yard-2", counter=2)
    elif what == "unsigned-channel":
        board.policy('local_install = true\nchannels = ["beta"]')
    elif what == "older-metadata":
        (board.data / "tuf" / "stable.json").write_text('{"signed": {"version": 99}}')
    elif what == "expired":
        late = board.inbox(time.time() + 61 * DAY_S)
        refused = late.prove(bundle)
        assert isinstance(refused, Refusal)
        assert refused.code == "expired"
        return
    else:
        bundle.write_bytes(b"RIFF....AVI ")
    code, said = board.install(bundle, capsys)
    assert (code, "is not installed" in said, code_word in said) == (6, True, True), said
    assert not (board.data / "inbox").exists() or list((board.data / "inbox").iterdir()) == []
    assert board.deployment() is None


def test_without_authority_nothing_is_installed(board: Board) -> None:
    """The policy does not allow it and the file is not root's: whoever can write into the inbox is still nobody."""

    def not_roots(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 12345, 12345)

    bundle, assigned = board.fleet.publish("2", model="yard-2", counter=2)
    strict = board.inbox(policy=Policy())
    target = strict.file(assigned.sha256)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(bundle.read_bytes())
    not_roots(target)
    assert strict.next() is None
    assert "needs root" in target.with_name(target.name + REFUSED).read_text()
    target.write_bytes(bundle.read_bytes())
    not_roots(target)
    assert board.inbox().next().release == "yard@2"


def test_a_bundle_under_another_name_is_put_aside(board: Board) -> None:
    """A person copied it into the inbox by hand."""
    inbox = board.inbox()
    inbox.folder.mkdir()
    (inbox.folder / "yard-2.rookery").write_bytes(board.fleet.publish("2", counter=2)[0].read_bytes())
    assert inbox.next() is None
    assert list(inbox.folder.glob(f"*{REFUSED}"))


def test_an_install_that_is_under_way_goes_first(board: Board, capsys) -> None:
    """The server's deployment was interrupted by the power cut for which somebody came with a stick."""
    bundle, assigned = board.fleet.publish("2", model="yard-2", counter=2)
    file = StateFile(board.data / "state")
    under_way = Deployment(
        assignment_seq=1, assignment_digest="", bundle=assigned, state="downloading", started_at_s=1.0, entered_at_s=1.0
    )
    file.save(file.load().__class__(deployment=under_way))
    code, said = board.install(bundle, capsys)
    assert (code, "under way" in said) == (2, True)


def test_a_new_board_gets_its_factory_release_first(board: Board, capsys) -> None:
    """A board out of its box, and the first thing that happens is a stick: its trial may fail, so what it falls back to is
    installed before."""
    shutil.rmtree(board.data)
    board.data.mkdir()
    bundle, assigned = board.fleet.publish("2", model="yard-2", counter=2)
    code, said = board.install(bundle, capsys)
    assert (code, "factory release yard@1 is installed first" in said) == (0, True), said
    pointers = board.slots.pointers()
    assert pointers == {"current": assigned.sha256, "previous": board.one.sha256, "factory": board.one.sha256}
    assert board.slots.verify(board.one.sha256) == []


def test_a_new_board_with_the_factory_release_on_the_stick(board: Board, capsys) -> None:
    """The very bundle of the factory: installed as that, and then there is nothing left to do."""
    shutil.rmtree(board.data)
    board.data.mkdir()
    code, said = board.install(board.first, capsys)
    assert (code, "yard@1 runs already" in said) == (0, True), said
    assert board.deployment() is None


def test_without_anything_to_fall_back_to_nothing_goes_on_trial(board: Board, capsys) -> None:
    """A new board, and the factory bundle was never copied to it: refused in words, the stick's bundle is not even taken in."""
    shutil.rmtree(board.data)
    board.data.mkdir()
    board.first.unlink()
    bundle, _ = board.fleet.publish("2", model="yard-2", counter=2)
    code, said = board.install(bundle, capsys)
    assert (code, "no release on this board to fall back to" in said, str(board.first) in said) == (2, True, True), said
    assert board.deployment() is None
    assert list((board.data / "slots").iterdir()) == []
    assert not (board.data / "inbox").exists() or list((board.data / "inbox").iterdir()) == []


def test_a_lost_factory_bundle_is_no_fault_where_another_release_is_whole(board: Board, capsys) -> None:
    """Somebody cleaned the card of the factory's bundle and the pointer to it was lost; the release that runs is whole, and is
    fallen back to."""
    board.slots.point({"current": board.one.sha256, "previous": None, "factory": None})
    board.first.unlink()
    bundle, _ = board.fleet.publish("2", model="yard-2", counter=2)
    code, said = board.install(bundle, capsys)
    assert (code, board.slots.previous().sha256) == (0, board.one.sha256), said


def test_a_stick_with_an_agent_is_told_how_an_agent_is_updated(board: Board, tmp_path: Path, capsys) -> None:
    """A release of kind ``agent``, rightly signed: no model's slot is for it, and the words say whose work it is."""
    wheels = thin_agent("2")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in wheels.items()}
    files = {LOCK: build_lock(digests, ABI)} | {f"wheels/{name}": data for name, data in wheels.items()}
    manifest = Manifest(
        kind=AGENT, name="rookery-agent", version="2", channel="stable", counter=2, created_s=int(time.time()), hardware=["*"],
        variants=[Variant(id=ABI, abi=ABI, machines=[platform.machine()], files=sorted(files))],
        files={path: file_entry(data) for path, data in files.items()},
    )  # fmt: skip
    bundle = board.fleet.signed(manifest, files, tmp_path / "rookery-agent-2.rookery")
    code, said = board.install(bundle, capsys)
    assert (code, "(mismatch)" in said, "release of kind agent" in said) == (6, True, True), said
    assert "rookery rollout create" in said
    assert board.deployment() is None
    assert not (board.data / "inbox").exists()


@pytest.mark.parametrize("what", ["nosuch", "a folder", "a\nname", "a device", "too long"])
def test_a_path_that_leads_to_no_bundle(board: Board, tmp_path: Path, capsys, what: str) -> None:
    """The stick is not mounted, or the folder above was named: plain words and the exit code of wrong usage, no code of ours."""
    path = {"a folder": tmp_path, "a device": Path("/dev/null"), "too long": tmp_path / ("x" * 300)}.get(what, Path(what))
    code, said = board.install(path, capsys)
    assert code == 2
    assert said.startswith("rookery-agent: ")
    assert any(words in said for words in ("is not there", "is a folder", "no plain file", "cannot be read")), said
    assert "$" not in said
    assert "refused" not in said


def test_the_help_says_who_may_and_what_comes_of_it(capsys) -> None:
    """A person before a board, with a stick and no manual."""
    with pytest.raises(SystemExit):
        main(["local-install", "--help"])
    said = capsys.readouterr().out
    for word in ("root", "local_install = true", "data/inbox/", "Exit codes", " 2 ", " 5 ", " 6 ", "75 "):
        assert word in said, word


def test_the_versions_that_a_board_has_seen_are_read_or_the_stick_waits(board: Board) -> None:
    """A torn file of metadata that no bundle brings says nothing; one of those that say which keys were revoked refuses."""
    (board.data / "tuf" / "root.json").write_text('{"signed": {"version": 3}}')
    (board.data / "tuf" / "snapshot.json").write_bytes(b"\xff torn")
    assert known_versions(board.data / "tuf") == {"root": 3}
    (board.data / "tuf" / "stable.json").write_bytes(b"\xff torn")
    with pytest.raises(LocalTrustError, match="revoked keys cannot be read"):
        known_versions(board.data / "tuf")
