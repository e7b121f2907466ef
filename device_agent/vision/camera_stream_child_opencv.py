"""The reader of one network stream, a process of its own: it may hang in FFmpeg, and then it is killed.

It reads without a pause, so that nothing old piles up in buffers, and converts only what the agent asked for.
"""

import argparse
import mmap
import os
import socket
import sys
import threading
import time
import urllib.parse
from typing import Any

import cv2
import numpy as np

from device_agent.vision import camera_stream_wire as wire

REACH_S = 2.0
MEMORY = 0.2
"""Weight of the newest interval in the mean time between two pictures."""
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
BAD_IN_A_ROW = 25
USUAL_FPS, MAX_FPS, MOST_PILED = 25.0, 240.0, 200


def main(arguments: list[str] | None = None) -> int:
    """Read one stream until it breaks off or the agent goes away."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True)
    options = parser.parse_args(arguments)
    with socket.socket(fileno=options.socket) as line:
        order = wire.order_from(_exactly(line, wire.LENGTH.unpack(_exactly(line, wire.LENGTH.size))[0]))
        wanted = threading.Event()
        threading.Thread(target=_listen, args=(line, wanted), daemon=True).start()
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(order.open_timeout_s * 1e3)]
        limits += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(order.read_timeout_s * 1e3)]
        capture = cv2.VideoCapture(order.address, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            line.sendall(wire.said_bytes(wire.Said(_why_not(order.address))))
            return 1
        line.sendall(wire.said_bytes(wire.Said("opened")))
        stale = _drained(capture) if order.address.startswith("rtsp") else 0
        with mmap.mmap(options.memory, wire.MAX_PICTURE_BYTES) as memory:
            last = _read(capture, memory, line, wanted, stale)
            line.sendall(wire.said_bytes(wire.Said(last)))
    return 0


def _drained(capture: Any) -> int:
    """Pass over what piled up while the stream was looked at: its pictures come faster than it makes them. Says how many."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    shortest_s = 0.3 / (fps if 0 < fps <= MAX_FPS else USUAL_FPS)
    for count in range(MOST_PILED):
        started_s = time.monotonic()
        if not capture.grab():
            return count
        if time.monotonic() - started_s > shortest_s:
            return count + 1
    return MOST_PILED


def _read(capture: Any, memory: mmap.mmap, line: socket.socket, wanted: threading.Event, lost: int) -> wire.Kind:
    """Pictures until there are no more; says why. `lost` were passed over before."""
    broken = bad = 0
    period_s, before_s = 0.0, time.monotonic()
    while bad < BAD_IN_A_ROW and capture.grab():
        at_s = time.monotonic()
        period_s = period_s + MEMORY * (at_s - before_s - period_s) if period_s else at_s - before_s
        before_s = at_s
        if not wanted.is_set():
            lost += 1
            continue
        width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height * 3 > wire.MAX_PICTURE_BYTES:
            return "too_large"
        # OpenCV converts straight into the shared memory where the size is what it was.
        room = np.frombuffer(memory, np.uint8, width * height * 3).reshape(height, width, 3)
        got, picture = capture.retrieve(room)
        if not got or picture is None or picture.ndim != 3 or picture.nbytes > wire.MAX_PICTURE_BYTES:
            bad, broken = bad + 1, broken + 1
            continue
        if picture is not room:
            height, width = picture.shape[:2]
            np.frombuffer(memory, np.uint8, picture.nbytes).reshape(picture.shape)[:] = picture
        wanted.clear()
        line.sendall(wire.said_bytes(wire.Said("picture", width, height, lost, broken, at_s, period_s)))
        lost = broken = bad = 0
        del room, picture
    return "broke_off"


def _listen(line: socket.socket, wanted: threading.Event) -> None:
    """Hear what the agent wants; when it is gone, so are we, in the middle of a read too."""
    while True:
        try:
            heard = line.recv(16)
        except OSError:
            heard = b""
        if not heard:
            os._exit(0)
        wanted.set()


def _exactly(line: socket.socket, count: int) -> bytes:
    body = b""
    while len(body) < count:
        part = line.recv(count - len(body))
        if not part:
            raise SystemExit(0)
        body += part
    return body


def _why_not(address: str) -> wire.Kind:
    """OpenCV only says that it did not work: whether anybody listens there tells more."""
    try:
        parts = urllib.parse.urlsplit(address)
        with socket.create_connection((parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)), REACH_S):
            return "no_stream"
    except ConnectionRefusedError:
        return "refused"
    except (OSError, ValueError):
        return "silent"


if __name__ == "__main__":
    sys.exit(main())
