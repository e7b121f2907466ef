"""Looks through the doors: who opens a picture stands in the audit before the picture is handed out."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import text

from fleet_server.audit import chain, service
from fleet_server.context import Context
from fleet_server.enrolment import authority_x509
from fleet_server.ingest.sweeping import Sweeping
from fleet_server.logs import service as logs
from ota.trust.assignment import verify_payload
from ota.trust.keys import key_from_dict
from ota.wire import codec
from ota.wire.assignments import Signed
from tests.fakes.seeded_fleet import SeededFleet, seed_fleet


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


@pytest.fixture
def fleet(server: Context) -> SeededFleet:
    authority_x509.prepare(server.settings.pki_dir, ["localhost"], server.clock())
    return seed_fleet(server)


def looks(server: Context, what: str) -> list[tuple[str, str, str]]:
    with server.database.read() as session:
        return [(one.who, one.target, one.origin) for one in service.entries(session, service.Wanted(what=what))][::-1]


def test_each_look_at_a_crop_stands_in_the_audit_once_in_ten_minutes(
    server: Context, fleet: SeededFleet, sign_in: Callable[[str], FlaskClient], clock: Any
) -> None:
    """Two people, one picture, again and again; a browser's copy is kept no longer than one row stands for."""
    one, two = sign_in("viewer"), sign_in("viewer")
    crops = one.get(f"/api/v1/detections/{fleet.event}").json["crops"]
    url, key = crops[0]["url"], crops[0]["key"]
    assert looks(server, "crop.look") == [], "a list of pictures is no picture"
    for client in (one, one, two, one):
        answer = client.get(url)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "private, max-age=600"
        assert {"Cookie", "Authorization"} <= set(answer.headers["Vary"].replace(" ", "").split(","))
    assert looks(server, "crop.look") == [("viewer-1", key, "127.0.0.1"), ("viewer-2", key, "127.0.0.1")]
    clock.forward(601)
    one.get(url)
    assert len(looks(server, "crop.look")) == 3
    assert one.get("/api/v1/crops/" + key[:-1] + "0").status_code == 404
    assert sign_in("").get(url).status_code == 401
    assert len(looks(server, "crop.look")) == 3, "what was not shown was not looked at"


def test_what_cannot_be_written_down_is_not_shown(
    server: Context, fleet: SeededFleet, sign_in: Callable[[str], FlaskClient]
) -> None:
    """The log cannot take a row (its head is gone, its disk is full): no picture leaves the house unrecorded."""
    viewer = sign_in("viewer")
    url = viewer.get(f"/api/v1/detections/{fleet.event}").json["crops"][0]["url"]
    with server.database.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER audit_head_delete"))
        connection.execute(text("DELETE FROM audit_head"))
    answer = viewer.get(url)
    assert answer.status_code == 500
    assert b"\xff\xd8\xff" not in answer.data


def test_reading_the_log_of_a_debug_session_is_a_look(
    server: Context, fleet: SeededFleet, sign_in: Callable[[str], FlaskClient]
) -> None:
    """Lines that came because somebody asked for them; a device's ordinary warnings are nobody's look."""
    viewer, device = sign_in("viewer"), fleet.devices["gate-north"]
    for path in (f"/api/v1/devices/{device}/logs", "/logs?device=gate-north"):
        assert viewer.get(path).status_code == 200
    assert looks(server, "log.look") == []
    with server.database.write() as session:
        session.execute(text("UPDATE log_line SET session = 's-1'"))
        assert logs.lines(session, device)[0].session == "s-1"
    for path in (f"/api/v1/devices/{device}/logs", "/logs?device=gate-north"):
        assert viewer.get(path).status_code == 200
    assert looks(server, "log.look") == [("viewer-1", device, "127.0.0.1")]


def test_the_sweeper_forgets_looks_and_the_audit_keeps_them(
    server: Context, fleet: SeededFleet, sign_in: Callable[[str], FlaskClient], clock: Any
) -> None:
    viewer = sign_in("viewer")
    viewer.get(viewer.get(f"/api/v1/detections/{fleet.event}").json["crops"][0]["url"])
    clock.forward(3600)
    Sweeping(server).sweep()
    with server.database.read() as session:
        assert session.execute(text("SELECT count(*) FROM audit_look")).scalar_one() == 0
    assert len(looks(server, "crop.look")) == 1


def test_the_log_is_found_by_person_target_kind_and_time(
    server: Context, fleet: SeededFleet, sign_in: Callable[[str], FlaskClient]
) -> None:
    viewer = sign_in("viewer")
    url = viewer.get(f"/api/v1/detections/{fleet.event}").json["crops"][0]["url"]
    viewer.get(url)
    device = url.split("/")[4]

    def found(query: str) -> list[dict[str, Any]]:
        answer = viewer.get(f"/api/v1/audit?{query}")
        assert answer.status_code == 200, answer.json
        return list(answer.json["items"])

    assert [one["what"] for one in found("who=viewer-1")] == ["crop.look"]
    assert "crop.look" in [one["what"] for one in found(f"target={device}")], "a device has its pictures"
    assert {one["what"] for one in found("what=enrolment")} == {"enrolment.accept"}
    assert found("what=enrol") == [], "the first word is a whole word"
    assert found("what=%25") == []
    assert found("until_s=1000") == []
    now_s = server.clock()
    assert found(f"since_s={now_s}&until_s={now_s + 1}&limit=1")
    rising = found("after=2&limit=3")
    assert [one["id"] for one in rising] == [3, 4, 5]
    for nonsense in ("cursor=-1", "after=x", "limit=0", "since_s=nan", f"after={2**63}", "since_s=1e99"):
        assert viewer.get(f"/api/v1/audit?{nonsense}").status_code == 400, nonsense


def test_the_head_is_signed_and_the_export_is_for_security(
    server: Context, fleet: SeededFleet, sign_in: Callable[[str], FlaskClient]
) -> None:
    """Whoever keeps the head can show later what the server said; an export of a part is a piece without a gap."""
    del fleet
    viewer, security = sign_in("viewer"), sign_in("security")
    head = viewer.get("/api/v1/audit/head").json
    key = key_from_dict(head["key"])
    signed = codec.decode(Signed, codec.encode(Signed(**head["signed"])))
    said = codec.decode(chain.AuditHead, verify_payload(signed, {key.keyid: key}).encode())
    assert (said.kind, said.id, said.hash) == ("audit-head", head["id"], head["hash"])
    assert viewer.get("/api/v1/audit/export").status_code == 403
    whole = security.get("/api/v1/audit/export")
    assert whole.headers["Content-Disposition"].startswith("attachment")
    lines = whole.get_data(as_text=True).splitlines()
    assert len(lines) == head["id"] + 2, "the export itself stands in it, too, and the end"
    part = security.get(f"/api/v1/audit/export?after={head['id']}").get_data(as_text=True).splitlines()
    assert [line[:40] for line in part[:1]] == [lines[-2][:40]]
    nothing = security.get("/api/v1/audit/export?until_s=5").get_data(as_text=True).splitlines()
    assert len(nothing) == 1
