"""The first page, and the stream that says when to look again."""

import json
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient

from fleet_server.context import Context
from fleet_server.database import note_change
from fleet_server.overview.api import Streams


def test_an_empty_fleet_and_one_device(sign_in: Callable[[str], FlaskClient], server: Context, enrol_device: Any) -> None:
    client = sign_in("viewer")
    found = client.get("/api/v1/overview").json
    assert found["devices"] == {"total": 0, "online": 0, "offline": 0, "pending": 0}
    assert (found["events_24h"], found["bytes_sent"], found["rollouts"], found["alerts"], found["releases_running"]) == (
        0,
        0,
        [],
        [],
        [],
    )
    assert found["broker"]["connected"] is False
    enrol_device()
    assert client.get("/api/v1/overview").json["devices"] == {"total": 1, "online": 0, "offline": 0, "pending": 1}


def test_the_stream_names_what_changed(sign_in: Callable[[str], FlaskClient], server: Context) -> None:
    response = sign_in("viewer").get("/api/v1/live", buffered=False)
    assert response.content_type.startswith("text/event-stream")
    chunks = response.iter_encoded()
    assert b"retry" in next(chunks)
    with server.database.write() as session:
        note_change(session, "rollouts")
    text = next(chunks).decode()
    assert text.startswith("event: change\n")
    assert json.loads(text.split("data: ")[1]) == {"topics": ["rollouts"]}
    response.close()


def test_only_so_many_listen_at_once_and_who_leaves_makes_room() -> None:
    streams = Streams(2)
    assert [streams.enter(), streams.enter(), streams.enter()] == [True, True, False]
    streams.leave()
    assert streams.enter()
    assert not Streams(0).enter()


def test_nobody_listens_without_signing_in(sign_in: Callable[[str], FlaskClient]) -> None:
    assert sign_in("").get("/api/v1/live").status_code == 401
    assert sign_in("").get("/api/v1/overview").status_code == 401
