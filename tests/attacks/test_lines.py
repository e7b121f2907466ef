"""Whoever sits on the line, or behind a captured server, against one board: where it is sent, and how long it is held."""

import contextlib
import http.server
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import urllib3

from device_agent.assemble_updates_http import content_allowed
from device_agent.link.pool_http import store_manager
from device_agent.spool.upload_rule import UploadRule
from device_agent.update.content_pool_http import PoolContent
from device_agent.update.policy import Policy
from ota.trust import request_http
from ota.trust.content_aim_http import Stores
from ota.trust.content_http import Limits
from ota.trust.refusal import Refusal
from ota.trust.request_http import RequestError, get
from ota.wire.events import UploadSlot

TWO_READINGS = (
    "https://169.254.169.254\\@store.example/x",
    "https://evil.example:8443\\@store.example/x",
    "//evil.example\\@store.example/x",
    "https://evil@store.example/x",
    "https://store.example@evil/x",
    "https://store.example%2f@evil/x",
    "https://store.example%2fevil/x",
    "https://evil.example \\store.example/x",
    "https://evil\u3002example@store.example/x",
    "https://[::1]\\@store.example/x",
)


@pytest.mark.parametrize("url", TWO_READINGS)
def test_an_address_of_two_readings_is_neither_fetched_from_nor_sent_to(url: str) -> None:
    """The policy names one store; the judge reads that name in the address, the connection would be made to another host."""
    assert not content_allowed(replace(Policy(), content_hosts=("store.example",)), url)
    slot = UploadSlot(key="k", present=False, url=url)
    assert not UploadRule(hosts=("store.example",)).lets_slot(slot)


def test_a_redirect_of_two_readings_reaches_nobody(tmp_path: Path) -> None:
    """A captured server sends the board on to a host of its own, dressed as the allowed store: not one byte goes there."""
    with listening() as thief, answering(lambda: f"https://127.0.0.1:{thief.port}\\@store.example/x") as server:
        policy = replace(Policy(), content_hosts=("store.example",))
        everything_goes = Stores(store_manager(urllib3.Timeout(5)), lambda url: True)
        for stores in (Stores(store_manager(urllib3.Timeout(5)), lambda url: content_allowed(policy, url)), everything_goes):
            content = PoolContent(urllib3.PoolManager(), f"{server}/b", Limits(total_s=20, attempts=1), stores)
            refused = content.fetch("a" * 64, 10, tmp_path / "file", lambda: False)
            assert isinstance(refused, Refusal)
            assert "more than one way" in refused.detail
        assert thief.heard == 0


def test_headers_that_drip_do_not_hold_the_board(tmp_path: Path) -> None:
    """The length of an acceptance picture is asked for, and its answer drips for ever: asked to stop, it ends."""
    with dripping() as server:
        pool = urllib3.PoolManager()
        for total_s, stop in ((1.0, False), (10_000.0, True)):
            content = PoolContent(pool, f"{server.url}/b", Limits(total_s=total_s, gap_s=30.0))
            refused = content.fetch("a" * 64, None, tmp_path / "file", lambda stop=stop: stop)
            assert isinstance(refused, Refusal)
            assert refused.code == "download"
        await_none_left()


def test_a_request_that_was_given_up_leaves_nothing_behind() -> None:
    """Drip after drip: each deadline ends the connection, and with it the thread, although the server goes on."""
    with dripping() as server:
        pool = urllib3.PoolManager()
        for _ in range(5):
            with pytest.raises(RequestError, match="in the time allowed"):
                get(pool, f"{server.url}/m", {}, time.monotonic() + 0.3, 60.0)
        await_none_left()


def test_there_is_an_end_to_requests_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread cannot be ended (a handshake that drips) their number is bounded, and the board says so."""
    release = threading.Event()

    class Hanging(urllib3.PoolManager):
        def request(self, *arguments: object, **named: object):  # type: ignore[override]
            release.wait(120)
            raise OSError("gone")

    monkeypatch.setattr(request_http, "MAX_ABANDONED", 2)
    try:
        for _ in range(2):
            with pytest.raises(RequestError, match="in the time allowed"):
                get(Hanging(), "http://127.0.0.1:9/m", {}, time.monotonic() + 0.05, 60.0)
        with pytest.raises(RequestError, match="still hang"):
            get(Hanging(), "http://127.0.0.1:9/m", {}, time.monotonic() + 0.05, 60.0)
    finally:
        release.set()
    await_none_left()


def await_none_left() -> None:
    """Until every thread of a request has ended; fails after 30 s."""
    for thread in threading.enumerate():
        if thread.name == "rookery-get":
            thread.join(30)
            assert not thread.is_alive()


class Thief:
    """Accepts on a port of its own; ``heard`` connections came."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.heard = sock, 0
        self.port: int = sock.getsockname()[1]

    def serve(self) -> None:
        """Until the socket is closed."""
        with contextlib.suppress(OSError):
            while True:
                came, _ = self.sock.accept()
                self.heard += 1
                came.close()


@contextlib.contextmanager
def listening() -> Iterator[Thief]:
    """A thief's host."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thief = Thief(sock)
        thread = threading.Thread(target=thief.serve, daemon=True)
        thread.start()
        yield thief
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(30)


@contextlib.contextmanager
def answering(location) -> Iterator[str]:
    """A server that sends everybody on to ``location()``; its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", location())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(30)


class Dripping:
    """Answers each request with headers that never end."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock, self.ending = sock, threading.Event()
        self.url = f"http://127.0.0.1:{sock.getsockname()[1]}"

    def serve(self) -> None:
        """Until the socket is closed."""
        with contextlib.suppress(OSError):
            while True:
                came, _ = self.sock.accept()
                threading.Thread(target=self._drip, args=(came,), daemon=True).start()

    def _drip(self, came: socket.socket) -> None:
        with came, contextlib.suppress(OSError):
            came.recv(4096)
            came.sendall(b"HTTP/1.1 200 OK\r\n")
            while not self.ending.wait(0.05):
                came.sendall(b"a")


@contextlib.contextmanager
def dripping() -> Iterator[Dripping]:
    """A captured server with patience."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = Dripping(sock)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        server.ending.set()
        sock.shutdown(socket.SHUT_RDWR)
        thread.join(30)
