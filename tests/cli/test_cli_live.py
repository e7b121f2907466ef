"""``rookery device live``: pictures from a board that answers, words from one that refuses, patience with one that is silent."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet_server.context import Context
from fleet_server.logs import service as logs
from ota.wire import codec
from ota.wire.debug import ANSWER_TYPE, DebugSession, FrameAnswer, FramePicture, answers_name
from tests.fakes.operator_site import OperatorSite
from tests.fakes.seeded_fleet import enrol

JPEG = b"\xff\xd8\xff\xe0 "


@pytest.fixture(scope="module")
def device(signed_in: OperatorSite) -> str:
    """The board dock-1; its id."""
    here = signed_in.context
    with here.database.write() as session:
        return enrol(here, session, "dock-1", 1, here.clock())


def put(here: Context, device: str, name: str, data: bytes, content_type: str = "image/jpeg") -> str:
    digest = hashlib.sha256(data).hexdigest()
    key = f"{device}/debug/{name}/{digest}"
    here.blobs.put(key, content_type=content_type, length_bytes=len(data), sha256=digest, chunks=[data])  # type: ignore[attr-defined]
    return digest


Reply = Callable[[DebugSession], list[FrameAnswer]]


@contextmanager
def board(here: Context, device: str, reply: Reply) -> Iterator[None]:
    """A board in a thread: takes what its assignment asks for, once, and uploads what ``reply`` makes of it."""
    ended = threading.Event()
    done: set[tuple[str, int]] = set()

    def play() -> None:
        while not ended.wait(0.1):
            with here.database.read() as session:
                wanted = logs.active(session, device, here.clock())
            for one in wanted:
                if one.frames != "none" and (one.id, one.frames_asked) not in done:
                    done.add((one.id, one.frames_asked))
                    for answer in reply(one):
                        put(here, device, answers_name(one.id), codec.encode(answer), ANSWER_TYPE)

    thread = threading.Thread(target=play, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


def test_the_present_picture_is_written_to_a_file_and_the_session_ends(rookery, signed_in, device, tmp_path: Path) -> None:
    here = signed_in.context

    def reply(asked: DebugSession) -> list[FrameAnswer]:
        digest = put(here, device, asked.id, JPEG + b"one")
        picture = FramePicture(sha256=digest, frame=7, at_s=1.0, width_px=640, height_px=360)
        told = {"session": asked.id, "asked": asked.frames_asked, "frames": asked.frames}
        return [FrameAnswer(**told, camera="yard", state="done", pictures=[picture])]

    with board(here, device, reply):
        to = ("--out", tmp_path / "now.jpg", "--camera", "yard", "--reason", "INC-9")
        answer = rookery("-o", "json", "device", "live", "dock-1", *to)
    assert answer.code == 0, answer.err
    assert (tmp_path / "now.jpg").read_bytes() == JPEG + b"one"
    assert [one["state"] for one in json.loads(answer.out)["items"]] == ["done"]
    with here.database.read() as session:
        newest = logs.sessions(session, device, here.clock())[0]
    assert (newest.reason, newest.frames, newest.frames_camera, newest.active) == ("INC-9", "last", "yard", False)


def test_a_burst_goes_into_a_folder_and_a_hostile_camera_name_out_of_it(rookery, signed_in, device, tmp_path: Path) -> None:
    """The board is not trusted with the names of files: its camera is called ../../etc."""
    here = signed_in.context

    def reply(asked: DebugSession) -> list[FrameAnswer]:
        pictures = [
            FramePicture(sha256=put(here, device, asked.id, JPEG + bytes([n])), frame=n, at_s=n, width_px=640, height_px=360)
            for n in range(1, 4)
        ]
        return [
            FrameAnswer(
                session=asked.id, asked=asked.frames_asked, camera="../../etc", frames="burst", state="partial", reason="silent",
                pictures=pictures,
            )
        ]  # fmt: skip

    with board(here, device, reply):
        answer = rookery("device", "live", "dock-1", "--burst", tmp_path / "burst", "--camera", "yard", "--reason", "x")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in (tmp_path / "burst").iterdir()) == [f"_.._etc-0000000{n}.jpg" for n in (1, 2, 3)]
    assert "partial" in answer.out


def test_a_board_that_refuses_says_so_with_its_reason(rookery, signed_in, device, tmp_path: Path) -> None:
    here = signed_in.context
    with here.database.write() as session:
        open_session = logs.create_session(
            session, device, log_level="info", duration_s=600, reason="INC-9", who="ada", now_s=here.clock()
        )

    def reply(asked: DebugSession) -> list[FrameAnswer]:
        detail = "this board's policy.toml has no live_view = true\x1b[31m"
        told = {"session": asked.id, "asked": asked.frames_asked, "frames": asked.frames}
        return [FrameAnswer(**told, camera="", state="refused", reason="policy", detail=detail)]

    with board(here, device, reply):
        answer = rookery("device", "live", "dock-1", "--out", tmp_path / "now.jpg", "--session", open_session.id)
    assert answer.code == 1
    assert "no live_view" in answer.err
    assert "\x1b" not in answer.err
    assert "policy.toml, which no server can change" in answer.err
    assert not (tmp_path / "now.jpg").exists()
    with here.database.read() as session:
        assert logs.find_session(session, device, open_session.id, here.clock()).active, "an operator's own session stays open"


def test_a_silent_board_ends_the_wait_with_exit_7_and_nonsense_with_exit_2(rookery, device, tmp_path: Path) -> None:
    answer = rookery("device", "live", "dock-1", "--out", tmp_path / "x.jpg", "--reason", "INC-9", "--wait", 1)
    assert (answer.code, "no answer within 1 s" in answer.err) == (7, True)
    assert rookery("device", "live", "dock-1", "--reason", "x").code == 2
    assert rookery("device", "live", "dock-1", "--out", "a.jpg", "--burst", "b", "--reason", "x").code == 2
    answer = rookery("device", "live", "dock-1", "--out", "a.jpg")
    assert (answer.code, "--reason" in answer.err) == (2, True)
    assert rookery("device", "live", "nobody", "--out", "a.jpg", "--reason", "x").code == 3
