"""The device door behind a real nginx, set up by the configuration that `rookery-server nginx` prints.

Two servers: one that nginx reaches over a unix socket, one over TCP with a shared secret that takes signed requests, too.
"""

import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from device_agent.link.api_http import DeviceApi
from device_agent.link.clock import TrustedClock
from device_agent.link.enrol import ask_renewal, enrol_once
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.late_renewal_x509 import ask_late_renewal
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.server_side_http import ServerSide
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509, proxy_headers
from fleet_server.enrolment import service as enrolment
from fleet_server.errors import SettingsError
from fleet_server.private_door_http import check_device_door
from fleet_server.proxy_nginx import Place, configuration
from fleet_server.secret_files_disk import with_secrets
from fleet_server.settings import Settings, from_environment
from ota.wire import topics
from ota.wire.assignments import StateRequest
from tests.fakes.facts import FACTS

pytestmark = pytest.mark.system
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
STATE = {"v": 1, "nonce": "0123456789abcdef", "seq": 0}
TIME = {"v": 1, "nonce": "0123456789abcdef"}
SECRET = "a" * 20 + "secret-of-the-proxy" + "z" * 20


@pytest.fixture(scope="module", autouse=True)
def _nginx_is_here() -> None:
    if NGINX is None:
        pytest.skip("nginx is not installed")


def until(true: Callable[[], bool], within_s: float = 90.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def held_port() -> socket.socket:
    """A port that stays ours: bound and not listening, so that nginx, which sets SO_REUSEADDR as this does, may listen on it."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", 0))
    return made


@dataclass
class Site:
    """A server behind nginx: ``public`` port asks for certificates, ``unasked`` does not, ``direct`` is the server's own."""

    data: Path
    folder: Path
    public: int
    unasked: int
    direct: int
    socket: Path

    @property
    def ca(self) -> Path:
        return self.data / "pki" / "ca.pem"

    def client(self, identity: Identity | None = None, port: int = 0) -> httpx.Client:
        tls = ssl.create_default_context(cafile=str(self.ca))
        if identity is not None:
            tls.load_cert_chain(identity.certificate_file, identity.key_file)
        return httpx.Client(base_url=f"https://127.0.0.1:{port or self.public}", verify=tls, timeout=60)

    def claim(self) -> str:
        database = Database(f"sqlite:///{self.data / 'database.sqlite3'}")
        try:
            with database.write() as session:
                terms = enrolment.ClaimTerms()
                return enrolment.make_claims(session, count=1, terms=terms, ttl_s=600, who="t", now_s=time.time())[0].token
        finally:
            database.dispose()

    def revoke(self, device: str) -> None:
        database = Database(f"sqlite:///{self.data / 'database.sqlite3'}")
        with database.write() as session:
            enrolment.revoke(session, device, reason="stolen", who="t", origin="", now_s=time.time())
        database.dispose()

    def api(self, port: int = 0) -> DeviceApi:
        return DeviceApi(f"https://127.0.0.1:{port or self.public}", context(self.ca), ByteCount(), timeout_s=60)

    def enrol(self, folder: Path) -> tuple[IdentityStore, Identity]:
        store = IdentityStore(folder)
        identity = enrol_once(self.api(self.unasked), store, self.claim(), FACTS).identity
        assert identity is not None
        return store, identity

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.rglob("*.log"))


def start_server(data: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[str], list[str]]:
    command = [sys.executable, "-m", "fleet_server", "run", "--data", str(data), "--operator-port", "0", "--broker", "none"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if line.startswith("broker  "):
            break
    else:
        raise AssertionError("the server did not come up: " + "".join(said))
    threading.Thread(target=lambda: said.extend(process.stdout or []), daemon=True).start()
    return process, said


def printed(data: Path, environment: dict[str, str], *flags: str) -> str:
    """What a person would put into /etc/nginx/conf.d."""
    command = [sys.executable, "-m", "fleet_server", "nginx", "--data", str(data), *flags]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=env).stdout


def _settings(data: Path, environment: dict[str, str]) -> Settings:
    return from_environment(with_secrets({**environment, "ROOKERY_DATA_DIR": str(data)}))


def start_nginx(folder: Path, files: list[Path]) -> subprocess.Popen[bytes]:
    temp = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    includes = "".join(f"    include {file};\n" for file in files)
    user = "user root;\n" if os.geteuid() == 0 else ""  # its workers must be let at the socket: an administrator uses a group
    (folder / "nginx.conf").write_text(
        f"{user}worker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx-error.log;\n"
        f"events {{}}\nhttp {{\n    access_log {folder}/nginx-access.log;\n{temp}{includes}}}\n"
    )
    assert NGINX is not None
    return subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"])


def site(folder: Path, environment: dict[str, str], *, private: bool) -> Iterator[Site]:
    ports = [held_port() for _ in range(3)]
    public, unasked, direct = (int(port.getsockname()[1]) for port in ports)
    data, path = folder / "server", Path(f"/tmp/rookery-{os.getpid()}-{public}.sock")
    environment = {**environment, "ROOKERY_DEVICE_DOOR_MODE": "proxy", "ROOKERY_DEVICE_PUBLIC_PORT": str(public)}
    environment |= {"ROOKERY_DEVICE_SOCKET": str(path)} if private else {}
    environment |= {"ROOKERY_DEVICE_PORT": str(direct)}
    started: list[subprocess.Popen[Any]] = []
    try:
        started.append(start_server(data, environment)[0])
        secret = folder / "rookery-secret.conf"
        secret.write_text(f'proxy_set_header X-Rookery-Proxy "{SECRET}";\n')
        include = f"--secret-include={secret}"
        asked, other = folder / "asked.conf", folder / "unasked.conf"
        asked.write_text(printed(data, environment, f"--listen=127.0.0.1:{public}", include))
        text = configuration(_settings(data, environment), Place(f"127.0.0.1:{unasked}", False, secret))
        text = text.replace("rookery_device_door", "rookery_other_door").replace("shared:rookery:", "shared:other:")
        other.write_text(text)  # two of them in one nginx need two names
        started.append(start_nginx(folder, [asked, other]))
        here = Site(data, folder, public, unasked, direct, path)

        def answers() -> bool:
            assert started[-1].poll() is None, (folder / "nginx-error.log").read_text()
            try:
                with here.client() as client:
                    return client.post(topics.TIME, json=TIME).status_code == 200
            except httpx.TransportError:
                return False

        until(answers)
        yield here
    finally:
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            process.wait(60)
        for port in ports:
            port.close()


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """nginx and server meet on a unix socket; no secret is needed."""
    yield from site(tmp_path_factory.mktemp("private"), {}, private=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """They meet on a TCP port and share a secret; signed requests are taken."""
    folder = tmp_path_factory.mktemp("shared")
    file = folder / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    yield from site(folder, {"ROOKERY_PROXY_SECRET_FILE": str(file), "ROOKERY_SIGNED_REQUESTS": "yes"}, private=False)


def forged(identity: Identity) -> dict[str, str]:
    """What nginx says of a verified certificate, as a client would write it."""
    pem = identity.certificate_file.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    return {proxy_headers.VERIFY: "SUCCESS", proxy_headers.CERTIFICATE: quote(pem), proxy_headers.ADDRESS: "192.0.2.1"}


def test_a_device_lives_behind_the_proxy(private: Site, tmp_path: Path) -> None:
    """Enrols without a certificate, polls with it, renews, puts a picture, is revoked: refused at the next request."""
    store, identity = private.enrol(tmp_path / "id")
    api = private.api()
    api.use(context(private.ca, identity))
    assert api.state(StateRequest(nonce="0123456789abcdef", seq=0)).state.payload
    fresh = ask_renewal(api, store, "s")
    api.use(context(private.ca, fresh))
    store.adopt()
    with private.client(store.load()) as client:
        body = b"\xff\xd8 a picture"
        digest, kind = hashlib.sha256(body).hexdigest(), "image/jpeg"
        asked = {"v": 1, "sha256": digest, "length_bytes": len(body), "content_type": kind, "name": "e"}
        slot = client.post(topics.UPLOADS, json=asked).json()
        assert client.put(slot["url"], content=body, headers=slot["headers"]).status_code == 201
        assert client.post(topics.STATE, json=STATE).status_code == 200
        told = json.loads((private.data / "run.json").read_text())["device_url"]
        assert told == f"https://127.0.0.1:{private.public}", "the address that devices can reach"
        private.revoke(fresh.device)
        refused = client.post(topics.STATE, json=STATE)
        assert (refused.status_code, "revoked" in refused.json()["detail"]) == (403, True)


def test_what_a_client_says_of_itself_is_overwritten(private: Site, tmp_path: Path) -> None:
    """A stranger has a device's certificate, which is no secret, and sends what nginx would say of it; a device, too."""
    _, victim = private.enrol(tmp_path / "victim")
    _, thief = private.enrol(tmp_path / "thief")
    spoofs = [forged(victim), {name.lower(): value for name, value in forged(victim).items()},
              {name.replace("-", "_"): value for name, value in forged(victim).items()}]  # fmt: skip
    with private.client() as stranger, private.client(thief) as other:
        for headers in spoofs:
            assert stranger.post(topics.STATE, json=STATE, headers=headers).status_code == 401, headers
            answer = other.post(topics.STATE, json=STATE, headers=headers)
            assert answer.status_code == 200
            state = msgspec.json.decode(answer.json()["state"]["payload"])
            assert state["device"] == thief.device, "its own, whatever it says"


def test_certificates_that_do_not_hold_end_in_words(private: Site, tmp_path: Path, new_board: Any) -> None:
    """Another authority's, with our names in it; and one that has ended: 401 as a problem, never nginx's page, never a 5xx."""
    _, real = private.enrol(tmp_path / "real")
    ours = authority_x509.Authority(private.data / "pki")
    foreign = authority_x509.prepare(tmp_path / "pki", ["localhost"], time.time())
    for made_by, now_s in ((foreign, time.time()), (ours, time.time() - 200 * 86_400)):
        board = new_board()
        made = made_by.issue_device(authority_x509.check_request(board.csr_pem), real.device, 90, now_s)
        chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
        chain.write_text(made.pem + made_by.chain_pem)
        key.write_bytes(board.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with private.client(Identity(real.device, key, chain, "", 0, 0, None)) as client:
            answer = client.post(topics.STATE, json=STATE)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json"), answer.text
        assert "does not hold" in answer.json()["detail"]


def test_a_certificate_that_was_never_written_down_is_nobodys(private: Site, tmp_path: Path, new_board: Any) -> None:
    """A thief of the issuing key, or a proxy that believes too much: a good certificate under another's name."""
    _, real = private.enrol(tmp_path / "real")
    board, ours = new_board(), authority_x509.Authority(private.data / "pki")
    made = ours.issue_device(authority_x509.check_request(board.csr_pem), real.device, 90, time.time())
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_text(made.pem + ours.chain_pem)
    key.write_bytes(board.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with private.client(Identity(real.device, key, chain, "", 0, 0, None)) as client:
        answer = client.post(topics.STATE, json=STATE)
    assert (answer.status_code, "did not issue" in answer.json()["detail"]) == (403, True)


def test_the_socket_is_for_owner_and_group_only(private: Site) -> None:
    """Another user of the machine would be every device: the socket's rights are what keeps him out."""
    assert private.socket.stat().st_mode & 0o777 == 0o660
    assert not list(private.data.glob("*.sock"))


def test_large_headers_and_slow_clients_stop_nobody(private: Site) -> None:
    """Headers of 100 KB, and 30 clients that stop in mid-handshake, in the head, in the body: the next one is served."""
    waiting: list[socket.socket] = []
    tls = ssl.create_default_context(cafile=str(private.ca))
    halves = [b"POST /device/v1/time HT", b"POST /device/v1/time HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{"]
    try:
        for number in range(30):
            plain = socket.create_connection(("127.0.0.1", private.public), timeout=60)
            if number < 10:
                plain.sendall(b"\x16\x03\x01\x02\x00\x01")
                waiting.append(plain)
            else:
                waiting.append(tls.wrap_socket(plain, server_hostname="127.0.0.1"))
                waiting[-1].sendall(halves[number % 2])
        with private.client() as client:
            assert client.post(topics.TIME, json=TIME).status_code == 200
            large = client.post(topics.TIME, json=TIME, headers={"X-Large": "x" * 100_000})
            assert large.status_code in (400, 494, 431)
            assert client.post(topics.TIME, json=TIME).status_code == 200
    finally:
        for each in waiting:
            each.close()


def test_without_the_secret_the_port_answers_nobody(shared: Site, tmp_path: Path) -> None:
    """Somebody inside finds the server's own port: no route, not even those for strangers, whatever he sends."""
    _, victim = shared.enrol(tmp_path / "victim")
    with httpx.Client(base_url=f"http://127.0.0.1:{shared.direct}", timeout=60) as client:
        for secret in ({}, *({proxy_headers.SECRET: wrong} for wrong in ("", SECRET[:-1], "x" * 4000))):
            for path, body in ((topics.STATE, STATE), (topics.TIME, TIME), (topics.ENROL, {})):
                answer = client.post(path, json=body, headers={**forged(victim), **secret})
                assert (answer.status_code, "proxy" in answer.json()["detail"]) == (403, True), (secret, path)
        assert client.get(f"{topics.METADATA}/1.root.json").status_code == 403
        headers = {**forged(victim), proxy_headers.SECRET: SECRET}
        assert client.post(topics.STATE, json=STATE, headers=headers).status_code == 200, "whoever has the secret is the proxy"
    with shared.client(victim) as through:
        assert through.post(topics.STATE, json=STATE).status_code == 200


def test_the_secret_stands_in_no_log_and_on_no_command_line(shared: Site) -> None:
    """Logs of nginx and doors, arguments and environments of all processes, after requests of all kinds."""
    with shared.client() as client:
        client.post(topics.STATE, json=STATE, headers={"X-Rookery-Proxy": "wrong"})
    assert "nginx-access" in " ".join(path.name for path in shared.folder.rglob("*.log"))
    assert SECRET not in shared.logs()
    assert SECRET not in (shared.folder / "asked.conf").read_text()
    running = json.loads((shared.data / "run.json").read_text())["pid"]
    for pid in [str(running), *Path(f"/proc/{running}/task/{running}/children").read_text().split()]:
        assert SECRET.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_an_agent_that_signs_works_where_nobody_asks_for_its_certificate(shared: Site, tmp_path: Path) -> None:
    """TLS ends at a proxy that asks for no certificates; the agent's clock is a day behind. It polls and renews."""
    store, identity = shared.enrol(tmp_path / "id")
    plain = shared.api(shared.unasked)
    plain.use(context(shared.ca, identity))
    with pytest.raises(Exception, match="client certificate"):
        plain.state(StateRequest(nonce="0123456789abcdef", seq=0))
    api, offset_s = shared.api(shared.unasked), [-86_400.0]
    clock = TrustedClock(0.0, now=lambda: time.time() + offset_s[0], steady=time.monotonic, keep=lambda _: None)
    side = ServerSide(
        api, shared.ca, clock, ByteCount(), woken=lambda: None, device_known=lambda _: None, sign=True,
    )  # fmt: skip
    side.use(identity)
    side.confirm()
    assert clock.now_s() > time.time() - 60, "the signed time has raised its floor"
    fresh = ask_renewal(api, store, "s")
    side.use(fresh)
    side.confirm()
    store.adopt()
    late = ask_late_renewal(side.renew_late, store, store.load() or fresh, "s")
    assert late.device == identity.device
    side.close()


def test_a_door_that_anybody_could_open_is_not_opened(tmp_path: Path) -> None:
    """Proxy mode on a port, and no secret: exit 2 that says what to do, before anything listens."""
    environment = {**os.environ, "ROOKERY_DEVICE_DOOR_MODE": "proxy"}
    command = [sys.executable, "-m", "fleet_server", "run", "--data", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200, env=environment)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert "needs a secret" in done.stderr
    assert "ROOKERY_PROXY_SECRET_FILE" in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("changed", "words"), [
    ({}, "needs a secret"), ({"proxy_secret": "short"}, "32 printable characters"),
    ({"proxy_secret": "\u00e4" * 40}, "32 printable characters"), ({"device_socket": "/tmp/" + "x" * 200}, "longer than"),
    ({"device_door_mode": "both"}, "neither direct nor proxy"),
    ({"device_door_mode": "direct", "device_socket": "/tmp/x"}, "for a proxy"),
])  # fmt: skip
def test_settings_of_a_door_that_make_no_sense_are_named(changed: dict[str, Any], words: str) -> None:
    """Each is refused at the start, and by the verb that prints nginx's configuration."""
    settings = replace(Settings(data_dir=Path("/nowhere"), device_door_mode="proxy"), **changed)
    with pytest.raises(SettingsError, match=words):
        check_device_door(settings)


def test_the_configuration_in_the_repository_is_the_printed_one() -> None:
    """deploy/nginx/ holds what `rookery-server nginx` prints for a server in /var/lib/rookery, to be read beforehand."""
    settings = Settings(
        data_dir=Path("/var/lib/rookery"), host="127.0.0.1", device_host="fleet.example.org", device_door_mode="proxy",
        device_socket="/run/rookery/device-door.sock", device_port=8443,
    )  # fmt: skip
    kept = Path(__file__).parents[3] / "deploy" / "nginx" / "rookery-device-door.conf"
    assert kept.read_text() == configuration(settings, Place())
