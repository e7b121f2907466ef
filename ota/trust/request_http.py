"""One GET under a deadline that holds: for connecting, for headers and for every byte of the body.

Socket timeouts alone do not end a request to a server that drips one byte before each of them; here a clock does.
"""

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as HttpTimeoutError
from urllib3.response import BaseHTTPResponse

CHUNK_BYTES = 64 * 1024


class RequestError(Exception):
    """The network gave no answer, or broke off; the text says how."""


def get(pool: urllib3.PoolManager, url: str, headers: Mapping[str, str], deadline_s: float, gap_s: float) -> BaseHTTPResponse:
    """Ask and return the response with its body unread. ``deadline_s`` is on the monotonic clock, ``gap_s`` the longest silence.

    Redirects are not followed: metadata and content lie where the operator said. Raises RequestError.
    """
    remaining_s = deadline_s - time.monotonic()
    if remaining_s <= 0:
        raise RequestError("the time allowed for it is over")
    answers: queue.Queue[BaseHTTPResponse | Exception] = queue.Queue()
    abandoned = threading.Event()

    def ask() -> None:
        wait_s = min(gap_s, remaining_s)
        try:
            response = pool.request(
                "GET", url, headers={"Accept-Encoding": "identity", **headers}, preload_content=False, decode_content=False,
                redirect=False, retries=False, timeout=urllib3.Timeout(connect=wait_s, read=wait_s),
            )  # fmt: skip
        except (HTTPError, OSError, ValueError) as error:
            answers.put(error)
            return
        answers.put(response)
        if abandoned.is_set():
            response.close()

    threading.Thread(target=ask, name="rookery-get", daemon=True).start()
    try:
        answer = answers.get(timeout=remaining_s)
    except queue.Empty:
        abandoned.set()  # the thread ends with the peer's patience; nobody waits for it
        raise RequestError("the server sent no whole answer in the time allowed") from None
    if isinstance(answer, Exception):
        raise RequestError(explain(answer)) from None
    return answer


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
