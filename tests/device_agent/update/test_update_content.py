"""Content files over real HTTP: known and unknown lengths, wrong bytes, what is too long, a server that is gone."""

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from device_agent.update import content_pool_http
from device_agent.update.content_pool_http import PoolContent
from ota.trust.content_http import Limits

DATA = b"a picture of the yard " * 500
SHA256 = hashlib.sha256(DATA).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "server" / "files"
    folder.mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder.parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()
    thread.join()


def content(url: str) -> PoolContent:
    return PoolContent(urllib3.PoolManager(), url, Limits(attempts=1, backoff_s=0.01, gap_s=2.0))


@pytest.mark.parametrize("length_bytes", [len(DATA), None])
def test_a_file_whose_length_is_signed_or_not(served, tmp_path: Path, length_bytes: int | None) -> None:
    url, folder = served
    (folder / SHA256).write_bytes(DATA)
    assert content(url).fetch(SHA256, length_bytes, tmp_path / "got", lambda: False) is None
    assert (tmp_path / "got").read_bytes() == DATA


def test_wrong_bytes_missing_files_and_giants_are_refused(served, tmp_path: Path, monkeypatch) -> None:
    url, folder = served
    (folder / SHA256).write_bytes(DATA[:-1] + b"!")
    assert content(url).fetch(SHA256, None, tmp_path / "got", lambda: False).code == "hash"
    assert not (tmp_path / "got").exists()
    assert content(url).fetch("0" * 64, None, tmp_path / "got", lambda: False).code == "download"
    monkeypatch.setattr(content_pool_http, "MAX_PICTURE_BYTES", 100)
    assert content(url).fetch(SHA256, None, tmp_path / "got", lambda: False).code == "format"


def test_a_server_that_is_gone_is_an_outage(tmp_path: Path) -> None:
    gone = content("http://127.0.0.1:9")
    for length_bytes in (len(DATA), None):
        assert gone.fetch(SHA256, length_bytes, tmp_path / "got", lambda: False).code == "download"
