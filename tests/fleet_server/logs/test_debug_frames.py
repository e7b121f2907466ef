"""Pictures of debug sessions on the server: asked for, found again, shown to those who may, deleted with the session."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.errors import InvalidError, NotFoundError
from fleet_server.inventory import service as inventory
from fleet_server.logs import listing, service
from ota.wire import codec
from ota.wire.debug import ANSWER_TYPE, FrameAnswer, FramePicture, answers_name

NOW_S = 1_790_000_000.0
JPEG = b"\xff\xd8\xff\xe0 a picture"


def put(server: Context, device: str, name: str, data: bytes, content_type: str = "image/jpeg") -> str:
    """A blob as a device would have put it."""
    digest = hashlib.sha256(data).hexdigest()
    key = f"{device}/debug/{name}/{digest}"
    server.blobs.put(key, content_type=content_type, length_bytes=len(data), sha256=digest, chunks=[data])  # type: ignore[attr-defined]
    return digest


def begin(server: Context, device: str, frames: str = "last") -> str:
    with server.database.write() as session:
        return service.create_session(
            session, device, log_level="info", duration_s=600, reason="INC-7", who="ann", now_s=server.clock(), frames=frames
        ).id


def answered(session: str, *digests: str, asked: int = 1, camera: str = "yard", **more: Any) -> bytes:
    pictures = [
        FramePicture(sha256=digest, frame=n, at_s=NOW_S + n, width_px=640, height_px=360) for n, digest in enumerate(digests)
    ]
    fields = {"frames": "last", "state": "done"} | more
    return codec.encode(FrameAnswer(session=session, asked=asked, camera=camera, pictures=pictures, **fields))


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


@pytest.fixture
def device(enrolled: Any) -> str:
    return str(enrolled.device_id)


def test_each_request_rises_and_reaches_the_device_within_the_session_alone(database: Database) -> None:
    """Asked at the beginning and once more; a session that has ended takes no request, and nobody else's either."""
    device = "cam-1"
    with database.write() as session:
        session_id = service.create_session(
            session, device, log_level="info", duration_s=600, reason="INC-7", who="ann", now_s=NOW_S, frames="last"
        ).id
    with database.write() as session:
        (told,) = service.active(session, device, NOW_S)
        assert (told.frames, told.frames_asked, told.camera) == ("last", 1, None)
        service.take_unwoken(session)
        service.ask_frames(session, device, session_id, frames="burst", camera="yard", who="ann", now_s=NOW_S)
        (told,) = service.active(session, device, NOW_S)
        assert (told.frames, told.frames_asked, told.camera) == ("burst", 2, "yard")
        assert service.take_unwoken(session) == [device], "the device is woken for it"
        with pytest.raises(NotFoundError):
            service.ask_frames(session, "another", session_id, frames="last", camera=None, who="ann", now_s=NOW_S)
        with pytest.raises(InvalidError, match="ended"):
            service.ask_frames(session, device, session_id, frames="last", camera=None, who="ann", now_s=NOW_S + 601)
        with pytest.raises(InvalidError, match="not one of"):
            service.ask_frames(session, device, session_id, frames="film", camera=None, who="ann", now_s=NOW_S)
    with database.read() as session:
        deeds = [(entry.what, entry.who) for entry in audit.entries(session, target=device)]
    assert ("debug.frames", "ann") in deeds


def test_what_the_device_answered_is_listed_and_what_is_no_answer_is_not(server: Context, device: str) -> None:
    """Beside two answers the device uploaded noise, another session's answer, and an endless one."""
    session_id = begin(server, device)
    digest = put(server, device, session_id, JPEG)
    name = answers_name(session_id)
    put(server, device, name, answered(session_id, digest), ANSWER_TYPE)
    refused = answered(session_id, asked=2, camera="", state="refused", reason="policy", detail="no live_view")
    put(server, device, name, refused, ANSWER_TYPE)
    put(server, device, name, b"\x00\xff not an answer", ANSWER_TYPE)
    put(server, device, name, answered("another", digest), ANSWER_TYPE)
    put(server, device, name, b"{" + b" " * 100_000, ANSWER_TYPE)
    found = listing.answers(server.blobs, device, session_id)
    assert [(one.asked, one.camera, one.state, one.reason, len(one.pictures)) for one in found] == [
        (2, "", "refused", "policy", 0), (1, "yard", "done", "", 1),
    ]  # fmt: skip
    assert listing.answers(server.blobs, "cam-other", session_id) == []
    assert listing.picture(server.blobs, device, session_id, digest) == JPEG


def test_operators_see_pictures_viewers_do_not_and_looking_stands_in_the_audit(
    server: Context, device: str, sign_in: Callable[[str], FlaskClient]
) -> None:
    session_id = begin(server, device)
    digest = put(server, device, session_id, JPEG)
    put(server, device, answers_name(session_id), answered(session_id, digest), ANSWER_TYPE)
    base = f"/api/v1/devices/{device}/debug-sessions/{session_id}"
    viewer, ann = sign_in("viewer"), sign_in("operator")
    for path in (f"{base}/frames", f"{base}/pictures/{digest}"):
        assert viewer.get(path).status_code == 403
    assert viewer.post(f"{base}/frames", json={"frames": "last"}).status_code == 403
    page = viewer.get(f"/devices/{device}")
    assert page.status_code == 200
    assert digest not in page.text
    (item,) = ann.get(f"{base}/frames").json["items"]
    assert (item["state"], [one["sha256"] for one in item["pictures"]]) == ("done", [digest])
    picture = ann.get(f"{base}/pictures/{digest}")
    assert (picture.status_code, picture.data, picture.mimetype) == (200, JPEG, "image/jpeg")
    assert "sandbox" in picture.headers["Content-Security-Policy"]
    assert digest in ann.get(f"/devices/{device}").text
    with server.database.read() as session:
        looked = audit.entries(session, audit.Wanted(target=device, what="frame.look"))
    assert [entry.target for entry in looked] == [f"{device}/debug/{session_id}/{digest}"]


def test_a_picture_is_shown_under_its_own_session_and_device_alone_and_only_as_a_picture(
    server: Context, device: str, sign_in: Callable[[str], FlaskClient], enrol_device: Callable[..., Any]
) -> None:
    """A device uploads a page with a script as its picture; a person tries another device's session id."""
    other = str(enrol_device().device_id)
    session_id = begin(server, device)
    script = put(server, device, session_id, b"<script>alert(1)</script>")
    digest = put(server, other, session_id, JPEG)
    ann = sign_in("operator")
    base = "/api/v1/devices/{}/debug-sessions/{}/pictures/{}"
    assert ann.get(base.format(device, session_id, script)).status_code == 404
    assert ann.get(base.format(device, session_id, digest)).status_code == 404
    assert ann.get(base.format(other, session_id, digest)).status_code == 404


def test_the_page_asks_for_pictures_and_says_why_none_came(
    server: Context, device: str, sign_in: Callable[[str], FlaskClient]
) -> None:
    """The board's policy has no live view: the page says so in the board's words, with nothing of it taken as markup."""
    session_id = begin(server, device, frames="none")
    with server.database.write() as session:
        service.ask_frames(session, device, session_id, frames="last", camera=None, who="ann", now_s=server.clock())
    ann = sign_in("operator")
    assert "has not answered yet" in ann.get(f"/devices/{device}").text
    said = answered(session_id, camera="", state="refused", reason="policy", detail="<b>no live_view</b> here")
    put(server, device, answers_name(session_id), said, ANSWER_TYPE)
    page = ann.get(f"/devices/{device}").text
    assert "&lt;b&gt;no live_view&lt;/b&gt; here" in page
    assert "<b>no live_view" not in page
    with server.database.read() as session:
        assert inventory.get(session, device, server.clock()).id == device
