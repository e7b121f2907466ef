"""``[local]`` of agent.toml: where events are told on the spot. Read with the other settings, all faults at once. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Meta

from device_agent.settings_table import section

Host = Annotated[str, Meta(min_length=1, max_length=253, pattern=r"^[A-Za-z0-9._:-]+\Z")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(max_length=100)]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Kind = Literal["start", "update", "end"]
MAX_GPIO = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSection:
    """``[local.mqtt]``: a broker on the spot.

    host, port: of the broker, default port 1883 (8883 with TLS). name: of this board in topics, default agent.name, else the
    host's name. user, password_file: where the broker asks for them; the file holds the password alone, mode 0600. ca_file: PEM
    of the broker's authority; given, the connection is TLS. discovery: tell Home Assistant of zones and lines under
    discovery_prefix, default false.
    """

    host: Host
    port: Port | None = None
    name: Name = ""
    user: Name = ""
    password_file: Path | None = None
    ca_file: Path | None = None
    discovery: bool = False
    discovery_prefix: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,60}\Z")] = "homeassistant"

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (8883 if self.ca_file is not None else 1883)


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSection:
    """``[local.webhook]``: a POST of JSON for each event.

    url: https:// or http://. secret_file: key of the signature (mode 0600), default unsigned. ca_file: PEM of the receiver's
    authority, default the system's. private_hosts: hosts (names as in the url, or addresses) that may lie in a private or
    loopback network. on: which updates are sent, default all. timeout_s: for each try, default 5. tries: at most, default 3.
    """

    url: Annotated[str, Meta(pattern=r"^https?://[^\s@]+\Z", max_length=1000)]
    secret_file: Path | None = None
    ca_file: Path | None = None
    private_hosts: Annotated[list[str], Meta(max_length=50)] = field(default_factory=list)
    on: Annotated[list[Kind], Meta(min_length=1)] = field(default_factory=lambda: ["start", "update", "end"])
    timeout_s: Seconds = 5.0
    tries: Annotated[int, Meta(ge=1, le=10)] = 3

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True, kw_only=True, slots=True)
class GpioSection:
    """``[[local.gpio]]``: a wire that says what a zone or line sees.

    line: number on the chip. chip: default /dev/gpiochip0. camera, rule: name of the camera, and of its zone, line or trigger.
    mode: hold (on while something is there, default) or pulse (on for pulse_s after each event begins, default 1).
    active_low: on is low, default false.
    """

    line: Annotated[int, Meta(ge=0, le=1023)]
    camera: Name
    rule: Name
    chip: Path = Path("/dev/gpiochip0")
    mode: Literal["hold", "pulse"] = "hold"
    pulse_s: Seconds = 1.0
    active_low: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSection:
    """All of ``[local]``; None and empty: not used."""

    mqtt: MqttSection | None = None
    webhook: WebhookSection | None = None
    gpio: tuple[GpioSection, ...] = ()

    @property
    def hosts(self) -> list[str]:
        """Where local output goes, as host:port: for the board's policy to judge."""
        return [f"{host}:{port}" for host, port in (one.place for one in (self.mqtt, self.webhook) if one is not None)]


def parse_local(table: Any, base: Path, faults: list[str]) -> LocalSection:
    """``[local]`` out of agent.toml's table; what is wrong is added to ``faults``. Paths are relative to ``base``."""
    if not isinstance(table, Mapping):
        faults.append("local must hold [local.mqtt], [local.webhook] or [[local.gpio]]")
        return LocalSection()
    faults += [f"local.{key} is not a setting" for key in table if key not in ("mqtt", "webhook", "gpio")]
    mqtt = section(MqttSection, table["mqtt"], "local.mqtt", base, faults) if "mqtt" in table else None
    webhook = section(WebhookSection, table["webhook"], "local.webhook", base, faults) if "webhook" in table else None
    if mqtt is not None and mqtt.password_file is not None and not mqtt.user:
        faults.append("local.mqtt.password_file is given, local.mqtt.user is not")
    if webhook is not None:
        faults += _url_faults(webhook.url)
    return LocalSection(mqtt=mqtt, webhook=webhook, gpio=_gpio(table.get("gpio", []), base, faults))


def local_faults(local: LocalSection, cameras: Iterable[str]) -> list[str]:
    """Cameras that a wire names and that do not exist: such a wire would never move."""
    names = set(cameras)
    return [
        f"local.gpio[{number}].camera: there is no camera {one.camera!r}"
        for number, one in enumerate(local.gpio, start=1)
        if one.camera not in names
    ]


def _url_faults(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        return [] if parts.hostname and parts.port != 0 else ["local.webhook.url names no host"]
    except ValueError as error:
        return [f"local.webhook.url: {error}"]


def _gpio(found: Any, base: Path, faults: list[str]) -> tuple[GpioSection, ...]:
    if not isinstance(found, list) or len(found) > MAX_GPIO:
        faults.append(f"local.gpio must be written as [[local.gpio]], at most {MAX_GPIO} times")
        return ()
    made = [section(GpioSection, one, f"local.gpio[{number}]", base, faults) for number, one in enumerate(found, start=1)]
    wires = [one for one in made if one is not None]
    places = [(one.chip, one.line) for one in wires]
    twice = sorted({place for place in places if places.count(place) > 1})
    faults += [f"local.gpio: line {line} of {chip} is given twice" for chip, line in twice]
    return tuple(wires)
