"""``rookery-server run``: prepares the data folder, binds the ports, starts doors, worker and broker, and keeps them up."""

import errno
import fcntl
import http.client
import json
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from fleet_server import broker_disk, operator_tls_x509, private_door_http
from fleet_server.accounts import service as accounts
from fleet_server.assemble import make_secrets
from fleet_server.broker_guard_mqtt import BrokerGuard
from fleet_server.database import Database
from fleet_server.enrolment import authority_x509
from fleet_server.errors import AlreadyRunningError, OperatorError, PortTakenError, SettingsError, UnavailableError
from fleet_server.migrate import migrate
from fleet_server.process_linux import Child, stop_all
from fleet_server.revocation import Revocations
from fleet_server.settings import SECRETS, Settings, to_environment
from fleet_server.startable_disk import check_startable
from ota.durable_disk import make_folder, write_whole

log = logging.getLogger(__name__)

READY_S = 60.0
"""From start until every door must answer."""
BROKER_READY_S = 10.0
TICK_S = 0.25
NO_BROKER = "none: devices use HTTPS alone, and hear of news only when they ask"


def run(settings: Settings, *, say: Any = print) -> int:
    """Serve until SIGTERM or SIGINT; answers the exit code. Raises OperatorError for what the operator must change first."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    check_startable(settings, time.time())
    make_folder(settings.data_dir, 0o700)
    with _lock(settings.data_dir):
        listeners: list[socket.socket] = []
        children: list[Child] = []
        try:
            settings = _bind(settings, listeners)
            settings = _choose_broker(settings)
            database = Database(settings.database)
            try:
                revocations = Revocations(settings)
                setup_link = _prepare(settings, database, revocations)
                children += _children(settings, listeners)
                guard = BrokerGuard(settings, database, revocations, children[-1].send)
                _keep_up(settings, guard, children, stop, setup_link, say)
            finally:
                database.dispose()
        finally:
            (settings.data_dir / "run.json").unlink(missing_ok=True)
            stop_all(children)
            for listener in listeners:
                listener.close()
            if settings.device_socket and len(listeners) == 2:
                Path(settings.device_socket).unlink(missing_ok=True)
    return 0


def _lock(data_dir: Path) -> IO[str]:
    file = (data_dir / ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        detail = f"a server runs already over {data_dir}{_where(data_dir)}"
        raise AlreadyRunningError(detail, "end it first, or give another --data") from None
    return file


def running_url(data_dir: Path) -> str:
    """Where browsers find the server that runs over this folder; empty where none does."""
    try:
        return str(json.loads((data_dir / "run.json").read_text())["operator_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _where(data_dir: Path) -> str:
    try:
        running = json.loads((data_dir / "run.json").read_text())
    except (OSError, ValueError):
        return ""
    return f" (process {running['pid']}, {running['operator_url']})"


def _bind(settings: Settings, listeners: list[socket.socket]) -> Settings:
    listeners.append(_listener(settings.host, settings.operator_port, "--operator-port"))
    settings = replace(settings, operator_port=int(listeners[0].getsockname()[1]))
    if settings.device_socket:
        listeners.append(private_door_http.bind_private(Path(settings.device_socket)))
        return settings
    listeners.append(_listener(settings.host, settings.device_port, "--device-port"))
    return replace(settings, device_port=int(listeners[1].getsockname()[1]))


def _listener(host: str, port: int, flag: str) -> socket.socket:
    if not 0 <= port <= 65535:
        raise SettingsError(f"{flag} {port} is not a port")
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
        made.listen(128)
    except OSError as error:
        made.close()
        known = {errno.EADDRINUSE: "is in use by another program", errno.EACCES: "may not be used by this user"}
        what = known.get(error.errno or 0, str(error.strerror))
        raise PortTakenError(f"{flag} {port} on {host} {what}", f"choose another, or {flag} 0 for a free one") from None
    return made


def _choose_broker(settings: Settings) -> Settings:
    if settings.broker == "none":
        return replace(settings, broker_port=0, broker_inside_port=0)
    if broker_disk.find_mosquitto() is None:
        return replace(settings, broker="none", broker_port=0, broker_inside_port=0)
    port = _free(settings.host, settings.broker_port) if settings.broker_port else _remembered(settings)
    return replace(settings, broker_port=port, broker_inside_port=_free("127.0.0.1", 0))


def _remembered(settings: Settings) -> int:
    # Enrolled devices know the broker's port: the free one that was found once is asked for again.
    path = settings.data_dir / "mosquitto" / "port"
    try:
        return _free(settings.host, int(path.read_text()))
    except (OSError, ValueError, OperatorError):
        port = _free(settings.host, 0)
        write_whole(path, str(port).encode())
        return port


def _free(host: str, port: int) -> int:
    with _listener(host, port, "--broker-port") as probe:
        return int(probe.getsockname()[1])


def _prepare(settings: Settings, database: Database, revocations: Revocations) -> str | None:
    now_s = time.time()
    make_secrets(settings)
    hosts = dict.fromkeys(["localhost", "127.0.0.1", "::1", settings.public_host, socket.gethostname()])
    if not settings.listens_everywhere:
        hosts[settings.host] = None
    if settings.operator_tls_kind == "own":
        hosts |= dict.fromkeys(settings.operator_names)
    authority_x509.prepare(settings.pki_dir, list(hosts), now_s)
    migrate(database)
    if settings.broker != "none":
        broker_disk.write_configuration(settings)
    revocations.refresh(database, now_s)
    return new_setup_link(settings, database, now_s)


def new_setup_link(settings: Settings, database: Database, now_s: float) -> str | None:
    """A fresh one-time link, also written to ``setup-link`` (0600); None when the first admin exists."""
    path = settings.data_dir / "setup-link"
    with database.write() as session:
        if accounts.is_set_up(session):
            path.unlink(missing_ok=True)
            return None
        link = accounts.new_setup_link(session, ttl_s=settings.setup_link_ttl_s, now_s=now_s)
    url = f"{settings.operator_url}/setup?token={link.token}"
    write_whole(path, url.encode() + b"\n", 0o600)
    return url


def _children(settings: Settings, listeners: list[socket.socket]) -> list[Child]:
    environment = {**os.environ, **to_environment(settings)}
    for name in SECRETS:
        if f"ROOKERY_{name.upper()}_FILE" in environment:  # the child reads it there itself
            environment.pop(f"ROOKERY_{name.upper()}", None)
    logs = settings.data_dir / "logs"
    python = [sys.executable, "-m", "fleet_server"]
    children = []
    for name, listener in zip(("operator-door", "device-door"), listeners, strict=True):
        fd = listener.fileno()
        children.append(Child(name, [*python, name, "--fd", str(fd)], environment, logs / f"{name}.log", [fd]))
    children.append(Child("worker", [*python, "worker"], environment, logs / "worker.log"))
    program = broker_disk.find_mosquitto()
    if settings.broker != "none" and program is not None:
        command = [program, "-c", str(settings.data_dir / "mosquitto" / "mosquitto.conf")]
        # Somebody else's program is told nothing that it does not need.
        hidden = {f"ROOKERY_{name.upper()}" for name in SECRETS} | {"CREDENTIALS_DIRECTORY"}
        clean = {name: value for name, value in os.environ.items() if name not in hidden and not name.startswith("AWS_")}
        children.append(Child("mosquitto", command, clean, logs / "mosquitto.log"))
    return children


def _keep_up(
    settings: Settings, guard: BrokerGuard, children: list[Child], stop: threading.Event, setup_link: str | None, say: Any
) -> None:
    began_s, ready = time.monotonic(), False
    while not stop.is_set():
        now_s = time.monotonic()
        for child in children:
            child.tend(now_s)
        if not ready and _answers(settings) and _broker_settled(settings, children[-1], now_s - began_s):
            ready = True
            _announce(settings, setup_link, say)
        if not ready and (now_s - began_s > READY_S or any(child.starts > 3 for child in children[:2])):
            raise UnavailableError("the server did not come up", f"see {settings.data_dir / 'logs'}")
        guard.look(now_s, time.time())
        stop.wait(TICK_S)


def _broker_settled(settings: Settings, broker: Child, waited_s: float) -> bool:
    # Devices do without it, so a broker that dies again and again holds nobody up.
    if settings.broker == "none" or waited_s > BROKER_READY_S or broker.starts > 2:
        return True
    return _broker_answers(settings)


def _broker_answers(settings: Settings) -> bool:
    try:
        socket.create_connection(("127.0.0.1", settings.broker_inside_port), timeout=1).close()
    except OSError:
        return False
    return True


def _announce(settings: Settings, setup_link: str | None, say: Any) -> None:
    broker = {"host": settings.public_host, "port": settings.broker_port} if settings.broker != "none" else None
    running = {
        "operator_url": settings.operator_url, "device_url": settings.device_url, "broker": broker,
        "ca_file": str(settings.pki_dir / "ca.pem"), "pid": os.getpid(),
    }  # fmt: skip
    write_whole(settings.data_dir / "run.json", json.dumps(running, indent=1).encode() + b"\n")
    say(f"operator door  {settings.operator_url}")
    if settings.operator_tls_kind == "own":
        say(f"               (its certificate is this server's own: give browsers {settings.pki_dir / 'ca.pem'}, or `rookery "
            "login --ca-file` that file)")
    say(f"device door    {settings.device_url}")
    note = "" if broker is None or _broker_answers(settings) else f" (does not answer: see {settings.data_dir / 'logs'})"
    say(f"broker         {settings.public_host}:{settings.broker_port}{note}" if broker else f"broker         {NO_BROKER}")
    if setup_link is not None:
        # What is no terminal is a log, and a log is no place for it.
        shown = setup_link if sys.stdout.isatty() else f"the link in {settings.data_dir / 'setup-link'}"
        say(f"set the first password here (works once): {shown}")
    sys.stdout.flush()


def _answers(settings: Settings) -> bool:
    tls = ssl.create_default_context(cafile=settings.pki_dir / "ca.pem")
    host = "127.0.0.1" if settings.listens_everywhere else settings.host
    files = operator_tls_x509.files_of(settings)
    operator_door = (
        http.client.HTTPConnection(host, settings.operator_port, timeout=2) if files is None else
        http.client.HTTPSConnection(host, settings.operator_port, timeout=2, context=operator_tls_x509.own_client(files[0]))
    )  # fmt: skip
    doors: list[http.client.HTTPConnection] = [
        operator_door,
        http.client.HTTPSConnection(host, settings.device_port, timeout=2, context=tls)
        if settings.device_door_mode == "direct" else private_door_http.private_connection(settings, 2.0),
    ]  # fmt: skip
    for door in doors:
        try:
            door.request("GET", "/healthz")
            if door.getresponse().status >= 500:
                return False
        except (OSError, http.client.HTTPException):
            return False
        finally:
            door.close()
    return True
