"""Ends a revoked device's open connection: the server comes under its client id, and the broker drops the old one."""

import logging
from collections.abc import Iterable

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from fleet_server.settings import BROKER_USER, Settings

log = logging.getLogger(__name__)

ANSWER_S = 2.0


def close_sessions(settings: Settings, devices: Iterable[str]) -> None:
    """Take over and close the session of each device; a broker that does not answer has no open ones worth waiting for."""
    password = settings.broker_password_file.read_text().strip()
    for device in devices:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=device, protocol=mqtt.MQTTv311, clean_session=True)
        client.username_pw_set(BROKER_USER, password)
        client.connect_timeout = ANSWER_S
        try:
            client.connect("127.0.0.1", settings.broker_inside_port)
            client.loop(timeout=ANSWER_S)  # the broker's answer: from now on the old connection is closed
            client.disconnect()
        except OSError as error:
            log.warning("the broker session of %s could not be closed: %s", device, error)
            return
