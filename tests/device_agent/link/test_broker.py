"""The broker: promptness only. A real mosquitto where there is one; a dead port otherwise."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.link.broker_mqtt import Broker
from device_agent.link.identity_x509 import Identity, IdentityStore
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from ota.wire.enrolment import EnrolAnswer
from ota.wire.heartbeat import Heartbeat
from tests.fakes.device_door_fake import Authority

DEVICE = "cam-broker"
MOSQUITTO = shutil.which("mosquitto") or (p if Path(p := "/usr/sbin/mosquitto").exists() else None)


class RealBroker:
    """A mosquitto with TLS and client certificates on a free port; ``kill`` and ``start`` again as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority()
        self.folder = folder
        folder.mkdir()
        key = ec.generate_private_key(ec.SECP256R1())
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / "ca.pem").write_text(self.authority.pem)
        (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))
        (folder / "cert.pem").write_text(self.authority.sign(key.public_key(), "localhost", hosts=("127.0.0.1",)))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\ncafile {folder}/ca.pem\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n"
            "require_certificate true\nuse_identity_as_username true\nallow_anonymous false\n"
            f"user {Path.home().owner()}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self.folder / "mosquitto.conf")], stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def identity(self, name: str) -> Identity:
        store = IdentityStore(self.folder / name)
        csr = store.request("s")
        from cryptography import x509

        public = x509.load_pem_x509_csr(csr.encode()).public_key()
        store.keep_answer(
            EnrolAnswer(
                status="accepted", device=name, certificate_pem=self.authority.sign(public, name), chain_pem=self.authority.pem
            )
        )
        return store.adopt()

    def listener(self, heard: Callable[[str, bytes], None]) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="the-server", protocol=mqtt.MQTTv311)
        client.tls_set_context(context(self.folder / "ca.pem", self.identity("the-server")))
        client.on_message = lambda _c, _d, message: heard(message.topic, message.payload)
        client.on_connect = lambda c, *_: c.subscribe("fleet/v1/+/up/+", qos=1)
        client.reconnect_delay_set(1, 1)
        client.connect_async("127.0.0.1", self.port)
        client.loop_start()
        return client


@pytest.fixture
def real(tmp_path: Path) -> Iterator[RealBroker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is missing: apt-get install mosquitto")
    made = RealBroker(tmp_path / "broker")
    made.start()
    yield made
    made.kill()


def wait_for(condition: threading.Condition, what: Callable[[], bool]) -> bool:
    with condition:
        return condition.wait_for(what, 30)


def test_online_heartbeats_wakes_and_the_last_will(real: RealBroker) -> None:
    """A device connects with its certificate, is online, beats, is woken; then its process dies and the broker says offline."""
    heard: list[tuple[str, bytes]] = []
    condition = threading.Condition()

    def hear(topic: str, payload: bytes) -> None:
        with condition:
            heard.append((topic, payload))
            condition.notify_all()

    server = real.listener(hear)
    woken, count = threading.Event(), ByteCount()
    identity = real.identity(DEVICE)
    broker = Broker("127.0.0.1", real.port, DEVICE, context(real.folder / "ca.pem", identity), count, woken.set)
    broker.start()
    try:
        online = (f"fleet/v1/{DEVICE}/up/online", b"online")
        assert wait_for(condition, lambda: online in heard)
        assert broker.connected
        assert broker.send_heartbeat(Heartbeat(sequence=1, boot_id="b", at_s=1, uptime_s=1, window_s=1, state="idle"))
        assert wait_for(condition, lambda: any(topic.endswith("heartbeat") for topic, _ in heard))
        assert count.sent_bytes > 500
        server.publish(f"fleet/v1/{DEVICE}/down/wake", b"", qos=1)
        assert woken.wait(30)
        # The process is gone without a word: the socket closes, the will is published.
        sock = broker._client.socket()
        assert sock is not None
        broker._client._sock_close()
        assert wait_for(condition, lambda: (online[0], b"offline") in heard)
    finally:
        broker.stop()
        server.disconnect()
        server.loop_stop()


def test_a_broker_that_dies_and_comes_back_is_only_a_state(real: RealBroker) -> None:
    """Killed: ``connected`` is False and sending says so. Started again: connected without anyone's doing."""
    changed = threading.Condition()
    tls = context(real.folder / "ca.pem", real.identity(DEVICE))
    broker = Broker("127.0.0.1", real.port, DEVICE, tls, ByteCount(), lambda: None)
    real_connect, real_gone = broker._client.on_connect, broker._client.on_disconnect

    def tell(inner: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            inner(*args)
            with changed:
                changed.notify_all()

        return call

    broker._client.on_connect, broker._client.on_disconnect = tell(real_connect), tell(real_gone)
    broker.start()
    try:
        assert wait_for(changed, lambda: broker.connected)
        real.kill()
        assert wait_for(changed, lambda: not broker.connected)
        beat = Heartbeat(sequence=1, boot_id="b", at_s=1, uptime_s=1, window_s=1, state="idle")
        assert not broker.send_heartbeat(beat)
        real.start()
        assert wait_for(changed, lambda: broker.connected)
    finally:
        broker.stop()


def test_a_broker_that_was_never_there_costs_nothing(tmp_path: Path) -> None:
    """Dead from the first second: starting returns at once, stopping too, no thread stays."""
    (tmp_path / "ca.pem").write_text(Authority().pem)
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker = Broker("127.0.0.1", port, DEVICE, context(tmp_path / "ca.pem"), ByteCount(), lambda: None)
    broker.start()
    assert not broker.connected
    broker.stop()
    assert threading.active_count() == before
