"""A server that was taken over: what it answers may cost the device one attempt, never its memory, its thread or its network."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_agent.errors import ServerNonsenseError, ServerRefusedError, ServerUnavailableError
from device_agent.link import api_http
from device_agent.link.api_http import DeviceApi
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from ota.wire.assignments import StateRequest
from ota.wire.events import UploadSlot
from tests.fakes.device_door_fake import DeviceDoor

ASKED = StateRequest(nonce="n" * 20, seq=0)


class Hostile:
    """Speaks TLS with the fleet's own certificate; ``answer(connection)`` says the rest."""

    def __init__(self, door: DeviceDoor, answer: Callable[[ssl.SSLSocket], None]) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(door.folder / "server.pem", door.folder / "server-key.pem")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._answer, self._tls = answer, tls
        self.port = self._listener.getsockname()[1]
        self.asked: list[bytes] = []
        self.ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            while True:
                with self._tls.wrap_socket(self._listener.accept()[0], server_side=True) as connection:
                    self.asked.append(whole_request(connection))
                    try:
                        self._answer(connection)
                    except OSError:
                        self.ended.set()
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


def whole_request(connection: ssl.SSLSocket) -> bytes:
    """Head and body: what is left unread when a socket closes becomes a reset that may overtake the answer."""
    got = b""
    while part := connection.recv(65536):
        got += part
        head, found, body = got.partition(b"\r\n\r\n")
        length = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        if found and len(body) >= int(length[0] if length else 0):
            break
    return got


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Callable[[Callable[[ssl.SSLSocket], None]], tuple[DeviceApi, Hostile]]]:
    made: list[Hostile] = []
    with DeviceDoor(tmp_path / "door") as door:

        def make(answer: Callable[[ssl.SSLSocket], None]) -> tuple[DeviceApi, Hostile]:
            made.append(Hostile(door, answer))
            url = f"https://localhost:{made[-1].port}"
            return DeviceApi(url, context(door.ca_file, None, check_dates=True), ByteCount(), timeout_s=5), made[-1]

        yield make
        for each in made:
            each.close()


def endless(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        connection.sendall(b" " * 65536)


def bomb(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")


def redirect(connection: ssl.SSLSocket) -> None:
    connection.sendall(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")


def test_an_answer_without_end_is_cut_off(hostile) -> None:
    """The poll is answered with a body that never ends: the device reads as much as an answer may have, then hangs up."""
    api, server = hostile(endless)
    with pytest.raises(ServerNonsenseError):
        api.state(ASKED)
    assert server.ended.wait(20)


def test_an_answer_that_drips_ends_with_its_time(hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte now and then, each before the line counts as silent."""
    monkeypatch.setattr(api_http, "ANSWER_S", 0.5)
    pause = threading.Event()

    def drip(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not pause.wait(0.05):
            connection.sendall(b" ")

    api, _ = hostile(drip)
    with pytest.raises(ServerUnavailableError):
        api.state(ASKED)
    pause.set()


def test_compressed_answers_and_redirects_are_nonsense(hostile) -> None:
    """A small answer that would unpack to gigabytes, and one that leads elsewhere: neither is followed."""
    with pytest.raises(ServerNonsenseError):
        hostile(bomb)[0].state(ASKED)
    with pytest.raises(ServerRefusedError):
        hostile(redirect)[0].state(ASKED)


@pytest.mark.parametrize("changed", [
    {"method": "DELETE", "url": "https://localhost:9/camera"}, {"method": "POST"}, {"url": "http://127.0.0.1:9/router/reboot"},
    {"url": "ftp://127.0.0.1/x"},
])  # fmt: skip
def test_the_server_does_not_get_the_devices_network(hostile, changed: dict[str, str]) -> None:
    """An upload slot names the router beside the camera, or another verb: nothing is sent anywhere."""
    api, server = hostile(endless)
    slot = UploadSlot(**{"key": "d-1/crop/e/" + "0" * 64, "present": False, "url": "", **changed})
    with pytest.raises(ServerNonsenseError):
        api.put_blob(slot, b"picture")
    assert server.asked == []
