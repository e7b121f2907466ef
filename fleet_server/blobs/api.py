"""The device door's upload slots and the disk store's signed URLs."""

from collections.abc import Iterator
from typing import cast

from flask import Blueprint, Response, current_app, request

from fleet_server.blob_store import check_key, upload_key
from fleet_server.blobs.quota import UploadQuota
from fleet_server.blobs.store_disk import DiskBlobStore
from fleet_server.context import context
from fleet_server.errors import ConflictError, InvalidError, NotFoundError, TooManyError
from fleet_server.http_access import check_still_ours, device_identity, note_too_much
from fleet_server.http_wire import answer, read_message
from ota.wire.events import UploadRequest, UploadSlot
from ota.wire.topics import BLOBS, UPLOADS

device = Blueprint("blobs", __name__)

PURPOSES = ("crop", "debug", "recall")
MAX_BLOB_BYTES = 16 * 1024 * 1024
"""As UploadRequest limits it."""
_CHUNK_BYTES = 64 * 1024


@device.post(UPLOADS)
def post_upload() -> Response:
    """A place for one blob, under the asking device's own prefix."""
    who = device_identity()
    asked = read_message(UploadRequest)
    if asked.purpose not in PURPOSES:
        raise InvalidError(f"$.purpose: {asked.purpose!r} is not one of {', '.join(PURPOSES)}")
    here = context()
    key = upload_key(who.device_id, asked.purpose, asked.name, asked.sha256)
    there = here.blobs.stat(key)
    if there is not None:
        if there.sha256 != asked.sha256:
            raise ConflictError("other bytes are stored under this key")
        return answer(UploadSlot(key=key, present=True))
    try:
        _quota().take(here.database, who.device_id, key, asked.length_bytes, here.clock())
    except TooManyError as error:
        note_too_much(who.device_id, "uploads", error.detail)
        raise
    slot = here.blobs.presign_put(key, asked.content_type, asked.length_bytes, asked.sha256, here.settings.upload_ttl_s)
    return answer(UploadSlot(key=key, present=False, url=slot.url, headers=slot.headers, expires_s=slot.expires_s))


@device.put(f"{BLOBS}/<path:key>")
def put_blob(key: str) -> Response:
    """The bytes of a slot; the URL's signature says who may put what."""
    store = _disk_store(key)
    fields = {name: request.args.get(name, "") for name in ("expires", "type", "length", "sha256", "signature")}
    store.check_signature("PUT", key, fields)
    check_still_ours(key.partition("/")[0])
    request.max_content_length = MAX_BLOB_BYTES
    if request.headers.get("Content-Type", "") != fields["type"]:
        raise InvalidError(f"the content type is not {fields['type']!r}, which was announced")
    length_bytes = int(fields["length"])
    if request.content_length != length_bytes:
        raise InvalidError(f"the content length is {request.content_length}; {length_bytes} was announced")
    new = store.put(
        key, content_type=fields["type"], length_bytes=length_bytes, sha256=fields["sha256"], chunks=_chunks(length_bytes)
    )
    return Response(status=201 if new else 200)


@device.get(f"{BLOBS}/<path:key>")
def get_blob(key: str) -> Response:
    """The bytes, for whoever holds a signed URL."""
    store = _disk_store(key)
    fields = {name: request.args.get(name, "") for name in ("expires", "signature")}
    store.check_signature("GET", key, fields)
    if store.stat(key) is None:
        raise NotFoundError("no such blob")
    # The bytes and their type came from a device: a file to keep, never a page of ours.
    headers = {"X-Content-Type-Options": "nosniff", "Content-Disposition": "attachment"}
    return Response(store.read(key), mimetype="application/octet-stream", headers=headers)


def _quota() -> UploadQuota:
    found = current_app.extensions.get("rookery_upload_quota")
    if found is None:
        made = UploadQuota(context().settings.upload_bytes_per_day)
        found = current_app.extensions.setdefault("rookery_upload_quota", made)
    return cast(UploadQuota, found)


def _disk_store(key: str) -> DiskBlobStore:
    store = context().blobs
    try:
        check_key(key)
    except ValueError:
        raise NotFoundError("no such blob") from None
    if not isinstance(store, DiskBlobStore):
        raise NotFoundError("blobs are not kept by this server itself")
    return store


def _chunks(length_bytes: int) -> Iterator[bytes]:
    left = length_bytes + 1  # one more, to notice a body that is too long
    while left > 0 and (chunk := request.stream.read(min(_CHUNK_BYTES, left))):
        left -= len(chunk)
        yield chunk
