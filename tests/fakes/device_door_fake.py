"""The device door as a real TLS server in a thread, keeping everything in memory: enough to run the whole agent against.

Faults are switched on from outside: ``away`` (503), ``lose_answers`` (commit, then hang up), ``refuse_blobs`` (a status),
claims that are used or expired, revoked devices, a clock of its own.
"""

import base64
import hashlib
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ota.trust.assignment import sign_payload
from ota.trust.keys_disk import generate_key, load_signer
from ota.wire import topics
from ota.wire.assignments import Assignment, State, StateAnswer, StateRequest
from ota.wire.codec import MessageError, decode, encode
from ota.wire.deployments import DeploymentReport, ReportBatch
from ota.wire.enrolment import BrokerAddress, EnrolAnswer, EnrolRequest, RenewRequest, TimeAnswer, TimeRequest
from ota.wire.events import Event, EventBatch, Stored, UploadRequest, UploadSlot
from ota.wire.heartbeat import Heartbeat
from ota.wire.logs import LogBatch, LogLine


class Authority:
    """A certificate authority: one root that signs server and devices."""

    def __init__(self, name: str = "test fleet") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._build(subject, subject, self.key.public_key(), ca=True, days=3650)

    def _build(
        self, subject: x509.Name, issuer: x509.Name, public: Any, *, ca: bool, days: float, names: list[Any] | None = None
    ) -> Any:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, public: Any, name: str, days: float = 90, hosts: tuple[str, ...] = ()) -> str:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts]
        made = self._build(subject, self.certificate.subject, public, ca=False, days=days, names=names)
        return made.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class DoorState:
    """What the server has committed, and the faults that are switched on."""

    claims: dict[str, str] = field(default_factory=dict)
    """Token -> open, used or expired; ``pending`` answers 202 until set to open."""
    devices: dict[str, str] = field(default_factory=dict)
    """Device id -> public key PEM."""
    revoked: set[str] = field(default_factory=set)
    events: dict[str, dict[int, Event]] = field(default_factory=dict)
    events_received: int = 0
    reports: dict[str, dict[int, DeploymentReport]] = field(default_factory=dict)
    report_batches: list[ReportBatch] = field(default_factory=list)
    logs: dict[str, dict[int, LogLine]] = field(default_factory=dict)
    heartbeats: list[Heartbeat] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    blob_puts: int = 0
    assignments: dict[str, Assignment] = field(default_factory=dict)
    static: dict[str, bytes] = field(default_factory=dict)
    static_folders: dict[str, Path] = field(default_factory=dict)
    polls: int = 0
    poll_s: float = 0.2
    away: bool = False
    lose_answers: int = 0
    refuse_blobs: int = 0
    broker: BrokerAddress | None = None
    certificate_days: float = 90
    servers: list[str] = field(default_factory=list)
    """Addresses that boards are told."""
    clock: Callable[[], float] = time.time

    def shown(self, device: str) -> dict[str, Event]:
        """Events as a page shows them: one per id, the highest revision."""
        found: dict[str, Event] = {}
        for event in self.events.get(device, {}).values():
            if event.id not in found or event.revision >= found[event.id].revision:
                found[event.id] = event
        return found


class DeviceDoor:
    """The server. ``with DeviceDoor(folder) as door:`` — ``door.url``, ``door.ca_file``, ``door.state``."""

    def __init__(self, folder: Path, *, authority: Authority | None = None, host: str = "127.0.0.1") -> None:
        self.folder, self.host = folder, host
        folder.mkdir(parents=True, exist_ok=True)
        self.state = DoorState()
        self.authority = authority or Authority()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.authority.pem)
        self.assignment_key = generate_key(folder / "assignment.pem", None)
        self.signer = load_signer(folder / "assignment.pem", None)
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / "server-key.pem").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (folder / "server.pem").write_text(self.authority.sign(key.public_key(), "localhost", hosts=(host,)))
        self.changed = threading.Condition()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    def claim(self, token: str = "claim-token-0123456789abcdef", state: str = "open") -> str:
        self.state.claims[token] = state
        return token

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server-key.pem")
        context.load_verify_locations(self.ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        server = _Server((self.host, self.port), _Handler)
        server.door, server.context = self, context
        self.port = server.server_address[1]
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.hang_up()
            self._thread.join()
            self._server = None

    def wait(self, what: Callable[[], bool], timeout_s: float = 30.0) -> bool:
        """Wait until ``what`` holds, looked at after every request."""
        with self.changed:
            return self.changed.wait_for(what, timeout_s)

    def __enter__(self) -> "DeviceDoor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    door: DeviceDoor
    context: ssl.SSLContext

    def __init__(self, *args: Any) -> None:
        self.open_sockets: set[Any] = set()
        super().__init__(*args)

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake runs in the connection's own thread: a silent client holds up nobody else.
        try:
            request.settimeout(60)
            wrapped = self.context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError):
            return
        self.open_sockets.add(wrapped)
        try:
            super().finish_request(wrapped, client_address)
        finally:
            self.open_sockets.discard(wrapped)
            wrapped.close()

    def hang_up(self) -> None:
        import socket

        for sock in list(self.open_sockets):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class _ProblemError(Exception):
    def __init__(self, status: int, detail: str, hint: str = "", headers: dict[str, str] | None = None) -> None:
        self.status, self.detail, self.hint, self.headers = status, detail, hint, headers or {}


class _HangUpError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self._serve(self._post)

    def do_PUT(self) -> None:
        self._serve(self._put)

    def do_GET(self) -> None:
        self._serve(self._get)

    def do_HEAD(self) -> None:
        self._serve(self._get)

    def _serve(self, what: Callable[[DoorState, bytes], tuple[int, bytes]]) -> None:
        door = self.server.door
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers: dict[str, str] = {}
        try:
            if door.state.away:
                raise _ProblemError(503, "the server is away", headers={"Retry-After": "0"})
            with door.changed:
                status, answer = what(door.state, body)
                kind = "application/json"
                if door.state.lose_answers and self.path in (topics.EVENTS, topics.REPORTS, topics.LOGS):
                    door.state.lose_answers -= 1
                    raise _HangUpError
        except _ProblemError as problem:
            status, kind, headers = problem.status, "application/problem+json", problem.headers
            answer = json.dumps(
                {"type": "about:blank", "title": "refused", "status": status, "detail": problem.detail, "hint": problem.hint}
            ).encode()
        except MessageError as error:
            status, kind, answer = 400, "application/problem+json", json.dumps({"title": "bad", "detail": str(error)}).encode()
        except _HangUpError:
            self.close_connection = True
            with door.changed:
                door.changed.notify_all()
            return
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)
        with door.changed:
            door.changed.notify_all()

    def _device(self) -> str:
        certificate = self.connection.getpeercert()
        if not certificate:
            raise _ProblemError(401, "a client certificate is needed")
        name = dict(pair for part in certificate["subject"] for pair in part)["commonName"]
        if name in self.server.door.state.revoked or name not in self.server.door.state.devices:
            raise _ProblemError(403, f"device {name} is revoked")
        return name

    # -- routes ---------------------------------------------------------------------------------------------------------

    def _post(self, state: DoorState, body: bytes) -> tuple[int, bytes]:
        routes: dict[str, Callable[[DoorState, bytes], Any]] = {
            topics.ENROL: self._enrol,
            topics.RENEW: self._renew,
            topics.TIME: self._time,
            topics.STATE: self._state,
            topics.EVENTS: self._events,
            topics.REPORTS: self._reports,
            topics.LOGS: self._logs,
            topics.HEARTBEATS: self._heartbeats,
            topics.UPLOADS: self._uploads,
        }
        if self.path not in routes:
            raise _ProblemError(404, f"no route {self.path}")
        answer = routes[self.path](state, body)
        if answer is None:
            return 204, b""
        return (202 if getattr(answer, "status", "") == "pending" else 200), encode(answer)

    def _enrol(self, state: DoorState, body: bytes) -> EnrolAnswer:
        request = decode(EnrolRequest, body)
        csr = x509.load_pem_x509_csr(request.csr_pem.encode())
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = csr.public_key().public_bytes(serialization.Encoding.PEM, form).decode()
        known = {pem: device for device, pem in state.devices.items()}
        if public not in known:
            claim = state.claims.get(request.claim)
            if claim == "pending":
                return EnrolAnswer(status="pending", retry_after_s=0.05)
            if claim != "open":
                words = {None: "is not known", "used": "was used already", "expired": "has expired"}[claim]
                raise _ProblemError(403, f"this claim {words}", "ask an operator for a new claim")
            state.claims[request.claim] = "used"
        device = known.get(public) or f"cam-{hashlib.sha256(public.encode()).hexdigest()[:8]}"
        state.devices[device] = public
        return self._identity(state, device, csr)

    def _renew(self, state: DoorState, body: bytes) -> EnrolAnswer:
        device = self._device()
        return self._identity(state, device, x509.load_pem_x509_csr(decode(RenewRequest, body).csr_pem.encode()))

    def _identity(self, state: DoorState, device: str, csr: x509.CertificateSigningRequest) -> EnrolAnswer:
        authority = self.server.door.authority
        return EnrolAnswer(
            status="accepted",
            device=device,
            certificate_pem=authority.sign(csr.public_key(), device, days=state.certificate_days),
            chain_pem=authority.pem,
            broker=state.broker,
        )

    def _time(self, state: DoorState, body: bytes) -> Any:
        return sign_payload(TimeAnswer(nonce=decode(TimeRequest, body).nonce, now_s=state.clock()), self.server.door.signer)

    def _state(self, state: DoorState, body: bytes) -> StateAnswer:
        device, request = self._device(), decode(StateRequest, body)
        now = state.clock()
        assignment = state.assignments.get(device) or Assignment(device=device, seq=0, issued_s=0, expires_s=2**33)
        signed = sign_payload(assignment, self.server.door.signer)
        digest = hashlib.sha256(signed.payload.encode()).hexdigest()
        state.polls += 1
        answer = State(
            device=device, nonce=request.nonce, now_s=now, seq=assignment.seq, digest=digest, poll_s=state.poll_s,
            servers=state.servers,
        )  # fmt: skip
        held = (request.seq, request.digest) == (assignment.seq, digest)
        return StateAnswer(state=sign_payload(answer, self.server.door.signer), assignment=None if held else signed)

    def _events(self, state: DoorState, body: bytes) -> Stored:
        batch = decode(EventBatch, body)
        kept = state.events.setdefault(self._device(), {})
        for event in batch.events:
            state.events_received += 1
            kept.setdefault(event.sequence, event)
        return Stored(stream="events", sequence=max(kept, default=0))

    def _reports(self, state: DoorState, body: bytes) -> Stored:
        batch = decode(ReportBatch, body)
        kept = state.reports.setdefault(self._device(), {})
        state.report_batches.append(batch)
        for report in batch.reports:
            kept.setdefault(report.sequence, report)
        return Stored(stream="reports", sequence=max(kept, default=0))

    def _logs(self, state: DoorState, body: bytes) -> Stored:
        batch = decode(LogBatch, body)
        kept = state.logs.setdefault(self._device(), {})
        for line in batch.lines:
            kept.setdefault(line.sequence, line)
        return Stored(stream="logs", sequence=max(kept, default=0))

    def _heartbeats(self, state: DoorState, body: bytes) -> None:
        self._device()
        state.heartbeats.append(decode(Heartbeat, body))

    def _uploads(self, state: DoorState, body: bytes) -> UploadSlot:
        device, request = self._device(), decode(UploadRequest, body)
        key = f"{device}/{request.name}/{request.sha256}.jpg"
        if key in state.blobs:
            return UploadSlot(key=key, present=True)
        signature = base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest()).decode()
        return UploadSlot(
            key=key,
            present=False,
            url=f"{self.server.door.url}{topics.BLOBS}/{key}?sig={signature}",
            headers={"Content-Type": request.content_type, "Content-Length": str(request.length_bytes)},
            expires_s=state.clock() + 60,
        )

    def _put(self, state: DoorState, body: bytes) -> tuple[int, bytes]:
        if state.refuse_blobs:
            raise _ProblemError(state.refuse_blobs, "the store does not take it")
        key = urlsplit(self.path).path.removeprefix(topics.BLOBS + "/")
        if hashlib.sha256(body).hexdigest() != key.rsplit("/", 1)[-1].removesuffix(".jpg"):
            raise _ProblemError(400, "the bytes are not those of the slot")
        state.blob_puts += 1
        state.blobs[key] = body
        return 201, b""

    def _get(self, state: DoorState, body: bytes) -> tuple[int, bytes]:
        if self.path in state.static:
            return self._ranged(state.static[self.path])
        for prefix, folder in state.static_folders.items():
            path = folder / self.path.removeprefix(prefix).lstrip("/")
            if self.path.startswith(prefix) and ".." not in path.parts and path.is_file():
                return self._ranged(path.read_bytes())
        raise _ProblemError(404, f"there is no {self.path}")

    def _ranged(self, data: bytes) -> tuple[int, bytes]:
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            return 206, data[int(first) : int(last) + 1 if last else None]
        return 200, data


def builtins(value: Any) -> Any:
    """A wire value as plain data, for comparisons."""
    return msgspec.to_builtins(value)
