"""Bytes on the wire as the kernel counts them per TCP connection: TLS included, headers of IP and TCP not."""

import contextlib
import socket
import struct
import threading
from typing import Any

TCP_INFO_BYTES = 232
RECEIVED_AT, SENT_AT = 128, 200
"""Offsets of tcpi_bytes_received and tcpi_bytes_sent (u64) in struct tcp_info since Linux 4.19 (include/uapi/linux/tcp.h)."""
SEGMENT_BYTES, SEGMENT_HEADER_BYTES = 1448, 52
"""Payload of a full segment and its IPv4 and TCP header with timestamps: how contracts, section 9 adds the IP level."""


class ByteCount:
    """Bytes sent and received by this device since its start, over all its connections. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent_bytes = 0
        self._received_bytes = 0

    def add(self, sent_bytes: int, received_bytes: int) -> None:
        """Account for what one connection moved since it was last read."""
        with self._lock:
            self._sent_bytes += sent_bytes
            self._received_bytes += received_bytes

    @property
    def sent_bytes(self) -> int:
        """Sent at the IP level: socket bytes and 52 for each 1,448."""
        return with_headers(self._sent_bytes)

    @property
    def received_bytes(self) -> int:
        """Received at the IP level, reckoned likewise."""
        return with_headers(self._received_bytes)


def with_headers(socket_bytes: int) -> int:
    """Socket bytes plus the headers of as many full segments."""
    return socket_bytes + -(-socket_bytes // SEGMENT_BYTES) * SEGMENT_HEADER_BYTES


class SocketMeter:
    """Reads one TCP socket's counters again and again and adds the difference to a ByteCount."""

    def __init__(self, count: ByteCount) -> None:
        self._count = count
        self._seen = (0, 0)

    def read(self, sock: Any) -> None:
        """Account for what moved since the last read; a socket that is closed or not TCP adds nothing."""
        if sock is None or not hasattr(socket, "TCP_INFO"):
            return
        with contextlib.suppress(OSError, ValueError, struct.error):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_BYTES)
            received = struct.unpack_from("=Q", info, RECEIVED_AT)[0]
            sent = struct.unpack_from("=Q", info, SENT_AT)[0]
            self._count.add(sent - self._seen[0], received - self._seen[1])
            self._seen = (sent, received)
