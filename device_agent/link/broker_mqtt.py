"""The broker: promptness only. Where it is dead, was never there or comes back, nothing changes but ``connected``."""

import logging
import random
import ssl
import threading
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.link.socket_bytes_linux import ByteCount, SocketMeter
from ota.wire import topics
from ota.wire.codec import encode
from ota.wire.heartbeat import Heartbeat

log = logging.getLogger(__name__)
KEEPALIVE_S = 60
FIRST_WAIT_S, LONGEST_WAIT_S = 1, 300
"""Back-off of reconnects; paho doubles in between."""
ONLINE, OFFLINE = b"online", b"offline"
"""Payloads of ``up/online``, retained: the second is the last will."""


class Broker:
    """A connection that is tried for as long as the agent runs. ``woken`` is called from the network thread on every wake."""

    def __init__(
        self, host: str, port: int, device: str, context: ssl.SSLContext, count: ByteCount, woken: Callable[[], None]
    ) -> None:
        self._host, self._port, self._device, self._woken = host, port, device, woken
        self._meter_lock = threading.Lock()
        self._count, self._meter = count, SocketMeter(count)
        self._told_dead = False
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv311, clean_session=True)
        client.username_pw_set(device)
        client.tls_set_context(context)
        client.will_set(topics.up(device, "online"), OFFLINE, qos=1, retain=True)
        # Each agent draws its own first wait: a thousand that lost one broker do not return in the same second.
        client.reconnect_delay_set(FIRST_WAIT_S + random.randrange(3), LONGEST_WAIT_S)
        client.max_queued_messages_set(20)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_connect_fail = self._on_message, self._on_fail
        self._client = client

    def start(self) -> None:
        """Begin to try; returns at once."""
        self._client.connect_async(self._host, self._port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say offline and leave; the network thread ends."""
        if self._client.is_connected():
            said = self._client.publish(topics.up(self._device, "online"), OFFLINE, qos=1, retain=True)
            try:
                said.wait_for_publish(timeout=1.0)
            except (RuntimeError, ValueError) as error:
                log.debug("broker: leaving without a word: %s", error)
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted us and has not gone since."""
        return bool(self._client.is_connected())

    def send_heartbeat(self, heartbeat: Heartbeat) -> bool:
        """Publish at QoS 0; False when there is no connection."""
        if not self._client.is_connected():
            return False
        info = self._client.publish(topics.up(self._device, "heartbeat"), encode(heartbeat), qos=0)
        with self._meter_lock:
            self._meter.read(self._client.socket())
        return bool(info.rc == mqtt.MQTT_ERR_SUCCESS)

    # -- called by paho from its network thread ---------------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._say_dead(f"refused us: {reason}")
            return
        with self._meter_lock:
            self._meter = SocketMeter(self._count)
        log.info("broker %s:%d connected", self._host, self._port)
        self._told_dead = False
        client.subscribe(topics.down(self._device, "wake"), qos=1)
        client.publish(topics.up(self._device, "online"), ONLINE, qos=1, retain=True)

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._say_dead(f"is gone: {reason}")

    def _on_fail(self, _client: Any, _data: Any) -> None:
        self._say_dead("cannot be reached")

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        log.debug("broker: woken (%d bytes)", len(message.payload))
        self._woken()

    def _say_dead(self, what: str) -> None:
        """Once per outage: a broker that is away for a week fills no log."""
        if not self._told_dead:
            self._told_dead = True
            log.warning("broker %s:%d %s; heartbeats go by HTTPS meanwhile", self._host, self._port, what)
