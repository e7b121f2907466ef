"""A real mosquitto with the server's own configuration, authority and database beside it, and clients that try everything.

No server process: the supervisor's part (``BrokerGuard``) is called by the test, with whatever time it likes.
"""

import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleet_server import broker_disk
from fleet_server.app import load_tables
from fleet_server.broker_guard_mqtt import BrokerGuard
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.enrolment.authority_x509 import Authority
from fleet_server.revocation import Revocations
from fleet_server.settings import BROKER_USER, Settings
from ota.wire.enrolment import EnrolRequest
from tests.fakes.facts import FACTS

PATIENCE_S = 60.0
CONNECT = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x3c\x00\x07d-table"
"""An MQTT 3.1.1 CONNECT with a clean session, as bytes: for callers that are refused before any library would say so."""


def until(true: Callable[[], bool], what: str = "it") -> None:
    """Wait for it, generously."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.02)


@dataclass
class Person:
    """A device or somebody who would be one: its name and one PEM of certificate, authorities and key."""

    name: str
    chain: Path


@dataclass
class Client:
    """An MQTT client; what was delivered to it is in ``heard``, in order."""

    client: mqtt.Client
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    connected: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    answered: threading.Event = field(default_factory=threading.Event)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """QoS 1; returns when the broker has answered, whatever it answered."""
        self.client.publish(topic, payload, 1, retain=retain).wait_for_publish(PATIENCE_S)

    def subscribe(self, topic: str) -> None:
        """Returns when the broker has answered, whatever it answered."""
        self.answered.clear()
        self.client.subscribe(topic, 1)
        assert self.answered.wait(PATIENCE_S), topic

    def cut(self) -> None:
        """The line is cut: no DISCONNECT, so the will is due."""
        self.client.loop_stop()
        sock: Any = self.client.socket()
        if sock is not None:
            sock.close()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


class World:
    """Everything under ``folder``; ``now_s`` is today."""

    def __init__(self, folder: Path) -> None:
        self.now_s = time.time()
        self.settings = Settings(data_dir=folder, broker_port=0, broker_inside_port=0)
        authority_x509.prepare(self.pki, ["localhost", "127.0.0.1"], self.now_s)
        self.authority = Authority(self.pki)
        load_tables()
        self.database = Database(self.settings.database)
        self.database.create_all()
        self.revocations = Revocations(self.settings)
        self.revocations.refresh(self.database, self.now_s)
        self.guard: BrokerGuard | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    @property
    def pki(self) -> Path:
        return self.settings.pki_dir

    # -- the broker -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start mosquitto on free ports; others, where somebody was quicker."""
        program = broker_disk.find_mosquitto()
        assert program is not None
        for _ in range(5):
            if not self.settings.broker_port:
                self.settings = replace(self.settings, broker_port=_free(), broker_inside_port=_free())
            conf = broker_disk.write_configuration(self.settings)
            log = (self.settings.data_dir / "mosquitto.log").open("ab")
            self._process = subprocess.Popen([program, "-c", str(conf)], stdout=log, stderr=log)
            log.close()
            if self._answers():
                break
            self.settings = replace(self.settings, broker_port=0)
        else:
            raise AssertionError((self.settings.data_dir / "mosquitto.log").read_text())
        self.revocations._settings = self.settings
        self.guard = BrokerGuard(self.settings, self.database, self.revocations, self.signal)
        self.guard.look(0.0, self.now_s)

    def _answers(self) -> bool:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                for port in (self.settings.broker_port, self.settings.broker_inside_port):
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                return True
            except OSError:
                time.sleep(0.02)
        return False

    def signal(self, number: int) -> None:
        """What the supervisor does: a signal; a broker that was ended by it is started again."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGTERM:
            self._process.wait(PATIENCE_S)
            self.start_again()

    def start_again(self) -> None:
        program = broker_disk.find_mosquitto()
        assert program is not None
        conf = self.settings.data_dir / "mosquitto" / "mosquitto.conf"
        self._process = subprocess.Popen([program, "-c", str(conf)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert self._answers()

    def stop(self) -> None:
        for client in self._clients:
            client.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
        self.database.dispose()

    # -- who comes ------------------------------------------------------------------------------------------------------

    def enrol(self) -> Person:
        """A device in the inventory with a certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = request_pem(key)
        with self.database.write() as session:
            claim = enrolment.make_claims(
                session, count=1, terms=enrolment.ClaimTerms(), ttl_s=600, who="t", now_s=self.now_s
            )[0]
            outcome = enrolment.enrol(
                session, EnrolRequest(claim=claim.token, csr_pem=csr, facts=FACTS), enrolment.Issuer(self.authority, 90),
                origin="", now_s=self.now_s,
            )  # fmt: skip
        assert outcome.device_id is not None
        return self.person(outcome.device_id, outcome.certificate_pem, key)

    def person(self, name: str, certificate_pem: str, key: ec.EllipticCurvePrivateKey, chain_pem: str | None = None) -> Person:
        """Somebody with this certificate."""
        path = self.settings.data_dir / f"{name}-{certificate_pem[60:70].replace('/', '_')}.pem"
        chain = self.authority.chain_pem if chain_pem is None else chain_pem
        path.write_text(certificate_pem + chain + key_pem(key))
        return Person(name, path)

    def revoke(self, person: Person) -> None:
        with self.database.write() as session:
            enrolment.revoke(session, person.name, reason="stolen", who="t", origin="", now_s=self.now_s)

    def tls(self, person: Person | None) -> ssl.SSLContext:
        """A client that trusts the root alone, as a board that slept does."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.load_verify_locations(self.pki / "root.crt")
        if person is not None:
            made.load_cert_chain(person.chain)
        return made

    def client(
        self, person: Person | None, *, client_id: str = "", protocol: int = mqtt.MQTTv311, user: tuple[str, str] | None = None,
        will: tuple[str, bytes] | None = None, clean: bool = True,
    ) -> Client:  # fmt: skip
        """A device's connection; ``person`` None: the server's own, inside. Returns when the broker has answered."""
        name = client_id or (person.name if person else "test-server")
        kind: Any = {"clean_session": clean} if protocol == mqtt.MQTTv311 else {}
        made = Client(mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol, **kind))  # type: ignore[arg-type]
        inner = made.client
        inner.on_message = lambda _client, _data, message: made.heard.append((message.topic, bytes(message.payload)))
        inner.on_connect = lambda _c, _d, _f, reason, _p: None if reason.is_failure else made.connected.set()
        inner.on_disconnect = lambda *_: made.gone.set()
        inner.on_subscribe = lambda *_: made.answered.set()
        inner.reconnect_delay_set(1, 2)
        if will is not None:
            inner.will_set(will[0], will[1], 1, retain=True)
        port = self.settings.broker_port
        if person is None:
            inner.username_pw_set(BROKER_USER, self.inside_password)
            port = self.settings.broker_inside_port
        else:
            inner.tls_set_context(self.tls(person))
            if user is not None:
                inner.username_pw_set(*user)
        inner.connect("127.0.0.1", port)
        inner.loop_start()
        self._clients.append(made)
        until(lambda: made.connected.is_set() or made.gone.is_set(), "an answer of the broker")
        return made

    @property
    def inside_password(self) -> str:
        return self.settings.broker_password_file.read_text().strip()

    def lets_in(self, person: Person) -> bool:
        """Whether the broker takes a connection with this certificate: not the handshake counts but its CONNACK."""
        return self.lets_in_with(self.tls(person))

    def lets_in_with(self, tls: ssl.SSLContext) -> bool:
        """The same with whatever TLS."""
        try:
            plain = socket.create_connection(("127.0.0.1", self.settings.broker_port), timeout=PATIENCE_S)
            with plain, tls.wrap_socket(plain, server_hostname="localhost") as line:
                line.sendall(CONNECT)
                return line.recv(4) == b"\x20\x02\x00\x00"
        except TimeoutError:
            raise
        except OSError:  # an alert of TLS is one, too
            return False


@contextmanager
def broker_world(folder: Path) -> Iterator[World]:
    """A world with its broker; ended at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    world = World(folder)
    try:
        world.start()
        yield world
    finally:
        world.stop()


def request_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A certificate request."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """A private key as text."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
