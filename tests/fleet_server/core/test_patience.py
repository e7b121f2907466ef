"""How long a door waits for one client: real sockets, no doors around them."""

import socket
from collections.abc import Iterator

import pytest

from fleet_server import patience_http
from fleet_server.patience_http import DoorSocket


@pytest.fixture
def pair() -> Iterator[tuple[DoorSocket, socket.socket]]:
    """Our end and the client's."""
    ours, theirs = socket.socketpair()
    door = DoorSocket(fileno=ours.detach())
    yield door, theirs
    door.close()
    theirs.close()


def test_a_silent_client_is_as_one_that_has_gone(pair: tuple[DoorSocket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client begins a request and says no more; the next request on a kept connection begins with fresh patience."""
    monkeypatch.setattr(patience_http, "GRACE_S", 0.05)
    door, client = pair
    door.setblocking(True)
    client.sendall(b"POST")
    assert door.recv(100) == b"POST"
    for _ in range(2):  # its time stays used up
        with pytest.raises(ConnectionResetError):
            door.recv(100)
    assert door.gettimeout() is None
    door.setblocking(True)
    client.sendall(b"GET")
    assert door.recv(100) == b"GET"


def test_bytes_buy_time(pair: tuple[DoorSocket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow line with a large body: who goes on sending is waited for."""
    monkeypatch.setattr(patience_http, "GRACE_S", 0.0)
    door, client = pair
    door.setblocking(True)
    with pytest.raises(ConnectionResetError):
        door.recv(100)
    monkeypatch.setattr(patience_http, "GRACE_S", 10.0)
    client.sendall(b"x" * 65536)
    assert len(door.recv(65536)) > 0
    monkeypatch.setattr(patience_http, "GRACE_S", 0.0)
    client.sendall(b"y")
    assert door.recv(65536)


def test_a_client_that_does_not_read_is_let_go(pair: tuple[DoorSocket, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Someone asks for a large file and never reads it."""
    monkeypatch.setattr(patience_http, "GRACE_S", 0.05)
    monkeypatch.setattr(patience_http, "STRANGER_BYTES_PER_S", 10**9)
    door, _client = pair
    door.setblocking(True)
    with pytest.raises(ConnectionResetError):
        door.sendall(b"x" * 50_000_000)
