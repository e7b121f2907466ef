"""The device door over HTTPS: every route a method, every answer decoded by the wire, every error in the server's own words."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec
import urllib3
from urllib3.connectionpool import HTTPSConnectionPool

from device_agent.errors import AgentError, ServerNonsenseError, ServerRefusedError, ServerUnavailableError, SettingsError
from device_agent.link.pool_http import counted_pool, patient, retry_after_s, store_manager, translate
from device_agent.link.socket_bytes_linux import ByteCount
from ota.trust import request_http
from ota.wire import topics
from ota.wire.assignments import Signed, StateAnswer, StateRequest
from ota.wire.base import Message
from ota.wire.codec import MessageError, decode, encode, limit_bytes
from ota.wire.deployments import ReportBatch
from ota.wire.enrolment import EnrolAnswer, EnrolRequest, RenewRequest, TimeRequest
from ota.wire.events import EventBatch, Stored, UploadRequest, UploadSlot
from ota.wire.heartbeat import Heartbeat
from ota.wire.late_renewal import LateRenewalRequest
from ota.wire.logs import LogBatch
from ota.wire.request_signatures import UNSIGNED

if TYPE_CHECKING:
    from device_agent.link.request_signer_x509 import RequestSigner

A = TypeVar("A", bound=Message)
JSON = "application/json"
ERROR_LIMIT_BYTES = 16 * 1024
ANSWER_S = 120.0
"""Longest time for the body of one answer: half a megabyte over a bad line, not a byte a minute for ever."""


class _Problem(msgspec.Struct):
    """``application/problem+json``: only what we use of it."""

    type: str = ""
    title: str = ""
    detail: str = ""
    hint: str = ""
    time: Signed | None = None


class DeviceApi:
    """One server, one certificate (or none before enrolment). Methods may be called from several threads.

    ``timeout_s`` bounds connecting and each wait for bytes, besides what a body's bytes may take (``pool_http.body_s``);
    ``now_s`` is the trusted clock (see ``pool_http``).
    Raises ServerUnavailableError, UntrustedServerError,
    ServerRefusedError and ServerNonsenseError.
    """

    def __init__(
        self,
        base_url: str,
        context: ssl.SSLContext,
        count: ByteCount,
        *,
        timeout_s: float = 20.0,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "https" or not parts.hostname:
            raise SettingsError("agent.toml", [f"server.url: {base_url!r} is not of the form https://host:port"])
        self._host, self._port = parts.hostname, parts.port or 443
        self._prefix = parts.path.rstrip("/")
        self._count, self._timeout = count, urllib3.Timeout(connect=min(10.0, timeout_s), read=timeout_s)
        self._now_s = now_s
        self._context = context
        self._signer: RequestSigner | None = None
        self._pool = self._made(context)
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        """The server as a person would write it."""
        return f"https://{self._host}:{self._port}"

    def url(self, path: str) -> str:
        """The whole URL of one of the wire's paths."""
        return f"{self.where}{self._prefix}{path}"

    @property
    def where_with_prefix(self) -> str:
        """The server's URL as it was given, for another of these."""
        return f"{self.where}{self._prefix}"

    def use(self, context: ssl.SSLContext, signer: "RequestSigner | None" = None) -> None:
        """Speak with another certificate from now on, and sign by ``signer``; running calls end on the old connection."""
        with self._lock:
            self._context, self._signer = context, signer
            old, self._pool = self._pool, self._made(context)
        old.close()

    def rest(self) -> None:
        """Give idle connections back; the next call opens a new one. A closed pool, as of ``close``, would stay closed."""
        self.use(self._context, self._signer)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    # -- routes ---------------------------------------------------------------------------------------------------------

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        """Ask for an identity; the answer is accepted or pending."""
        return self._post(topics.ENROL, request, EnrolAnswer)

    def renew(self, request: RenewRequest) -> EnrolAnswer:
        """Ask for the next certificate, authenticated by the present one."""
        return self._post(topics.RENEW, request, EnrolAnswer)

    def renew_expired(self, request: LateRenewalRequest) -> EnrolAnswer:
        """Ask for it after the present one has ended; the request proves whose it is."""
        return self._post(topics.RENEW_EXPIRED, request, EnrolAnswer)

    def time(self, request: TimeRequest) -> Signed:
        """Ask for the signed time."""
        return self._post(topics.TIME, request, Signed)

    def state(self, request: StateRequest) -> StateAnswer:
        """The poll."""
        return self._post(topics.STATE, request, StateAnswer)

    def send_events(self, batch: EventBatch) -> Stored:
        """Hand over events."""
        return self._post(topics.EVENTS, batch, Stored)

    def send_reports(self, batch: ReportBatch) -> Stored:
        """Hand over reports."""
        return self._post(topics.REPORTS, batch, Stored)

    def send_logs(self, batch: LogBatch) -> Stored:
        """Hand over log lines."""
        return self._post(topics.LOGS, batch, Stored)

    def send_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Hand over a heartbeat, where no broker does it."""
        self._request("POST", topics.HEARTBEATS, encode(heartbeat), {"Content-Type": JSON})

    def upload_slot(self, request: UploadRequest) -> UploadSlot:
        """Ask for a place for one blob."""
        return self._post(topics.UPLOADS, request, UploadSlot)

    def put_blob(self, slot: UploadSlot, data: bytes) -> None:
        """Put a blob where the slot says, with exactly its headers. The same bytes being there already is success."""
        parts = urlsplit(slot.url)
        if slot.method != "PUT" or (parts.hostname and parts.scheme != "https"):
            # Whoever has the server must not have our network too: no other verb, nothing without TLS.
            raise ServerNonsenseError(f"{self.where} asks for {slot.method[:20]!r} to {slot.url[:80]!r}; a blob is put, by https")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        if not parts.hostname or (parts.hostname, parts.port or 443) == (self._host, self._port):
            self._request(slot.method, path, data, slot.headers, prefix="")
            return
        # Another host is an object store with a public certificate: its trust is the system's, its right is the signed URL.
        with store_manager(patient(self._timeout, len(data))) as store, _translated(parts.hostname):
            answer = store.request(
                slot.method, slot.url, body=data, headers=slot.headers, preload_content=False, decode_content=False,
                redirect=False,
            )  # fmt: skip
            self._count.add(len(data) + 1024, 1024)
            told = _read(answer, ERROR_LIMIT_BYTES)
        _check(answer.status, told, answer.headers.get("Retry-After"))

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        """A static file as it comes, for downloads that resume by Range. The caller looks at the status."""
        with self._lock:
            pool = self._pool
        with _translated(self.where):
            answer = pool.urlopen("GET", self._prefix + path, headers=headers, preload_content=False, redirect=False)
            try:
                yield answer
            finally:
                answer.close()

    def _made(self, context: ssl.SSLContext) -> HTTPSConnectionPool:
        return counted_pool(self._host, self._port, context, self._count, self._timeout, self._now_s)

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _post(self, path: str, message: Message, kind: type[A]) -> A:
        data = self._request("POST", path, encode(message), {"Content-Type": JSON, "Accept": JSON}, limit=limit_bytes(kind))
        try:
            return decode(kind, data)
        except MessageError as error:
            raise ServerNonsenseError(f"{self.where}{path} answered with something that is not of our wire: {error}") from None

    def _request(
        self,
        method: str,
        path: str,
        body: bytes,
        headers: dict[str, str],
        *,
        limit: int = ERROR_LIMIT_BYTES,
        prefix: str | None = None,
    ) -> bytes:
        with self._lock:
            pool, where, signer = self._pool, self._prefix if prefix is None else prefix, self._signer
        if path in UNSIGNED or prefix is not None:
            signer = None  # whose word stands in the message or in the URL
        for last_try in (signer is None, True):
            signed = signer.sign(method, where + path, body) if signer is not None else None
            with _translated(self.where):
                answer = pool.urlopen(
                    method, where + path, body=body, headers={**headers, **signed.headers} if signed else headers,
                    preload_content=False, decode_content=False, redirect=False, assert_same_host=False,
                    timeout=patient(self._timeout, len(body)),
                )  # fmt: skip
                data = _read(answer, limit)
            if answer.status != 401 or last_try or signer is None or signed is None:
                break
            told = _told_time(data)
            if told is None:
                break
            signer.heed(told, signed.nonce)  # our clock is wrong: once more, by the server's
        _check(answer.status, data, answer.headers.get("Retry-After"))
        return data


def _read(answer: urllib3.BaseHTTPResponse, limit: int) -> bytes:
    """The body up to one byte more than ``limit``; what goes on behind it, or drips for ever, ends with its connection."""
    data = b""
    with request_http.body(answer, time.monotonic() + ANSWER_S) as pieces:
        for piece in pieces:
            data += piece
            if len(data) > limit:
                return data[: limit + 1]
    return data


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except AgentError:
        raise
    except request_http.RequestError as error:
        raise ServerUnavailableError(f"{where}: {error}") from None
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise translate(error, where) from None


def _told_time(data: bytes) -> Signed | None:
    """The signed time in a refusal, where it has one."""
    try:
        return msgspec.json.decode(data, type=_Problem).time
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _check(status: int, data: bytes, retry_after: str | None) -> None:
    """Raise what an error status means, in the server's words."""
    if 200 <= status < 300:
        return
    try:
        problem = msgspec.json.decode(data, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        problem = _Problem(title=f"status {status}")
    words = problem.detail or problem.title or f"status {status}"
    if status >= 500 or status in (408, 429):
        raise ServerUnavailableError(f"the server cannot answer now ({status}): {words}", retry_after_s(retry_after))
    raise ServerRefusedError(status, problem.type, words[:1000], problem.hint[:1000])
