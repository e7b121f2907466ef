"""The worker against a real broker: it hears, it wakes, and it outlives the broker."""

import queue
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from sqlalchemy import update

from fleet_server import lease
from fleet_server.alerts.parts import parts
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.door_limits import Rarely
from fleet_server.ingest import broker_mqtt, service, worker
from fleet_server.inventory import service as inventory
from fleet_server.inventory.device import CertificateSummary
from fleet_server.logs import service as logs
from fleet_server.logs.tables import LogMarkRow
from fleet_server.rollouts.targets import set_target
from fleet_server.settings import Settings
from ota.trust.repository_disk import Repository
from ota.wire import codec, topics
from ota.wire.enrolment import BoardFacts
from ota.wire.heartbeat import Heartbeat
from ota.wire.logs import LogBatch, LogLine

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
PASSWORD = "inside"
PATIENCE_S = 30.0
FACTS = BoardFacts(profile="rpi-4", board_model="Pi", machine="aarch64", memory_bytes=2**30, python="3.11", agent_version="0.1")


@pytest.fixture
def repository(settings: Settings, clock: Any) -> Repository:
    return Repository(settings.data_dir / "tuf", settings.data_dir / "keys", clock)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A mosquitto with one open listener on a port that stays the same when it is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO is not None
        path = self.folder / "mosquitto.conf"
        path.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\n")
        self.process = subprocess.Popen([MOSQUITTO, "-c", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed")
    made = Broker(tmp_path)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def here(server: Context, request: pytest.FixtureRequest) -> Context:
    settings = server.settings
    port = request.getfixturevalue("broker").port if "broker" in request.fixturenames else 0
    settings.broker_password_file.parent.mkdir(parents=True)
    settings.broker_password_file.write_text(PASSWORD + "\n")
    # A real clock: the worker's threads wait in real time.
    return replace(server, settings=replace(settings, broker_inside_port=port), clock=time.time)


@pytest.fixture
def running(here: Context) -> Iterator[threading.Thread]:
    stop = threading.Event()
    thread = threading.Thread(target=worker.main, args=(here, stop))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the worker did not end"


def eventually(check: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never happened: {what}")


def connect(port: int, device: str = "") -> tuple[mqtt.Client, "queue.Queue[str]"]:
    heard: queue.Queue[str] = queue.Queue()
    subscribed = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv311)
    client.on_message = lambda _client, _data, message: heard.put(message.topic)
    client.on_connect = lambda one, *_: one.subscribe("fleet/v1/+/down/+", qos=1)
    client.on_subscribe = lambda *_: subscribed.set()
    eventually(lambda: _reachable(port), "the broker listens")
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert subscribed.wait(PATIENCE_S)
    return client, heard


def _reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def beat(sequence: int) -> bytes:
    return codec.encode(Heartbeat(sequence=sequence, boot_id="b", at_s=1.0, uptime_s=1.0, window_s=30.0, state="idle"))


def test_it_hears_devices_and_wakes_them_and_outlives_the_broker(
    broker: Broker, here: Context, enrolled: Any, running: threading.Thread
) -> None:
    """The broker comes late, works, is killed, and comes back; strangers and noise are on the line all the while."""
    device = enrolled.device_id

    def known() -> Any:
        with here.database.read() as session:
            return inventory.get(session, device, time.time())

    def broker_part() -> Any:
        with here.database.read() as session:
            return parts(session).get("broker")

    eventually(lambda: broker_part() is not None and not broker_part().ok, "the page says that there is no broker yet")
    broker.start()
    eventually(lambda: broker_part().ok, "the worker is connected")
    client, heard = connect(broker.port)
    for topic, payload in (
        ("fleet/v1/stranger/up/heartbeat", beat(1)), (topics.up(device, "heartbeat"), b"noise"),
        (topics.up(device, "online"), b"online"), (topics.up(device, "heartbeat"), beat(7)),
    ):  # fmt: skip
        client.publish(topic, payload, qos=1)
    eventually(lambda: known().heartbeat is not None and known().heartbeat["sequence"] == 7, "the heartbeat is stored")
    with here.database.write() as session:
        logs.create_session(session, device, log_level="debug", duration_s=60, reason="x", who="ann", now_s=time.time())
    assert heard.get(timeout=PATIENCE_S) == topics.down(device, "wake")
    with here.database.write() as session:
        set_target(session, device, None, source="rollout:r", now_s=time.time())
    assert heard.get(timeout=PATIENCE_S) == topics.down(device, "wake")
    client.loop_stop()
    broker.stop()
    eventually(lambda: not broker_part().ok, "the page says that the broker is gone")
    broker.start()
    client, _ = connect(broker.port)
    eventually(lambda: broker_part().ok, "connected again")
    client.publish(topics.up(device, "heartbeat"), beat(8), qos=1)
    eventually(lambda: known().heartbeat["sequence"] == 8, "heard again")
    client.loop_stop()


def test_without_a_broker_it_ticks_all_the_same(here: Context, running: threading.Thread) -> None:
    def noted() -> Any:
        with here.database.read() as session:
            return {"broker", "verifier", "trust"} <= set(parts(session))

    eventually(noted, "all parts are noted")
    with here.database.read() as session:
        assert parts(session)["broker"].note.startswith("no broker")


def test_a_batch_that_comes_twice_changes_nothing(here: Context, enrolled: Any) -> None:
    received = [
        (topics.up(enrolled.device_id, "heartbeat"), beat(1)),
        (topics.up(enrolled.device_id, "online"), b"offline"),
        ("x", b""),
    ]
    for _ in range(2):
        with here.database.write() as session:
            service.store(session, received, 1_790_000_000.0)
    with here.database.read() as session:
        assert inventory.get(session, enrolled.device_id, 1_790_000_000.0).heartbeat["sequence"] == 1  # type: ignore[index]


def test_a_message_that_cannot_be_stored_harms_nobody_else(database: Database, server: Context) -> None:
    """A hostile board finds a message that the database refuses, and sends it in the second of everybody else's heartbeats."""
    with database.write() as session:
        for name in ("cam-1", "cam-2"):
            inventory.record_enrolled(
                session, device_id=name, name=name, group="g", facts=FACTS,
                certificate=CertificateSummary("1", 2e9, "ab" * 32), now_s=1.0,
            )  # fmt: skip
        logs.store_lines(session, "cam-1", codec.decode(LogBatch, log_batch(1, 0)))
        session.execute(update(LogMarkRow).values(dropped=2**63 - 1))  # as if some sum had no end
    made = worker.Worker(replace(server, database=database, settings=replace(server.settings, broker="none")))
    bad = (topics.up("cam-1", "log"), log_batch(2, 1))
    original = logs.MAX_COUNT
    try:
        logs.MAX_COUNT = 2**200
        made._store([(topics.up("cam-2", "heartbeat"), beat(1)), bad, (topics.up("cam-2", "online"), b"online")])
    finally:
        logs.MAX_COUNT = original
    with database.read() as session:
        assert inventory.get(session, "cam-2", 1.0).heartbeat is not None
        assert [one.sequence for one in logs.lines(session, "cam-1")] == [1]


def log_batch(sequence: int, dropped: int) -> bytes:
    line = LogLine(sequence=sequence, at_s=1.0, level="info", logger="l", text="t")
    return codec.encode(LogBatch(boot_id="b", lines=[line], dropped=dropped))


def test_a_flood_of_large_messages_is_dropped_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """One board sends its largest heartbeat as fast as its line can, while the database is slow: memory has an end."""
    monkeypatch.setattr(broker_mqtt, "MAX_WAITING_BYTES", 1000)
    link = broker_mqtt.BrokerLink("127.0.0.1", 1, "u", "p")
    message = SimpleNamespace(topic="t", payload=b"x" * 400)
    for _ in range(10):
        link._on_message(None, None, message)
    assert link.dropped == 8
    assert len(link.take(100, 0.1)) == 2
    link._on_message(None, None, message)
    assert len(link.take(100, 0.1)) == 1


def test_a_device_that_floods_the_broker_takes_nobodys_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 heartbeats of one stolen key while the database is busy: those of others still wait for it, and its own end."""
    monkeypatch.setattr(broker_mqtt, "MAX_WAITING", 300)
    link = broker_mqtt.BrokerLink("127.0.0.1", 1, "u", "p")

    def come(device: str, channel: str = "heartbeat") -> None:
        link._on_message(None, None, SimpleNamespace(topic=topics.up(device, channel), payload=b"x"))

    for _ in range(500):
        come("cam-bad")
        come("cam-bad", "log")
    come("cam-good")
    waiting = [topic for topic, _payload in link.take(1000, 0.1)]
    assert waiting.count(topics.up("cam-good", "heartbeat")) == 1
    assert (len(waiting), link.dropped) == (broker_mqtt.MAX_WAITING_OF_ONE + 1, 1000 - broker_mqtt.MAX_WAITING_OF_ONE)
    come("cam-bad")
    assert len(link.take(1000, 0.1)) == 1, "what was taken waits no more"


def test_garbage_of_a_device_is_one_line_a_minute(sqlite_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """Each of 20,000 broken heartbeats, and of log batches in disorder, was a line in the server's log."""
    told = Rarely(service.TOLD_EVERY_S)
    batch = [(topics.up(device, "heartbeat"), b"{") for device in ("cam-1", "cam-2") for _ in range(200)]
    with sqlite_database.write() as session:
        service.store(session, batch, 1000.0, told)
        service.store(session, batch, 1061.0, told)
    lines = [record.getMessage() for record in caplog.records if "not of ours" in record.getMessage()]
    assert [line.split()[0] for line in lines] == ["1", "1", "200", "200"]


def test_one_job_has_one_owner_and_the_number_rises_when_it_changes(database: Database) -> None:
    """Two workers; the first is stopped for a while and comes back believing that it is still in charge."""

    def acquire(owner: str, now_s: float) -> int | None:
        with database.write() as session:
            return lease.acquire(session, "rollouts", owner, now_s=now_s, ttl_s=10.0)

    assert [acquire("one", 0.0), acquire("one", 5.0), acquire("two", 14.0)] == [1, 1, None]
    assert acquire("two", 15.1) == 2
    assert acquire("one", 16.0) is None
    with database.write() as session:
        lease.let_go(session, "rollouts", "two")
    assert acquire("one", 17.0) == 3
