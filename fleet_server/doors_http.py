"""One door as a gunicorn server: over a socket that the supervisor bound, with TLS and a deadline for the handshake.

gunicorn has no deadline of its own: as many silent clients as there are threads would close the door (measured). It also makes a
new TLS context for every connection; ours is made once, which resumes sessions too.
"""

import errno
import socket
import ssl
from typing import Any

import gunicorn.sock
import gunicorn.util
from flask import Flask
from gunicorn.app.base import BaseApplication

from fleet_server.app import create_device_app, create_operator_app
from fleet_server.assemble import make_context
from fleet_server.device_tls_x509 import DeviceTls
from fleet_server.door_errors_gunicorn import write_error
from fleet_server.door_log_gunicorn import DoorLog
from fleet_server.operator_tls_x509 import OperatorTls, files_of
from fleet_server.patience_http import DoorTls, DoorWorker, allow_connections
from fleet_server.settings import Settings

HANDSHAKE_S = 5.0
CONNECTIONS = 2000
"""At once, idle ones among them. Each device keeps one for a minute after it spoke."""
DOORS = ("operator-door", "device-door")


class Door(BaseApplication):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn with our settings; the app is made in the worker process, after the fork."""

    def __init__(self, name: str, listener_fd: int, settings: Settings) -> None:
        self._name, self._fd, self._settings = name, listener_fd, settings
        super().__init__()

    def load_config(self) -> None:
        """Everything that differs from gunicorn's defaults."""
        settings = self._settings
        options: dict[str, Any] = {
            "bind": [f"fd://{self._fd}"],
            "worker_class": DoorWorker,
            "worker_connections": CONNECTIONS,
            "workers": 1,
            "threads": settings.operator_threads if self._name == "operator-door" else settings.device_threads,
            "keepalive": 75,
            "timeout": 60,
            "graceful_timeout": 3,
            "proc_name": f"rookery-{self._name}",
            "loglevel": settings.log_level if settings.log_level != "info" else "warning",
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
            "logger_class": DoorLog,
        }
        if self._name == "device-door" and settings.device_door_mode == "direct":
            pki = settings.pki_dir
            options |= {
                "certfile": str(pki / "server.crt"),
                "keyfile": str(pki / "server.key"),
                "ca_certs": str(pki / "ca.pem"),
                "cert_reqs": ssl.CERT_OPTIONAL,
                "do_handshake_on_connect": True,
            }
        files = files_of(settings) if self._name == "operator-door" else None
        if files is not None:
            options |= {"certfile": str(files[0]), "keyfile": str(files[1]), "do_handshake_on_connect": True}
        for key, value in options.items():
            if key in self.cfg.settings:
                self.cfg.set(key, value)

    def load(self) -> Flask:
        """The app of this door."""
        context = make_context(self._settings)
        return create_device_app(context) if self._name == "device-door" else create_operator_app(context)


def serve(name: str, listener_fd: int, settings: Settings) -> None:
    """Serve one door until SIGTERM; never returns."""
    if name == "device-door" and settings.device_door_mode == "direct":
        tls = DeviceTls(settings.pki_dir, DoorTls)

        def wrap(sock: socket.socket, _conf: object) -> ssl.SSLSocket:
            sock.settimeout(HANDSHAKE_S)
            try:
                wrapped = tls.context().wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=True, suppress_ragged_eofs=True
                )  # fmt: skip
            except TimeoutError:
                # To gunicorn a caller who hung up is no news; a time-out would be a stack trace for each silent stranger.
                raise ConnectionResetError(errno.ECONNRESET, "no TLS handshake in time") from None
            wrapped.settimeout(None)
            return wrapped

        gunicorn.sock.ssl_wrap_socket = wrap
    elif name == "operator-door" and (files := files_of(settings)) is not None:
        operator_tls = OperatorTls(*files)
        gunicorn.sock.ssl_wrap_socket = lambda sock, _conf: operator_tls.wrap(sock)
    # The sockets are the supervisor's: a door that ends must not take a unix socket's name away from its successor.
    gunicorn.sock.close_sockets = lambda listeners, _unlink=True: [listener.close() for listener in listeners]
    gunicorn.util.write_error = write_error
    allow_connections(4 * CONNECTIONS)
    Door(name, listener_fd, settings).run()
