"""Alerts: one per condition, ended by itself; webhooks that cannot be turned against us."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask.testing import FlaskClient

from fleet_server.alerts import service
from fleet_server.alerts.parts import note_part, parts
from fleet_server.alerts.service import Condition
from fleet_server.alerts.webhook_http import send
from fleet_server.database import Database
from fleet_server.errors import ConflictError, NotFoundError
from fleet_server.outgoing_http import OutgoingRule, address_problem, url_problem

NOW_S = 1_790_000_000.0
PUBLIC, ANYWHERE = OutgoingRule(), OutgoingRule(private=True)
SILENT = Condition("device_silent", "cam-1", "cam-1 is silent")


def reconcile(database: Database, *conditions: Condition, now_s: float = NOW_S) -> int:
    with database.write() as session:
        return service.reconcile(session, conditions, now_s)


def all_alerts(database: Database, **more: Any) -> list[service.Alert]:
    with database.read() as session:
        return service.alerts(session, **more)


def test_a_condition_is_one_alert_from_beginning_to_end(database: Database) -> None:
    assert reconcile(database, SILENT) == 1
    assert reconcile(database, SILENT, now_s=NOW_S + 5) == 0
    assert reconcile(database, now_s=NOW_S + 10) == 1
    assert reconcile(database, now_s=NOW_S + 15) == 0
    found = all_alerts(database)
    assert [(one.opened_s, one.resolved_s) for one in found] == [(NOW_S, NOW_S + 10)]
    reconcile(database, SILENT, now_s=NOW_S + 20)
    assert (len(all_alerts(database)), len(all_alerts(database, only_open=True))) == (2, 1)


def test_what_was_not_evaluated_is_left_alone(database: Database) -> None:
    reconcile(database, SILENT, Condition("disk_full", "server", "full"))
    with database.write() as session:
        service.reconcile(session, [], NOW_S + 1, kinds=["disk_full"])
    assert [one.kind for one in all_alerts(database, only_open=True)] == ["device_silent"]


def test_acknowledging_names_the_first_who_did(database: Database) -> None:
    reconcile(database, SILENT)
    alert = all_alerts(database)[0]
    with database.write() as session:
        service.acknowledge(session, alert.id, who="ann", now_s=NOW_S)
        assert service.acknowledge(session, alert.id, who="bob", now_s=NOW_S).acknowledged_by == "ann"
        with pytest.raises(NotFoundError):
            service.acknowledge(session, "a-none", who="ann", now_s=NOW_S)


def test_a_webhook_that_is_down_is_tried_again_later_and_given_up_in_the_end(database: Database) -> None:
    with database.write() as session:
        service.add_webhook(session, "https://example.org/hook", who="ann", now_s=NOW_S)
        with pytest.raises(ConflictError):
            service.add_webhook(session, "https://example.org/hook", who="ann", now_s=NOW_S)
    reconcile(database, SILENT)
    now_s = NOW_S
    for _ in range(service.MAX_CALL_ATTEMPTS):
        with database.write() as session:
            calls = service.due_calls(session, now_s)
            assert len(calls) == 1
            assert calls[0].body["alert"]["subject"] == "cam-1"
            service.note_call(session, calls[0], "answered 500", now_s)
        with database.read() as session:
            assert service.due_calls(session, now_s + 1) == []
            assert service.webhooks(session)[0].last_result == "answered 500"
        now_s += 100_000
    with database.read() as session:
        assert service.due_calls(session, now_s) == []


@pytest.mark.parametrize("url", [
    "ftp://example.org/", "example.org", "https://", "http://ann:secret@example.org/", "http://localhost/x", "http://127.0.0.1:22/",
    "http://[::1]/", "http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://192.168.1.1/", "http://[fe80::1]/",
    "http://[::ffff:127.0.0.1]/", "http://0.0.0.0/", "http://224.0.0.1/", "http://example.org:99999/", "http://[bad/",
    "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[fec0::1]/", "http://[64:ff9b:1::1]/",
    "http://[::ffff:0:7f00:1]/", "http://example.org/\r\nX: 1",
])  # fmt: skip
def test_addresses_that_lead_into_our_own_network_are_refused(url: str) -> None:
    assert url_problem(url, PUBLIC)


def test_what_is_allowed() -> None:
    assert url_problem("https://example.org/hook?x=1", PUBLIC) is None
    assert url_problem("http://127.0.0.1:9/", ANYWHERE) is None
    assert address_problem("0.0.0.0", ANYWHERE)
    assert address_problem("93.184.215.14", PUBLIC) is None


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A real server that keeps what it is told; /away redirects."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append({"body": json.loads(body), "host": self.headers["Host"]})
            self.send_response(302 if self.path == "/away" else 200)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_message_arrives_and_a_redirect_is_not_followed(receiver: tuple[str, list[dict[str, Any]]]) -> None:
    url, got = receiver
    assert send(f"{url}/hook", {"v": 1}, rule=ANYWHERE) is None
    assert got[0]["body"] == {"v": 1}
    assert send(f"{url}/away", {"v": 1}, rule=ANYWHERE) == "answered 302"
    assert send(f"{url}/hook", {"v": 1}, rule=PUBLIC)
    assert len(got) == 2


def test_a_name_that_resolves_into_our_network_is_refused_and_one_that_does_goes_to_that_very_address(
    receiver: tuple[str, list[dict[str, Any]]],
) -> None:
    """DNS rebinding: the name was harmless when it was typed."""
    url, got = receiver
    named = url.replace("127.0.0.1", "hooks.example.org")
    assert "private" in (send(named, {}, rule=PUBLIC, resolve_host=lambda *_: ["93.184.215.14", "127.0.0.1"]) or "")
    assert got == []
    assert send(named, {}, rule=ANYWHERE, resolve_host=lambda *_: ["127.0.0.1"]) is None
    assert got[0]["host"].startswith("hooks.example.org:")


def test_a_receiver_that_drips_holds_nobody_up() -> None:
    """A receiver that was taken over answers one byte now and then, for ever: the next alert goes out all the same."""
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.wait(0.05):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert "no whole answer" in str(send(url, {}, rule=ANYWHERE, whole_s=0.5))
        over.set()
        thread.join(10)


def test_a_receiver_that_is_not_there_is_said(receiver: tuple[str, list[dict[str, Any]]]) -> None:
    assert "ConnectError" in (send("http://127.0.0.1:1/", {}, rule=ANYWHERE) or "")

    def nobody(*_: Any) -> list[str]:
        raise OSError(2, "no such name")

    assert "cannot be resolved" in (send("https://nowhere.example/", {}, rule=PUBLIC, resolve_host=nobody) or "")


def test_parts_are_noted_when_they_change(database: Database) -> None:
    with database.write() as session:
        assert note_part(session, "broker", ok=False, note="gone", now_s=NOW_S)
        assert not note_part(session, "broker", ok=False, note="gone", now_s=NOW_S + 9)
        assert parts(session)["broker"].at_s == NOW_S


def test_the_doors(sign_in: Callable[[str], FlaskClient], server: Any) -> None:
    with server.database.write() as session:
        service.reconcile(session, [SILENT], NOW_S)
    admin, viewer = sign_in("admin"), sign_in("viewer")
    alert = viewer.get("/api/v1/alerts?open=true").json["items"][0]
    assert (alert["kind"], alert["subject"]) == ("device_silent", "cam-1")
    assert viewer.post(f"/api/v1/alerts/{alert['id']}/acknowledge").status_code == 403
    assert admin.post(f"/api/v1/alerts/{alert['id']}/acknowledge").json["acknowledged_by"] == "admin-1"
    assert admin.post("/api/v1/webhooks", json={"url": "http://127.0.0.1/"}).status_code == 400
    made = admin.post("/api/v1/webhooks", json={"url": "https://example.org/a"})
    assert made.status_code == 201
    assert admin.delete(f"/api/v1/webhooks/{made.json['id']}").status_code == 204
    assert admin.get("/api/v1/webhooks").json["items"] == []
