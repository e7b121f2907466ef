"""How long a door waits for a client in the middle of a request or an answer.

gunicorn waits for ever: as many clients as there are threads, each with half a body and no certificate, would close a door for
good (measured). Here the time spent waiting for a client is counted, and may grow only with the bytes that it sends.
"""

import errno
import functools
import resource
import selectors
import socket
import ssl
import time
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

GRACE_S = 10.0
"""Waiting allowed per request before the bytes must have kept up: one slow start, one lost packet."""
STRANGER_BYTES_PER_S = 4096
"""Least rate of who shows no certificate. Enrolment is 4 KiB; an operator uploads megabytes over a real line."""
DEVICE_BYTES_PER_S = 512
"""Least rate of a device: a camera behind a bad radio link is slow, and its certificate says whom to revoke."""


class _Patience:
    """Mixed into a socket class. Each switch to blocking mode, as gunicorn makes it, begins the time of one request."""

    _waited_s = 0.0
    _seen_bytes = 0

    def setblocking(self, flag: bool) -> None:
        there: Any = self
        if there.fileno() < 0:
            return  # closed by its thread already
        if flag:
            self._waited_s, self._seen_bytes = 0.0, 0
        super().setblocking(flag)  # type: ignore[misc]  # the socket class stands behind

    def recv(self, *arguments: Any) -> bytes:
        allowed_s = GRACE_S + self._seen_bytes / self.least_rate() - self._waited_s
        data: bytes = self._bounded(super().recv, allowed_s, *arguments)  # type: ignore[misc]
        self._seen_bytes += len(data)
        return data

    def sendall(self, data: Any, *arguments: Any) -> None:
        self._bounded(super().sendall, GRACE_S + len(data) / self.least_rate(), data, *arguments)  # type: ignore[misc]

    def least_rate(self) -> float:
        """Bytes per second that this client must keep up."""
        return STRANGER_BYTES_PER_S

    def _bounded(self, call: Any, allowed_s: float, *arguments: Any) -> Any:
        there: Any = self
        given_s = there.gettimeout()
        if given_s is not None and given_s < allowed_s:
            return call(*arguments)  # somebody bounds it more strictly
        began_s = time.monotonic()
        try:
            if allowed_s <= 0:
                raise TimeoutError
            there.settimeout(allowed_s)
            return call(*arguments)
        except TimeoutError:
            # As if the client had gone: that is what the server is prepared for.
            raise ConnectionResetError(errno.ECONNRESET, "the client is too slow") from None
        finally:
            self._waited_s += time.monotonic() - began_s
            if there.fileno() >= 0:
                there.settimeout(given_s)


class DoorSocket(_Patience, socket.socket):
    """A connection of the operator door."""


class DoorTls(_Patience, ssl.SSLSocket):
    """A connection of the device door, after its handshake."""

    _known: bool | None = None

    def least_rate(self) -> float:
        """Devices with a certificate may be slower."""
        if self._known is None:
            self._known = self.getpeercert(True) is not None
        return DEVICE_BYTES_PER_S if self._known else STRANGER_BYTES_PER_S


class DoorWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn publishes no types
    """gunicorn's worker with threads, over sockets whose patience ends."""

    def handle(self, conn: Any) -> Any:
        """One request, in a thread. Its end is waited for here too.

        gunicorn would do so in the one thread that accepts, 2 s for each client that does not hang up: thirty of them, and the
        door is deaf for a minute (measured).
        """
        again = super().handle(conn)
        if not again:
            conn.close(graceful=True)
        return again

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection to a thread; a fresh one gets our kind of socket first."""
        if type(conn.sock) is socket.socket:
            blocking = conn.sock.getblocking()
            conn.sock = DoorSocket(fileno=conn.sock.detach())
            conn.sock.setblocking(blocking)
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        # gunicorn would let a thread wait 5 s for the first byte: as many silent strangers as there are threads, and the door is
        # shut again and again. Here they wait without one, and not for long.
        conn.sock.setblocking(False)
        conn.timeout = time.monotonic() + GRACE_S
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, functools.partial(self.on_pending_socket_readable, conn))


def allow_connections(wanted: int) -> None:
    """Raise this process's soft limit of open files, as far as it may: at the limit, gunicorn's worker dies of an accept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
