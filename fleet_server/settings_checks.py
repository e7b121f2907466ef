"""Settings that do not go together, said in words before anything is bound or written. Pure."""

import ipaddress
import re

from fleet_server.errors import SettingsError
from fleet_server.settings import LOOPBACK, Settings, is_every_address

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")


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


def check_operator_door(settings: Settings) -> None:
    """SettingsError where passwords would cross a network in the clear, or TLS is asked for in a way that nobody can follow."""
    kind, files = settings.operator_tls_kind, (settings.operator_certificate, settings.operator_key)
    if kind not in ("off", "own", "files"):
        raise SettingsError(f"operator_tls {kind[:40]!r} is not one of auto, off, own, files")
    if kind == "files" and not all(files):
        hint = "name both: ROOKERY_OPERATOR_CERTIFICATE and ROOKERY_OPERATOR_KEY"
        raise SettingsError("the operator door's TLS needs a certificate and its key", hint)
    if kind == "off" and settings.host not in LOOPBACK and not settings.operator_proxy:
        raise SettingsError(
            f"the operator door would speak plain HTTP on {settings.host}: passwords could be read on the way",
            "leave --operator-tls at auto (the server's own certificate), name certificate files, or name the address of a proxy "
            "with TLS that stands before it: ROOKERY_OPERATOR_PROXY=ADDRESS",
        )
    proxies(settings)


def proxies(settings: Settings) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Where the operator door's proxy may speak from; SettingsError for what is no address."""
    entries = [entry.strip() for entry in settings.operator_proxy.split(",") if entry.strip()]
    try:
        return tuple(ipaddress.ip_network(entry) for entry in entries)
    except ValueError:
        raise SettingsError("operator_proxy does not list addresses or networks", "such as 127.0.0.1 or 10.1.2.3") from None


def check_broker(settings: Settings) -> None:
    """SettingsError for a broker that is none of ours."""
    if settings.broker not in ("auto", "none"):
        raise SettingsError(f"--broker {settings.broker[:40]!r} is neither auto nor none")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
