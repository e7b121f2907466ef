"""Events to a broker on the spot: each update as JSON, zones and lines as retained states, the board's presence by last will."""

import json
import logging
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.local import words
from device_agent.local.mailbox import Mailbox
from device_agent.local.places import PlaceState
from device_agent.vision.types import EventUpdate

log = logging.getLogger(__name__)
KEEPALIVE_S = 30
FIRST_WAIT_S, LONGEST_WAIT_S = 1, 30
MAILBOX = 200
FRESH_S = 60.0
"""After an outage what is older is not told: a lamp that goes on an hour late is worse than one that stays off."""
LOOK_S = 2.0
ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True, slots=True)
class MqttPlace:
    """Where the broker is, how to speak to it, and under which name. ``password`` is shown by nothing that prints this."""

    host: str
    port: int
    name: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    discovery_prefix: str | None = None


class MqttTelling:
    """A duty. States are kept by topic, so that a broker that comes back hears how things are and not how they were."""

    kind = "mqtt"

    def __init__(self, place: MqttPlace, steady_s: Callable[[], float]) -> None:
        self.name = "local MQTT"
        self.silence_s = 120.0
        self._place = place
        self._mailbox: Mailbox[EventUpdate] = Mailbox("mqtt", MAILBOX, steady_s)
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._changed: dict[str, None] = {}
        self._told: set[str] = set()

    # -- called by the cameras' threads ---------------------------------------------------------------------------------

    def take_event(self, update: EventUpdate, place: PlaceState, began: bool) -> None:
        """Keep an update until the broker can have it."""
        self._set(words.states_of(place, self._place.name))
        self._mailbox.put(update)

    def take_places(self, present: Sequence[PlaceState], gone: Sequence[PlaceState]) -> None:
        """States of all places; an empty payload clears what was retained of those that are gone."""
        for place in gone:
            self._set(dict.fromkeys({**words.states_of(place, self._place.name), **self._discovery(place)}, ""))
        for place in present:
            self._set(self._discovery(place) | words.states_of(place, self._place.name))
        self._mailbox.ring()

    def dropped(self) -> dict[str, int]:
        """Events that were not told, by reason: mqtt_full, mqtt_stale."""
        return self._mailbox.dropped()

    def _discovery(self, place: PlaceState) -> dict[str, str]:
        prefix = self._place.discovery_prefix
        return {} if prefix is None else words.discovery_of(place, self._place.name, prefix)

    def _set(self, states: dict[str, str]) -> None:
        with self._lock:
            for topic, payload in states.items():
                if self._states.get(topic) != payload:
                    self._states[topic] = payload
                    self._changed[topic] = None

    # -- the duty -------------------------------------------------------------------------------------------------------

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Tell until told to stop; then say offline. Raises BoardError where the authority's file cannot be used."""
        client = self._client()
        stop.on_set(self._mailbox.ring)
        client.connect_async(self._place.host, self._place.port, keepalive=KEEPALIVE_S)
        client.loop_start()
        try:
            while not stop.is_set():
                self._mailbox.wait(LOOK_S)
                if client.is_connected():
                    self._send(client)
                progress()
        finally:
            stop.forget(self._mailbox.ring)
            self._leave(client)

    def _send(self, client: mqtt.Client) -> None:
        with self._lock:
            changed, self._changed = list(self._changed), {}
            states = [(topic, self._states[topic]) for topic in changed]
            for topic, payload in states:
                if not payload:
                    del self._states[topic]
        for topic, payload in states:
            if client.publish(topic, payload, qos=1, retain=True).rc == mqtt.MQTT_ERR_QUEUE_SIZE:
                self._again(topic, payload)
        # What paho takes now it delivers, over a broken connection too: it holds few, the rest waits here and grows stale.
        while client.is_connected() and (update := self._mailbox.take(FRESH_S)) is not None:
            topic = words.event_topic(self._place.name, update.event.camera)
            said = client.publish(topic, json.dumps(words.event_body(update, self._place.name)), qos=1)
            if said.rc == mqtt.MQTT_ERR_QUEUE_SIZE:
                self._mailbox.drop("full")
                break

    def _again(self, topic: str, payload: str) -> None:
        """A state that paho had no room for: told at the next look, unless it has changed meanwhile."""
        with self._lock:
            self._states.setdefault(topic, payload)
            self._changed[topic] = None

    def _leave(self, client: mqtt.Client) -> None:
        if client.is_connected():
            said = client.publish(words.availability_topic(self._place.name), OFFLINE, qos=1, retain=True)
            try:
                said.wait_for_publish(timeout=1.0)
            except (RuntimeError, ValueError) as error:
                log.debug("local MQTT: leaving without a word: %s", error)
        client.disconnect()
        client.loop_stop()

    def _client(self) -> mqtt.Client:
        place = self._place
        name = f"rookery-{words.level(place.name)}"
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv311, clean_session=True)
        if place.user:
            client.username_pw_set(place.user, place.password or None)
        if place.ca_file is not None:
            try:
                client.tls_set_context(ssl.create_default_context(cafile=str(place.ca_file)))
            except (OSError, ValueError) as error:
                hint = "give the PEM of the broker's authority"
                raise BoardError(f"local.mqtt.ca_file {place.ca_file} cannot be used: {error}", hint) from None
        client.will_set(words.availability_topic(place.name), OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(FIRST_WAIT_S, LONGEST_WAIT_S)
        client.max_queued_messages_set(MAILBOX)
        client.on_connect, client.on_disconnect, client.on_connect_fail = self._on_connect, self._on_disconnect, self._on_fail
        return client

    # -- called by paho from its network thread -------------------------------------------------------------------------

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._say_dead(f"refused us: {reason}")
            return
        log.info("local broker %s:%d connected", self._place.host, self._place.port)
        self._told.clear()
        client.publish(words.availability_topic(self._place.name), ONLINE, qos=1, retain=True)
        with self._lock:
            # A broker without persistence has forgotten everything: all states are told again.
            self._changed = dict.fromkeys(self._states)
        self._mailbox.ring()

    def _on_disconnect(self, _client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._say_dead(f"is gone: {reason}")

    def _on_fail(self, _client: Any, _data: Any) -> None:
        self._say_dead("cannot be reached")

    def _say_dead(self, what: str) -> None:
        """Once per outage and kind of words: a broker that is away for a week fills no log."""
        if what not in self._told:
            self._told.add(what)
            log.warning("local broker %s:%d %s; cameras go on, it is tried again", self._place.host, self._place.port, what)
