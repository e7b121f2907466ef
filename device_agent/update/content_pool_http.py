"""Content files over the agent's own connection pool: ``BUNDLES/files/<sha256>``, resumed and hashed by ``ota.trust``."""

import time
from collections.abc import Callable
from pathlib import Path

import urllib3

from ota.trust.content_aim_http import Stores
from ota.trust.content_http import Limits, fetch
from ota.trust.pace import Pace
from ota.trust.refusal import Refusal
from ota.trust.request_http import RequestError, get

MAX_PICTURE_BYTES = 8 * 1024 * 1024
"""Largest file whose length no signed metadata names: a picture of an acceptance set."""
LENGTH_S = 60.0
"""For the answer to a HEAD: a few hundred bytes, over the slowest of lines."""


class PoolContent:
    """``update.ports.Content`` over a pool. ``bundles_url`` is the URL of ``ota.wire.topics.BUNDLES`` on the server, which may
    send us on to ``stores``. All files share one pace: it is one line.
    """

    def __init__(
        self, pool: urllib3.PoolManager, bundles_url: str, limits: Limits | None = None, stores: Stores | None = None
    ) -> None:
        self._pool = pool
        self._base = bundles_url.rstrip("/") + "/files/"
        self._limits = limits or Limits()
        self._pace, self._stores = Pace(self._limits.max_rate_bytes_s), stores

    def fetch(
        self, sha256: str, length_bytes: int | None, destination: Path, should_stop: Callable[[], bool]
    ) -> Refusal | None:
        """Bring one file; refused with hash, download or disk. An unknown length is asked for first, and bounded."""
        url = self._base + sha256
        if length_bytes is None:
            asked = self._length(url, should_stop)
            if isinstance(asked, Refusal):
                return asked
            length_bytes = asked
        outcome = fetch(
            self._pool, url, destination, length_bytes=length_bytes, sha256=sha256, limits=self._limits, should_stop=should_stop,
            pace=self._pace, stores=self._stores,
        )  # fmt: skip
        return outcome if isinstance(outcome, Refusal) else None

    def _length(self, url: str, should_stop: Callable[[], bool]) -> int | Refusal:
        deadline_s = time.monotonic() + min(self._limits.total_s, LENGTH_S)
        try:
            response = get(self._pool, url, {}, deadline_s, self._limits.gap_s, method="HEAD", should_stop=should_stop)
        except RequestError as error:
            return Refusal("download", f"{url}: {error}")
        response.release_conn()
        stated = response.headers.get("Content-Length", "")
        if response.status != 200 or not stated.isdigit():
            return Refusal("download", f"{url}: the server answered {response.status} and names no length")
        if int(stated) > MAX_PICTURE_BYTES:
            return Refusal("format", f"{url}: {stated} bytes, a picture has at most {MAX_PICTURE_BYTES}")
        return int(stated)
