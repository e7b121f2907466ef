"""A policy that is signed offline and followed: taken when it is newer, kept, merged, and refused in words when it is wrong."""

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from device_agent.duties.following import Following
from device_agent.duties.turn import Stop
from device_agent.update.policy import Policy, PolicyError, load_policy, merged_policy
from device_agent.update.policy_target_disk import FILE, PolicyFollower, read_taken, with_followed
from ota.trust.refusal import Refusal

PATH = "policy/shops.toml"
OWN = f'follow = "{PATH}"\nchannels = ["stable"]\nserver_hosts = ["fleet.example"]\nlive_view = false\n'


@dataclass
class Target:
    sha256: str
    length_bytes: int
    custom: dict[str, Any] = field(default_factory=dict)


class Signed:
    """Verified metadata as a test's own word (the real role: tests of the keys' room)."""

    def __init__(self) -> None:
        self.text, self.counter, self.refuse = "", None, None

    def sign(self, text: str, counter: object) -> None:
        self.text, self.counter = text, counter

    def refresh(self):
        return self.refuse

    def find(self, path: str):
        data = self.text.encode()
        if path != PATH or self.counter is None:
            return Refusal("mismatch", f"{path} is not in the signed metadata")
        return Target(hashlib.sha256(data).hexdigest(), len(data), {"counter": self.counter})

    def manifest(self, path: str, expected_sha256: str, expected_length: int | None = None):
        return self.text.encode()


class Board:
    def __init__(self, folder: Path, own: str = OWN) -> None:
        self.data, self.own, self.signed = folder, own, Signed()
        self.faults: list[str] = []
        (folder / "policy").mkdir()

    def follower(self) -> PolicyFollower:
        return PolicyFollower(self.data / "policy", PATH, self.own, self.signed, lambda policy: self.faults)

    def policy(self) -> Policy:
        return with_followed(load_policy(self.own), self.own, self.data)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_followed_policy_is_taken_kept_and_may_widen(board: Board) -> None:
    """The owner of forty shops opens the beta channel and live view for all of them with one signature; each board holds it
    across restarts without any network."""
    assert board.policy().channels == ("stable",)
    board.signed.sign('channels = ["stable", "beta"]\nlive_view = true\n', 1)
    follower = board.follower()
    assert (follower.look(), follower.refused) == (True, None)
    policy = board.policy()
    assert (policy.channels, policy.live_view) == (("stable", "beta"), True)
    assert "counter 1" in policy.note
    assert (board.follower().look(), board.follower().refused) == (False, None), "the same one is not taken twice"


def test_what_it_does_not_name_stays_the_boards_and_two_keys_always_do(board: Board) -> None:
    """A target cannot lead a board to another server, nor to another policy; keys that it is silent about stay."""
    board.signed.sign('follow = "policy/thief.toml"\nserver_hosts = ["thief.example"]\nmax_temp_c = 60\n', 1)
    assert board.follower().look()
    policy = board.policy()
    assert (policy.follow, policy.server_hosts, policy.max_temp_c) == (PATH, ("fleet.example",), 60.0)
    assert policy.channels == ("stable",)


def test_masks_are_taken_by_camera() -> None:
    """The fleet's policy masks every yard camera's gate; this board's own mask of its office stays."""
    own = "[masks]\noffice = [[[0.0, 0.0], [0.5, 0.0], [0.5, 0.5]]]\nyard = []\n"
    followed = "[masks]\nyard = [[[0.0, 0.0], [0.2, 0.0], [0.2, 0.2]]]\n"
    merged = merged_policy(own, followed)
    assert sorted(merged.masks) == ["office", "yard"]
    assert len(merged.masks["yard"]) == 1


@pytest.mark.parametrize(
    ("text", "counter", "word"),
    [
        ("channels = 7", 2, "channels must be a list"),
        ("open_everything = true", 2, "unknown key"),
        ("torn = [", 2, "not TOML"),
        ('channels = ["beta"]', 1, "counter 1, this board has taken 1"),
        ('channels = ["beta"]', 0, "without a counter"),
        ('channels = ["beta"]', True, "without a counter"),
        ('channels = ["beta"]', None, "not in the signed metadata"),
    ],
)
def test_a_wrong_one_is_refused_in_words_and_the_one_before_holds(board: Board, text: str, counter: object, word: str) -> None:
    """A releaser's slip, a replay of an older one, another content under the same counter, a target that was withdrawn."""
    board.signed.sign('channels = ["stable", "beta"]', 1)
    assert board.follower().look()
    board.signed.sign(text, counter)
    follower = board.follower()
    assert not follower.look()
    assert word in follower.refused.detail
    assert board.policy().channels == ("stable", "beta")


def test_one_that_does_not_fit_this_board_is_refused(board: Board) -> None:
    """It masks a camera that this board does not have: with it the agent would not start any more."""
    board.faults = ["policy.toml masks a camera 'cellar' that agent.toml does not have"]
    board.signed.sign("max_temp_c = 70", 1)
    follower = board.follower()
    assert not follower.look()
    assert (follower.refused.code, "cellar" in follower.refused.detail) == ("policy", True)
    assert read_taken(board.data / "policy", PATH) is None


def test_expired_metadata_changes_nothing(board: Board) -> None:
    """Nobody signed the policy role anew for a year: what was taken goes on."""
    board.signed.sign("max_temp_c = 70", 1)
    assert board.follower().look()
    board.signed.refuse = Refusal("expired", "policy: expired")
    follower = board.follower()
    assert (follower.look(), follower.refused.code) == (False, "expired")
    assert board.policy().max_temp_c == 70.0


@pytest.mark.parametrize("damage", ["torn", "changed", "version", "other-target", "huge"])
def test_a_damaged_copy_leaves_the_boards_own_policy(board: Board, damage: str) -> None:
    """The card is failing: the file that was taken is not what was signed. The board's own, stricter word holds until the
    next look brings it again."""
    board.signed.sign("live_view = true", 3)
    assert board.follower().look()
    file = board.data / "policy" / FILE
    kept = json.loads(file.read_bytes())
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:40])
    elif damage == "huge":
        file.write_bytes(b" " * 1_000_000)
    else:
        changed = {"text": "live_view = true\nmax_temp_c = 99"}
        kept |= {"changed": changed, "version": {"v": 2}, "other-target": {"path": "x"}}[damage]
        file.write_text(json.dumps(kept))
    assert not board.policy().live_view
    assert board.follower().look()
    assert board.policy().live_view


def test_a_board_that_follows_nobody_reads_no_target(board: Board) -> None:
    """A file that somebody laid there means nothing where policy.toml does not name it."""
    board.signed.sign("live_view = true", 1)
    assert board.follower().look()
    board.own = 'channels = ["stable"]\n'
    assert not board.policy().live_view


def test_what_is_no_policy_target_cannot_be_followed() -> None:
    """A release's manifest, a path upwards."""
    for path in ("stable/yard/2/manifest.json", "policy/../root.json", "policy/x"):
        with pytest.raises(PolicyError, match="follow"):
            load_policy(f'follow = "{path}"')


class HandFollower:
    def __init__(self) -> None:
        self.looks, self.taken = 0, False
        self.refused: Refusal | None = None

    def look(self) -> bool:
        self.looks += 1
        return self.taken


def test_the_agent_starts_anew_with_it_once_no_update_is_under_way() -> None:
    """A mask came by policy in the middle of a trial: the trial goes first, then the agent ends for it by itself."""
    follower, stop, left, busy = HandFollower(), Stop(), threading.Event(), threading.Event()
    busy.set()
    follower.taken = True
    duty = Following(follower, busy=busy.is_set, tell=lambda refused: None, leave=left.set)
    looked = threading.Event()
    thread = threading.Thread(target=duty.run, args=(stop, looked.set))
    thread.start()
    assert looked.wait(30)
    assert not left.is_set()
    busy.clear()
    # The duty looks again every few hours of its own time; the stop ends its wait.
    deadline = time.monotonic() + 60
    while not left.is_set() and time.monotonic() < deadline:
        time.sleep(0.02)
    stop.set()
    thread.join(30)
    assert left.is_set()
    assert follower.looks == 1


def test_a_refusal_is_told_once_and_an_outage_never() -> None:
    """Every look of a week finds the same broken policy: one report. No network: none."""
    follower, told = HandFollower(), []
    duty = Following(follower, busy=lambda: False, tell=told.append, leave=lambda: None)
    for refused in (Refusal("download", "away"), Refusal("policy", "x"), Refusal("policy", "x"), Refusal("policy", "y"), None):
        follower.refused = refused
        duty._look()
    assert [one.detail for one in told] == ["x", "y"]
