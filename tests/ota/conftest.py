"""A small fleet for the tests of what travels over the air: real keys, repository and HTTP server.

The server can turn hostile.
"""

import hashlib
import http.server
import io
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import urllib3

from ota.bundle.manifest import AcceptanceSet, FileEntry, Golden, Manifest, Variant, encode_manifest, target_path
from ota.bundle.tuf_types import Metadata, Targets
from ota.trust import roles
from ota.trust.client_http import TrustClient
from ota.trust.content_disk import Content
from ota.trust.keys_disk import generate_key, load_signer
from ota.trust.repository_disk import Repository

DAY_S = 86_400.0


@dataclass
class Hostile:
    """How the server treats requests whose path matches; each field is one misdeed, done ``times`` times."""

    path: str = ".*"
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_at_bytes: int | None = None
    """Body ends here and the connection closes, whatever the headers promised."""
    drip_s: float | None = None
    """One byte, then this pause, for ever."""
    drip_headers_s: float | None = None
    ignore_range: bool = False
    wrong_range: bool = False
    replace: Callable[[bytes], bytes] | None = None
    times: int = 1_000_000


class StaticServer:
    """Files of one folder over HTTP/1.1 with Range, on a free port, in threads."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        self.folder = folder
        self.connections = 0
        self.requests: list[tuple[str, str]] = []
        self.misdeeds: list[Hostile] = []
        self.over = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients of these tests hang up on purpose

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def misbehave(self, **how: object) -> Hostile:
        misdeed = Hostile(**how)  # type: ignore[arg-type]
        self.misdeeds.append(misdeed)
        return misdeed

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range", "")
        self.requests.append((request.path, asked))
        misdeed = next((one for one in self.misdeeds if one.times > 0 and re.search(one.path, request.path)), Hostile(times=0))
        misdeed.times -= 1
        if misdeed.status is not None:
            self._send(request, misdeed.status, misdeed.headers, b"no", misdeed)
            return
        path = self.folder / request.path.lstrip("/")
        if not path.is_file():
            self._send(request, 404, {}, b"not here", misdeed)
            return
        data = path.read_bytes()
        if misdeed.replace is not None:
            data = misdeed.replace(data)
        found = re.fullmatch(r"bytes=(\d+)-", asked)
        if found is None or misdeed.ignore_range:
            self._send(request, 200, misdeed.headers, data, misdeed)
            return
        start = int(found[1])
        if start >= len(data):
            self._send(request, 416, {"Content-Range": f"bytes */{len(data)}"}, b"", misdeed)
            return
        if misdeed.wrong_range:
            start = max(0, start - 7)
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}", **misdeed.headers}
        self._send(request, 206, headers, data[start:], misdeed)

    def _send(
        self, request: http.server.BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes, misdeed: Hostile
    ) -> None:
        if misdeed.drip_headers_s is not None:
            self._drip(request, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"s" * 10_000, misdeed.drip_headers_s)
            return
        request.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if misdeed.drip_s is not None:
            self._drip(request, data, misdeed.drip_s)
            return
        if misdeed.cut_at_bytes is not None:
            data = data[: misdeed.cut_at_bytes]
            request.close_connection = True
        request.wfile.write(data)

    def _drip(self, request: http.server.BaseHTTPRequestHandler, data: bytes, pause_s: float) -> None:
        for value in data:
            if self.over.wait(pause_s):
                return
            request.wfile.write(bytes([value]))
            request.wfile.flush()


class Fleet:
    """Offline keys of people, and the server's repository with one channel, ``stable``, and a second, ``beta``."""

    def __init__(self, folder: Path, *, root_threshold: int = 2, channel_threshold: int = 1) -> None:
        self.folder = folder
        self.now_s = float(int(time.time()))
        self.repository = Repository(folder / "server" / "tuf", folder / "server" / "keys", lambda: self.now_s)
        self.root_threshold, self.channel_threshold = root_threshold, channel_threshold
        self.signers = {}
        for name in ("root-1", "root-2", "root-3", "targets", "stable-1", "stable-2", "beta"):
            generate_key(folder / "people" / f"{name}.pem", None)
            self.signers[name] = load_signer(folder / "people" / f"{name}.pem", None)
        online = self.repository.online_keys()
        keys = {
            "root": [self.key("root-1"), self.key("root-2"), self.key("root-3")],
            "targets": [self.key("targets")],
            "snapshot": [online["snapshot"]],
            "timestamp": [online["timestamp"]],
        }
        self.root = roles.new_root(keys, {"root": root_threshold}, self.now_s + 365 * DAY_S)
        channels = {
            "stable": roles.ChannelKeys([self.key("stable-1"), self.key("stable-2")], channel_threshold),
            "beta": roles.ChannelKeys([self.key("beta")]),
        }
        self.targets = roles.new_targets(channels, [online["assignment"]], self.now_s + 180 * DAY_S)
        for name in ("root-1", "root-2"):
            roles.sign(self.root, self.signers[name])
        roles.sign(self.targets, self.signers["targets"])

    def key(self, name: str):
        return self.signers[name].public_key

    def initialise(self) -> "Fleet":
        assert self.repository.initialise(self.root.to_bytes(), self.targets.to_bytes()) is None
        return self

    def channel(self, name: str = "stable") -> Metadata[Targets]:
        data = self.repository.channel_metadata(name)
        return roles.new_channel(self.now_s + 60 * DAY_S) if data is None else Metadata.from_bytes(data)

    def put(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        assert isinstance(self.repository.put_content(digest, io.BytesIO(data)), Content)
        return digest

    def release(self, version: str, *, name: str = "yard", channel: str = "stable", counter: int = 1, put: bool = True) -> bytes:
        files = {
            path: f"{path} of {name}@{version} ".encode() * 900 for path in ("model-a.tflite", "model-b.tflite", "card.toml")
        }
        if put:
            for data in files.values():
                self.put(data)
        return encode_manifest(a_manifest(name=name, version=version, channel=channel, counter=counter, contents=files))

    def signed_channel(
        self, manifest: bytes, version: str, *, name: str = "yard", channel: str = "stable", by: tuple[str, ...] = ()
    ):
        metadata = roles.add_release(self.channel(channel), target_path(channel, name, version), manifest)
        for signer in by or ({"stable": "stable-1", "beta": "beta"}[channel],):
            roles.sign(metadata, self.signers[signer])
        return metadata

    def publish(self, version: str, **how: object) -> bytes:
        manifest = self.release(version, **how)  # type: ignore[arg-type]
        channel = str(how.get("channel", "stable"))
        metadata = self.signed_channel(manifest, version, name=str(how.get("name", "yard")), channel=channel)
        published = self.repository.publish_channel(channel, metadata.to_bytes(), [manifest])
        assert isinstance(published, list), published
        return manifest

    @property
    def tuf(self) -> Path:
        return self.folder / "server" / "tuf"


def a_manifest(
    *,
    name: str = "yard",
    version: str = "1",
    channel: str = "stable",
    counter: int = 1,
    contents: dict[str, bytes] | None = None,
    acceptance: AcceptanceSet | None = None,
) -> Manifest:
    """A release with an Edge TPU variant and a CPU one."""
    files = contents or {"model-a.tflite": b"tpu", "model-b.tflite": b"cpu", "card.toml": b"card"}
    return Manifest(
        name=name,
        version=version,
        channel=channel,
        counter=counter,
        created_s=1_700_000_000,
        hardware=["*"],
        labels=["walker", "cart"],
        variants=[
            Variant(
                id="edgetpu",
                accelerator="edgetpu",
                runtimes=["litert"],
                model="model-a.tflite",
                card="card.toml",
                files=["model-a.tflite", "card.toml"],
            ),
            Variant(
                id="cpu-int8",
                accelerator="cpu",
                runtimes=["litert", "tflite-runtime"],
                model="model-b.tflite",
                card="card.toml",
                files=["model-b.tflite", "card.toml"],
            ),
        ],
        files={path: FileEntry(sha256=hashlib.sha256(data).hexdigest(), length_bytes=len(data)) for path, data in files.items()},
        golden=Golden(acceptance=acceptance),
        provenance={"trained": "on drawn scenes"},
    )


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    return a_manifest


@pytest.fixture
def make_fleet(tmp_path: Path) -> Callable[..., Fleet]:
    def make(**how: int) -> Fleet:
        return Fleet(tmp_path / f"fleet-{len(list(tmp_path.iterdir()))}", **how)

    return make


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet().initialise()


@pytest.fixture
def serve() -> Iterator[Callable[..., StaticServer]]:
    servers: list[StaticServer] = []

    def start(folder: Path, tls: ssl.SSLContext | None = None) -> StaticServer:
        servers.append(StaticServer(folder, tls))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    manager = urllib3.PoolManager()
    yield manager
    manager.clear()


@pytest.fixture
def make_client(tmp_path: Path, pool: urllib3.PoolManager) -> Callable[..., TrustClient]:
    def make(
        server: StaticServer, fleet: Fleet, *, where: str = "device", root: bytes | None = None, **how: float
    ) -> TrustClient:
        return TrustClient(
            tmp_path / where,
            metadata_url=f"{server.url}/metadata",
            targets_url=f"{server.url}/targets",
            pool=pool,
            bootstrap_root=root or fleet.root.to_bytes(),
            **{"reference_time": lambda: fleet.now_s, **how},
        )

    return make
