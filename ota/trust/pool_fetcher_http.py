"""ngclient's transport: the caller's pool with its client certificate, deadlines that hold, limits that say who set them."""

import itertools
from collections.abc import Iterator

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from ota.trust.request_http import RequestError, body, get

MAX_ERROR_PIECES = 4
CONFIG = UpdaterConfig()
_LIMITS = frozenset(
    {CONFIG.root_max_length, CONFIG.timestamp_max_length, CONFIG.snapshot_max_length, CONFIG.targets_max_length}
)
"""What ngclient allows where nothing signed names a length; any other limit is a signed one."""


class NotAsSignedError(DownloadLengthMismatchError):
    """More came than the signed metadata names: another file."""


class PoolFetcher(FetcherInterface):
    """ngclient's transport over the caller's pool. ``deadline_s`` (monotonic clock) is set before each operation."""

    def __init__(self, pool: urllib3.PoolManager, gap_s: float) -> None:
        self._pool = pool
        self._gap_s = gap_s
        self.deadline_s = 0.0

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The whole body, at most ``max_length`` bytes; raises DownloadError. In memory: metadata needs no temporary file."""
        data = bytearray()
        for piece in self._fetch(url):
            data += piece
            if len(data) > max_length:
                if max_length not in _LIMITS:
                    raise NotAsSignedError(f"{url}: longer than the {max_length} bytes that were signed")
                raise DownloadLengthMismatchError(f"{url}: more than the {max_length} bytes allowed")
        return bytes(data)

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            response = get(self._pool, url, {}, self.deadline_s, self._gap_s)
            with body(response, self.deadline_s) as pieces:
                if response.status != 200:
                    # Every refresh hears one 404, for the next root: its few bytes are read, so that the connection stays.
                    for _ in itertools.islice(pieces, MAX_ERROR_PIECES):
                        pass
                    raise DownloadHTTPError(f"{url}: the server answered {response.status}", response.status)
                expected, received = response.headers.get("Content-Length", ""), 0
                for piece in pieces:
                    received += len(piece)
                    yield piece
                if expected.isdigit() and received < int(expected):
                    raise DownloadError(f"{url}: broke off after {received} of {expected} bytes")
        except RequestError as error:
            raise DownloadError(f"{url}: {error}") from None
