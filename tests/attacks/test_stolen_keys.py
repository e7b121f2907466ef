"""Who can do what with which stolen key: each row of the table in docs/security.md, tried out with everything that a thief can
make of the keys of that row, against a real board. What the table says that he can do he must manage, and nothing else.

The thief always has the line besides: he answers in the server's place (its TLS key was stolen with it). Every attack is tried
by a careful thief, who touches only what he can sign, by a brazen one, who signs everything with something, and, where he holds
some keys of a role but too few, by a hopeful one, who signs with those.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ota.trust import roles
from ota.trust.refusal import Refusal
from tests.attacks.robbed_fleet import (
    DAY_S,
    FOLLOWED,
    ONLINE,
    OWN_POLICY,
    ROLE_KEYS,
    WIDER,
    Board,
    Fleet,
    Thief,
    a_release,
    assign,
    install_factory,
)

SECURITY = Path(__file__).resolve().parents[2] / "docs" / "security.md"
ONLINE_KEYS = frozenset(ONLINE)
UNSIGNED = ("signature", "mismatch")
"""Codes of a word that the board does not believe at all."""


def injects(thief: Thief, board: Board) -> bool:
    """A model of his own runs."""
    bundle, manifest, files = a_release("66", counter=66, words="evil")
    thief.publish("stable", bundle.path, manifest, files.values())
    board.told(thief.answer(bundle))
    return "evil" in board.runs()


def offers(thief: Thief, board: Board, channel: str, version: str) -> str:
    """The code by which the board refuses a release that people signed once; all metadata above it as good as he can make it."""
    bundle, manifest, files = thief.fleet.releases[version]
    thief.publish(channel, bundle.path, manifest, files.values())
    return board.told(thief.answer(bundle))


def chooses(thief: Thief, board: Board) -> bool:
    """The board goes to an older release, above the floor, because he wants it."""
    offers(thief, board, "stable", "2")
    return board.runs().startswith("yard@2")


def goes_below_the_floor(thief: Thief, board: Board) -> bool:
    """The very first release, known to be bad, which lies below the floor."""
    assert offers(thief, board, "stable", "1") in ("counter", *UNSIGNED)
    return board.runs().startswith("yard@1")


def crosses_hardware(thief: Thief, board: Board) -> bool:
    """A release that was signed for other boards."""
    assert offers(thief, board, "stable", "4") in ("hardware", *UNSIGNED)
    return board.runs().startswith("yard@4")


def crosses_channels(thief: Thief, board: Board) -> bool:
    """A rightly signed release of beta, on a board whose policy says stable."""
    assert offers(thief, board, "beta", "5") in ("channel", *UNSIGNED)
    return board.runs().startswith("yard@5")


def swaps_a_file(thief: Thief, board: Board) -> bool:
    """The manifest is the true one, the model that the store gives is his."""
    bundle, _, files = thief.fleet.releases["2"]
    for path in (thief.folder / "tuf" / "targets" / "files").iterdir():
        if path.read_bytes() == files["model.tflite"]:
            path.chmod(0o644)
            path.write_bytes(files["model.tflite"].replace(b"model", b"evil!"))
    assert board.told(thief.answer(bundle)) in ("hash", *UNSIGNED)
    return "evil" in board.runs()


def freezes(thief: Thief, board: Board) -> bool:
    """Two days later the board still takes what he serves for fresh."""
    thief.fleet.now_s += 2 * DAY_S
    try:
        thief.refresh_online(thief.take_over())
        return board.trust.refresh() is None
    finally:
        thief.fleet.now_s -= 2 * DAY_S


def silences_the_true_server(thief: Thief, board: Board) -> bool:
    """Fast-forward: the board has heard of version 2^31, so that the true server's word is too old for it."""
    thief.refresh_online(thief.take_over(), version=2**31)
    board.trust.refresh()
    back = Board(board.folder, thief.fleet, thief.fleet.folder)
    return isinstance(back.trust.refresh(), Refusal) or isinstance(back.trust.find(thief.fleet.releases["3"][0].path), Refusal)


def widens_the_policy(thief: Thief, board: Board) -> bool:
    """A board that follows a signed policy opens live view and beta. (Its server it never takes from there.)"""
    thief.publish("policy", FOLLOWED, WIDER.encode(), custom={"counter": 99})
    policy = board.policy_now()
    assert policy.server_hosts == ("fleet.example",)
    return policy.live_view or policy.channels != ("stable",)


WORDS = {
    "inject": "run a model of his own",
    "choose": "choose among signed releases",
    "freeze": "keep an old state looking fresh",
    "forward": "make boards deaf to the true server",
    "policy": "widen a followed policy",
}
"""What each success is called in the table."""
ATTACKS: dict[str, Callable[[Thief, Board], bool]] = {
    "inject": injects,
    "choose": chooses,
    "below": goes_below_the_floor,
    "hardware": crosses_hardware,
    "channel": crosses_channels,
    "swap": swaps_a_file,
    "freeze": freezes,
    "forward": silences_the_true_server,
    "policy": widens_the_policy,
}
NEVER = {"below", "hardware", "channel", "swap"}
"""What no stolen key gives: the board itself, or the content's own hash, stands against it."""


@pytest.fixture(scope="module")
def quick_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: two hundred boards sync what they write, and nothing here is about disks."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path_factory.getbasetemp()) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def grounds(quick_disk: Path) -> Callable[[int], tuple[Fleet, Path]]:
    """A fleet and the folder of a board that runs release 3 with floor 2, by how many must sign the channel. Since the board last
    asked, the server has new metadata of every role: whoever can swap one of them has his chance."""
    made: dict[int, tuple[Fleet, Path]] = {}

    def of(threshold: int) -> tuple[Fleet, Path]:
        if threshold not in made:
            folder = quick_disk / f"fleet-{threshold}"
            fleet, home = Fleet(folder / "server", threshold), folder / "board"
            for version in ("1", "2"):
                fleet.publish(version, counter=int(version))
            third = fleet.publish("3", counter=3, min_counter=2)
            fleet.publish_policy(OWN_POLICY, 1)
            fleet.publish("5", counter=5, channel="beta")
            home.mkdir(parents=True)
            install_factory(home, fleet, "1")
            board = Board(home, fleet, fleet.folder)
            assert board.told(assign(fleet, third, 1, fleet.signers["assignment"])) == ""
            assert board.runs().startswith("yard@3")
            fleet.publish("4", counter=4, hardware=["jetson-nano"])
            fleet.publish("6", counter=6, channel="beta")
            fleet.publish_policy(OWN_POLICY + "max_temp_c = 70\n", 2)
            fleet.renew_targets()
            made[threshold] = fleet, home
        return made[threshold]

    return of


ROWS = {
    # row of the table: stolen keys, how many must sign the channel, what comes of it
    "no key": (set(), 1, set()),
    "the timestamp key": ({"timestamp"}, 1, {"freeze", "forward"}),
    "the snapshot key": ({"snapshot"}, 1, set()),
    "the assignment key": ({"assignment"}, 1, {"choose"}),
    "all online keys": (ONLINE_KEYS, 1, {"choose", "freeze", "forward"}),
    "one release key": ({"stable-1"}, 1, set()),
    "one release key and all online keys": ({"stable-1", *ONLINE}, 1, {"inject", "choose", "freeze", "forward"}),
    "one of two release keys and all online keys": ({"stable-1", *ONLINE}, 2, {"choose", "freeze", "forward"}),
    "the beta channel's key and all online keys": ({"beta", *ONLINE}, 1, {"choose", "freeze", "forward"}),
    "the policy key and all online keys": ({"policy", *ONLINE}, 1, {"choose", "freeze", "forward", "policy"}),
    "the targets key": ({"targets"}, 1, set()),
    "the targets key and all online keys": ({"targets", *ONLINE}, 1, {"inject", "choose", "freeze", "forward", "policy"}),
    "one root key": ({"root-1"}, 1, set()),
    "one root key and all online keys": ({"root-1", *ONLINE}, 1, {"choose", "freeze", "forward"}),
    "two root keys": ({"root-1", "root-2"}, 1, {"inject", "choose", "freeze", "forward", "policy"}),
}


def manners(fleet: Fleet, stolen: frozenset[str]) -> tuple[str, ...]:
    """How a thief with these keys may go about it."""
    held = {role: len(stolen.intersection(names)) for role, names in ROLE_KEYS.items()}
    too_few = any(0 < count < fleet.thresholds.get(role, 1) for role, count in held.items())
    return ("careful", "brazen", "hopeful") if too_few else ("careful", "brazen")


@pytest.mark.parametrize("row", ROWS)
def test_what_a_thief_can_do_with(grounds, quick_disk: Path, row: str) -> None:
    stolen, threshold, expected = ROWS[row]
    fleet, home = grounds(threshold)
    managed = set()
    for name, attack in ATTACKS.items():
        for manner in manners(fleet, frozenset(stolen)):
            folder = quick_disk / row / f"{name}-{manner}"
            shutil.copytree(home, folder / "board", symlinks=True)
            thief = Thief(fleet, frozenset(stolen), folder / "thief", manner)
            if attack(thief, Board(folder / "board", fleet, thief.folder)):
                managed.add(name)
    assert not managed & NEVER
    assert managed == expected


def test_the_table_says_what_was_found() -> None:
    """Every row above stands in the table of docs/security.md, and its second column names exactly what a thief managed."""
    table = {cells[1].strip(): cells[2] for line in SECURITY.read_text().splitlines() if len(cells := line.split("|")) > 4}
    for row, (_, _, managed) in ROWS.items():
        assert row in table, f"the table has no row {row!r}"
        assert {name for name, words in WORDS.items() if words in table[row]} == managed, row


def test_a_release_key_and_a_releasers_token_publish_until_the_key_is_revoked(quick_disk: Path) -> None:
    """The releaser's laptop is gone, with key, passphrase and token: the true server takes what it signs, and boards install it.
    Then the targets key names another: what the stolen one signs is refused by server and board, the honest releases are signed
    anew, and the floor keeps the old ones away."""
    fleet, home = Fleet(quick_disk / "laptop" / "server"), quick_disk / "laptop" / "board"
    home.mkdir()
    fleet.publish("1", counter=1)
    install_factory(home, fleet, "1")
    board = Board(home, fleet, fleet.folder)
    evil = fleet.publish("66", counter=66, words="evil")
    signer = fleet.signers["assignment"]
    assert board.told(assign(fleet, evil, 1, signer)) == ""
    assert board.runs() == "yard@66 evil"
    stolen, honest = fleet.signers["stable-1"], fleet.signers["stable-2"]
    targets = roles.next_version(fleet.present("targets"))
    targets.signed.revoke_key(stolen.public_key.keyid, "stable")
    roles.sign(targets, fleet.signers["targets"])
    assert fleet.repository.initialise(None, targets.to_bytes()) is None
    again = roles.next_version(fleet.present("stable"), fleet.now_s + 60 * DAY_S)
    again = roles.remove_target(again, evil.path)
    roles.sign(again, stolen)
    refused = fleet.repository.publish_channel("stable", again.to_bytes(), [])
    assert isinstance(refused, Refusal)
    assert refused.code == "signature"
    bundle, manifest, files = a_release("67", counter=67)
    fleet.put(files.values())
    again.signatures.clear()
    again = roles.add_release(again, bundle.path, manifest)
    roles.sign(again, honest)
    assert isinstance(fleet.repository.publish_channel("stable", again.to_bytes(), [manifest]), list)
    assert board.told(assign(fleet, evil, 2, signer)) in ("mismatch", "")  # it runs it already; no other board can get it
    assert board.told(assign(fleet, bundle, 3, signer)) == ""
    assert board.runs() == "yard@67 model"
    assert board.told(assign(fleet, evil, 4, signer)) == "mismatch"
    assert board.runs() == "yard@67 model"
