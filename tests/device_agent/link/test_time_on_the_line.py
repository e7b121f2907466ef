"""A board without a clock and a real TLS server: its certificate is younger than that clock, or it says 2099."""

import http.server
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from device_agent.link.clock import TrustedClock
from device_agent.link.pool_http import counted_manager
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from fleet_server.enrolment import authority_x509

DAY_S = 86_400.0


@pytest.fixture
def door(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a server whose certificate was made an hour ago, and the authority that the board has pinned."""
    authority_x509.prepare(tmp_path / "pki", ["127.0.0.1"], time.time() - 3600.0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a board that judges the certificate hangs up

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(str(tmp_path / "pki" / "server.crt"), str(tmp_path / "pki" / "server.key"))
    server = Server(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/", tmp_path / "pki" / "ca.pem"
    server.shutdown()
    server.server_close()
    thread.join()


def in_1970(floor_s: float, kept: list[float]) -> TrustedClock:
    return TrustedClock(floor_s, now=lambda: 12.0, steady=time.monotonic, keep=kept.append)


def reached(door: tuple[str, Path], clock: TrustedClock) -> bool:
    url, authority = door
    tls = context(authority, check_dates=not clock.behind())
    pool = counted_manager(tls, ByteCount(), urllib3.Timeout(30.0), clock.server_s)
    try:
        return bool(pool.request("GET", url, retries=False).status == 200)
    except (urllib3.exceptions.HTTPError, ssl.SSLError):
        return False
    finally:
        pool.clear()


def test_the_servers_certificate_is_younger_than_the_boards_clock(door: tuple[str, Path]) -> None:
    """The board slept for a month and wakes in 1970; the certificate was made an hour ago: its time is asked first."""
    clock = in_1970(time.time() - 30 * DAY_S, [])
    assert not reached(door, clock)
    clock.verified(time.time())
    assert reached(door, clock)


def test_metadata_that_ended_bounds_the_floor_and_not_the_line(door: tuple[str, Path]) -> None:
    """The channel ended ten days ago, and the certificate is an hour old: nothing is installed, but the board is not cut off."""
    kept: list[float] = []
    clock = in_1970(time.time() - 30 * DAY_S, kept)
    ended_s = time.time() - 10 * DAY_S
    clock.bound_by(lambda: ended_s)
    clock.verified(time.time())
    assert ended_s <= clock.now_s() < ended_s + 600
    assert kept == [ended_s]
    assert reached(door, clock)


def test_a_wrong_2099_is_forgotten_with_the_next_right_word(door: tuple[str, Path]) -> None:
    """The server's clock is wrong for an hour. The floor stops where the metadata ends, and the next answer heals the rest."""
    kept: list[float] = []
    clock = in_1970(time.time() - DAY_S, kept)
    clock.bound_by(lambda: time.time() + 30 * DAY_S)
    clock.verified(4_080_000_000.0)
    assert not reached(door, clock)
    assert max(kept) < time.time() + 31 * DAY_S
    clock.verified(time.time())
    assert reached(door, clock)
    again = in_1970(max(kept), [])  # the power went in between: what was kept is no later than the metadata's end
    again.bound_by(lambda: time.time() + 30 * DAY_S)
    again.verified(time.time())
    assert reached(door, again)
