"""Who may do what on the broker, judged by what is DELIVERED: SUBACK and PUBACK say yes to much that never arrives."""

import socket
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pytest

from fleet_server.broker_disk import find_mosquitto
from fleet_server.settings import BROKER_USER
from tests.fakes.broker_world import CONNECT, World, broker_world, until

pytestmark = [pytest.mark.system, pytest.mark.skipif(find_mosquitto() is None, reason="mosquitto is not installed")]
BOTH = pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5], ids=["MQTT 3.1.1", "MQTT 5"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One broker for the tests that revoke nobody."""
    with broker_world(tmp_path_factory.mktemp("broker")) as made:
        yield made


@BOTH
def test_a_device_reaches_its_own_branch_and_nothing_else(world: World, protocol: int) -> None:
    """B publishes and subscribes wherever it can think of: server, A and $SYS notice nothing; B hears its own wake alone."""
    a_one, b_one = world.enrol(), world.enrol()
    server = world.client(None, client_id=f"watch-{protocol}", protocol=protocol)
    server.subscribe("fleet/#")
    a = world.client(a_one, protocol=protocol)
    b = world.client(b_one, protocol=protocol)
    a.subscribe(f"fleet/v1/{a_one.name}/down/#")
    for topic in (
        f"fleet/v1/{a_one.name}/down/#", f"fleet/v1/{a_one.name}/up/#", "fleet/#", "#", "+/+/+/+/+", "fleet/v1/+/down/wake",
        f"$share/g/fleet/v1/{a_one.name}/#", "$share/g/#", "$SYS/#", f"fleet/v1/{b_one.name}/up/#", "fleet/v1/%u/down/#",
        f"fleet/v1/{b_one.name}/down/wake",
    ):  # fmt: skip
        b.subscribe(topic)
    for topic in (
        f"fleet/v1/{a_one.name}/up/heartbeat", f"fleet/v1/{a_one.name}/up/online", f"fleet/v1/{a_one.name}/down/wake",
        f"fleet/v1/{b_one.name}/down/wake", f"fleet/v1/{b_one.name}/up/hoard/1", f"fleet/v1/{b_one.name}/up", "fleet/v1/x/up/log",
        f"fleet/v2/{b_one.name}/up/log", "elsewhere", f"$share/g/fleet/v1/{a_one.name}/up/log", "$SYS/broker/uptime",
    ):  # fmt: skip
        for retain in (False, True):
            b.publish(topic, b"forged", retain=retain)
    server.publish(f"fleet/v1/{a_one.name}/down/wake", b"real")
    server.publish(f"fleet/v1/{b_one.name}/down/wake", b"real")
    a.publish(f"fleet/v1/{a_one.name}/up/heartbeat", b"a")
    b.publish(f"fleet/v1/{b_one.name}/up/heartbeat", b"b")  # the last that b said: all of the above is behind us
    ours = {f"fleet/v1/{one.name}/up/heartbeat" for one in (a_one, b_one)}
    until(lambda: ours <= {topic for topic, _ in server.heard} and bool(a.heard) and bool(b.heard))
    assert b"forged" not in {payload for _topic, payload in (*server.heard, *a.heard, *b.heard)}
    assert set(a.heard) == {(f"fleet/v1/{a_one.name}/down/wake", b"real")}
    assert {topic for topic, _ in b.heard} == {f"fleet/v1/{b_one.name}/down/wake"}
    # Nothing waits for whoever comes later, either.
    late = world.client(None, client_id=f"late-{protocol}", protocol=protocol)
    late.subscribe("fleet/#")
    late.publish(f"fleet/v1/{a_one.name}/up/log", b"end")
    until(lambda: (f"fleet/v1/{a_one.name}/up/log", b"end") in late.heard)
    assert b"forged" not in {payload for _topic, payload in late.heard}
    assert not a.gone.is_set()


@BOTH
def test_a_last_will_stays_in_its_own_branch(world: World, protocol: int) -> None:
    """C leaves a will for A's branch and cuts its line; D's will for its own branch, cut after it, is what is heard."""
    a_one, c_one, d_one = (world.enrol() for _ in range(3))
    server = world.client(None, client_id=f"wills-{protocol}", protocol=protocol)
    server.subscribe("fleet/v1/+/up/online")
    c = world.client(c_one, protocol=protocol, will=(f"fleet/v1/{a_one.name}/up/online", b"offline"))
    d = world.client(d_one, protocol=protocol, will=(f"fleet/v1/{d_one.name}/up/online", b"offline"))
    c.cut()
    d.cut()
    until(lambda: (f"fleet/v1/{d_one.name}/up/online", b"offline") in server.heard, "d's will")
    assert [topic for topic, _ in server.heard if a_one.name in topic] == []


@BOTH
def test_a_client_id_takes_no_session_over(world: World, protocol: int) -> None:
    """B comes with A's client id, and with A's user name: A stays, its will is not published, and B is B."""
    a_one, b_one = world.enrol(), world.enrol()
    server = world.client(None, client_id=f"hijack-{protocol}", protocol=protocol)
    server.subscribe("fleet/v1/+/up/#")
    a = world.client(a_one, protocol=protocol, will=(f"fleet/v1/{a_one.name}/up/online", b"offline"))
    a.subscribe(f"fleet/v1/{a_one.name}/down/#")
    b = world.client(b_one, client_id=a_one.name, protocol=protocol, user=(a_one.name, "x"))
    b.subscribe(f"fleet/v1/{a_one.name}/down/#")
    server.publish(f"fleet/v1/{a_one.name}/down/wake", b"real")
    b.publish(f"fleet/v1/{a_one.name}/up/log", b"forged")
    b.publish(f"fleet/v1/{b_one.name}/up/log", b"b")
    a.publish(f"fleet/v1/{a_one.name}/up/log", b"a")
    until(lambda: {b"a", b"b"} <= {payload for _topic, payload in server.heard} and bool(a.heard))
    heard = [(topic, payload) for topic, payload in server.heard if a_one.name in topic or b_one.name in topic]
    assert sorted(heard) == sorted([(f"fleet/v1/{a_one.name}/up/log", b"a"), (f"fleet/v1/{b_one.name}/up/log", b"b")])
    assert a.heard == [(f"fleet/v1/{a_one.name}/down/wake", b"real")]
    assert b.heard == []
    assert not a.gone.is_set()


def test_the_servers_password_is_worth_nothing_outside(world: World) -> None:
    """B has read the inside password somewhere, and shows it with the server's name on the listener for devices: it stays B."""
    b_one = world.enrol()
    server = world.client(None, client_id="password")
    server.subscribe("fleet/v1/+/up/#")
    b = world.client(b_one, user=(BROKER_USER, world.inside_password))
    b.subscribe("fleet/#")
    b.publish("fleet/v1/d-somebody/up/log", b"forged")
    server.publish("fleet/v1/d-somebody/down/wake", b"secret")
    b.publish(f"fleet/v1/{b_one.name}/up/log", b"b")
    until(lambda: (f"fleet/v1/{b_one.name}/up/log", b"b") in server.heard)
    assert b"forged" not in {payload for _topic, payload in server.heard}
    assert b.heard == []


def test_the_inside_listener_is_on_the_loopback_address_alone_and_asks_for_the_password(world: World) -> None:
    """Somebody elsewhere in the network, and somebody on this machine without the password."""
    port = world.settings.broker_inside_port
    with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
        socket.create_connection(("127.0.0.2", port), timeout=5)
    for name, password in (("", ""), (BROKER_USER, "wrong"), ("d-1", "")):
        field = lambda text: len(text).to_bytes(2, "big") + text.encode()  # noqa: E731
        flags = 0x02 | (0x80 if name else 0) | (0x40 if password else 0)
        rest = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x3c" + field("x") + (field(name) if name else b"")
        rest += field(password) if password else b""
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
            line.sendall(b"\x10" + bytes([len(rest)]) + rest)
            assert line.recv(4) in {b"\x20\x02\x00\x05", b"\x20\x02\x00\x04", b""}, name


def test_nobody_without_a_certificate_or_below_tls_1_2(world: World) -> None:
    """A stranger has nothing to show; another speaks an old TLS; a third none at all."""
    assert world.lets_in(world.enrol())
    context = world.tls(None)
    for old in (False, True):
        if old:
            context = world.tls(world.enrol())
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = 0x0302  # type: ignore[assignment]  # TLS 1.1
        assert not world.lets_in_with(context)
    with socket.create_connection(("127.0.0.1", world.settings.broker_port), timeout=60) as plain:
        try:
            plain.sendall(CONNECT)
            answer = plain.recv(4)
        except ConnectionError:
            answer = b""
        assert not answer.startswith(b"\x20")
