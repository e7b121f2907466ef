"""One GET under a deadline that holds: for connecting, for headers and for every byte of the body.

Socket timeouts alone do not end a request to a server that drips one byte before each of them; here a clock does.
"""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as HttpTimeoutError
from urllib3.response import BaseHTTPResponse

CHUNK_BYTES = 64 * 1024
MAX_ABANDONED = 32
"""Requests of this process that were given up and still hang (in a TLS handshake, say): beyond it none is begun."""
STOP_LOOK_S = 0.2

_abandoned: set[threading.Thread] = set()
_tracked: dict[type[HTTPConnection], type[HTTPConnection]] = {}
_guard = threading.Lock()
_asking = threading.local()


class RequestError(Exception):
    """The network gave no answer, or broke off; the text says how."""


def get(
    pool: urllib3.PoolManager, url: str, headers: Mapping[str, str], deadline_s: float, gap_s: float, *,
    method: str = "GET", should_stop: Callable[[], bool] = lambda: False,
) -> BaseHTTPResponse:  # fmt: skip
    """Ask and return the response with its body unread. ``deadline_s`` is on the monotonic clock, ``gap_s`` the longest silence.

    Redirects are not followed: metadata and content lie where the operator said. ``method`` is GET or HEAD; ``should_stop`` is
    asked while waiting. Raises RequestError. At the deadline the connection is shut down, so that nothing stays behind.
    """
    hanging = _hanging()
    if hanging >= MAX_ABANDONED:
        raise RequestError(f"{hanging} requests that were given up still hang; no other is begun before they end")
    remaining_s = deadline_s - time.monotonic()
    if remaining_s <= 0:
        raise RequestError("the time allowed for it is over")
    answers: queue.Queue[BaseHTTPResponse | Exception] = queue.Queue()
    turn = _Turn()

    def ask() -> None:
        _asking.turn = turn
        wait_s = min(gap_s, remaining_s)
        try:
            _track(pool, url)
            response = pool.request(
                method, url, headers={"Accept-Encoding": "identity", **headers}, preload_content=False, decode_content=False,
                redirect=False, retries=False, timeout=urllib3.Timeout(connect=wait_s, read=wait_s),
            )  # fmt: skip
        except (HTTPError, OSError, ValueError) as error:
            turn.ended()
            answers.put(error)
            return
        if turn.ended():
            response.close()
        answers.put(response)

    thread = threading.Thread(target=ask, name="rookery-get", daemon=True)
    thread.start()
    while True:
        left_s = deadline_s - time.monotonic()
        try:
            answer = answers.get(timeout=max(0.0, min(left_s, STOP_LOOK_S)))
            break
        except queue.Empty:
            stopped = should_stop()
            if left_s > STOP_LOOK_S and not stopped:
                continue
            if time.monotonic() < deadline_s and not stopped:
                continue
            if turn.give_up():
                with _guard:
                    _abandoned.add(thread)
                words = "stopped" if stopped else "the server sent no whole answer in the time allowed"
                raise RequestError(words) from None
            answer = answers.get()  # it came at this very moment
            break
    if isinstance(answer, Exception):
        raise RequestError(explain(answer)) from None
    return answer


class _Turn:
    """One request in its thread: which connection it goes over, and whether anybody waits for it still."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: HTTPConnection | None = None
        self._over = self._given_up = False

    def goes_over(self, connection: HTTPConnection) -> None:
        """Called by the connection, in the request's thread, as it begins to send."""
        with self._lock:
            self._connection = connection
            if self._given_up:
                self._shut()

    def ended(self) -> bool:
        """The request has its answer or its error; True when nobody waits for it any more."""
        with self._lock:
            self._over, self._connection = True, None
            return self._given_up

    def give_up(self) -> bool:
        """Nobody waits any more: end the connection, and with it the thread. False when it has ended by itself."""
        with self._lock:
            if self._over:
                return False
            self._given_up = True
            self._shut()
            return True

    def _shut(self) -> None:
        sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                # The kernel's end of it alone: TLS's own state belongs to the thread that reads.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _hanging() -> int:
    with _guard:
        _abandoned.intersection_update([one for one in _abandoned if one.is_alive()])
        return len(_abandoned)


def _track(pool: urllib3.PoolManager, url: str) -> None:
    """Have connections of this pool tell the request that uses them; raises what urllib3 says of a URL that is none."""
    place: Any = pool.connection_from_url(url)
    kind = place.ConnectionCls
    if kind in _tracked.values():
        return
    with _guard:
        if kind not in _tracked:
            _tracked[kind] = _tracking(kind)
        place.ConnectionCls = _tracked[kind]  # urllib3 names this as the way to change it


def _tracking(kind: type[Any]) -> type[HTTPConnection]:
    class Tracked(kind):  # type: ignore[misc]
        """Tells the request in whose thread it sends that it is the one."""

        def request(self, *arguments: Any, **named: Any) -> None:
            """Send the request."""
            turn = getattr(_asking, "turn", None)
            if turn is not None:
                turn.goes_over(self)
            super().request(*arguments, **named)

    return Tracked


@contextmanager
def body(response: BaseHTTPResponse, deadline_s: float) -> Iterator[Iterator[bytes]]:
    """The body's bytes as they come (one receive each), ended by the deadline. Raises RequestError when it breaks off."""
    watch = threading.Timer(max(deadline_s - time.monotonic(), 0.0), _cut, (response,))
    watch.daemon = True
    watch.start()
    try:
        yield _pieces(response, deadline_s)
    finally:
        watch.cancel()
        # A body that was read to its end leaves the connection for the next request; else it is of no use any more.
        if getattr(response, "length_remaining", None) == 0:
            response.release_conn()
        else:
            response.close()


def _pieces(response: BaseHTTPResponse, deadline_s: float) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read1(CHUNK_BYTES)
        except (HTTPError, OSError, ValueError) as error:
            late = time.monotonic() >= deadline_s
            raise RequestError("the time allowed for it is over" if late else explain(error)) from None
        if time.monotonic() >= deadline_s:
            raise RequestError("the time allowed for it is over")
        if not piece:
            return
        yield piece


def explain(error: Exception) -> str:
    """A network error in words for a person."""
    if isinstance(error, HttpTimeoutError):
        return "the server did not answer in time"
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(reason).__name__


def _cut(response: BaseHTTPResponse) -> None:
    try:
        response.shutdown()
    except (OSError, ValueError, HTTPError):
        return  # it ended by itself at the same moment
