"""The webhook against a real HTTP server: signed, retried within bounds, never redirected, only to listed networks."""

import hashlib
import hmac
import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from device_agent.local import webhook_http
from device_agent.local.output import LocalOutput
from device_agent.local.webhook_http import WebhookError, WebhookPlace, WebhookTelling, post

SECRET = b"a key of the owner"


class Receiver(http.server.ThreadingHTTPServer):
    """Answers as told, and keeps what it was sent: (path, headers, body)."""

    daemon_threads = True

    def __init__(self, heard) -> None:
        self.heard, self.answers, self.elsewhere = heard, [], ""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?a=1"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # Before the answer: the next one comes in another thread as soon as this one is answered.
        self.server.heard((self.path, dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status in (301, 302, 307, 308):
            self.send_header("Location", self.server.elsewhere)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.server.heard((self.path, {}, b"GET"))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def receiver(heard) -> Iterator[Receiver]:
    server = Receiver(heard())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(30)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_http, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def telling(receiver: Receiver, steady) -> Callable[..., WebhookTelling]:
    def make(**options) -> WebhookTelling:
        fields = {"private_hosts": ("127.0.0.1",), "timeout_s": 20.0} | options
        return WebhookTelling(WebhookPlace(receiver.url, "cam-1", **fields), steady_s=steady, now_s=lambda: 1000.0)

    return make


def test_an_event_is_posted_at_once_and_signed(receiver, telling, running, update) -> None:
    """The receiver knows the key and checks that nobody else told it, and when."""
    teller = telling(secret=SECRET)
    local = LocalOutput([teller])
    with running(teller):
        local.tell(update(1))
        ((path, headers, body),) = receiver.heard.until(lambda items: len(items) == 1)
    assert path == "/hook?a=1"
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Rookery-Delivery"] == "ev1/0"
    expected = hmac.new(SECRET, b"1000." + body, hashlib.sha256).hexdigest()
    assert headers["X-Rookery-Signature"] == f"t=1000,v1={expected}"
    assert json.loads(body)["id"] == "ev1"
    assert SECRET not in body


def test_a_receiver_that_stumbles_hears_it_at_the_next_try_and_one_that_refuses_is_not_asked_again(
    receiver, telling, running, update
) -> None:
    receiver.answers = [503, 500, 204, 400, 204]
    teller = telling()
    local = LocalOutput([teller])
    with running(teller):
        for number in (1, 2, 3):
            local.tell(update(number))
        items = receiver.heard.until(lambda items: len(items) == 5)
    assert [json.loads(body)["id"] for _, _, body in items] == ["ev1", "ev1", "ev1", "ev2", "ev3"]
    assert local.dropped() == {"webhook_refused": 1}


def test_tries_are_bounded_and_while_it_is_away_one_is_enough(receiver, telling, running, update) -> None:
    """Away for three events: three tries for the first, one for each further one, then it goes again."""
    receiver.answers = [500, 500, 500, 500, 204]
    teller = telling(tries=3)
    local = LocalOutput([teller])
    with running(teller):
        for number in (1, 2, 3):
            local.tell(update(number))
        items = receiver.heard.until(lambda items: len(items) == 5)
    assert [json.loads(body)["id"] for _, _, body in items] == ["ev1", "ev1", "ev1", "ev2", "ev3"]
    assert local.dropped() == {"webhook_failed": 2}


def test_a_redirect_is_not_followed(receiver, telling, running, update, heard) -> None:
    """The receiver was taken over and points at the router's page in the board's own network."""
    victim = Receiver(heard())
    thread = threading.Thread(target=victim.serve_forever, daemon=True)
    thread.start()
    try:
        receiver.elsewhere = f"http://127.0.0.1:{victim.server_port}/reboot"
        receiver.answers = [302, 307, 204]
        teller = telling()
        local = LocalOutput([teller])
        with running(teller):
            for number in (1, 2, 3):
                local.tell(update(number))
            receiver.heard.until(lambda items: len(items) == 3)
        assert victim.heard.items == []
        assert local.dropped() == {"webhook_refused": 2}
    finally:
        victim.shutdown()
        victim.server_close()
        thread.join(30)


def test_a_name_that_leads_into_the_own_network_is_not_followed_there(receiver) -> None:
    """hooks.example pointed to a public address when it was set up; today it points to 127.0.0.1. No connection is made."""
    place = WebhookPlace(f"http://hooks.example:{receiver.server_port}/x", "cam-1")
    for addresses in (["127.0.0.1"], ["93.184.215.14", "127.0.0.1"], ["169.254.169.254"], []):
        with pytest.raises(WebhookError) as caught:
            post(place, b"{}", {}, resolve_host=lambda _h, _p, found=addresses: found)
        assert not caught.value.again
    assert receiver.heard.items == []


def test_the_connection_goes_to_the_address_that_was_judged_under_the_name_that_was_given(receiver) -> None:
    place = WebhookPlace(f"http://hooks.example:{receiver.server_port}/x", "cam-1", private_hosts=("hooks.example",))
    post(place, b"{}", {"A": "b"}, resolve_host=lambda _h, _p: ["127.0.0.1"])
    ((path, headers, _),) = receiver.heard.until(lambda items: len(items) == 1)
    assert (path, headers["Host"]) == ("/x", f"hooks.example:{receiver.server_port}")


def test_a_receiver_that_drips_is_cut_off(heard) -> None:
    """It answers one byte at a time, for ever: the whole try has one end, not each byte."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1000)
            try:
                while not ended.wait(0.05):
                    connection.sendall(b"H")
            except OSError:
                heard_cut.set()

    heard_cut = threading.Event()
    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        place = WebhookPlace(
            f"http://127.0.0.1:{server.getsockname()[1]}/", "cam-1", private_hosts=("127.0.0.1",), timeout_s=0.5
        )
        with pytest.raises(WebhookError) as caught:
            post(place, b"{}", {})
        assert caught.value.again
        assert heard_cut.wait(60)
    finally:
        ended.set()
        server.close()
        thread.join(30)


def test_a_receiver_that_is_not_there_loses_events_and_nothing_else(steady, running, update) -> None:
    """Nobody listens there: each event is tried and given up, telling costs nothing, stopping is at once."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))  # held, so that nobody else gets it, and not listened on
    port = taken.getsockname()[1]
    place = WebhookPlace(f"http://127.0.0.1:{port}/", "cam-1", private_hosts=("127.0.0.1",), tries=1, kinds=("start",))
    teller = WebhookTelling(place, steady_s=steady, now_s=lambda: 1.0)
    given_up = threading.Event()
    real = teller._mailbox.drop

    def drop(reason: str) -> None:
        real(reason)
        given_up.set()

    teller._mailbox.drop = drop
    local = LocalOutput([teller])
    with running(teller):
        local.tell(update(1, "end"))
        local.tell(update(1))
        assert given_up.wait(60)
    taken.close()
    assert local.dropped() == {"webhook_failed": 1}
