"""The real fleet server as a process of its own, with one device that enrolled over its real door."""

import contextlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from device_agent.link.api_http import DeviceApi
from device_agent.link.identity_x509 import IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from fleet_server.database import Database
from fleet_server.enrolment import service as enrolment
from ota.trust.key_types import Key
from ota.trust.repository_disk import Repository
from ota.wire.enrolment import BoardFacts, EnrolRequest

FACTS = BoardFacts(
    profile="rpi-4", board_model="Raspberry Pi 4 Model B", machine="aarch64", memory_bytes=4 * 2**30,
    runtimes={"litert": "2.1"}, python="3.11", agent_version="0.1.0",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A device's own side: its door, what it counted, its id, and who signs its assignments."""

    api: DeviceApi
    count: ByteCount
    device: str
    keys: dict[str, Key]


@contextlib.contextmanager
def enrolled() -> Iterator[Enrolled]:
    """Start a server on free ports and enrol one device; all of it is ended and removed at the end."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        data = folder / "server"
        command = [sys.executable, "-m", "fleet_server", "run", "--data", str(data), "--operator-port", "0", "--device-port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        stack.callback(_end, process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("broker  "):
                break
        else:
            raise RuntimeError("the server did not come up")
        facts = json.loads((data / "run.json").read_text())
        database = Database(f"sqlite:///{data / 'database.sqlite3'}")
        with database.write() as session:
            terms = enrolment.ClaimTerms()
            claim = enrolment.make_claims(session, count=1, terms=terms, ttl_s=600, who="bench", now_s=time.time())[0]
        database.dispose()
        store, count, ca_file = IdentityStore(folder / "identity"), ByteCount(), Path(facts["ca_file"])
        api = DeviceApi(facts["device_url"], context(ca_file), count)
        stack.callback(api.close)
        request = EnrolRequest(claim=claim.token, csr_pem=store.request("bench"), facts=FACTS)
        store.keep_answer(api.enrol(request))
        identity = store.adopt()
        api.use(context(ca_file, identity))
        key = Repository(data / "tuf", data / "keys", time.time).online_keys()["assignment"]
        yield Enrolled(api, count, identity.device, {key.keyid: key})


def nonce() -> str:
    """As the agent draws one for each poll."""
    return secrets.token_hex(16)


def _end(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
