"""A followed policy through real TUF metadata over HTTP: the role ``policy`` signs it, and nobody else can."""

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from device_agent.update.policy import Policy, load_policy
from device_agent.update.policy_target_disk import PolicyFollower, with_followed
from ota.trust import roles
from ota.trust.client_http import TrustClient
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.refusal import Refusal
from ota.trust.repository_disk import Repository

PATH = "policy/shops.toml"
OWN = f'follow = "{PATH}"\n'


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


class Office:
    """The people who hold the keys, and the server that serves what they sign."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now_s = folder, float(int(time.time()))
        self.repository = Repository(folder / "tuf", folder / "keys", lambda: self.now_s)
        self.signers = {}
        for name in ("root", "targets", "stable", "policy"):
            generate_key(folder / f"{name}.pem", None)
            self.signers[name] = load_signer(folder / f"{name}.pem", None)
        online = self.repository.online_keys()
        keys = {name: [self.signers[name].public_key] for name in ("root", "targets")}
        keys |= {name: [online[name]] for name in ("snapshot", "timestamp")}
        self.root = roles.new_root(keys, {}, self.now_s + 1e6)
        delegated = {name: roles.ChannelKeys([self.signers[name].public_key]) for name in ("stable", "policy")}
        targets = roles.new_targets(delegated, [online["assignment"]], self.now_s + 1e6)
        roles.sign(self.root, self.signers["root"])
        roles.sign(targets, self.signers["targets"])
        assert self.repository.initialise(self.root.to_bytes(), targets.to_bytes()) is None
        self.policies = roles.new_channel(self.now_s + 1e5)

    def sign(self, text: str, counter: int, signer: str = "policy") -> list | Refusal:
        self.policies = roles.add_policy(self.policies, PATH, text.encode(), counter, self.now_s + 1e5)
        roles.sign(self.policies, self.signers[signer])
        return self.repository.publish_channel("policy", self.policies.to_bytes(), [text.encode()])


class Board:
    def __init__(self, folder: Path, office: Office, url: str) -> None:
        self.data = folder
        (folder / "policy").mkdir(parents=True)
        trust = TrustClient(
            folder / "tuf", metadata_url=f"{url}/metadata", targets_url=f"{url}/targets", pool=urllib3.PoolManager(),
            bootstrap_root=office.root.to_bytes(), reference_time=lambda: office.now_s,
        )  # fmt: skip
        self.follower = PolicyFollower(folder / "policy", PATH, OWN, trust, lambda policy: [])

    def policy(self) -> Policy:
        return with_followed(load_policy(OWN), OWN, self.data)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[tuple[Office, str]]:
    behind = Office(tmp_path / "office")
    handler = functools.partial(Quiet, directory=str(behind.folder / "tuf"))
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behind, f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()
    thread.join()


def test_one_signature_offline_reaches_every_board(office, tmp_path: Path) -> None:
    """Signed, published, looked for, taken; then a newer one. A server's own keys had no part in what it says."""
    behind, url = office
    board = Board(tmp_path / "board", behind, url)
    assert not board.follower.look()
    assert "policy" in board.follower.refused.detail, "nothing was signed yet, and that is said"
    assert isinstance(behind.sign("max_temp_c = 70\n", 1), list)
    assert board.follower.look(), board.follower.refused
    assert board.policy().max_temp_c == 70.0
    assert isinstance(behind.sign("max_temp_c = 65\n", 2), list)
    assert board.follower.look(), board.follower.refused
    assert board.policy().max_temp_c == 65.0


def test_a_captured_server_cannot_put_another_policy_in_its_place(office, tmp_path: Path) -> None:
    """It exchanges the file that it serves, and has a release key sign a policy: neither is taken, what was taken holds."""
    behind, url = office
    board = Board(tmp_path / "board", behind, url)
    assert isinstance(behind.sign("max_temp_c = 70\n", 1), list)
    assert board.follower.look()
    refused = behind.sign("live_view = true\n", 2, signer="stable")
    assert isinstance(refused, Refusal), "the server's own door refuses it already"
    served = list((behind.folder / "tuf" / "targets").rglob("*shops.toml"))
    assert served
    for file in served:
        file.write_bytes(b"live_view = true\n")
    (board.data / "policy" / "followed.json").unlink()
    assert not board.follower.look()
    assert board.follower.refused.code in ("hash", "download")
    assert not board.policy().live_view
