"""The drills of ``docs/operations.md``, as they stand there: bash, the real commands, a real server, and a board that looks on.

A fence ``console drill=NAME`` holds commands after ``$`` (a backslash at the end continues one) and, below each, lines that must
be part of what it answers; ``…`` stands for anything. A command that must fail begins with ``!``.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import urllib3
from cryptography import x509

from device_agent.duties.moving import Moving
from device_agent.link.addresses import Addresses
from device_agent.link.api_http import DeviceApi
from device_agent.link.enrol import ask_renewal, enrol_once
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from ota.trust.client_http import TrustClient
from ota.trust.refusal import Refusal
from ota.wire.assignments import State, StateRequest
from ota.wire.codec import decode
from tests.fakes.facts import FACTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "operations.md"
YARD = ROOT / "models" / "rendered" / "releases" / "yard-1"
PATIENCE_S = 90.0
SPEC = """
name = "yard"
version = "{version}"
channel = "stable"
counter = {version}
hardware = ["*"]
created_s = 1700000000

[[variant]]
id = "cpu-int8"
accelerator = "cpu"
model = "model_int8.tflite"
card = "card.toml"
"""

pytestmark = [pytest.mark.system, pytest.mark.timeout(420)]


@dataclass(frozen=True)
class Step:
    """One command and what it must answer."""

    command: str
    answers: tuple[str, ...]


def blocks(text: str) -> dict[str, list[Step]]:
    """The page's drills by name, in its order; several fences of one name follow each other."""
    found: dict[str, list[Step]] = {}
    for name, body in re.findall(r"^```console drill=([a-z-]+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        steps = found.setdefault(name, [])
        lines = iter(body.splitlines())
        for line in lines:
            if line.startswith("$ "):
                command = line[2:]
                while command.endswith("\\"):
                    command = f"{command}\n{next(lines)}"
                steps.append(Step(command, ()))
            elif line.strip():
                steps[-1] = Step(steps[-1].command, (*steps[-1].answers, line))
    return found


DRILLS = blocks(PAGE.read_text(encoding="utf-8"))


class Drill:
    """A folder with a real server beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server: subprocess.Popen[bytes] | None = None
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith(("ROOKERY_", "AWS_"))
        } | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "ROOKERY_CONFIG": str(folder / "settings.toml"),
            "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        for version in ("1", "2"):
            release = folder / f"yard-{version}"
            release.mkdir()
            for name in ("model_int8.tflite", "card.toml"):
                shutil.copy(YARD / name, release)
            (release / "bundle.toml").write_text(SPEC.format(version=version))

    def start(self) -> None:
        """Start the server and wait until it answers."""
        running = self.folder / "DATA" / "run.json"
        running.unlink(missing_ok=True)
        log = (self.folder / "server.log").open("ab")
        self.server = subprocess.Popen(
            [sys.executable, "-m", "fleet_server", "run", "--data", "DATA", "--broker", "none", "--operator-port", "0",
             "--device-port", "0"],
            cwd=self.folder, env=self.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        until_s = time.monotonic() + PATIENCE_S
        while not running.exists():
            assert self.server.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < until_s, (self.folder / "server.log").read_text()
            time.sleep(0.05)
        self.environment["ROOKERY_SERVER"] = json.loads(running.read_text())["operator_url"]

    def stop(self) -> None:
        """End the server."""
        if self.server is not None and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            try:
                self.server.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
                self.server.wait(PATIENCE_S)
        self.server = None

    def run(self, name: str) -> None:
        """Run the page's block in one shell; what it exports is there for the next blocks, too."""
        steps = DRILLS[name]
        script = "set -euo pipefail\nexec 2>&1\n"
        for number, step in enumerate(steps):
            script += f"printf '\\n@@ %d\\n' {number}\n{step.command}\n"
        script += "printf '\\n@@ end\\n'\nexport -p > .exported\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        told = dict(re.findall(r"^@@ (\w+)\n(.*?)(?=^@@ |\Z)", done.stdout, re.MULTILINE | re.DOTALL))
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        assert "end" in told
        for number, step in enumerate(steps):
            for line in step.answers:
                pieces = re.split(r"\s*…\s*", re.sub(r"\s+", " ", line.strip()))
                wanted = re.compile(".*".join(re.escape(piece) for piece in pieces))
                answer = [re.sub(r"\s+", " ", one) for one in told[str(number)].splitlines()]
                said = f"{name}: $ {step.command}\nanswered\n{told[str(number)]}\nand the page says\n{line}"
                assert any(wanted.search(one) for one in answer), said
            if step.command.startswith("! "):
                assert "Traceback" not in told[str(number)]
        for key, value in re.findall(r'^declare -x (ROOKERY_\w+)="(.*)"$', (self.folder / ".exported").read_text(), re.MULTILINE):
            self.environment[key] = value

    def board(self, root: bytes, where: str) -> TrustClient:
        """A board that was given ``root``, on the server's device door as it is now."""
        running = json.loads((self.folder / "DATA" / "run.json").read_text())
        pool = urllib3.PoolManager(ca_certs=running["ca_file"])
        return TrustClient(
            self.folder / where, metadata_url=f"{running['device_url']}/device/v1/metadata",
            targets_url=f"{running['device_url']}/device/v1/bundles", pool=pool, bootstrap_root=root, reference_time=time.time,
        )  # fmt: skip


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Drill, bytes]]:
    """The fleet that the page begins with, and the root that its boards were given."""
    drill = Drill(tmp_path_factory.mktemp("drill"))
    try:
        drill.start()
        drill.run("fleet")
        yield drill, (drill.folder / "trust" / "root.json").read_bytes()
    finally:
        drill.stop()


def seen(drill: Drill, root: bytes, path: str = "stable/yard/1/manifest.json", where: str = "new-board") -> dict[str, int]:
    """What a board sees: it must reach the release from the root that it was given; answers the versions."""
    shutil.rmtree(drill.folder / where, ignore_errors=True)
    board = drill.board(root, where)
    assert board.refresh() is None
    found = board.find(path)
    assert not isinstance(found, Refusal), found
    return board.versions()


def test_the_page_has_its_drills() -> None:
    """Root rotation, release-key revocation, lost timestamp key, restore: each stands there with commands."""
    assert {"fleet", "root-rotation", "release-key-revocation", "lost-timestamp-key", "restore"} <= set(DRILLS)
    assert {"issuing-authority", "root-authority", "server-address"} <= set(DRILLS)
    short = {"server-address", "server-address-end", "issuing-authority-end", "recovery", "recovery-end"}
    assert all(len(steps) >= 4 for name, steps in DRILLS.items() if name not in short)


class Sleeper:
    """A board with the real link of an agent, which was enrolled, and is off until the test wakes it."""

    def __init__(self, drill: Drill, name: str) -> None:
        running = json.loads((drill.folder / "DATA" / "run.json").read_text())
        self.home = str(running["device_url"])
        self.folder = drill.folder / f"sleeper-{name}"
        self.folder.mkdir()
        self.ca_file = self.folder / "ca.pem"
        shutil.copy(running["ca_file"], self.ca_file)
        self.store = IdentityStore(self.folder / "identity")
        authorization = {"Authorization": f"Bearer {drill.environment['ROOKERY_TOKEN']}"}
        made = httpx.post(f"{running['operator_url']}/api/v1/claims", json={"count": 1}, headers=authorization, timeout=60)
        assert made.status_code == 201, made.text
        door = DeviceApi(self.home, context(self.ca_file), ByteCount(), timeout_s=60)
        step = enrol_once(door, self.store, made.json()["items"][0]["token"], FACTS)
        assert step.identity is not None

    def door(self, url: str = "") -> DeviceApi:
        """Awake: the server by what was pinned on the first day, with the certificate that it has."""
        return DeviceApi(url or self.home, context(self.ca_file, self.store.load()), ByteCount(), timeout_s=60)

    def poll(self, url: str = "") -> State:
        """One poll over a connection of its own; raises what the link raises."""
        door = self.door(url)
        try:
            answer = door.state(StateRequest(nonce="n" * 20, seq=0))
        finally:
            door.close()
        return decode(State, answer.state.payload.encode())

    def renew(self) -> None:
        """Its next certificate, used and adopted."""
        ask_renewal(self.door(), self.store, "")
        self.store.adopt()
        self.poll()

    def issuer(self) -> str:
        """Who signed its certificate."""
        identity = self.store.load()
        assert identity is not None
        return x509.load_pem_x509_certificate(identity.certificate_file.read_bytes()).issuer.rfc4514_string()


def test_issuing_authority(fleet: tuple[Drill, bytes]) -> None:
    """One board was on, one slept through it: both are let in with what they had, and nobody retires what they live on."""
    drill, _first = fleet
    on, sleeper = Sleeper(drill, "on"), Sleeper(drill, "off")
    drill.run("issuing-authority")
    for board in (on, sleeper):
        board.poll()
        assert board.issuer() == "CN=Rookery issuing"
        board.renew()
        assert board.issuer() == "CN=Rookery issuing 2"
    drill.run("issuing-authority-end")
    for board in (on, sleeper):
        board.poll()


def test_root_authority(fleet: tuple[Drill, bytes]) -> None:
    """A board that slept since before goes from the root that it has pinned to the new one, and lives on below it."""
    drill, _first = fleet
    sleeper = Sleeper(drill, "root")
    drill.run("root-authority")
    sleeper.poll()
    sleeper.renew()
    assert sleeper.issuer() == "CN=Rookery issuing 3"
    newcomer = Sleeper(drill, "newcomer")
    assert b"BEGIN CERTIFICATE" in newcomer.ca_file.read_bytes()
    newcomer.poll()


def test_server_address(fleet: tuple[Drill, bytes]) -> None:
    """Boards are told both addresses; one that slept finds the server at the old one and goes on to the new."""
    drill, _first = fleet
    sleeper = Sleeper(drill, "moving")
    drill.environment |= {"NEW": "localhost", "OLD": "127.0.0.1"}
    drill.run("server-address")
    port = urlsplit(sleeper.home).port
    told = sleeper.poll().servers  # at the old address
    assert told == [f"https://localhost:{port}", f"https://127.0.0.1:{port}"]
    kept: list[Addresses] = []

    def answers(url: str) -> None:
        assert sleeper.poll(url).servers == told

    moving = Moving(
        Addresses(sleeper.home), allows=lambda _host, _port: True, reached=lambda: True, busy=lambda: False, leave=lambda: None,
        probe=answers, keep=kept.append, steady_s=lambda: 0.0, draw=lambda: 0.0,
    )  # fmt: skip
    moving.hear(tuple(told))
    assert moving.look()
    assert kept[-1].current == f"https://localhost:{port}"
    drill.run("server-address-end")
    assert sleeper.poll(kept[-1].current).servers == [f"https://localhost:{port}"]


def test_recovery(fleet: tuple[Drill, bytes]) -> None:
    """Nobody who could help is an admin any more: somebody at the machine makes the link, and Ada sets her password by it."""
    drill, _first = fleet
    drill.run("recovery")
    url = (drill.folder / "way-back").read_text().strip()
    assert "/welcome?token=" in url
    assert (drill.folder / "way-back").stat().st_mode & 0o777 == 0o600, "whoever reads it is an admin"
    page = httpx.get(url, timeout=60)  # the server listens on a port of its own choice: the link knows it
    assert page.status_code == 200
    assert 'name="password"' in page.text
    body = {"token": url.partition("token=")[2], "password": "words that are mine alone"}
    answer = httpx.post(f"{url.partition('/welcome')[0]}/api/v1/welcome", json=body, timeout=60)
    assert answer.json() == {"name": "ada"}
    drill.run("recovery-end")


def test_root_rotation(fleet: tuple[Drill, bytes]) -> None:
    """Cleo leaves, Dora comes: a board that knows the first root only, and one that slept, follow."""
    drill, first = fleet
    sleeper = drill.board(first, "sleeper")
    assert sleeper.refresh() is None
    before = sleeper.versions()["root"]
    drill.run("root-rotation")
    assert sleeper.refresh() is None
    assert sleeper.versions()["root"] == before + 1
    assert seen(drill, first)["root"] == before + 1


def test_release_key_revocation(fleet: tuple[Drill, bytes]) -> None:
    """Rita's key is gone: what Sven signed anew is found, she signs nothing more, and boards know her key no longer."""
    drill, first = fleet
    board = drill.board(first, "owner")
    assert board.refresh() is None
    rita = json.loads((drill.folder / "Rita.pem.pub").read_text())
    drill.run("release-key-revocation")
    assert board.refresh() is None
    seen(drill, first, "stable/yard/2/manifest.json")
    targets = json.loads((drill.folder / "owner" / "targets.json").read_text())["signed"]
    assert rita["keyval"] not in [one["keyval"] for one in targets["delegations"]["keys"].values()]
    assert not isinstance(board.find("stable/yard/1/manifest.json"), Refusal)


def test_lost_timestamp_key(fleet: tuple[Drill, bytes]) -> None:
    """The server lost the key; two root signers name the one that it makes, and boards follow."""
    drill, first = fleet
    before = seen(drill, first)
    drill.run("lost-timestamp-key")
    after = seen(drill, first)
    assert after["root"] == before["root"] + 1
    assert after["timestamp"] > before["timestamp"]


def test_restore(fleet: tuple[Drill, bytes]) -> None:
    """The folder is put back while the server stands still; boards that have seen what came before go on."""
    drill, first = fleet
    board = drill.board(first, "survivor")
    assert board.refresh() is None
    drill.stop()
    drill.run("restore")
    drill.start()
    board = drill.board(first, "survivor")
    assert board.refresh() is None
    assert not isinstance(board.find("stable/yard/1/manifest.json"), Refusal)
