"""Thieves with a USB stick: keys that were revoked, roots that fork, links laid out in the agent's folder, swapped files."""

import time
from pathlib import Path

import pytest

from device_agent.__main__ import main
from device_agent.errors import BoardError
from device_agent.local_bench_disk import newest_root
from device_agent.local_install_disk import _put
from device_agent.own_folder_disk import read_settings
from device_agent.update import local_disk
from device_agent.update.local_disk import REFUSED, LocalSource
from ota.bundle.manifest import target_path
from ota.bundle.reader_disk import open_bundle
from ota.bundle.writer_disk import add_metadata, write_bundle
from ota.trust import roles
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.refusal import Refusal
from tests.device_agent.core.test_local_install_verb import Board
from tests.fakes.release_fleet import DAY_S


class Stick:
    """A board, its fleet's keys, and a thief who has stolen some of them and can write any bundle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.board = Board(folder)
        self.fleet = self.board.fleet
        self.online = self.fleet.repository.online_keys()

    def key(self, name: str):
        generate_key(self.folder / f"{name}.pem", None)
        return load_signer(self.folder / f"{name}.pem", None)

    def root(self, version: int, root_key, targets_key, signers) -> object:
        keys = {
            "root": [root_key.public_key], "targets": [targets_key.public_key],
            "snapshot": [self.online["snapshot"]], "timestamp": [self.online["timestamp"]],
        }  # fmt: skip
        made = roles.new_root(keys, {"root": 1}, time.time() + 365 * DAY_S)
        made.signed.version = version
        made.signatures.clear()
        for at, signer in enumerate(signers):
            made.sign(signer, append=at > 0)
        return made

    def bundle(self, release: str, counter: int, *, roots, targets: tuple[int, object], channel: tuple[int, object]) -> Path:
        """A bundle of this release over (version, signer) of targets and channel."""
        opened = open_bundle(self.fleet.publish(release, model="yard-2", counter=counter)[0])
        delegated = {"stable": roles.ChannelKeys([channel[1].public_key], 1)}
        signed = roles.new_targets(delegated, [self.online["assignment"]], time.time() + 180 * DAY_S)
        signed.signed.version = targets[0]
        signed.signatures.clear()
        roles.sign(signed, targets[1])
        listed = roles.add_release(
            roles.new_channel(time.time() + 60 * DAY_S), target_path("stable", "yard", release), opened.manifest_bytes
        )
        listed.signed.version = channel[0]
        listed.signatures.clear()
        roles.sign(listed, channel[1])
        path = self.folder / f"stick-{release}.rookery"
        write_bundle(path, opened.manifest, {one: opened.read(one) for one in opened.manifest.files})
        chain = {f"{one.signed.version}.root.json": one.to_bytes() for one in roots}
        add_metadata(path, {**chain, "targets.json": signed.to_bytes(), "stable.json": listed.to_bytes()})
        return path

    def online_roots(self, *roots) -> None:
        """What the board's trust client has followed."""
        history = self.board.data / "tuf" / "root_history"
        history.mkdir(parents=True, exist_ok=True)
        for one in roots:
            (history / f"{one.signed.version}.root.json").write_bytes(one.to_bytes())

    def begin(self, bundle: Path) -> object:
        """The bundle lies in the inbox and its install begins: what the resolving of it says."""
        inbox = self.board.inbox()
        sha256 = open_bundle(bundle).manifest_sha256
        _put(bundle, inbox.file(sha256))
        found = inbox.next()
        return LocalSource(inbox).manifest(found)


@pytest.fixture
def stick(tmp_path: Path) -> Stick:
    return Stick(tmp_path)


@pytest.mark.parametrize("heard", ["from the server", "from a stick"])
def test_a_forked_root_of_a_revoked_root_key_is_no_root_here(stick: Stick, heard: str) -> None:
    """The thief's root key was revoked by root 2, which the board follows. He signs another root 2 with it, over keys of his own.

    The same, whether the board heard of root 2 from its server or from an earlier stick."""
    old, new, targets = stick.fleet._signers["root"], stick.key("new-root"), stick.key("new-targets")
    true = stick.root(2, new, targets, [old, new])
    if heard == "from the server":
        stick.online_roots(stick.fleet.root, true)
    else:
        good = stick.bundle("2", 2, roots=[stick.fleet.root, true], targets=(2, targets), channel=(2, stick.key("stable-2")))
        assert not isinstance(stick.begin(good), Refusal)
    evil_root, evil_targets, evil_stable = stick.key("evil-root"), stick.key("evil-targets"), stick.key("evil-stable")
    fork = stick.root(2, evil_root, evil_targets, [old, evil_root])
    evil = stick.bundle("9", 9, roots=[stick.fleet.root, fork], targets=(9, evil_targets), channel=(9, evil_stable))
    refused = stick.board.inbox().prove(evil)
    assert isinstance(refused, Refusal), "the fork was followed"
    assert refused.code == "signature"
    assert newest_root(read_settings(stick.board.config)) == true.to_bytes(), "the server's metadata is judged from root 2, too"


def test_the_same_targets_key_does_not_carry_a_forked_root_in(stick: Stick) -> None:
    """The fork keeps the fleet's true targets key, so all below it is rightly signed: its root is still another root 2."""
    old, new, targets = stick.fleet._signers["root"], stick.key("new-root"), stick.fleet._signers["targets"]
    stick.online_roots(stick.fleet.root, stick.root(2, new, targets, [old, new]))
    evil = stick.key("evil-root")
    fork = stick.root(2, evil, targets, [old, evil])
    bundle = stick.bundle("9", 9, roots=[stick.fleet.root, fork], targets=(9, targets), channel=(9, stick.key("stable-9")))
    refused = stick.board.inbox().prove(bundle)
    assert isinstance(refused, Refusal)
    assert "another root than the trusted one" in refused.detail


def test_a_board_without_any_network_remembers_which_key_was_revoked(stick: Stick, capsys) -> None:
    """Stick A brings targets 2, which revoke a stolen release key. Stick B is signed with the stolen key over targets 1."""
    targets = stick.fleet._signers["targets"]
    good = stick.bundle("2", 3, roots=[stick.fleet.root], targets=(2, targets), channel=(5, stick.key("stable-2")))
    evil = stick.bundle("9", 4, roots=[stick.fleet.root], targets=(1, targets), channel=(9, stick.fleet._signers["stable"]))
    assert not isinstance(stick.board.inbox().prove(evil), Refusal), "before the revocation it was as good as any"
    code, said = stick.board.install(good, capsys)
    assert code == 0, said
    code, said = stick.board.install(evil, capsys)
    assert code != 0
    assert "its targets metadata is version 1, this board has seen 2" in said
    assert stick.board.slots.current().manifest.release == "yard@2"


def test_looking_at_a_stick_teaches_nothing(stick: Stick) -> None:
    """Only an install that begins raises what is known: who merely tries a stick has not changed the board."""
    targets = stick.fleet._signers["targets"]
    newer = stick.bundle("2", 2, roots=[stick.fleet.root], targets=(2, targets), channel=(5, stick.key("stable-2")))
    older = stick.bundle("3", 3, roots=[stick.fleet.root], targets=(1, targets), channel=(1, stick.fleet._signers["stable"]))
    assert not isinstance(stick.board.inbox().prove(newer), Refusal)
    assert not isinstance(stick.board.inbox().prove(older), Refusal)


@pytest.mark.parametrize("name", ["state/local-trust.json", "tuf/targets.json", "tuf/root_history/2.root.json"])
def test_a_board_that_cannot_read_what_it_knows_takes_no_stick(stick: Stick, name: str) -> None:
    """One bit of the file that remembers revocations is damaged: refused, with what to do, instead of known-nothing."""
    damaged = stick.board.data / name
    damaged.parent.mkdir(parents=True, exist_ok=True)
    damaged.write_bytes(b'{"v":1,"versions":{"targets":\xff}}')
    refused = stick.board.inbox().prove(stick.fleet.publish("2", counter=2)[0])
    assert isinstance(refused, Refusal)
    assert "cannot be read" in refused.detail
    assert "repair" in refused.detail


def test_what_a_stick_teaches_is_kept_before_anything_of_it_is_installed(stick: Stick, monkeypatch) -> None:
    """The disk does not take it: the install does not go on as if it were known."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("device_agent.update.local_trust_disk.write_whole", full)
    refused = stick.begin(stick.fleet.publish("2", counter=2)[0])
    assert isinstance(refused, Refusal)
    assert refused.code == "disk"


def test_links_in_the_agents_folder_lead_root_nowhere(tmp_path: Path) -> None:
    """Whoever took over the agent's user lays links where root will write: a copy in progress, the bundle, the word beside."""
    victim, inbox, bundle = tmp_path / "etc-shadow", tmp_path / "data" / "inbox", tmp_path / "b.rookery"
    victim.write_text("root:secret")
    bundle.write_bytes(b"BUNDLE")
    inbox.mkdir(parents=True)
    target = inbox / ("a" * 64 + ".rookery")
    for name in (target.name, target.name + ".part", target.name + REFUSED):
        (inbox / name).symlink_to(victim)
    _put(bundle, target)
    assert victim.read_text() == "root:secret"
    assert not target.is_symlink()
    assert target.read_bytes() == b"BUNDLE"
    made = local_disk.Inbox(inbox, None, local_disk.Policy(local_install=True), None)
    assert made.next() is None, "no bundle: put aside"
    assert victim.read_text() == "root:secret"
    assert not (inbox / (target.name + REFUSED)).is_symlink()
    assert not target.exists()


def test_an_inbox_that_is_a_link_takes_nothing(tmp_path: Path) -> None:
    """The folder itself was exchanged for a link to another."""
    elsewhere, bundle = tmp_path / "elsewhere", tmp_path / "b.rookery"
    bundle.write_bytes(b"BUNDLE")
    elsewhere.mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "inbox").symlink_to(elsewhere)
    with pytest.raises(BoardError, match="cannot be copied"):
        _put(bundle, tmp_path / "data" / "inbox" / "x.rookery")
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "data" / "inbox").readlink() == elsewhere


def test_the_file_that_was_proved_is_the_one_that_is_used(stick: Stick, monkeypatch) -> None:
    """The stick exchanges the bundle between the proof and the second look at it."""
    good = stick.fleet.publish("2", counter=2)[0]
    other = stick.fleet.publish("3", counter=3)[0]
    exchanged = stick.folder / "exchanged.rookery"
    exchanged.write_bytes(good.read_bytes())
    real = local_disk.verify_bundle

    def and_then_swap(*told):
        found = real(*told)
        exchanged.write_bytes(other.read_bytes())
        return found

    monkeypatch.setattr(local_disk, "verify_bundle", and_then_swap)
    refused = stick.board.inbox().prove(exchanged)
    assert isinstance(refused, Refusal)
    assert refused.code == "mismatch"


def test_the_verb_says_it_in_words(stick: Stick, capsys) -> None:
    """No stack trace for whoever stands in the yard with a stick that the board no longer believes."""
    (stick.board.data / "state" / "local-trust.json").write_bytes(b'{"v": 7}')
    code = main(["local-install", str(stick.fleet.publish("2", counter=2)[0]), "--config", str(stick.board.config)])
    said = capsys.readouterr()
    assert code == 6
    assert "version 7 is not known here" in said.err
    assert "Traceback" not in said.err
