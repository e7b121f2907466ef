"""The device door behind a proxy, as the supervisor sees it: its unix socket, and how to ask it whether it answers."""

import http.client
import socket
import stat
from pathlib import Path

from fleet_server.enrolment.proxy_headers import MODES, Proxy
from fleet_server.errors import PortTakenError, SettingsError
from fleet_server.settings import Settings

LONGEST_PATH = 107
"""Bytes that Linux allows for the path of a unix socket (unix(7): sun_path, with its end)."""


def check_device_door(settings: Settings) -> None:
    """SettingsError for a mode that is none, a proxy that could be anybody, a socket where none can be."""
    if settings.device_door_mode not in MODES:
        raise SettingsError(f"device_door_mode {settings.device_door_mode[:40]!r} is neither direct nor proxy")
    if settings.device_door_mode == "proxy":
        Proxy(settings.proxy_secret, private=bool(settings.device_socket))
    elif settings.device_socket:
        raise SettingsError("device_socket is for a proxy", "set ROOKERY_DEVICE_DOOR_MODE=proxy, too")
    if len(settings.device_socket.encode()) > LONGEST_PATH:
        raise SettingsError(f"device_socket {settings.device_socket[:40]!r}… is longer than {LONGEST_PATH} bytes")


def bind_private(path: Path) -> socket.socket:
    """Listen on a unix socket that only our user and group may open. One that nobody listens on any more is replaced."""
    try:
        if stat.S_ISSOCK(path.lstat().st_mode) and not _answered(path):
            path.unlink()
    except FileNotFoundError:
        pass
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(0o660)  # the supervisor's umask lets nobody else in before this
        made.listen(128)
    except OSError as error:
        made.close()
        hint = "its folder must be there and ours to write, and no other server may use it"
        raise PortTakenError(f"device_socket {path} cannot be made: {error.strerror}", hint) from None
    return made


def private_connection(settings: Settings, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the door as the proxy has it: plain HTTP, over its socket or its port."""
    if settings.device_socket:
        return _UnixConnection(settings.device_socket, timeout_s)
    host = "127.0.0.1" if settings.listens_everywhere else settings.host
    return http.client.HTTPConnection(host, settings.device_port, timeout=timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
