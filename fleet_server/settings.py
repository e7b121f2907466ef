"""Every setting of the server, with its unit and default. They come from flags, then from ROOKERY_* in the environment.

Nothing secret stands in arguments. What SECRETS names comes from a file (ROOKERY_<NAME>_FILE), from a systemd credential of the
same name or from ROOKERY_<NAME> (``secret_files_disk``), is printed by nothing, and is not handed on in a child's environment.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fleet_server.errors import SettingsError

MAX_JSON_BYTES = 2 * 1024 * 1024
"""Largest body of an ordinary request on either door; content uploads say their own limit."""


SECRETS = ("database_url", "proxy_secret", "oidc_client_secret")
"""Settings that may hold a secret; those of them that this version has."""
_MOST = {"_port": 65_535, "_s": 100 * 366 * 86_400, "_days": 100 * 366, "_threads": 4096, "live_streams": 4096}
"""By the ending of a setting's name: a hundred years, which dates can be counted with; what one process can hold."""
_AT_LEAST_ONE = frozenset({"certificate_days", "operator_threads", "device_threads"})
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
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
    database_url: str = field(default="", repr=False)
    """Empty: SQLite in the data folder."""
    operator_hosts: str = ""
    """Comma-separated host names under which browsers reach the operator door, beside ``host`` and ``device_host``."""
    operator_tls: str = "auto"
    """off: plain HTTP; own: TLS by this server's own authority; files: by ``operator_certificate`` and ``operator_key``; auto:
    files where they are named, off on a loopback address or behind a proxy, else own."""
    operator_certificate: str = ""
    operator_key: str = ""
    """Paths of PEM files; read again when they change."""
    operator_proxy: str = ""
    """Comma-separated addresses or networks of the proxy that speaks TLS before the operator door: from there alone plain HTTP is
    taken over a network, and X-Forwarded-For is believed."""
    secure_cookies: bool = False
    """True where the operator door is reached over TLS in some other way, a tunnel say."""
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
    waiting_boards: int = 2000
    """Most boards that wait without a claim until somebody accepts them."""
    waiting_boards_per_address: int = 200
    """Of one address (IPv6: /64): a stranger cannot fill the queue."""
    waiting_board_kept_s: float = 86_400.0
    """One that asks no more leaves the queue after so long."""
    upload_ttl_s: float = 900.0
    """Life of a signed upload URL."""
    crop_retention_days: float = 30.0
    """Pictures older than this are deleted, events and verdicts stay; 0: kept for ever. Of debug sessions: a week at most."""
    certificate_days: int = 90
    revocation_poll_s: float = 5.0
    session_ttl_s: float = 12 * 3600.0
    """Life of a person's session, used or not."""
    session_idle_s: float = 2 * 3600.0
    """A session that nobody used for so long ends; pages that refresh themselves do not count as use."""
    account_link_ttl_s: float = 72 * 3600.0
    """Life of an invitation, and of a link for a new password."""
    require_second_factor: str = "none"
    """Who must have a second factor: none, all, or roles with commas, "admin,security" say."""
    oidc_issuer: str = ""
    """Identity provider (OpenID Connect) that people may sign in with, https://…; empty: none."""
    oidc_client_id: str = ""
    oidc_client_secret: str = field(default="", repr=False)
    oidc_name: str = "single sign-on"
    """What the button of the sign-in page calls it."""
    oidc_scopes: str = "openid profile email"
    oidc_rules: str = ""
    """Who gets an account by signing in there: ``CLAIM=VALUE -> ROLE [@GROUP,GROUP]; …``; empty: nobody (docs/operations.md)."""
    setup_link_ttl_s: float = 24 * 3600.0
    live_streams: int = 64
    """Most open GET /live streams; each holds a thread of the operator door."""
    lost_after_s: float = 600.0
    """A device that falls silent for longer after it began to download counts as lost."""
    verifier_model: str = ""
    """Path of the second-stage model (.tflite); empty: none."""
    verifier_card: str = ""
    webhook_private: bool = False
    """True: what this server calls may lie on any private or loopback address."""
    outgoing_hosts: str = ""
    """Comma-separated names, addresses and networks that it may call though they are private."""
    device_door_mode: str = "direct"
    """direct: the device door speaks TLS itself and believes no header; proxy: an nginx does (`rookery-server nginx`)."""
    device_socket: str = ""
    """Proxy mode: path of the unix socket that the door listens on instead of its port."""
    device_public_port: int = 0
    """Proxy mode: the port at which devices find the proxy; 0: ``device_port``."""
    proxy_secret: str = field(default="", repr=False)
    """Proxy mode: what the proxy must send as X-Rookery-Proxy; needed without a ``device_socket``."""
    signed_requests: bool = False
    """True: a device may sign its requests (RFC 9421) instead of showing its certificate, for where TLS ends before us."""
    renew_after_expiry_days: int = 400
    device_requests_per_minute: int = 3000
    """Of one device; 0: no limit. A spool of days goes out at this rate, everything else far below it."""
    stranger_requests_per_minute: int = 3000
    """Of one address (IPv6: /64), without a certificate; 0: no limit. Many boards may enrol behind one address."""
    upload_bytes_per_day: int = 4 * 1024**3
    """Of one device; 0: no limit. What is more waits in its spool."""
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
    def operator_tls_kind(self) -> str:
        """off, own or files: what ``auto`` means here."""
        if self.operator_tls != "auto":
            return self.operator_tls
        if self.operator_certificate:
            return "files"
        return "off" if self.host in LOOPBACK or self.operator_proxy else "own"

    @property
    def operator_over_tls(self) -> bool:
        """Whether browsers reach the operator door over TLS: cookies are Secure and HSTS is said."""
        return self.operator_tls_kind != "off" or bool(self.operator_proxy) or self.secure_cookies

    @property
    def operator_names(self) -> list[str]:
        """Hosts under which browsers may ask for the operator door, beside loopback's; in lower case."""
        named = [self.host, self.device_host, *self.operator_hosts.split(",")]
        return list(dict.fromkeys(name.strip().lower() for name in named if not is_every_address(name.strip())))

    @property
    def operator_url(self) -> str:
        """Where a person's browser finds the operator door."""
        scheme = "http" if self.operator_tls_kind == "off" else "https"
        return f"{scheme}://{_bracketed('127.0.0.1' if self.listens_everywhere else self.host)}:{self.operator_port}"

    @property
    def device_url(self) -> str:
        """Where devices find the device door."""
        port = self.device_public_port if self.device_door_mode == "proxy" else 0
        return f"https://{_bracketed(self.public_host)}:{port or self.device_port}"

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


def holds_password(url: str) -> bool:
    """Whether a database URL has a password in it, before the host or in its query."""
    before = url.partition("://")[2].rpartition("@")[0]
    return ":" in before or "password=" in url.partition("?")[2].lower()


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
        if name in SECRETS and (name != "database_url" or holds_password(value)):
            continue  # the child finds it where we found it
        result[variable] = ("1" if value else "0") if isinstance(value, bool) else str(value)
    return result


def _variables() -> dict[str, str]:
    return {field.name: f"ROOKERY_{field.name.upper()}" for field in fields(Settings) if field.name != "data_dir"}


def _read(name: str, kind: str, text: str) -> Any:
    try:
        if "bool" in kind:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]
        if "str" in kind:
            return text
        number = int(text) if "int" in kind else float(text)
    except (KeyError, ValueError):
        wanted = "yes or no" if "bool" in kind else "a whole number" if "int" in kind else "a number"
        raise SettingsError(f"ROOKERY_{name.upper()} is {text[:80]!r}, which is not {wanted}") from None
    least = 1 if name in _AT_LEAST_ONE else 0
    most = next((most for ending, most in _MOST.items() if name.endswith(ending)), 2**53)
    if not least <= number <= most:  # "nan" is in no range
        raise SettingsError(f"ROOKERY_{name.upper()} is {text[:80]!r}, which is not from {least} to {most}")
    return number
