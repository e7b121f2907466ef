"""Hundreds of boards at the real door at once, and the server dies in the middle: each ends with exactly one valid identity."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography import x509

from device_agent.errors import AgentError, ClaimRefusedError
from device_agent.link.api_http import DeviceApi
from device_agent.link.enrol import enrol_once
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from fleet_server.database import Database
from fleet_server.enrolment import certificates
from fleet_server.enrolment import service as enrolment
from fleet_server.inventory import service as inventory
from ota.wire.assignments import StateRequest
from tests.fakes.facts import FACTS

pytestmark = pytest.mark.system
DEADLINE_S = 240.0


@dataclass
class Server:
    """A real server, its processes, and the same again after it was killed."""

    data: Path
    url: str
    process: "subprocess.Popen[str] | None" = None
    facts: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """Come up; a second time on the same ports."""
        ports = [str(urlsplit(self.facts[name]).port if name in self.facts else 0) for name in ("operator_url", "device_url")]
        command = [sys.executable, "-m", "fleet_server", "run", "--data", str(self.data), "--operator-port", ports[0],
                   "--device-port", ports[1], "--broker", "none"]  # fmt: skip
        environment = {**os.environ, "ROOKERY_DATABASE_URL": self.url, "ROOKERY_STRANGER_REQUESTS_PER_MINUTE": "0"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        said = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("broker  "):
                break
        else:
            raise AssertionError("the server did not come up: " + "".join(said))
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        self.facts = json.loads((self.data / "run.json").read_text())

    def kill(self) -> None:
        """Every process of it at once, without a word."""
        assert self.process is not None
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(60)

    def pids(self) -> list[int]:
        """The server's process and all below it, the lowest last."""
        assert self.process is not None
        parents: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(path.parent.name)] = int(path.read_text().rsplit(")", 1)[1].split()[1])
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def claims(self, count: int) -> list[str]:
        database = Database(self.url)
        with database.write() as session:
            terms = enrolment.ClaimTerms(group="many")
            made = enrolment.make_claims(session, count=count, terms=terms, ttl_s=3600, who="t", now_s=time.time())
        database.dispose()
        return [one.token for one in made]


@pytest.fixture
def server(database_url: str, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server", database_url)
    made.start()
    try:
        yield made
    finally:
        made.end()


class Board:
    """A board with its own key and disk; it asks until it has an identity."""

    def __init__(self, server: Server, folder: Path, claim: str) -> None:
        self.server, self.claim, self.store = server, claim, IdentityStore(folder)
        self.tries = 0

    def enrol(self, deadline_s: float) -> str:
        """As the agent does: again after each outage, with the same key."""
        api = DeviceApi(self.server.facts["device_url"], context(Path(self.server.facts["ca_file"])), ByteCount(), timeout_s=60.0)
        try:
            while True:
                self.tries += 1
                try:
                    step = enrol_once(api, self.store, self.claim, FACTS)
                except ClaimRefusedError:
                    raise
                except AgentError as error:
                    if time.monotonic() > deadline_s:
                        raise AssertionError(f"no identity in time: {error.message}") from None
                    time.sleep(0.2)  # the server is down: what a board does meanwhile is wait
                else:
                    assert step.identity is not None
                    return step.identity.device
        finally:
            api.close()

    def poll(self) -> None:
        """A call that only the certificate opens."""
        api = DeviceApi(
            self.server.facts["device_url"], context(Path(self.server.facts["ca_file"]), self.store.load()), ByteCount(),
            timeout_s=60.0,
        )  # fmt: skip
        try:
            assert api.state(StateRequest(nonce="n" * 20, seq=0)).state.payload
        finally:
            api.close()

    def serial(self) -> str:
        identity = self.store.load()
        assert identity is not None
        return f"{x509.load_pem_x509_certificate(identity.certificate_file.read_bytes()).serial_number:x}"


def one_claim_for_fifty(server: Server, folder: Path) -> None:
    """A claim that leaked, replayed by fifty boards at the same moment: exactly one gets in, and the others are told."""
    claim, barrier = server.claims(1)[0], threading.Barrier(50)
    boards = [Board(server, folder / f"replay{number}", claim) for number in range(50)]

    def ask(board: Board) -> str:
        board.store.request("")  # the key is there before the race begins
        barrier.wait(120)
        try:
            return board.enrol(time.monotonic() + DEADLINE_S)
        except ClaimRefusedError as refused:
            return refused.message

    with ThreadPoolExecutor(len(boards)) as pool:
        told = Counter(pool.map(ask, boards))
    assert sorted(told.values()) == [1, 49]
    assert "used by another board" in told.most_common(1)[0][0]


def many_with_a_kill(server: Server, folder: Path, count: int) -> list[Board]:
    """Many ask at once; with the answer to every third one every process of the server is killed, and it is started again."""
    boards = [Board(server, folder / f"board{number}", claim) for number, claim in enumerate(server.claims(count))]
    answered, counting, killed = [0], threading.Lock(), threading.Event()
    deadline_s = time.monotonic() + DEADLINE_S

    def ask(board: Board) -> str:
        device = board.enrol(deadline_s)
        with counting:
            answered[0] += 1
            if answered[0] == count // 3:  # here and now, while the others are on the line
                server.kill()
                killed.set()
        return device

    with ThreadPoolExecutor(min(count // 3, 32)) as pool:
        asked = [pool.submit(ask, board) for board in boards]
        assert killed.wait(DEADLINE_S), "a third of the boards never got in"
        server.start()
        devices = [each.result() for each in asked]
    assert len(set(devices)) == count
    assert sum(board.tries for board in boards) > count, "the kill was in the middle: some had to ask again"
    return boards


def check(server: Server, boards: list[Board]) -> None:
    """What the server holds is what the boards hold: a device for each board, one valid certificate for each device."""
    database, now_s = Database(server.url), time.time()
    try:
        with database.read() as session:
            group = inventory.find(session, now_s, group="many", limit=10_000)
            assert len(group) == len(boards) + 1, "one more than the boards: the winner of the replay"
            for board in boards:
                identity = board.store.load()
                assert identity is not None
                issued = certificates.of_device(session, identity.device)
                good = [one for one in issued if one.revoked_s is None and one.not_after_s > now_s]
                assert [one.serial for one in good] == [board.serial()], "no certificate besides that the board never got"
            assert all(one.state == "used" for one in enrolment.claims(session, now_s, 10_000))
    finally:
        database.dispose()
    for board in boards[:: max(1, len(boards) // 10)]:
        board.poll()


def story(server: Server, folder: Path, count: int) -> None:
    one_claim_for_fifty(server, folder)
    check(server, many_with_a_kill(server, folder, count))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_boards_enrol_while_the_server_is_killed(server: Server, tmp_path: Path) -> None:
    """Thirty boards, one kill, and one claim that fifty bring at once; with PostgreSQL, too, in the slow tier."""
    story(server, tmp_path, 30)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_hundred_enrolments(server: Server, tmp_path: Path) -> None:
    """The same with five hundred (part ``enrolments`` of the slow tier)."""
    story(server, tmp_path, 500)


