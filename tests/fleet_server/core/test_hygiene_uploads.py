"""Pictures that are pages: what a board uploads is never more than a picture or a file to whoever opens it."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from fleet_server.app import create_device_app
from fleet_server.blobs.store_s3 import S3BlobStore
from fleet_server.context import Context
from fleet_server.dashboard import api as dashboard
from fleet_server.detections import service as detections
from ota.wire.codec import decode, encode
from ota.wire.events import CropRef, Event, EventBatch, UploadRequest, UploadSlot
from ota.wire.topics import UPLOADS

PAGE = (
    b"<!doctype html><html><script>fetch('/api/v1/tokens')</script>"
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/></html>"
)
POLYGLOTS = {
    "a JPEG whose comment is a page": (b"\xff\xd8\xff\xfe\x10\x00" + PAGE + b"\xff\xd9", "image/jpeg"),
    "a JPEG that calls itself a page": (b"\xff\xd8\xff\xe0" + PAGE, "text/html"),
    "a JPEG that calls itself SVG": (b"\xff\xd8\xff\xe0" + PAGE, "image/svg+xml"),
    "a page that calls itself JPEG": (PAGE, "image/jpeg"),
    "a script": (b"alert(1)//", "text/javascript"),
    "GIF and script in one": (b"GIF89a/*" + PAGE + b"*/=1;", "image/gif"),
    "PDF with a form": (b"%PDF-1.7\n" + PAGE, "application/pdf"),
}


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


@pytest.mark.parametrize("what", POLYGLOTS)
def test_an_upload_is_a_picture_or_a_file_and_never_a_page(
    server: Context, enrolled: Any, sign_in: Callable[[str], FlaskClient], what: str
) -> None:
    """A board that was broken into uploads a page in a picture's clothes; an operator looks at the event."""
    data, kind = POLYGLOTS[what]
    door = create_device_app(replace(server, certificate_of=lambda _environ: enrolled.der)).test_client()
    digest = hashlib.sha256(data).hexdigest()
    asked = UploadRequest(sha256=digest, length_bytes=len(data), content_type=kind, name="e1")
    answer = door.post(UPLOADS, data=encode(asked), content_type="application/json")
    if answer.status_code != 200:
        assert answer.status_code == 400
        return
    slot = decode(UploadSlot, answer.data)
    path = urlsplit(slot.url)
    put = door.put(f"{path.path}?{path.query}", data=data, headers=slot.headers)
    assert put.status_code == 201
    event = Event(
        sequence=1,
        id="e1",
        revision=0,
        camera="gate",
        track=1,
        label="person",
        rule="till",
        rule_kind="zone",
        zone="till",
        started_at_s=server.clock(),
        start_frame=1,
        end_frame=2,
        score=0.9,
        threshold=0.5,
        box=[0, 0, 9, 9],
        frame_width_px=100,
        frame_height_px=100,
        bundle_sha256="0" * 64,
        release="yard@1",
        crops=[
            CropRef(
                kind="first",
                key=slot.key,
                sha256=digest,
                length_bytes=len(data),
                score=0.9,
                at_s=server.clock(),
                box=[0, 0, 9, 9],
            )
        ],
    )
    with server.database.write() as session:
        detections.store_events(session, enrolled.device_id, EventBatch(boot_id="b", events=[event]), now_s=server.clock())
    with server.database.write() as session:
        wanted = detections.crops_to_check(session, now_s=server.clock() + 1000)
        assert [key for key, *_ in wanted] == [slot.key]
        detections.mark_checked(session, detections.look_up(server.blobs, wanted), now_s=server.clock())
    for role in ("viewer", "admin"):
        shown = sign_in(role).get(f"/api/v1/crops/{slot.key}")
        assert shown.status_code == (200 if data.startswith(b"\xff\xd8\xff") else 404), shown.status
        assert shown.mimetype in ("image/jpeg", "application/problem+json")
        assert shown.headers["X-Content-Type-Options"] == "nosniff"
        if shown.status_code == 200:
            assert shown.data == data
            assert "sandbox" in shown.headers["Content-Security-Policy"]
            assert "filename=" in shown.headers["Content-Disposition"]
    got = door.get("{0.path}?{0.query}".format(urlsplit(server.blobs.presign_get(slot.key, 60).url)))
    assert (got.status_code, got.data) == (200, data)
    assert got.mimetype == "application/octet-stream"
    assert got.headers["Content-Disposition"] == "attachment"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in got.headers["Content-Security-Policy"]


def test_a_bucket_gives_a_file_and_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """In S3 the type that the board named is kept with the bytes; the signed address overrides it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    store = S3BlobStore("bucket", "fleet", endpoint_url="http://127.0.0.1:9", clock=lambda: 1000.0)
    query = parse_qs(urlsplit(store.presign_get("d-1/crop/e/" + "a" * 64, 60).url).query)
    assert query["response-content-type"] == ["application/octet-stream"]
    assert query["response-content-disposition"] == ["attachment"]


def test_no_page_of_ours_shows_an_upload_in_anything_but_a_picture() -> None:
    """Templates put what boards sent into <img> alone: no object, embed, iframe, and no filter that lets markup through."""
    templates = list((Path(dashboard.__file__).parent / "templates").glob("*.html"))
    assert len(templates) > 10
    for path in templates:
        text = path.read_text()
        for word in (
            "<object",
            "<embed",
            "<iframe",
            "<frame",
            "|safe",
            "| safe",
            "Markup",
            "autoescape",
            "javascript:",
            "style=",
        ):
            if word == "style=" and path.name == "macros.html":
                continue
            assert word not in text, f"{path.name} has {word}"
