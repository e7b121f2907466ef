"""The client of the public contract, against a repository that the test bends. Most tests call its ``main`` in this process."""

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, unquote

import pytest
from tuf_repository import RepositoryServer, SimulatedRepository

PROGRAM = Path(__file__).with_name("tuf_client")


@pytest.fixture(scope="session")
def program() -> ModuleType:
    """The program as a module: the same code as the executable's, without a start of Python for each call."""
    loader = SourceFileLoader("tuf_client_program", str(PROGRAM))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # else it leaves ``tuf_clientc`` beside the program
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


class Client:
    """Runs the three commands; answers exit codes."""

    def __init__(self, program: ModuleType, folder: Path, repository: SimulatedRepository, url: str) -> None:
        self._program, self.repository, self.url = program, repository, url
        self.metadata, self.artifacts = folder / "metadata", folder / "artifacts"
        self._root = folder / "initial_root.json"
        self.later_s = 0.0
        self.metadata.mkdir(parents=True)

    def run(self, *words: str | Path) -> int:
        now_s = self.repository.now.timestamp() + self.later_s
        return int(self._program.main([str(word) for word in words], clock=lambda: now_s))

    def init(self, root: bytes | None = None) -> int:
        self._root.write_bytes(self.repository.roots[0] if root is None else root)
        return self.run("--metadata-dir", self.metadata, "init", self._root)

    def refresh(self) -> int:
        self.forget_requests()
        return self.run("--metadata-dir", self.metadata, "--metadata-url", f"{self.url}/metadata", "refresh")

    def download(self, *names: str) -> int:
        self.forget_requests()
        wanted = [word for name in names for word in ("--target-name", name)]
        return self.run(
            "--metadata-dir", self.metadata, "--metadata-url", f"{self.url}/metadata", *wanted,
            "--target-base-url", f"{self.url}/targets", "--target-dir", self.artifacts, "download",
        )  # fmt: skip

    def forget_requests(self) -> None:
        self.repository.metadata_requests.clear()
        self.repository.artifact_requests.clear()

    def versions(self) -> dict[str, int]:
        """Role (unquoted) -> version, of every metadata file in D."""
        files = {unquote(path.name.removesuffix(".json")): path for path in self.metadata.glob("*.json")}
        return {role: json.loads(path.read_bytes())["signed"]["version"] for role, path in sorted(files.items())}

    def bytes_of(self, role: str) -> bytes:
        return (self.metadata / f"{quote(role, safe='')}.json").read_bytes()

    def files(self) -> dict[str, bytes]:
        """Everything in T, by file name."""
        if not self.artifacts.exists():
            return {}
        return {path.name: path.read_bytes() for path in sorted(self.artifacts.rglob("*")) if path.is_file()}


MakeClient = Callable[..., Client]


@pytest.fixture
def make_client(program: ModuleType, tmp_path: Path) -> Iterator[MakeClient]:
    """``make_client(repository)``: a served repository and a fresh client, initialised with its first root."""
    servers: list[RepositoryServer] = []

    def make(repository: SimulatedRepository | None = None, *, initialised: bool = True) -> Client:
        served = repository or SimulatedRepository()
        servers.append(RepositoryServer(served))
        client = Client(program, tmp_path / f"client-{len(servers)}", served, servers[-1].url)
        if initialised:
            assert client.init() == 0
        return client

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    """A client that knows the first root of a small repository."""
    return make_client()


@pytest.fixture
def repo(client: Client) -> SimulatedRepository:
    """What ``client`` asks."""
    return client.repository


@pytest.fixture(scope="session")
def suite() -> Path:
    """The public suite's checkout, where somebody has put one."""
    given = os.environ.get("TUF_CONFORMANCE_DIR")
    if not given:
        pytest.skip("TUF_CONFORMANCE_DIR is not set")
    return Path(given)
