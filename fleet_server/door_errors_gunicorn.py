"""What gunicorn answers by itself, before any app is asked: requests that are none. As our own refusals, with their headers."""

import socket

import msgspec
from gunicorn import util

from fleet_server.headers_http import HSTS, NOTHING_POLICY


def write_error(sock: socket.socket, status_int: int, reason: str, _mesg: str) -> None:
    """A problem document. gunicorn's words repeat what was sent, on a page: they stay out of it."""
    body = msgspec.json.encode({
        "type": "about:blank", "title": "The request is not valid" if status_int < 500 else "The server failed",
        "status": status_int,
        "detail": "this is no HTTP request that can be read" if status_int < 500 else "it stands in the server's log",
    })  # fmt: skip
    head = [
        f"HTTP/1.1 {status_int} {reason}", "Connection: close", "Content-Type: application/problem+json",
        f"Content-Length: {len(body)}", f"Content-Security-Policy: {NOTHING_POLICY}", "X-Content-Type-Options: nosniff",
        "X-Frame-Options: DENY", "Referrer-Policy: same-origin", "Cross-Origin-Opener-Policy: same-origin",
        "Cross-Origin-Resource-Policy: same-origin", "Cache-Control: no-store",
    ]  # fmt: skip
    if hasattr(sock, "cipher"):  # over TLS
        head.append(f"Strict-Transport-Security: {HSTS}")
    util.write_nonblock(sock, "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
