"""Every setting of the server, with its unit and default. They come from flags, then from ROOKERY_* in the environment.

Nothing secret stands in arguments: a database URL with a password comes by ROOKERY_DATABASE_URL.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from fleet_server.errors import SettingsError

MAX_JSON_BYTES = 2 * 1024 * 1024
"""Largest body of an ordinary request on either door; content uploads say their own limit."""


_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
BROKER_USER = "fleet-server"
"""The server's own name at the broker's inside listener on 127.0.0.1:``broker_inside_port``."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One server. Ports: 0 means a free one."""

    data_dir: Path
    host: str = "127.0.0.1"
    """Address that both doors listen on."""
    operator_port: int = 8080
    device_port: int = 8443
    device_host: str = ""
    """Name or address under which devices reach door and broker; empty: ``host``, which then is one address, not all."""
    broker: str = "auto"
    """auto: mosquitto where it is installed; none."""
    broker_port: int = 0
    broker_inside_port: int = 0
    """Loopback port on which the server's own processes meet the broker; chosen by the supervisor."""
    database_url: str = ""
    """Empty: SQLite in the data folder."""
    operator_hosts: str = ""
    """Comma-separated host names under which a proxy serves the operator door; others are refused when ``host`` is loopback."""
    secure_cookies: bool = False
    """True where the operator door is reached over TLS."""
    blob_store: str = "disk"
    """disk, or s3://bucket/prefix."""
    s3_endpoint_url: str = ""
    heartbeat_s: float = 30.0
    """How often a device is expected to be heard; it is online while heard within max(3 of these, 90 s)."""
    poll_s: float = 1800.0
    """Poll period told to a device when nothing is open."""
    fast_poll_s: float = 5.0
    """Poll period while a rollout or a debug session is open for the device."""
    assignment_ttl_s: float = 6 * 3600.0
    claim_ttl_s: float = 24 * 3600.0
    upload_ttl_s: float = 900.0
    """Life of a signed upload URL."""
    crop_retention_days: float = 30.0
    """Pictures older than this are deleted, events and verdicts stay; 0: kept for ever. Of debug sessions: a week at most."""
    certificate_days: int = 90
    revocation_poll_s: float = 5.0
    session_ttl_s: float = 12 * 3600.0
    setup_link_ttl_s: float = 24 * 3600.0
    live_streams: int = 64
    """Most open GET /live streams; each holds a thread of the operator door."""
    lost_after_s: float = 600.0
    """A device that falls silent for longer after it began to download counts as lost."""
    verifier_model: str = ""
    """Path of the second-stage model (.tflite); empty: none."""
    verifier_card: str = ""
    webhook_private: bool = False
    """True: webhooks may go to private and loopback addresses."""
    operator_threads: int = 128
    device_threads: int = 64
    log_level: str = "info"

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'database.sqlite3'}"

    @property
    def pki_dir(self) -> Path:
        """Where the certificate authority lies."""
        return self.data_dir / "pki"

    @property
    def broker_password_file(self) -> Path:
        """Holds the password of BROKER_USER at the broker's inside listener (text, one line)."""
        return self.data_dir / "mosquitto" / "inside-password"

    @property
    def public_host(self) -> str:
        """Where devices are told to go."""
        return self.device_host or ("127.0.0.1" if self.listens_everywhere else self.host)

    @property
    def listens_everywhere(self) -> bool:
        """Whether ``host`` means every address of this machine, which is none that anybody could be told."""
        return is_every_address(self.host)

    @property
    def operator_url(self) -> str:
        """Where a person's browser finds the operator door."""
        return f"http://{_bracketed('127.0.0.1' if self.listens_everywhere else self.host)}:{self.operator_port}"

    @property
    def device_url(self) -> str:
        """Where devices find the device door."""
        return f"https://{_bracketed(self.public_host)}:{self.device_port}"

    @property
    def online_within_s(self) -> float:
        """A device that was heard within this time is online."""
        return max(3 * self.heartbeat_s, 90.0)


def is_every_address(host: str) -> bool:
    """Whether this is an address that stands for all of them, however it is written."""
    try:
        return not host or ipaddress.ip_address("0.0.0.0" if host == "0" else host).is_unspecified  # noqa: S104  compared, not bound
    except ValueError:
        return False


def check_device_host(settings: Settings) -> None:
    """SettingsError unless devices can be told one name or address to come to."""
    if settings.listens_everywhere and not settings.device_host:
        detail = f"--host {settings.host!r} listens on every address, and devices must be told one to come to"
        raise SettingsError(detail, "name it: --device-host NAME-OR-ADDRESS (it will stand in the server's certificate, too)")
    host = settings.device_host
    if host and (is_every_address(host) or not (_is_address(host) or _HOST_NAME.fullmatch(host))):
        raise SettingsError(
            f"--device-host {host[:80]!r} is neither a host name nor the address of one machine", "such as fleet.example.org"
        )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings from ROOKERY_<NAME> variables; raises SettingsError naming the variable that is wrong."""
    data_dir = environment.get("ROOKERY_DATA_DIR")
    if not data_dir:
        raise SettingsError("ROOKERY_DATA_DIR is not set", "say where the server keeps its data: --data DIR")
    return apply(Settings(data_dir=Path(data_dir).absolute()), {
        name: environment[variable] for name, variable in _variables().items() if environment.get(variable)
    })  # fmt: skip


def apply(settings: Settings, given: Mapping[str, str]) -> Settings:
    """Settings with these values, given as text; raises SettingsError naming the one that cannot be read."""
    kinds = {field.name: field.type for field in fields(Settings)}
    values: dict[str, Any] = {}
    for name, text in given.items():
        values[name] = _read(name, str(kinds[name]), text)
    return replace(settings, **values)


def to_environment(settings: Settings) -> dict[str, str]:
    """The same settings as ROOKERY_* variables, for a child process."""
    variables = _variables()
    result = {"ROOKERY_DATA_DIR": str(settings.data_dir)}
    for name, variable in variables.items():
        value = getattr(settings, name)
        result[variable] = ("1" if value else "0") if isinstance(value, bool) else str(value)
    return result


def _variables() -> dict[str, str]:
    return {field.name: f"ROOKERY_{field.name.upper()}" for field in fields(Settings) if field.name != "data_dir"}


def _read(name: str, kind: str, text: str) -> Any:
    try:
        if "bool" in kind:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if "int" in kind:
            return int(text)
        if "float" in kind:
            return float(text)
    except (KeyError, ValueError):
        wanted = "yes or no" if "bool" in kind else "a number"
        raise SettingsError(f"ROOKERY_{name.upper()} is {text!r}, which is not {wanted}") from None
    return text
