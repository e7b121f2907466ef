"""The real server: gunicorn over TLS, mosquitto, signals, ports. Everything that is started here is ended here."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fleet_server.broker_disk import find_mosquitto
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment

pytestmark = pytest.mark.system
TIME_BODY = {"v": 1, "nonce": "0123456789abcdef"}


@dataclass
class Running:
    """A server that runs over ``data``; what it printed so far is in ``said``."""

    process: subprocess.Popen[str]
    data: Path
    facts: dict[str, Any]
    said: list[str] = field(default_factory=list)

    def tls(self, chain: Path | None = None) -> ssl.SSLContext:
        """A client's TLS: trusts the server's authority, shows the certificate in ``chain`` (PEM with key)."""
        context = ssl.create_default_context(cafile=self.facts["ca_file"])
        if chain is not None:
            context.load_cert_chain(chain)
        return context

    def device(self, chain: Path | None = None) -> httpx.Client:
        """A client of the device door."""
        return httpx.Client(base_url=self.facts["device_url"], verify=self.tls(chain), timeout=30)

    def pids(self) -> list[int]:
        """All processes of this server, itself included."""
        text = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in text.splitlines()[1:]]
        found = [self.process.pid]
        for pid in found:
            found += [child for child, parent in pairs if parent == pid]
        return found


def _spawn(data: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fleet_server", "run", "--data", str(data), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _verb(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleet_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def _start(data: Path, *flags: str) -> Running:
    process = _spawn(data, "--operator-port", "0", "--device-port", "0", *flags)
    said: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:  # ends when the server does
        said.append(line)
        if line.startswith("broker  "):
            break
    else:
        raise AssertionError("the server did not come up: " + "".join(said) + _logs(data))
    drain = threading.Thread(target=lambda: said.extend(process.stdout or []), daemon=True)
    drain.start()
    return Running(process, data, json.loads((data / "run.json").read_text()), said)


def _logs(data: Path) -> str:
    return "".join(f"\n== {path.name}\n{path.read_text()[-2000:]}" for path in (data / "logs").glob("*.log"))


def _end(running: Running) -> None:
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
    running.process.wait(30)


def _alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}/stat").exists() and _state(pid) != "Z"]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


def _until(true: Callable[[], bool], within_s: float = 40.0) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen")
        time.sleep(0.05)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for the tests that leave it as it is."""
    started = _start(tmp_path_factory.mktemp("server"))
    yield started
    _end(started)


def _enrol(running: Running, board: Any, folder: Path) -> tuple[str, Path]:
    """A device that enrolled over the real wire: its id, and its certificate, chain and key in one PEM."""
    database = Database(f"sqlite:///{running.data / 'database.sqlite3'}")
    with database.write() as session:
        claim = enrolment.make_claims(session, count=1, terms=enrolment.ClaimTerms(), ttl_s=600, who="t", now_s=time.time())[0]
    database.dispose()
    with running.device() as client:
        body = msgspec.json.encode(board.request(claim.token))
        answer = client.post("/device/v1/enrol", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    path = folder / f"{answer.json()['device']}.pem"
    path.write_text(answer.json()["certificate_pem"] + answer.json()["chain_pem"] + _key(board))
    return answer.json()["device"], path


def _key(board: Any) -> str:
    return board.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _revoke(running: Running, device_id: str) -> None:
    database = Database(f"sqlite:///{running.data / 'database.sqlite3'}")
    with database.write() as session:
        enrolment.revoke(session, device_id, reason="stolen", who="t", origin="", now_s=time.time())
    database.dispose()


def _ask_slot(client: httpx.Client) -> httpx.Response:
    body = {"v": 1, "sha256": "0" * 64, "length_bytes": 5, "content_type": "image/jpeg", "name": "e"}
    return client.post("/device/v1/uploads", json=body)


def test_the_certificate_decides_who_is_asking(running: Running, new_board: Any, tmp_path: Path) -> None:
    """No certificate: open routes only. Ours: let in. Revoked: refused on the very connection that is open."""
    with running.device() as stranger:
        assert stranger.post("/device/v1/time", json=TIME_BODY).status_code == 200
        refused = _ask_slot(stranger)
        assert (refused.status_code, refused.headers["content-type"]) == (401, "application/problem+json")
    device_id, chain = _enrol(running, new_board(), tmp_path)
    with running.device(chain) as client:
        slot = _ask_slot(client)
        assert slot.status_code == 200, slot.text
        assert slot.json()["key"].startswith(device_id)
        _revoke(running, device_id)
        refused = _ask_slot(client)
        assert refused.status_code == 403
        assert "revoked" in refused.json()["detail"]


def test_a_certificate_of_a_foreign_authority_ends_the_handshake(running: Running, new_board: Any, tmp_path: Path) -> None:
    """Someone makes an authority of his own, with our names, and signs himself a device."""
    foreign = authority_x509.prepare(tmp_path / "pki", ["localhost"], time.time())
    board = new_board()
    made = foreign.issue_device(authority_x509.check_request(board.csr_pem), "d-0000", 90, time.time())
    chain = tmp_path / "foreign.pem"
    chain.write_text(made.pem + foreign.chain_pem + _key(board))
    with running.device(chain) as client, pytest.raises(httpx.TransportError):
        _ask_slot(client)


def test_a_header_is_no_certificate(running: Running) -> None:
    """Someone sends the headers that a proxy would set."""
    with running.device() as client:
        client.headers.update({"X-Client-Verify": "SUCCESS", "X-Client-DN": "CN=d-1", "SSL_CLIENT_VERIFY": "SUCCESS"})
        assert _ask_slot(client).status_code == 401


def test_silent_clients_do_not_close_the_door(running: Running) -> None:
    """Eighty connections begin a handshake and say no more: more than there are threads. The next client is still served."""
    port = int(running.facts["device_url"].rsplit(":", 1)[1])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(80)]
    try:
        for each in silent:
            each.sendall(b"\x16\x03\x01\x02\x00\x01")  # the first bytes of a ClientHello
        with running.device() as client:
            assert client.post("/device/v1/time", json=TIME_BODY).status_code == 200
    finally:
        for each in silent:
            each.close()


def test_half_a_request_does_not_close_the_door(running: Running) -> None:
    """As many strangers as either door has threads send half a request and wait: both doors serve the next client in time."""
    half_a_body = b"POST /device/v1/time HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"
    doors = [urlsplit(running.facts[name]).port for name in ("device_url", "operator_url")]
    tls, waiting = running.tls(), []
    try:
        for _ in range(64):
            waiting.append(tls.wrap_socket(socket.create_connection(("127.0.0.1", doors[0])), server_hostname="localhost"))
            waiting[-1].sendall(half_a_body)
        for _ in range(128):
            waiting.append(socket.create_connection(("127.0.0.1", doors[1])))
            waiting[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: loc")
        with running.device() as client:
            assert client.post("/device/v1/time", json=TIME_BODY).status_code == 200
        assert httpx.get(running.facts["operator_url"] + "/healthz", timeout=30).status_code == 200
    finally:
        for each in waiting:
            each.close()


def test_broken_chunks_are_the_clients_fault(running: Running) -> None:
    """Someone sends chunks whose sizes are no numbers, again and again: refused, and no stack trace that fills the log."""
    address = ("127.0.0.1", urlsplit(running.facts["device_url"]).port)
    head = b"POST /device/v1/time HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running.tls().wrap_socket(socket.create_connection(address), server_hostname="localhost") as tls:
        tls.sendall(head + b"ZZ\r\n")
        assert tls.recv(100).startswith(b"HTTP/1.1 400")
    assert "Traceback" not in (running.data / "logs" / "device-door.log").read_text()


def test_clients_that_do_not_hang_up_make_nobody_wait(running: Running) -> None:
    """Forty clients ask with Connection: close and then keep their side open: the next one is served at once, not one by one."""
    port = int(running.facts["operator_url"].rsplit(":", 1)[1])
    lingering = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    try:
        for each in lingering:
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert httpx.get(running.facts["operator_url"] + "/healthz", timeout=30).status_code == 200
    finally:
        for each in lingering:
            each.close()


def test_tls_below_1_2_is_refused(running: Running) -> None:
    """A downgrade."""
    old = running.tls()
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    port = int(running.facts["device_url"].rsplit(":", 1)[1])
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", port)) as sock:
        old.wrap_socket(sock, server_hostname="localhost")


def test_the_setup_link_makes_the_first_admin_and_is_gone(running: Running) -> None:
    """A newcomer opens the link that was printed; then nobody can again."""
    link = running.data / "setup-link"
    assert link.stat().st_mode & 0o777 == 0o600
    token = link.read_text().strip().rsplit("token=", 1)[1]
    body = {"token": token, "name": "ada", "password": "correct horse battery"}
    url = running.facts["operator_url"] + "/api/v1/setup"
    assert httpx.post(url, json=body).status_code == 201
    assert not link.exists()
    assert httpx.post(url, json=body).status_code == 403


def test_keys_are_for_their_owner_only(running: Running) -> None:
    """Another user of the machine looks around in the data folder."""
    secrets = [*running.data.glob("pki/*.key"), *running.data.glob("keys/*"), *running.data.glob("mosquitto/*passw*")]
    assert len(secrets) >= 6
    assert {path.stat().st_mode & 0o077 for path in secrets} == {0}
    assert running.data.stat().st_mode & 0o077 in {0, 0o055}
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running.pids()]
    password = (running.data / "keys" / "web-secret").read_bytes()
    assert not any(password in command for command in commands)


def test_an_open_folder_keeps_its_secrets_too(tmp_path: Path) -> None:
    """The data folder was made beforehand, open to all as mkdir makes it: pictures and password hashes are not."""
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    data.chmod(0o755)
    running = _start(data, "--broker", "none")
    try:
        for name in ("database.sqlite3", "database.sqlite3-wal", "blobs", "logs", "keys", "pki", "setup-link"):
            assert (data / name).stat().st_mode & 0o077 == 0, name
    finally:
        _end(running)


def test_a_second_server_over_the_same_data_says_so(running: Running) -> None:
    """Someone starts it twice: exit 2, naming the process that runs; the first goes on."""
    second = _spawn(running.data, "--operator-port", "0", "--device-port", "0")
    text = second.communicate(timeout=60)[0]
    assert second.returncode == 2
    assert f"process {running.process.pid}" in text
    assert "Traceback" not in text
    assert httpx.get(running.facts["operator_url"] + "/healthz").status_code == 200


@pytest.mark.parametrize("flags", [("--host", "0.0.0.0"), ("--host", "::"), ("--host", "0"), ("--device-host", "0.0.0.0"),
                                   ("--host", "0.0.0.0", "--device-host", "two words")])  # fmt: skip
def test_a_server_on_every_address_must_be_told_the_one_for_devices(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Somebody opens the server to the network; boards would be told 127.0.0.1 and look for it on themselves."""
    refused = _verb("run", "--data", str(tmp_path / "data"), *flags)
    assert (refused.returncode, "--device-host" in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)
    assert not (tmp_path / "data").exists()


def test_the_name_that_devices_are_told_stands_in_the_certificate(tmp_path: Path) -> None:
    """With its name the same server comes up, and that name is the one that TLS proves and that boards are sent to."""
    running = _start(tmp_path / "server", "--host", "0.0.0.0", "--device-host", "fleet.example.org", "--broker", "none")
    try:
        assert urlsplit(running.facts["device_url"]).hostname == "fleet.example.org"
        certificate = x509.load_pem_x509_certificate((tmp_path / "server" / "pki" / "server.crt").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "fleet.example.org" in names.get_values_for_type(x509.DNSName)
    finally:
        _end(running)


@pytest.mark.parametrize("flag", ["--operator-port", "--device-port", "--broker-port"])
def test_a_chosen_port_in_use_is_named(tmp_path: Path, flag: str) -> None:
    """Another program has the port: exit 2 with its number, nothing started."""
    if flag == "--broker-port" and find_mosquitto() is None:
        pytest.skip("mosquitto is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        flags = {"--operator-port": "0", "--device-port": "0", flag: port}
        process = _spawn(tmp_path / "data", *(word for pair in flags.items() for word in pair))
        text = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert f"{flag} {port}" in text
    assert "in use" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_everything(tmp_path: Path, number: int) -> None:
    """Ctrl-C, or the service manager: exit 0, no process and no run.json left, and it can start again."""
    running = _start(tmp_path / "data")
    pids = running.pids()
    assert len(pids) >= 6
    running.process.send_signal(number)
    assert running.process.wait(30) == 0
    assert _alive(pids) == []
    assert not (running.data / "run.json").exists()
    assert sqlite3.connect(running.data / "database.sqlite3").execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_killing_the_supervisor_leaves_nothing_running(tmp_path: Path) -> None:
    """kill -9: the kernel ends the children."""
    running = _start(tmp_path / "data")
    pids = running.pids()
    assert len(_alive(pids)) >= 3  # both doors and the worker: an empty list would prove nothing
    running.process.kill()
    running.process.wait(10)
    _until(lambda: _alive(pids) == [])


def test_dead_children_come_back(tmp_path: Path) -> None:
    """A door and the broker are killed: the server goes on, and both are there again on the same ports."""
    running = _start(tmp_path / "data")
    try:
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in running.pids()}
        victims = [pid for pid, name in names.items() if ("mosquitto -c" in name or "device-door" in name)]
        assert victims
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        assert httpx.get(running.facts["operator_url"] + "/healthz").status_code == 200

        def back() -> bool:
            try:
                with running.device() as client:
                    served = client.post("/device/v1/time", json=TIME_BODY).status_code == 200
                if running.facts["broker"]:
                    socket.create_connection(("127.0.0.1", running.facts["broker"]["port"])).close()
            except (httpx.TransportError, OSError):
                return False
            return served

        _until(back)
        assert running.process.poll() is None
    finally:
        _end(running)


def test_over_postgresql_and_without_a_broker_it_serves_too(tmp_path: Path, postgres_database_url: str) -> None:
    """PostgreSQL, its URL given by the environment because it may hold a password; no broker wanted: what that costs is said."""
    os.environ["ROOKERY_DATABASE_URL"] = postgres_database_url
    try:
        running = _start(tmp_path / "data", "--broker", "none")
    finally:
        del os.environ["ROOKERY_DATABASE_URL"]
    try:
        assert running.facts["broker"] is None
        assert any("HTTPS alone" in line for line in running.said)
        token = (running.data / "setup-link").read_text().strip().rsplit("token=", 1)[1]
        body = {"token": token, "name": "ada", "password": "correct horse battery"}
        assert httpx.post(running.facts["operator_url"] + "/api/v1/setup", json=body, timeout=30).status_code == 201
        assert not (running.data / "database.sqlite3").exists()
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in running.pids()]
        assert not any(b"rookery-pg" in command for command in commands)
    finally:
        _end(running)


def test_a_database_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL is down: exit 2 with one line, nothing left running, no stack trace."""
    url = f"postgresql://nobody:s3cret@/none?host={tmp_path}"
    monkeypatch.setenv("ROOKERY_DATABASE_URL", url)
    process = _spawn(tmp_path / "data", "--operator-port", "0", "--device-port", "0")
    text = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert "the database" in text
    assert "s3cret" not in text
    assert "Traceback" not in text


@dataclass
class Listener:
    """An MQTT 3.1.1 client with a certificate; what it heard is in ``heard``."""

    client: mqtt.Client
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    connected: threading.Event = field(default_factory=threading.Event)
    acknowledged: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)


def _listener(running: Running, chain: Path | None, client_id: str = "", inside: bool = False) -> Listener:
    made = Listener(mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv311))
    made.client.on_message = lambda _client, _data, message: made.heard.append((message.topic, message.payload))
    made.client.on_connect = lambda *_: made.connected.set()
    made.client.on_disconnect = lambda *_: made.gone.set()
    made.client.on_subscribe = lambda *_: made.acknowledged.set()
    if inside:
        conf = (running.data / "mosquitto" / "mosquitto.conf").read_text()
        port = int([line.split()[1] for line in conf.splitlines() if line.startswith("listener")][-1])
        made.client.username_pw_set("fleet-server", (running.data / "mosquitto" / "inside-password").read_text().strip())
    else:
        port = running.facts["broker"]["port"]
        made.client.tls_set_context(running.tls(chain))
    made.client.connect("127.0.0.1", port)
    made.client.loop_start()
    assert made.connected.wait(20)
    return made


def _subscribe(listener: Listener, topic: str) -> None:
    listener.acknowledged.clear()
    listener.client.subscribe(topic, 1)
    assert listener.acknowledged.wait(20)


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_on_the_broker_a_device_has_its_own_branch_and_nothing_else(running: Running, new_board: Any, tmp_path: Path) -> None:
    """Device B tries device A's branch, its wake, everything, and A's client id: A and the server notice nothing of it."""
    (a_id, a_chain), (b_id, b_chain) = (_enrol(running, new_board(), tmp_path) for _ in range(2))
    server = _listener(running, None, "test-server", inside=True)
    a, b = _listener(running, a_chain, a_id), _listener(running, b_chain, a_id)  # B claims to be A
    try:
        _subscribe(server, "fleet/v1/+/up/#")
        _subscribe(a, f"fleet/v1/{a_id}/down/#")
        for topic in (f"fleet/v1/{a_id}/down/#", "fleet/#", f"$share/g/fleet/v1/{a_id}/#"):
            _subscribe(b, topic)
        b.client.publish(f"fleet/v1/{b_id}/up/hoard/1", b"x" * 200_000, 1, retain=True).wait_for_publish(20)
        for topic in (f"fleet/v1/{a_id}/up/heartbeat", f"fleet/v1/{a_id}/down/wake"):
            b.client.publish(topic, b"forged", 1).wait_for_publish(20)
        server.client.publish(f"fleet/v1/{a_id}/down/wake", b"real", 1).wait_for_publish(20)
        a.client.publish(f"fleet/v1/{a_id}/up/heartbeat", b"a", 1).wait_for_publish(20)
        b.client.publish(f"fleet/v1/{b_id}/up/heartbeat", b"b", 1).wait_for_publish(20)
        _until(lambda: len(server.heard) >= 2 and bool(a.heard))
        assert sorted(server.heard) == sorted([(f"fleet/v1/{a_id}/up/heartbeat", b"a"), (f"fleet/v1/{b_id}/up/heartbeat", b"b")])
        assert a.heard == [(f"fleet/v1/{a_id}/down/wake", b"real")]
        assert b.heard == []
        assert not a.gone.is_set()
    finally:
        for each in (server, a, b):
            each.client.loop_stop()
            each.client.disconnect()


@pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")
def test_a_revoked_device_is_out_of_the_broker(running: Running, new_board: Any, tmp_path: Path) -> None:
    """A stolen camera's open MQTT connection: within one look nothing of it comes through, and it cannot come back."""
    device_id, chain = _enrol(running, new_board(), tmp_path)
    server = _listener(running, None, "test-server-2", inside=True)
    camera = _listener(running, chain, device_id)
    try:
        _subscribe(server, f"fleet/v1/{device_id}/up/#")
        camera.client.publish(f"fleet/v1/{device_id}/up/log", b"before", 1).wait_for_publish(20)
        _until(lambda: len(server.heard) == 1)
        _revoke(running, device_id)
        serial = f"{x509.load_pem_x509_certificate(chain.read_bytes()).serial_number:x}"
        _until(lambda: _listed(running, serial))

        def connects() -> bool:
            with socket.create_connection(("127.0.0.1", running.facts["broker"]["port"])) as sock:
                try:
                    with running.tls(chain).wrap_socket(sock, server_hostname="localhost") as tls:
                        tls.settimeout(5)
                        tls.sendall(b"\x10")  # TLS 1.3: a refusal of our certificate comes with the first read
                        tls.sendall(b"\x00")
                        return tls.recv(1) == b"?"
                except ssl.SSLError:
                    return False
                except OSError:
                    return True

        _until(lambda: not connects())
        assert camera.gone.wait(40)  # its open connection was taken over and closed
        camera.client.publish(f"fleet/v1/{device_id}/up/log", b"after", 1)  # it may try to come back
        server.client.publish(f"fleet/v1/{device_id}/up/log", b"end", 1).wait_for_publish(20)
        _until(lambda: server.heard[-1][1] == b"end")
        assert [payload for _topic, payload in server.heard] == [b"before", b"end"]
    finally:
        for each in (server, camera):
            each.client.loop_stop()
            each.client.disconnect()


def _listed(running: Running, serial: str) -> bool:
    found = x509.load_pem_x509_crl((running.data / "pki" / "crl.pem").read_bytes())
    return found.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


def test_a_machine_gets_a_token_on_the_server_itself(running: Running, tmp_path: Path) -> None:
    """Someone with the server's machine under his hands makes a token: 0600, in the audit log, and the setup link lives on."""
    out = tmp_path / "token"
    done = _verb("token", "--data", str(running.data), "--name", "demo", "--role", "releaser", "--hours", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.stat().st_mode & 0o777 == 0o600
    bearer = {"Authorization": f"Bearer {out.read_text().strip()}"}
    assert out.read_text().strip() not in done.stdout
    answer = httpx.get(running.facts["operator_url"] + "/api/v1/whoami", headers=bearer)
    assert (answer.json()["name"], answer.json()["role"]) == ("demo", "releaser")
    found = httpx.get(running.facts["operator_url"] + "/api/v1/audit", headers=bearer).json()["items"]
    assert "token.local" in {entry["what"] for entry in found}
    done = _verb("token", "--data", str(running.data), "--name", "x", "--role", "king", "--hours", "1", "--out", str(out))
    assert done.returncode != 0
    assert "king" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_what_is_wrong(running: Running, tmp_path: Path) -> None:
    """An operator asks what is missing: all well here; a folder without a server is named."""
    done = _verb("check", "--data", str(running.data))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "wrong" not in done.stdout
    shutil.copytree(running.data / "pki", tmp_path / "data" / "pki")
    done = _verb("check", "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "wrong  database" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
