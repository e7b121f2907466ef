"""Local MQTT against a real mosquitto: at once, retained states, the last will; and a broker that comes and goes."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.local.output import LocalOutput
from device_agent.local.places import PlaceState
from device_agent.local.telling_mqtt import MqttPlace, MqttTelling
from device_agent.local.words import discovery_of

MOSQUITTO = shutil.which("mosquitto") or (p if Path(p := "/usr/sbin/mosquitto").exists() else None)
PASSWORDS = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
GATE = "rookery/cam-1/yard/gate"


class RealBroker:
    """A mosquitto on a port of its own that asks for a password; killed and started as often as wanted. It remembers nothing."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        passwords = folder / "passwords"
        passwords.touch(mode=0o600)
        for user in ("cam", "ear"):
            subprocess.run([PASSWORDS, "-b", str(passwords), user, f"{user}-secret"], check=True, capture_output=True)
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nuser {Path.home().owner()}\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert MOSQUITTO
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._config)], stderr=subprocess.DEVNULL)
        # Whoever connects too early waits a second for the next try: the tests would be slow, not wrong.
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.01)
        raise AssertionError("mosquitto does not listen")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RealBroker]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is missing: apt-get install mosquitto")
    made = RealBroker(tmp_path)
    yield made
    made.kill()


@pytest.fixture
def listen(broker: RealBroker) -> Iterator[Callable[[Callable[[tuple[str, str, bool]], None]], mqtt.Client]]:
    """Hear everything on the broker: (topic, payload, retained)."""
    clients: list[mqtt.Client] = []

    def begin(heard: Callable[[tuple[str, str, bool]], None]) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"ear-{len(clients)}", protocol=mqtt.MQTTv311)
        client.username_pw_set("ear", "ear-secret")
        client.on_connect = lambda c, *_: c.subscribe("#", qos=1)
        client.on_message = lambda _c, _d, one: heard((one.topic, one.payload.decode(), bool(one.retain)))
        client.reconnect_delay_set(1, 1)
        client.connect_async("127.0.0.1", broker.port)
        client.loop_start()
        clients.append(client)
        return client

    yield begin
    for client in clients:
        client.disconnect()
        client.loop_stop()


def telling(broker: RealBroker, steady, **options) -> MqttTelling:
    return MqttTelling(MqttPlace("127.0.0.1", broker.port, "cam-1", "cam", "cam-secret", **options), steady)


def last(items: list[tuple[str, str, bool]]) -> dict[str, str]:
    return {topic: payload for topic, payload, _ in items}


def test_an_event_is_told_at_once_and_its_zone_is_on_until_it_ends(broker, listen, heard, running, update, steady) -> None:
    """Somebody comes, somebody goes. Whoever listens later finds the states retained; the event itself is not repeated."""
    broker.start()
    early, late = heard(), heard()
    teller = telling(broker, steady)
    local = LocalOutput([teller])
    local.places("yard", ["gate"], ["door"])
    with running(teller):
        listen(early)
        early.until(lambda items: last(items).get(f"{GATE}/state") == "off" and "rookery/cam-1/availability" in last(items))
        local.tell(update(1))
        items = early.until(lambda items: last(items).get(f"{GATE}/state") == "on" and "rookery/cam-1/yard/event" in last(items))
        body = json.loads(last(items)["rookery/cam-1/yard/event"])
        assert (body["id"], body["kind"], body["zone"]) == ("ev1", "start", "gate")
        assert last(items)[f"{GATE}/occupancy"] == "1"
        local.tell(update(1, "end", revision=1))
        early.until(lambda items: last(items)[f"{GATE}/state"] == "off" and last(items)[f"{GATE}/count"] == "1")
        listen(late)
        found = late.until(lambda items: {f"{GATE}/state", f"{GATE}/count", "rookery/cam-1/yard/door/count"} <= set(last(items)))
        assert all(retained for topic, _, retained in found if topic.startswith("rookery/"))
        assert "rookery/cam-1/yard/event" not in last(found)
        assert last(found)["rookery/cam-1/availability"] == "online"
    early.until(lambda items: last(items)["rookery/cam-1/availability"] == "offline")


def test_a_board_that_loses_power_is_offline_by_its_last_will(broker, listen, heard, running, steady) -> None:
    """Its socket dies without a word: the broker says offline in its stead. It comes back by itself and says online."""
    broker.start()
    ear = heard()
    teller = telling(broker, steady)
    made: list[mqtt.Client] = []
    real = teller._client
    teller._client = lambda: made.append(real()) or made[-1]
    with running(teller):
        listen(ear)
        ear.until(lambda items: last(items).get("rookery/cam-1/availability") == "online")
        made[0]._sock_close()
        ear.until(lambda items: [p for t, p, _ in items if t.endswith("availability")][-2:] == ["offline", "online"])


def test_a_broker_that_is_down_costs_nothing_and_hears_how_things_are_when_it_is_back(
    broker, listen, heard, running, update, steady
) -> None:
    """Dead from the first second. Events go on; then it starts, forgets everything in a crash, and starts again: it hears of
    the door too, where nothing has happened since."""
    teller = telling(broker, steady)
    local = LocalOutput([teller])
    local.places("yard", ["gate"], ["door"])
    with running(teller):
        for number in range(1, 6):
            local.tell(update(number))
        for number in range(1, 5):
            local.tell(update(number, "end", revision=1))
        broker.start()
        first = heard()
        listen(first)
        first.until(lambda items: last(items).get(f"{GATE}/occupancy") == "1" and last(items).get(f"{GATE}/count") == "5")
        broker.kill()
        local.tell(update(5, "end", revision=1))
        local.tell(update(6))
        broker.start()
        second = heard()
        listen(second)
        second.until(lambda items: last(items).get(f"{GATE}/count") == "6" and last(items).get(f"{GATE}/state") == "on")
        second.until(lambda items: last(items).get("rookery/cam-1/availability") == "online")
        second.until(lambda items: last(items).get("rookery/cam-1/yard/door/count") == "0")


def test_zones_that_are_gone_are_cleared_and_home_assistant_forgets_them(broker, listen, heard, running, steady) -> None:
    """The configuration drops a zone: what was retained of it goes, its sensor too."""
    broker.start()
    ear = heard()
    teller = telling(broker, steady, discovery_prefix="homeassistant")
    local = LocalOutput([teller])
    local.places("yard", ["gate"])
    told = discovery_of(PlaceState("yard", "gate", True), "cam-1", "homeassistant")
    (sensor,) = (topic for topic in told if "/binary_sensor/" in topic)
    with running(teller):
        listen(ear)
        items = ear.until(lambda items: {sensor, f"{GATE}/state"} <= set(last(items)))
        assert json.loads(last(items)[sensor])["device_class"] == "occupancy"
        local.places("yard", ["lawn"])
        ear.until(
            lambda items: last(items)[sensor] == "" and last(items)[f"{GATE}/state"] == ""
            and last(items).get("rookery/cam-1/yard/lawn/state") == "off"
        )  # fmt: skip


def test_a_wrong_password_is_said_once_and_without_the_password(broker, running, heard, steady, caplog) -> None:
    broker.start()
    teller = MqttTelling(MqttPlace("127.0.0.1", broker.port, "cam-1", "cam", "wr0ng"), steady)
    refused = heard()
    real = teller._say_dead
    teller._say_dead = lambda what: (real(what), refused(what))
    with running(teller):
        refused.until(lambda items: sum("refused us" in one for one in items) >= 2)
    said = [record for record in caplog.records if "refused us" in record.getMessage()]
    assert len(said) == 1
    assert "wr0ng" not in caplog.text
