"""Bodies that nobody means, at both doors of a real server, over real sockets: a 4xx problem each, and nothing in the logs."""

import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from ota.wire import topics

pytestmark = pytest.mark.system
TIME = b'{"v":1,"nonce":"0123456789abcdef"}'
DEEP = 200_000


NEVER_S = 5000.0
"""Longer than any client here waits."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """One server, without a broker; its data folder and run.json."""
    with started(tmp_path_factory.mktemp("bodies") / "data", {}) as server:
        yield server


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """One that lets go of no handshake: whoever keeps its door shut keeps it shut."""
    (tmp_path / "sitecustomize.py").write_text(f"import fleet_server.doors_http as doors\n\ndoors.HANDSHAKE_S = {NEVER_S}\n")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    with started(tmp_path / "data", {"PYTHONPATH": os.pathsep.join(paths)}) as server:
        yield server


@contextmanager
def started(data: Path, environment: dict[str, str]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A server on this data folder until the end of the block."""
    command = [sys.executable, "-m", "fleet_server", "run", "--data", str(data), "--operator-port", "0", "--device-port", "0",
               "--broker", "none"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env={**os.environ, **environment})  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("broker  "):
                break
        else:
            raise AssertionError(f"the server did not come up: {said}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield data, json.loads((data / "run.json").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Line:
    """A connection to a door; ``say`` sends bytes as they are and reads one answer."""

    def __init__(self, url: str, ca_file: str) -> None:
        self.parts, self.tls = urlsplit(url), ssl.create_default_context(cafile=ca_file)

    def say(self, head: str, body: bytes) -> tuple[int, str, bytes]:
        with socket.create_connection((self.parts.hostname or "", self.parts.port or 0), timeout=60) as plain:
            sock: socket.socket = plain
            if self.parts.scheme == "https":
                sock = self.tls.wrap_socket(plain, server_hostname=self.parts.hostname)
            try:
                sock.sendall(f"{head}\r\nHost: {self.parts.netloc}\r\nConnection: close\r\n\r\n".encode() + body)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                pass  # it has heard enough, and its answer may lie there
            data = b""
            try:
                while chunk := sock.recv(65536):
                    data += chunk
            except (ConnectionResetError, ssl.SSLError):
                pass
            if sock is not plain:
                sock.close()
        first, _, rest = data.partition(b"\r\n")
        headers, _, content = rest.partition(b"\r\n\r\n")
        kind = next((line.split(b":", 1)[1] for line in headers.lower().split(b"\r\n") if line.startswith(b"content-type:")), b"")
        return int(first.split(b" ")[1]) if first.startswith(b"HTTP/") else 0, kind.strip().decode(), content


def bodies(good: bytes) -> dict[str, tuple[str, bytes]]:
    """What -> (further headers, body). ``good`` is one that the route would take."""
    plain = "Content-Type: application/json"

    def whole(body: bytes, headers: str = plain) -> tuple[str, bytes]:
        return f"{headers}\r\nContent-Length: {len(body)}", body

    return {
        "arrays in arrays": whole(b"[" * DEEP + b"]" * DEEP),
        "objects in objects": whole(b'{"a":' * DEEP + b"1" + b"}" * DEEP),
        "deep in a field": whole(good[:-1] + b',"x":' + b"[" * DEEP + b"]" * DEEP + b"}"),
        "utf-16": whole(good.decode().encode("utf-16"), "Content-Type: application/json; charset=utf-16"),
        "latin-1": whole(b'{"v":1,"name":"\xe4","nonce":"\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4\xe4"}'),
        "a lone surrogate": whole(b'{"v":1,"name":"\\ud800","nonce":"\\ud800\\ud800","password":"\\ud800","token_name":"x"}'),
        "NaN": whole(b'{"v":NaN,"name":NaN}'), "Infinity": whole(b'{"v":-Infinity,"name":Infinity}'),
        "a huge number": whole(b'{"v":' + b"9" * 5000 + b',"name":1e99999}'),
        "NUL": whole(b'{"v":1,"no\x00nce":"x","name":"\x00"}'), "nothing": whole(b""), "blanks": whole(b" " * 1000),
        "cut in half": whole(good[: len(good) // 2]), "two of them": whole(good + good), "a list": whole(b"[" + good + b"]"),
        "packed": whole(gzip.compress(b" " * 10_000_000), f"{plain}\r\nContent-Encoding: gzip"),
        "packed, it says": whole(good, f"{plain}\r\nContent-Encoding: gzip"),
        "no type": whole(good, "X-A: b"), "a form": whole(b"a=b", "Content-Type: application/x-www-form-urlencoded"),
        "another type": whole(good, "Content-Type: text/plain"),
        "many parts": whole(b"--x\r\n\r\n--x--", "Content-Type: multipart/form-data; boundary=x"),
        "too long, and says so": (f"{plain}\r\nContent-Length: 999999999999", good),
        "a length that is none": (f"{plain}\r\nContent-Length: -5", good),
        "two lengths": (f"{plain}\r\nContent-Length: 3\r\nContent-Length: {len(good)}", good),
        "chunks and a length": (f"{plain}\r\nTransfer-Encoding: chunked\r\nContent-Length: 3", b"0\r\n\r\n"),
        "too long in chunks": (f"{plain}\r\nTransfer-Encoding: chunked", b"80000\r\n" + b" " * 0x80000 + b"\r\n" * 1 +
                               (b"80000\r\n" + b" " * 0x80000 + b"\r\n") * 4 + b"0\r\n\r\n"),
        "chunks of no number": (f"{plain}\r\nTransfer-Encoding: chunked", b"ZZ\r\n"),
    }  # fmt: skip


@pytest.mark.parametrize(("door", "path", "good"), [
    ("device_url", topics.TIME, TIME),
    ("operator_url", "/api/v1/login", b'{"name":"ada","password":"wrong horse battery"}'),
])  # fmt: skip
def test_a_body_that_nobody_means_is_a_problem_of_the_caller(
    running: tuple[Path, dict[str, Any]], door: str, path: str, good: bytes
) -> None:
    """Nested, packed, cut, doubled, endless, in other letters: 4xx in words each; then the door still answers."""
    data, facts = running
    line = Line(facts[door], facts["ca_file"])
    for what, (headers, body) in bodies(good).items():
        status, kind, content = line.say(f"POST {path} HTTP/1.1\r\n{headers}", body)
        assert 400 <= status < 500, (what, status, content[:300])
        assert b"Traceback" not in content, what
        if kind != "text/html":  # what is no HTTP at all is answered below the app
            assert kind == "application/problem+json", (what, kind, content[:300])
            assert json.loads(content)["detail"], what
    verify = ssl.create_default_context(cafile=facts["ca_file"])
    with httpx.Client(base_url=facts[door], verify=verify, timeout=60) as client:
        assert client.post(path, content=good, headers={"Content-Type": "application/json"}).status_code in (200, 401, 403)
    for log in (data / "logs").glob("*-door.log"):
        assert "Traceback" not in log.read_text(), log.name


def test_a_body_in_chunks_is_a_body(running: tuple[Path, dict[str, Any]]) -> None:
    """Without a length, as HTTP allows: read up to the limit of its message; keys that come twice mean the last, always."""
    line = Line(running[1]["device_url"], running[1]["ca_file"])
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(TIME), TIME)
    head = f"POST {topics.TIME} HTTP/1.1\r\nContent-Type: application/json"
    assert line.say(f"{head}\r\nTransfer-Encoding: chunked", chunks)[0] == 200
    double = b'{"v":1,"v":1,"nonce":"fedcba9876543210","nonce":"0123456789abcdef"}'
    status, _, content = line.say(f"{head}\r\nContent-Length: {len(double)}", double)
    assert (status, b"0123456789abcdef" in content, b"fedcba" in content) == (200, True, False)


def test_who_drips_its_handshake_is_let_go(running: tuple[Path, dict[str, Any]]) -> None:
    """A byte every half second keeps a handshake open no longer than silence does."""
    place = urlsplit(running[1]["device_url"])
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=0.5) as slow:
        slow.sendall(b"\x16\x03\x01\x02\x00\x01")
        for _ in range(120):
            try:
                if not slow.recv(4096):
                    break
            except TimeoutError:
                with suppress(OSError):
                    slow.sendall(b"\x00")
            except ConnectionResetError:
                break
        else:
            raise AssertionError("still there after a minute")


def test_twenty_half_open_handshakes_keep_nobody_out(patient: tuple[Path, dict[str, Any]]) -> None:
    """A hundred clients say nothing, twenty send part of a ClientHello, twenty drip it: a device is served meanwhile.

    No deadline helps: what the door lets go of in time is the test above.
    """
    facts = patient[1]
    place = urlsplit(facts["device_url"])
    waiting, stop = [], threading.Event()
    try:
        for number in range(140):
            waiting.append(socket.create_connection((place.hostname or "", place.port or 0), timeout=60))
            if number >= 100:
                waiting[-1].sendall(b"\x16\x03\x01\x02\x00\x01")

        def drip() -> None:
            while not stop.wait(0.5):
                for each in waiting[120:]:
                    try:
                        each.sendall(b"\x00")
                    except OSError:
                        continue

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        verify = ssl.create_default_context(cafile=facts["ca_file"])
        for _ in range(3):
            with httpx.Client(base_url=facts["device_url"], verify=verify, timeout=60) as client:
                assert client.post(topics.TIME, content=TIME, headers={"Content-Type": "application/json"}).status_code == 200
        stop.set()
        dripping.join(30)
    finally:
        stop.set()
        for each in waiting:
            each.close()
