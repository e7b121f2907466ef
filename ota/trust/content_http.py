"""Fetches one content file: resumes where it was cut, hashes while it writes, and lets nothing wrong reach its final name."""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.response import BaseHTTPResponse

from ota.durable_disk import fsync_folder, make_folder
from ota.trust.content_aim_http import Again, Aim, Stores
from ota.trust.pace import LeastRate, Pace
from ota.trust.refusal import Refusal
from ota.trust.request_http import RequestError, body

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_READ_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often. A file that was begun stays as ``.part``, so the next call goes on where this one gave up."""

    total_s: float = 3600.0
    gap_s: float = 20.0
    """Longest silence on the line."""
    min_rate_bytes_s: float = 512.0
    rate_window_s: float = 30.0
    """The rate is judged over windows of this length; our own pauses do not count."""
    max_rate_bytes_s: float | None = None
    """How fast it may go at most; None is as fast as the line carries."""
    attempts: int = 5
    """Tries in a row that bring nothing; one that brings bytes starts the count anew."""
    backoff_s: float = 0.5
    """Before the second try; doubles with each."""
    max_backoff_s: float = 30.0
    max_retry_after_s: float = 120.0
    """The longest Retry-After that is waited for here; a longer one ends the call."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The file is there, whole and verified. ``received_bytes`` came over the network in this call, in ``requests`` requests."""

    path: Path
    length_bytes: int
    received_bytes: int
    resumed_at_bytes: int
    requests: int


class _DiskError(Exception):
    pass


def fetch(
    pool: urllib3.PoolManager,
    url: str,
    destination: Path,
    *,
    length_bytes: int,
    sha256: str,
    sha512: str = "",
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    pace: Pace | None = None,
    stores: Stores | None = None,
) -> Fetched | Refusal:
    """Bring ``url`` to ``destination``; refused with hash (wrong content), download (network, limits, stopped) or disk.

    ``sha512`` decides only where ``sha256`` is empty: of a repository that is not ours.
    ``progress`` is told (bytes there, bytes in all); ``should_stop`` is asked between pieces. ``pace`` is shared by files that
    share a line (else ``limits`` give this file one of its own); ``stores`` are where ``url`` may send us on to.
    """
    aim = Aim(pool, url, stores)
    wanted = ("sha256", sha256) if sha256 or not sha512 else ("sha512", sha512)
    download = _Download(aim, destination, length_bytes, wanted, limits or Limits(), progress, should_stop, pace)
    try:
        return download.run()
    except _DiskError as error:
        return Refusal("disk", f"{destination}: {error}")


class _Download:
    def __init__(
        self,
        aim: Aim,
        destination: Path,
        length_bytes: int,
        wanted: tuple[str, str],
        limits: Limits,
        progress: Callable[[int, int], None] | None,
        should_stop: Callable[[], bool] | None,
        pace: Pace | None,
    ) -> None:
        self._url, self._destination, self._limits = aim, destination, limits
        self._pace = pace or Pace(limits.max_rate_bytes_s)
        self._length = length_bytes
        self._kind, self._wanted = wanted
        self._progress, self._should_stop = progress, should_stop
        self._part = destination.with_name(destination.name + ".part")
        slow_s = length_bytes / limits.max_rate_bytes_s if limits.max_rate_bytes_s else 0.0  # asked for by ourselves
        self._deadline_s = time.monotonic() + limits.total_s + slow_s
        self._digest = hashlib.new(self._kind)
        self._have = 0
        self._pieced = False
        """The file was put together from more than one answer: a wrong hash may be ours, and gets one full download."""
        self._began_again = False
        self._received = self._requests = self._resumed_at = 0

    def run(self) -> Fetched | Refusal:
        if self._is_there():
            return Fetched(self._destination, self._length, 0, self._length, 0)
        self._take_up_part()
        failures = 0
        while True:
            if self._should_stop is not None and self._should_stop():
                return Refusal("download", f"stopped after {self._have} of {self._length} bytes")
            if time.monotonic() >= self._deadline_s:
                return Refusal("download", f"not done within {self._limits.total_s:.0f} s: {self._have} of {self._length} bytes")
            outcome = self._attempt()
            if not isinstance(outcome, Again):
                return outcome
            if outcome.free:
                continue
            failures = 1 if outcome.progressed else failures + 1
            if failures >= self._limits.attempts:
                return Refusal("download", f"{self._url}: given up after {failures} tries: {outcome.reason}")
            backoff_s = min(self._limits.backoff_s * 2 ** (failures - 1), self._limits.max_backoff_s)
            self._pause(backoff_s if outcome.wait_s is None else outcome.wait_s)

    def _attempt(self) -> Fetched | Refusal | Again:
        if self._have == self._length and self._part.exists():
            return self._finish()
        headers = {"Range": f"bytes={self._have}-"} if self._have else {}
        self._requests += 1
        try:
            response = self._url.ask(headers, self._deadline_s, self._limits.gap_s)
            with body(response, self._deadline_s) as pieces:
                outcome = self._judge(response)
                if outcome is not None:
                    return outcome
                before = self._received
                try:
                    refused = self._write(pieces)
                except RequestError as error:
                    self._pieced = self._have > 0
                    return Again(str(error), progressed=self._received > before)
        except RequestError as error:
            return Again(str(error))
        if refused is not None:
            return refused
        if self._have < self._length:
            self._pieced = True
            return Again(f"broke off after {self._have} of {self._length} bytes", progressed=self._received > before)
        return self._finish()

    def _judge(self, response: BaseHTTPResponse) -> Refusal | Again | None:
        """None: the body is what we asked for, from where ``_have`` stands."""
        status = response.status
        elsewhere = self._url.moved(response)
        if elsewhere is not None:
            return elsewhere
        if status == 200:
            if self._have:  # the server knows no ranges: from the beginning
                self._forget_part()
            stated = response.headers.get("Content-Length", "")
            if stated.isdigit() and int(stated) != self._length:
                return Refusal("hash", f"{self._url}: {stated} bytes on the server, the manifest says {self._length}")
            return None
        if status == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            right = found is not None and int(found[1]) == self._have and found[3] in ("*", str(self._length))
            if self._have and right:
                self._pieced = True
                return None
            self._forget_part()
            return Again("the server sent another range than the one asked for", wait_s=0.0)
        if status == 416:
            if not self._have:
                return Refusal("download", f"{self._url}: the server answered 416 to a request without a range")
            self._forget_part()
            return Again("the server does not have the range: it may hold another file", wait_s=0.0)
        if status in (408, 425, 429) or status >= 500:
            wait_s = _retry_after_s(response)
            if wait_s is not None and wait_s > self._limits.max_retry_after_s:
                return Refusal("download", f"{self._url}: the server answered {status} and asks to wait {wait_s:.0f} s")
            return Again(f"the server answered {status}", wait_s=wait_s)
        return Refusal("download", f"{self._url}: the server answered {status}")

    def _write(self, pieces: Iterator[bytes]) -> Refusal | None:
        """Append what comes. RequestError passes through (what came before it is kept); a full disk is a _DiskError."""
        least = LeastRate(self._limits.min_rate_bytes_s, self._limits.rate_window_s, time.monotonic())
        try:
            make_folder(self._part.parent)
            with self._part.open("ab") as out:
                for piece in pieces:
                    if self._have + len(piece) > self._length:
                        self._part.unlink()
                        return Refusal("hash", f"{self._url}: more than the {self._length} bytes that the manifest says")
                    out.write(piece)
                    self._took(piece)
                    if self._should_stop is not None and self._should_stop():
                        return Refusal("download", f"stopped after {self._have} of {self._length} bytes")
                    rate = least.too_slow(len(piece), time.monotonic())
                    if rate is not None and self._have < self._length:
                        return Refusal("download", f"{self._url}: {rate:.0f} bytes a second are too few to go on")
                    wait_s = self._pace.wait_s(len(piece), time.monotonic())
                    if wait_s:
                        out.flush()  # what came is on its way to the disk while we hold back
                        self._pause(wait_s)
                        least.paused(wait_s)
        except OSError as error:
            raise _DiskError(error.strerror or str(error)) from None
        return None

    def _took(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._have += len(piece)
        self._received += len(piece)
        self._url.progressed()
        if self._progress is not None:
            self._progress(self._have, self._length)

    def _finish(self) -> Fetched | Refusal | Again:
        if self._digest.hexdigest() != self._wanted:
            once_more = self._pieced and not self._began_again
            self._forget_part()
            if once_more:
                self._began_again = True
                return Again("what was put together has a wrong hash: once more from the beginning", wait_s=0.0)
            return Refusal("hash", f"{self._url}: the content on the server is not what the signed manifest says")
        try:
            with self._part.open("rb") as file:
                os.fsync(file.fileno())
            self._part.replace(self._destination)
            fsync_folder(self._destination.parent)
        except OSError as error:
            raise _DiskError(error.strerror or str(error)) from None
        return Fetched(self._destination, self._length, self._received, self._resumed_at, self._requests)

    def _is_there(self) -> bool:
        try:
            with self._destination.open("rb") as file:
                return hashlib.file_digest(file, self._kind).hexdigest() == self._wanted
        except OSError:
            return False

    def _take_up_part(self) -> None:
        # Hashed again from the disk: what a power cut left there is believed only at the end, with the whole.
        try:
            with self._part.open("rb") as file:
                while chunk := file.read(_READ_BYTES):
                    self._digest.update(chunk)
                    self._have += len(chunk)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise _DiskError(error.strerror or str(error)) from None
        if self._have > self._length:
            self._forget_part()
        self._resumed_at, self._pieced = self._have, self._have > 0
        if self._length == 0 and not self._part.exists():
            self._touch_empty()

    def _touch_empty(self) -> None:
        # An empty file needs no request; its hash is judged like any other.
        try:
            make_folder(self._part.parent)
            self._part.touch()
        except OSError as error:
            raise _DiskError(error.strerror or str(error)) from None

    def _forget_part(self) -> None:
        try:
            self._part.unlink(missing_ok=True)
        except OSError as error:
            raise _DiskError(error.strerror or str(error)) from None
        self._digest, self._have, self._pieced, self._resumed_at = hashlib.new(self._kind), 0, False, 0

    def _pause(self, wait_s: float) -> None:
        until_s = min(time.monotonic() + wait_s, self._deadline_s)
        while (left_s := until_s - time.monotonic()) > 0 and not (self._should_stop is not None and self._should_stop()):
            time.sleep(min(left_s, 0.2))


def _retry_after_s(response: BaseHTTPResponse) -> float | None:
    # Seconds only: a date would need a clock, which this board may not have.
    stated = response.headers.get("Retry-After", "").strip()
    return float(stated) if stated.isdigit() and len(stated) < 9 else None
