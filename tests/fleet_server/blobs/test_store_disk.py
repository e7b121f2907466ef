"""The disk blob store: what is announced is what is stored, once, whole."""

import hashlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from fleet_server.blob_store import upload_key
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.context import Context
from fleet_server.errors import ConflictError, InvalidError, NotFoundError, StoreFullError
from ota.wire.events import UploadRequest, UploadSlot

DATA = b"\xff\xd8 a crop" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
KEY = upload_key("d-1", "crop", "event1", SHA)


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    """One kind of database is enough for these doors."""
    return sqlite_server


@pytest.fixture
def store(tmp_path: Path) -> DiskBlobStore:
    """An empty store."""
    return DiskBlobStore(tmp_path / "blobs", secret=b"s" * 32, base_url="https://here:1", clock=lambda: 1000.0)


def _put(store: DiskBlobStore, data: bytes, key: str = KEY, sha256: str = SHA, length_bytes: int = len(DATA)) -> bool:
    return store.put(key, content_type="image/jpeg", length_bytes=length_bytes, sha256=sha256, chunks=[data])


def _files(store: DiskBlobStore) -> list[Path]:
    return [path for path in store._root.parent.rglob("*") if path.is_file()]


def test_a_blob_is_stored_once_and_comes_back(store: DiskBlobStore) -> None:
    """A device sends a crop twice because the first answer was lost: success both times, one file."""
    assert _put(store, DATA) is True
    assert _put(store, DATA) is False
    assert store.read(KEY) == DATA
    found = store.stat(KEY)
    assert found is not None
    assert (found.length_bytes, found.sha256, found.content_type) == (len(DATA), SHA, "image/jpeg")
    assert len(_files(store)) == 1


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x", b"y" + DATA[1:], b""])
def test_other_bytes_than_announced_leave_nothing(store: DiskBlobStore, data: bytes) -> None:
    """A torn or swapped body: refused, and not one byte of it stays."""
    with pytest.raises(InvalidError):
        _put(store, data)
    assert _files(store) == []
    assert store.stat(KEY) is None


def test_other_bytes_under_a_key_that_is_taken_are_refused(store: DiskBlobStore) -> None:
    """A key that does not hold its own hash: the first bytes stay."""
    other = b"other"
    _put(store, DATA, key="d-1/debug/log/latest")
    with pytest.raises(ConflictError):
        _put(store, other, "d-1/debug/log/latest", hashlib.sha256(other).hexdigest(), len(other))
    assert store.read("d-1/debug/log/latest") == DATA


def test_many_at_once_store_one_file(store: DiskBlobStore) -> None:
    """Eight connections send the same crop at the same moment: exactly one creates it, all succeed."""
    barrier, outcomes = threading.Barrier(8), []

    def send() -> None:
        barrier.wait()
        outcomes.append(_put(store, DATA))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 7 + [True]
    assert len(_files(store)) == 1


def test_a_full_disk_is_said_and_nothing_half_written_stays(tmp_path: Path) -> None:
    """The disk has no room left for the blob and the database's reserve: 507 before a byte is written."""
    full = DiskBlobStore(tmp_path / "b", secret=b"s", base_url="https://here", clock=lambda: 0.0, free_bytes=lambda _path: 1000)
    with pytest.raises(StoreFullError) as refused:
        _put(full, DATA)
    assert "full" in refused.value.detail
    assert _files(full) == []


def test_a_write_that_fails_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    """The kernel refuses further bytes in the middle of a file (here by a limit on file sizes, as a full disk would)."""
    script = (
        "import resource, signal, sys, pathlib\n"
        "from fleet_server.blobs.store_disk import DiskBlobStore\n"
        "from fleet_server.errors import StoreFullError\n"
        "import hashlib\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "store = DiskBlobStore(pathlib.Path(sys.argv[1]), secret=b's', base_url='https://h', clock=lambda: 0.0)\n"
        "data = b'z' * 100_000\n"
        "try:\n"
        "    store.put('d-1/crop/e/x', content_type='image/jpeg', length_bytes=len(data),\n"
        "              sha256=hashlib.sha256(data).hexdigest(), chunks=[data])\n"
        "except StoreFullError:\n"
        "    sys.exit(7)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "blobs")], check=False, timeout=60)
    assert done.returncode == 7
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "key", ["../../etc/passwd", "/etc/passwd", "d-1/../d-2/x", "d-1", "d-1//x", "d-1/.hidden", "d-1/a\x00b", "x" * 400]
)
def test_a_key_cannot_climb_out(store: DiskBlobStore, key: str) -> None:
    """A key is data from outside."""
    with pytest.raises(ValueError, match="not a blob key"):
        store.stat(key)


def test_listing_goes_on_behind_a_key(store: DiskBlobStore) -> None:
    """The sweeper walks a device's blobs in slices."""
    for name in ("a", "b", "c"):
        _put(store, DATA, key=f"d-1/crop/{name}/{SHA}")
    _put(store, DATA, key=f"d-2/crop/a/{SHA}")
    first = store.list("d-1/", limit=2)
    assert [each.key.split("/")[2] for each in first] == ["a", "b"]
    assert [each.key.split("/")[2] for each in store.list("d-1/", after=first[-1].key)] == ["c"]
    assert store.delete(first[0].key)
    assert not store.delete(first[0].key)
    with pytest.raises(NotFoundError):
        store.read(first[0].key)


def test_slices_come_in_the_order_of_their_keys_whatever_the_folders_are_called(store: DiskBlobStore) -> None:
    """``d-1-x`` sorts before ``d-1/``, though the folder d-1 is listed first: a walk in slices must lose nothing there."""
    keys = [f"{device}/crop/{name}/{SHA}" for device in ("d-1", "d-1-x", "d-10", "d-2") for name in ("a", "a-b", "a.c", "b")]
    for key in keys:
        _put(store, DATA, key=key)
    walked: list[str] = []
    while found := store.list("", after=walked[-1] if walked else "", limit=3):
        walked += [each.key for each in found]
    assert walked == sorted(keys)
    assert [each.key for each in store.list("d-1/crop/a/")] == [f"d-1/crop/a/{SHA}"]
    assert [each.key for each in store.list("d-1/crop/a")] == sorted(key for key in keys if key.startswith("d-1/crop/a"))


@pytest.fixture
def slot(device_door: Any, enrolled: Any) -> UploadSlot:
    """An upload slot that device d-… was given for DATA."""
    device_door.certificate = enrolled.der
    return _slot(device_door.client)


def _slot(client: Any) -> UploadSlot:
    asked = UploadRequest(sha256=SHA, length_bytes=len(DATA), content_type="image/jpeg", name="event1")
    answer = client.post("/device/v1/uploads", data=msgspec.json.encode(asked), content_type="application/json")
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.data, type=UploadSlot)


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def test_the_slot_takes_exactly_what_was_announced(device_door: Any, enrolled: Any, slot: UploadSlot) -> None:
    """The whole story over HTTP: slot, put, put again, slot says present."""
    assert slot.key == f"{enrolled.device_id}/crop/event1/{SHA}"
    client = device_door.client
    assert client.put(_path(slot.url), data=DATA, headers=slot.headers).status_code == 201
    assert client.put(_path(slot.url), data=DATA, headers=slot.headers).status_code == 200
    assert _slot(client).present


def test_a_slot_is_good_for_nothing_else(device_door: Any, slot: UploadSlot, clock: Any) -> None:
    """Someone got hold of the URL: other bytes, another type, another key, a longer life — all refused."""
    client, path = device_door.client, _path(slot.url)
    swapped = b"y" + DATA[1:]
    assert client.put(path, data=swapped, headers=slot.headers).status_code == 400
    assert client.put(path, data=DATA + b"x", content_type="image/jpeg").status_code == 400
    assert client.put(path, data=DATA, content_type="text/html").status_code == 400
    assert client.put(path.replace("event1", "event2"), data=DATA, headers=slot.headers).status_code == 403
    assert client.put(path.replace("expires=1", "expires=2"), data=DATA, headers=slot.headers).status_code == 403
    assert client.get(path).status_code == 403
    clock.forward(100_000)
    assert client.put(path, data=DATA, headers=slot.headers).status_code == 403


def test_a_signed_get_gives_the_bytes(server: Any, device_door: Any, slot: UploadSlot) -> None:
    """The verifier or a page fetches a crop."""
    device_door.client.put(_path(slot.url), data=DATA, headers=slot.headers)
    url = server.blobs.presign_get(slot.key, 60)
    assert device_door.client.get(_path(url.url)).data == DATA
    assert device_door.client.get(f"/blobs/{slot.key}").status_code == 403


def test_no_slot_without_a_certificate(device_door: Any) -> None:
    """A stranger asks for a place to put things."""
    assert device_door.client.post("/device/v1/uploads", data=b"{}", content_type="application/json").status_code == 401
