"""Builds local output out of the settings: secrets are read from their files here, once, and handed on as values."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from device_agent.errors import SettingsError
from device_agent.local.output import LocalOutput, Teller
from device_agent.local.settings import LocalSection
from device_agent.local.telling_linux import OpenLines, WireTelling, open_gpiod
from device_agent.local.webhook_http import WebhookPlace, WebhookTelling
from device_agent.local.wires import Wire

SECRET_LIMIT_BYTES = 4096
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def open_local(
    settings: LocalSection, *, name: str, now_s: Callable[[], float], steady_s: Callable[[], float],
    open_lines: OpenLines = open_gpiod,
) -> LocalOutput:  # fmt: skip
    """Local output as ``[local]`` says; nothing is connected before its duties run. ``name``: of this board, for people.

    Raises SettingsError for a secret that cannot be read, or that others can read.
    """
    tellers: list[Teller] = []
    if settings.mqtt is not None:
        from device_agent.local.telling_mqtt import MqttPlace, MqttTelling  # an MQTT client is a megabyte

        mqtt = settings.mqtt
        host, port = mqtt.place
        password = read_secret(mqtt.password_file, "local.mqtt.password_file") if mqtt.password_file else b""
        prefix = mqtt.discovery_prefix if mqtt.discovery else None
        shown = mqtt.name or name
        tellers.append(MqttTelling(MqttPlace(host, port, shown, mqtt.user, password.decode(), mqtt.ca_file, prefix), steady_s))
    if settings.webhook is not None:
        hook = settings.webhook
        secret = read_secret(hook.secret_file, "local.webhook.secret_file") if hook.secret_file else b""
        place = WebhookPlace(
            hook.url, name, secret, hook.ca_file, tuple(hook.private_hosts), tuple(hook.on), hook.timeout_s, hook.tries
        )
        tellers.append(WebhookTelling(place, steady_s=steady_s, now_s=now_s))
    if settings.gpio:
        wires = [
            Wire(str(one.chip), one.line, one.camera, one.rule, one.mode, one.pulse_s, one.active_low) for one in settings.gpio
        ]
        tellers.append(WireTelling(wires, steady_s, open_lines))
    return LocalOutput(tellers)


def read_secret(path: Path, setting: str) -> bytes:
    """A secret alone in a file that only its owner may read. Raises SettingsError; the secret stands in no message."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(path.stat().st_mode)
            secret = file.read(SECRET_LIMIT_BYTES + 1).strip()
        secret.decode()
    except OSError as error:
        raise SettingsError("agent.toml", [f"{setting}: {path} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError("agent.toml", [f"{setting}: {path} is not text"]) from None
    if mode & OTHERS and not _is_credential(path):
        raise SettingsError("agent.toml", [f"{setting}: others may read {path} (mode {mode:04o}); run: chmod 600 {path}"])
    if not 1 <= len(secret) <= SECRET_LIMIT_BYTES:
        raise SettingsError("agent.toml", [f"{setting}: {path} is empty or longer than {SECRET_LIMIT_BYTES} bytes"])
    return secret


def _is_credential(path: Path) -> bool:
    # systemd gives a credential to this service alone, by an access list that its mode does not show.
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return folder is not None and path.is_relative_to(folder)
