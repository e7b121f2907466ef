"""The server's own connection to the broker: hears all devices, wakes some. The broker may be absent, or die, or come later."""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_server.ingest.messages import sender
from ota.wire import topics

log = logging.getLogger(__name__)

MAX_WAITING = 50_000
"""Messages that wait for the database. Beyond it heartbeats are dropped and counted: they may be lost."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""The same in bytes: one board that floods large messages must not take the server's memory."""
MAX_WAITING_OF_ONE = 200
"""Of one device: an hour of heartbeats and more, while the database is away. Beyond it, it would take the others' room."""
RECONNECT_MIN_S = 1
RECONNECT_MAX_S = 30


class BrokerLink:
    """Connects, and connects again for ever with back-off. ``take`` hands out what came, ``wake`` sends."""

    def __init__(self, host: str, port: int, user: str, password: str, client_id: str = "ingest-0") -> None:
        self._waiting: queue.Queue[tuple[str, bytes]] = queue.Queue(MAX_WAITING)
        self._waiting_bytes = 0
        self._waiting_of: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._note = f"not connected yet to {host}:{port}"
        self.connected = False
        self.dropped = 0
        client: Any = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv311, clean_session=True)
        client.username_pw_set(user, password)
        client.reconnect_delay_set(RECONNECT_MIN_S, RECONNECT_MAX_S)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        self._client = client
        self._address = (host, port)

    @property
    def note(self) -> str:
        """How the connection is, for the page."""
        return "connected" if self.connected else self._note

    def start(self) -> None:
        """Begin to connect, in a thread of its own; failing is no error."""
        self._client.connect_async(*self._address, keepalive=30)
        self._client.loop_start()

    def stop(self) -> None:
        """End the connection and the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def take(self, limit: int, timeout_s: float) -> list[tuple[str, bytes]]:
        """Up to ``limit`` messages; waits up to ``timeout_s`` for the first."""
        found: list[tuple[str, bytes]] = []
        try:
            found.append(self._waiting.get(timeout=timeout_s))
            while len(found) < limit:
                found.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        self._count(found, -1)
        return found

    def wake(self, devices: Iterable[str]) -> int:
        """Tell devices to ask at once; answers how many were told. A lost wake costs one poll period, nothing else."""
        told = 0
        for device in devices:
            info = self._client.publish(topics.down(device, "wake"), b"{}", qos=1)
            told += info.rc == mqtt.MQTT_ERR_SUCCESS
        return told

    def _on_connect(self, client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._note = f"the broker refuses the server: {reason}"
            return
        client.subscribe(topics.every_up(), qos=1)
        self.connected = True
        log.info("connected to the broker")

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self.connected = False
        self._note = f"the broker does not answer ({reason}); devices use HTTPS alone until it does"

    def _on_message(self, _client: Any, _data: Any, message: Any) -> None:
        come = (message.topic, bytes(message.payload))
        if self._waiting_bytes + len(come[1]) > MAX_WAITING_BYTES or self._waiting_of[sender(come[0])] >= MAX_WAITING_OF_ONE:
            self.dropped += 1
            return
        self._count([come], 1)  # before somebody can take it
        try:
            self._waiting.put_nowait(come)
        except queue.Full:
            self.dropped += 1
            self._count([come], -1)

    def _count(self, messages: Iterable[tuple[str, bytes]], sign: int) -> None:
        with self._counting:
            for topic, payload in messages:
                self._waiting_bytes += sign * len(payload)
                self._waiting_of[sender(topic)] += sign
                if not self._waiting_of[sender(topic)]:
                    del self._waiting_of[sender(topic)]
