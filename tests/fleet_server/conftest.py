"""Fixtures of the server's tests: a database of either kind, a context over fakes of its seams, and clients for both doors."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from flask.testing import FlaskClient

from fleet_server.accounts import service as accounts
from fleet_server.app import create_device_app, create_operator_app, load_tables
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.context import Context
from fleet_server.database import Base, Database
from fleet_server.enrolment import authority_x509
from fleet_server.enrolment import service as enrolment
from fleet_server.enrolment.identity import peer_certificate
from fleet_server.settings import Settings
from ota.trust.key_types import CryptoSigner
from ota.trust.repository_disk import Repository
from ota.wire.enrolment import BoardFacts, EnrolRequest

NOW_S = 1_790_000_000.0
PASSWORD = "correct horse battery"


@dataclass
class Clock:
    """A clock that a test moves."""

    now_s: float = NOW_S

    def __call__(self) -> float:
        return self.now_s

    def forward(self, seconds: float) -> None:
        self.now_s += seconds


def _postgres_bin() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return versions[-1].parent if versions else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A private PostgreSQL cluster on a unix socket in a temp folder; its URL without a database name."""
    bin_dir = _postgres_bin()
    if bin_dir is None:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="rookery-pg-"))
    user, prefix = "postgres", []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        prefix = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
    data = folder / "data"
    run = lambda *arguments: subprocess.run(  # noqa: E731
        [*prefix, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder, timeout=120
    )
    run(str(bin_dir / "initdb"), "-D", str(data), "-U", user, "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
    options = f"-k {folder} -c listen_addresses='' -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
    run(str(bin_dir / "pg_ctl"), "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://{user}@/{{name}}?host={folder}"
    finally:
        run(str(bin_dir / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _fresh_postgres(server: str) -> Iterator[str]:
    name = f"t{os.urandom(6).hex()}"
    admin = sqlalchemy.create_engine(server.format(name="postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        yield server.format(name=name)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.sqlite3'}"
        return
    with _fresh_postgres(request.getfixturevalue("postgres_server")) as url:
        yield url


@pytest.fixture
def postgres_database_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL database."""
    with _fresh_postgres(postgres_server) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with every table of the server."""
    load_tables()
    found = Database(database_url)
    found.create_all()
    yield found
    found.dispose()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """Only SQLite: for tests of the doors, where the kind of database does not matter."""
    load_tables()
    found = Database(f"sqlite:///{tmp_path / 'door.sqlite3'}")
    found.create_all()
    yield found
    found.dispose()


@pytest.fixture
def clock() -> Clock:
    """A clock at NOW_S."""
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings over a data folder of this test."""
    data_dir = tmp_path / "server"
    data_dir.mkdir()
    return Settings(data_dir=data_dir)


@pytest.fixture
def repository(settings: Settings, clock: Clock) -> Any:
    """A TUF repository to which nothing was uploaded yet; tests that need more override this fixture."""
    return Repository(settings.data_dir / "tuf", settings.data_dir / "keys", clock)


def make_context(settings: Settings, database: Database, clock: Clock, repository: Any) -> Context:
    """A context over real parts."""
    blobs = DiskBlobStore(settings.data_dir / "blobs", secret=b"s" * 32, base_url=settings.device_url, clock=clock)
    return Context(
        settings=settings, database=database, blobs=blobs, repository=repository, signer=CryptoSigner.generate_ecdsa(),
        clock=clock, certificate_of=peer_certificate, web_secret=b"w" * 32, factor_key=b"f" * 32,
    )  # fmt: skip


@pytest.fixture
def server(settings: Settings, database: Database, clock: Clock, repository: Any) -> Context:
    """A context over each kind of database; folders where the kind does not matter override it with ``sqlite_server``."""
    return make_context(settings, database, clock, repository)


@pytest.fixture
def sqlite_server(settings: Settings, sqlite_database: Database, clock: Clock, repository: Any) -> Context:
    """A context over SQLite."""
    return make_context(settings, sqlite_database, clock, repository)


@dataclass
class DeviceDoor:
    """A client of the device door; ``certificate`` is what TLS would have verified (DER), None: none was shown."""

    client: FlaskClient
    certificate: bytes | None = None


@pytest.fixture
def device_door(server: Context) -> DeviceDoor:
    """The device door without TLS: the test says which certificate the connection has."""
    door = DeviceDoor(None)  # type: ignore[arg-type]
    app = create_device_app(replace(server, certificate_of=lambda _environ: door.certificate))
    door.client = app.test_client()
    return door


@dataclass(frozen=True)
class Board:
    """A board with its key: what it needs to enrol and to connect."""

    key: ec.EllipticCurvePrivateKey

    @property
    def csr_pem(self) -> str:
        """A request for a certificate; its subject does not matter."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "anything")])
        made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
        return made.public_bytes(Encoding.PEM).decode()

    def request(self, claim: str, **facts: Any) -> EnrolRequest:
        """What it sends to enrol."""
        return EnrolRequest(claim=claim, csr_pem=self.csr_pem, facts=board_facts(**facts))


def board_facts(**changed: Any) -> BoardFacts:
    """Facts of a Raspberry Pi 5, with changes."""
    facts = BoardFacts(
        profile="rpi-5", board_model="Raspberry Pi 5 Model B", serial="0123456789abcdef", machine="aarch64", cores=4,
        memory_bytes=8 * 2**30, runtimes={"litert": "2.1.0"}, python="3.11.2", agent_version="0.1.0", os="Debian 12",
    )
    return msgspec.structs.replace(facts, **changed)


@pytest.fixture
def new_board() -> Callable[[], Board]:
    """Makes boards, each with a fresh key."""
    return lambda: Board(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def issuer(settings: Settings) -> enrolment.Issuer:
    """A certificate authority in the data folder of this test."""
    return enrolment.Issuer(authority_x509.prepare(settings.pki_dir, ["localhost", "127.0.0.1"], NOW_S), 90)


@dataclass(frozen=True)
class Enrolled:
    """A device that is in the inventory, with its certificate."""

    device_id: str
    der: bytes
    board: Board


@pytest.fixture
def enrol_device(server: Context, issuer: enrolment.Issuer, new_board: Callable[[], Board]) -> Callable[..., Enrolled]:
    """Enrols one more device with a fresh claim; keywords change its facts."""

    def enrol(**facts: Any) -> Enrolled:
        board, now_s = new_board(), server.clock()
        with server.database.write() as session:
            claim = enrolment.make_claims(
                session, count=1, terms=enrolment.ClaimTerms(), ttl_s=60, who="test", now_s=now_s
            )[0]
            outcome = enrolment.enrol(session, board.request(claim.token, **facts), issuer, origin="", now_s=now_s)
        assert outcome.device_id is not None
        certificate = x509.load_pem_x509_certificate(outcome.certificate_pem.encode())
        return Enrolled(outcome.device_id, certificate.public_bytes(Encoding.DER), board)

    return enrol


@pytest.fixture
def enrolled(enrol_device: Callable[..., Enrolled]) -> Enrolled:
    """One enrolled device."""
    return enrol_device()


SignIn = Callable[[str], FlaskClient]


@pytest.fixture
def sign_in(server: Context) -> SignIn:
    """``sign_in(role)`` gives a client of the operator door with a bearer token of that role ("" for nobody)."""
    app = create_operator_app(server)
    made_names: list[str] = []

    def client(role: str) -> FlaskClient:
        made = app.test_client()
        if not role:
            return made
        with server.database.write() as session:
            made_names.append(role)
            name = f"{role}-{made_names.count(role)}"
            # Hashing is slow on purpose and has its own tests.
            accounts.add_operator(session, name=name, password_hash="$argon2id$", role=role, now_s=server.clock())
            grant = accounts.open_grant(
                session, name=name, kind="token", token_name="test", ttl_s=86400.0, now_s=server.clock()
            )
        made.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {grant.token}"
        return made

    return client


__all__ = ["Base", "Clock", "DeviceDoor", "SignIn", "make_context"]
