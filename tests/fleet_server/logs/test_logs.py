"""Log lines and debug sessions: stored once, bounded, ended by themselves."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from fleet_server.audit import service as audit
from fleet_server.context import Context
from fleet_server.database import Database
from fleet_server.errors import InvalidError, NotFoundError
from fleet_server.logs import service
from fleet_server.logs.tables import LogMarkRow
from ota.wire import codec
from ota.wire.events import Stored
from ota.wire.logs import LogBatch, LogLine
from ota.wire.topics import LOGS

NOW_S = 1_790_000_000.0


def line(sequence: int, level: str = "info", text: str = "hello", at_s: float | None = None) -> LogLine:
    return LogLine(sequence=sequence, at_s=NOW_S + sequence if at_s is None else at_s, level=level, logger="agent", text=text)


def batch(*sequences: int, dropped: int = 0, level: str = "info") -> LogBatch:
    return LogBatch(boot_id="b", lines=[line(each, level) for each in sequences], dropped=dropped)


def test_overlapping_batches_are_stored_once_and_lost_lines_counted_once(database: Database) -> None:
    """The answer to 1–3 was lost; the device sends 1–4 and says again that it had dropped five."""
    for sent, mark in ((batch(1, 2, 3, dropped=5), 3), (batch(1, 2, 3, dropped=5), 3), (batch(1, 2, 3, 4), 4), (batch(), 4)):
        with database.write() as session:
            assert service.store_lines(session, "cam-1", sent) == Stored(stream="logs", sequence=mark)
    with database.read() as session:
        assert [one.sequence for one in service.lines(session, "cam-1")] == [1, 2, 3, 4]
        assert service.lines(session, "cam-2") == []


def test_lost_lines_without_end_do_not_break_the_count(database: Database) -> None:
    """A hostile board says in every batch that it lost all lines there ever were."""
    for number in range(1, 4):
        with database.write() as session:
            service.store_lines(session, "cam-1", batch(number, dropped=2**53 - 1))
    with database.read() as session:
        assert session.scalars(select(LogMarkRow.dropped)).all() == [2**53 - 1]


def test_lines_out_of_order_are_refused(database: Database) -> None:
    with database.write() as session, pytest.raises(InvalidError):
        service.store_lines(session, "cam-1", batch(2, 1))


def test_a_board_that_was_set_up_anew_is_heard_although_it_numbers_from_one_again(database: Database) -> None:
    with database.write() as session:
        service.store_lines(session, "cam-1", batch(1, 2, 3))
        anew = LogBatch(boot_id="c", lines=[line(1, text="again", at_s=NOW_S + 500)])
        assert service.store_lines(session, "cam-1", anew).sequence == 1
        assert service.lines(session, "cam-1")[-1].text == "again"


def test_a_level_means_this_and_above(database: Database) -> None:
    with database.write() as session:
        for number, level in enumerate(("debug", "info", "warning", "error"), 1):
            service.store_lines(session, "cam-1", batch(number, level=level))
        assert [one.level for one in service.lines(session, "cam-1", level="warning")] == ["warning", "error"]
        assert [one.sequence for one in service.lines(session, "cam-1", since_s=NOW_S + 3)] == [3, 4]
        with pytest.raises(InvalidError):
            service.lines(session, "cam-1", level="loud")


def test_a_chatty_device_keeps_only_its_newest_lines(database: Database) -> None:
    with database.write() as session:
        service.store_lines(session, "cam-1", batch(*range(1, 31)))
        service.store_lines(session, "cam-2", batch(1))
        service.prune(session, keep=10)
        assert [one.sequence for one in service.lines(session, "cam-1")] == list(range(21, 31))
        assert len(service.lines(session, "cam-2")) == 1


def test_a_device_whose_lines_are_all_of_one_moment_keeps_no_more(database: Database) -> None:
    """A stolen key says the same time of every line: none is older than another, and the database filled."""
    with database.write() as session:
        for first in (1, 501, 1001):
            lines = [line(n, at_s=NOW_S) for n in range(first, first + 500)]
            service.store_lines(session, "cam-1", LogBatch(boot_id="b", lines=lines))
        assert service.prune(session, keep=10) == 1490
        assert [one.sequence for one in service.lines(session, "cam-1", limit=2000)] == list(range(1491, 1501))


def test_a_debug_session_ends_by_itself_or_by_hand_and_stands_in_the_audit(database: Database) -> None:
    with database.write() as session:
        one = service.create_session(session, "cam-1", log_level="debug", duration_s=60, reason="why", who="ann", now_s=NOW_S)
        two = service.create_session(session, "cam-1", log_level="info", duration_s=600, reason="why", who="ann", now_s=NOW_S)
    with database.write() as session:
        assert [each.id for each in service.active(session, "cam-1", NOW_S + 59)].count(one.id) == 1
        assert [each.id for each in service.active(session, "cam-1", NOW_S + 61)] == [two.id]
        service.end_session(session, "cam-1", two.id, who="bob", now_s=NOW_S + 62)
        service.end_session(session, "cam-1", two.id, who="bob", now_s=NOW_S + 63)
        assert service.active(session, "cam-1", NOW_S + 63) == []
        assert all(each.ended for each in service.sessions(session, "cam-1", NOW_S + 63))
        assert service.take_unwoken(session) == ["cam-1"]
        with pytest.raises(NotFoundError):
            service.end_session(session, "cam-2", one.id, who="bob", now_s=NOW_S)
    with database.read() as session:
        assert sorted(each.what for each in audit.entries(session)) == ["debug.begin", "debug.begin", "debug.end"]


@pytest.mark.parametrize("changed", [{"log_level": "loud"}, {"duration_s": 0.0}, {"duration_s": 1e9}, {"reason": "  "}])
def test_sessions_that_make_no_sense_are_refused(database: Database, changed: dict[str, Any]) -> None:
    asked: dict[str, Any] = {"log_level": "debug", "duration_s": 60.0, "reason": "why"} | changed
    with database.write() as session, pytest.raises(InvalidError):
        service.create_session(session, "cam-1", who="ann", now_s=NOW_S, **asked)


def test_the_doors(device_door: Any, enrolled: Any, server: Context, sign_in: Callable[[str], FlaskClient]) -> None:
    device_door.certificate = enrolled.der
    body = codec.encode(LogBatch(boot_id="b", lines=[line(1, text="NUL \x00 in a line")]))
    answer = device_door.client.post(LOGS, data=body, content_type="application/json")
    assert codec.decode(Stored, answer.data).sequence == 1
    client = sign_in("operator")
    base = f"/api/v1/devices/{enrolled.device_id}"
    assert [one["sequence"] for one in client.get(f"{base}/logs").json["items"]] == [1]
    made = client.post(f"{base}/debug-sessions", json={"log_level": "debug", "duration_s": 30, "reason": "look"})
    assert made.status_code == 201
    assert client.get(f"{base}/debug-sessions").json["items"][0]["active"] is True
    assert client.delete(f"{base}/debug-sessions/{made.json['id']}").status_code == 204
    assert (
        client.post(
            "/api/v1/devices/nobody/debug-sessions", json={"log_level": "debug", "duration_s": 30, "reason": "x"}
        ).status_code
        == 404
    )
    assert sign_in("viewer").post(f"{base}/debug-sessions", json={}).status_code in {400, 403}
