"""A urllib3 pool whose connections are counted byte by byte, and the translation of its errors into ours."""

import email.utils
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool

from device_agent.errors import AgentError, BrokenOffError, ServerRefusedError, ServerUnavailableError, UntrustedServerError
from device_agent.link.socket_bytes_linux import ByteCount, SocketMeter
from device_agent.link.tls_x509 import dates_unchecked

Now = Callable[[], float]
LEAST_BYTES_PER_S = 512
"""So slow may a line be: the rate that the server's own patience allows a device."""
LONGEST_BODY_S = 240.0
"""Time for one body at most: twice (for sending, and for what the kernel still holds) is less than a duty may be silent."""


def body_s(length_bytes: int) -> float:
    """What a body of so many bytes may take besides the time that any request has."""
    return min(LONGEST_BODY_S, length_bytes / LEAST_BYTES_PER_S)


def patient(timeout: urllib3.Timeout, length_bytes: int) -> urllib3.Timeout:
    """The wait for the answer to a body that went over a slow line: the kernel took it long before the server has it."""
    return urllib3.Timeout(connect=timeout.connect_timeout, read=float(timeout.read_timeout or 0.0) + body_s(length_bytes))


class PatientConnection(HTTPSConnection):
    """Sends a body for as long as its bytes may take; urllib3 alone gives it no more than connecting may."""

    def request(self, method: str, url: str, body: Any = None, *arguments: Any, **named: Any) -> None:
        """Send the request; `_make_request` sets the time for the answer after it."""
        if isinstance(body, bytes) and isinstance(self.timeout, int | float):
            self.timeout = self.timeout + body_s(len(body))
        super().request(method, url, body, *arguments, **named)


def store_manager(timeout: urllib3.Timeout) -> urllib3.PoolManager:
    """A manager for an object store elsewhere: the system's trust, our patience."""

    class StorePool(HTTPSConnectionPool):
        """Pools of this manager send patiently."""

        ConnectionCls = PatientConnection

    manager = urllib3.PoolManager(timeout=timeout, retries=False)
    manager.pool_classes_by_scheme = {"https": StorePool}
    return manager


def counted_pool(
    host: str, port: int, context: ssl.SSLContext, count: ByteCount, timeout: urllib3.Timeout, now_s: Now | None = None
) -> HTTPSConnectionPool:
    """A pool of at most six kept connections (one a duty) to one server; no redirects, no retries (the senders decide those).

    ``now_s`` is the trusted clock: where ``context`` does not check dates, the server's certificate is judged by it.
    """
    pool = HTTPSConnectionPool(host, port, maxsize=6, block=False, timeout=timeout, retries=False, ssl_context=context)
    pool.ConnectionCls = _counted(count, now_s)  # urllib3 names this as the way to change it
    return pool


def counted_manager(
    context: ssl.SSLContext, count: ByteCount, timeout: urllib3.Timeout, now_s: Now | None = None
) -> urllib3.PoolManager:
    """A manager for static files (metadata, bundles), counted likewise."""

    class CountedPool(HTTPSConnectionPool):
        """Pools of this manager make counted connections."""

        ConnectionCls = _counted(count, now_s)

    manager = urllib3.PoolManager(num_pools=2, maxsize=2, timeout=timeout, retries=False, ssl_context=context)
    manager.pool_classes_by_scheme = {"https": CountedPool}
    return manager


def _counted(count: ByteCount, now_s: Now | None) -> type[HTTPSConnection]:
    """A connection class that adds to ``count`` and judges dates by ``now_s`` where TLS was told not to."""

    class CountedConnection(PatientConnection):
        """Reads the kernel's counters after each answer and before closing."""

        _meter: SocketMeter | None = None

        def connect(self) -> None:
            """Connect, and count from the handshake on."""
            super().connect()
            self._meter = SocketMeter(count)
            if now_s is not None and isinstance(self.sock, ssl.SSLSocket) and dates_unchecked(self.sock.context):
                _judge_dates(self.sock.getpeercert() or {}, now_s())

        def getresponse(self) -> Any:
            """The answer's head; by now the whole request was sent."""
            response = super().getresponse()
            if self._meter is not None:
                self._meter.read(self.sock)
            return response

        def close(self) -> None:
            """Count what came since, then close."""
            if self._meter is not None:
                self._meter.read(self.sock)
            super().close()

    return CountedConnection


def _judge_dates(certificate: Mapping[str, Any], now_s: float) -> None:
    """The server's own certificate by the trusted clock; its issuers' dates are not judged. Raises ssl.SSLError."""
    first_s = ssl.cert_time_to_seconds(str(certificate.get("notBefore", "Jan  1 00:00:00 2100 GMT")))
    last_s = ssl.cert_time_to_seconds(str(certificate.get("notAfter", "Jan  1 00:00:00 1970 GMT")))
    if not first_s <= now_s <= last_s:
        raise ssl.SSLError(f"certificate verify failed: it is good until {certificate.get('notAfter')}, not now")


def translate(error: Exception, where: str) -> AgentError:
    """A urllib3 or socket error as one of ours, in words for a person."""
    text = str(error)
    if isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError) or "SSL" in type(error).__name__:
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text or "doesn't match" in text:
            return UntrustedServerError(
                f"{where} shows a certificate that the pinned authority did not issue: {_reason(text)}",
                "check server.url and server.ca_file; if both are right, somebody stands between",
            )
        if "revoked" in text.lower():  # the alert certificate_revoked: the door says so before any request
            return ServerRefusedError(403, "", "this device's certificate was revoked", "enrol the device again if it is yours")
        return ServerUnavailableError(f"{where}: the TLS connection failed: {_reason(text)}")
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError):
        return ServerUnavailableError(f"{where} did not answer in time")
    if isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError):
        return BrokenOffError(f"{where} did not answer in time")
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return ServerUnavailableError(f"{where} cannot be reached: {_reason(text)}")
    return BrokenOffError(f"{where}: the connection broke: {_reason(text)}")


def _reason(text: str) -> str:
    return text.rsplit("] ", 1)[-1].rsplit(": ", 1)[-1].strip("()'\" ")[:200] or text[:200]


def retry_after_s(value: str | None) -> float | None:
    """Retry-After as seconds: a number or a date; None where there is none that can be read."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None
