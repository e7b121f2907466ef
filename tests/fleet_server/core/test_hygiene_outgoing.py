"""The server as somebody's errand boy: addresses that would make it knock where only it can reach, refused before a byte goes."""

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_server.enrolment import authority_x509
from fleet_server.errors import SettingsError
from fleet_server.outgoing_http import (
    OutgoingError,
    OutgoingRule,
    address_problem,
    checked_address,
    exchange,
    guarded_client,
    rule_of,
    url_problem,
)
from fleet_server.settings import Settings

PUBLIC = OutgoingRule()
HERE = OutgoingRule(networks=(ipaddress.ip_network("127.0.0.1/32"),))
INSIDE = tuple(
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""Written down apart from the guard's own list: what is no public IPv4 address."""
inside = st.sampled_from(INSIDE).flatmap(
    lambda net: st.integers(0, net.num_addresses - 1).map(lambda offset: net.network_address + offset)
)


def forms(address: Any) -> list[str]:
    """An IPv4 address as browsers, resolvers and tunnels may write it."""
    number, parts = int(address), str(address).split(".")
    tail = f"{number >> 16:x}:{number & 0xFFFF:x}"
    return [
        str(address),
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(f"0{int(part):o}" for part in parts),
        ".".join(hex(int(part)) for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        f"{address}.",
        f"[::ffff:{address}]",
        f"[::ffff:{tail}]",
        f"[::{tail}]",
        f"[::ffff:0:{tail}]",
        f"[64:ff9b::{tail}]",
        f"[64:ff9b:1::{tail}]",
        f"[2002:{tail}::]",
        f"[2002:{tail}::1]",
        f"[2001:0:{tail}::]",
        ".".join(f"%{ord(letter):02x}" for letter in str(address)),
        str(address).translate(str.maketrans("0123456789", "０１２３４５６７８９")),
        str(address).replace(".", "。"),
    ]


@given(inside, st.sampled_from(["http", "https"]), st.sampled_from(["", ":80", ":8080", ":443"]))
@example(ipaddress.ip_address("127.0.0.1"), "http", "")
@example(ipaddress.ip_address("169.254.169.254"), "http", "")
def test_no_writing_of_an_inside_address_is_taken(address: Any, scheme: str, port: str) -> None:
    """Decimal, octal, hexadecimal, short, mapped, 6to4, NAT64, Teredo, full-width: all are refused by their form alone."""
    for host in forms(address):
        assert url_problem(f"{scheme}://{host}{port}/x", PUBLIC), host


@given(st.ip_addresses(v=6))
@example(ipaddress.ip_address("::1"))
@example(ipaddress.ip_address("fe80::1"))
@example(ipaddress.ip_address("fd00:ec2::254"))
@example(ipaddress.ip_address("fec0::1"))
@example(ipaddress.ip_address("ff02::1"))
def test_of_ipv6_only_what_is_given_out_for_the_internet_is_taken(address: ipaddress.IPv6Address) -> None:
    taken = address_problem(str(address), PUBLIC) is None
    embedded = address.ipv4_mapped
    if embedded is not None:
        assert taken == (
            embedded.is_global and not embedded.is_multicast and embedded not in ipaddress.ip_network("192.88.99.0/24")
        )
    elif taken:
        assert address.is_global
        assert address in ipaddress.ip_network("2000::/3")
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.ip_addresses(v=4))
def test_of_ipv4_only_public_addresses_are_taken(address: ipaddress.IPv4Address) -> None:
    if address_problem(str(address), PUBLIC) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.text(max_size=60))
@example("http://ann:secret@example.org/")
@example("http://example.org\\@10.0.0.1/")
@example("http://example.org#@10.0.0.1/")
@example("https://exаmple.org/")
@example("http://①②⑦.⓪.⓪.①/")
@example("http://localhost./")
@example("http://db.localhost/")
@example("gopher://example.org/")
@example("file:///etc/passwd")
@example("http://example.org:0/")
@example("http://example.org:25/")
@example("http://[fe80::1%25eth0]/")
@example("http://example.org/\r\nX: 1")
@example("//example.org/")
@example("http:///")
def test_an_address_of_two_readings_is_refused(text: str) -> None:
    """Whatever is typed: a sentence or None, never an error; and nothing that only some would read as it was meant."""
    for url in (text, f"http://{text}/", f"http://{text}@10.0.0.1/"):
        problem = url_problem(url, PUBLIC)
        if problem is None:
            parsed = httpx.URL(url)
            assert parsed.scheme in ("http", "https")
            assert not parsed.userinfo
            assert parsed.host.isascii()
            assert checked_address(url, PUBLIC, lambda *_: ["93.184.215.14"])


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org:25/",
        "http://localhost./",
        "http://db.localhost/",
        "http://127.1/",
        "https://xn--e1afmkfd.xn--p1ai:22/",
        "http://example.org\\@10.0.0.1/",
        "http://①②⑦.⓪.⓪.①/",
        "http://93.184.215.14:445/",
    ],
)
def test_these_are_refused(url: str) -> None:
    assert url_problem(url, PUBLIC)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.org/a/b?c=d",
        "http://93.184.215.14/",
        "https://[2606:2800:220:1::1]:8443/x",
        "https://xn--e1afmkfd.example/",
    ],
)
def test_these_are_taken(url: str) -> None:
    assert url_problem(url, PUBLIC) is None


def test_the_list_of_what_may_be_reached_all_the_same(settings: Settings) -> None:
    """A receiver in the own network is named; its neighbours, and the cloud's metadata, stay out of reach."""
    rule = rule_of(replace(settings, outgoing_hosts="hooks.inside.example, 10.1.2.0/24, [fd00::5]"))
    assert address_problem("10.1.2.9", rule) is None
    assert address_problem("10.1.3.9", rule)
    assert address_problem("fd00::5", rule) is None
    assert checked_address("http://hooks.inside.example/", rule, lambda *_: ["10.9.9.9"]) == "10.9.9.9"
    for never in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "::"):
        with pytest.raises(OutgoingError):
            checked_address("http://hooks.inside.example/", rule, lambda *_, one=never: [one])
        assert address_problem(never, OutgoingRule(private=True))
    assert address_problem("169.254.169.254", rule_of(replace(settings, outgoing_hosts="169.254.169.254"))) is None
    for wrong in ("10.0.0.0/40", "http://x", "a b", "127.1"):
        with pytest.raises(SettingsError, match="outgoing_hosts"):
            rule_of(replace(settings, outgoing_hosts=wrong))


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.got.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        if self.path.startswith("/away"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        if self.path == "/packed":
            self.send_header("Content-Encoding", "gzip")
        body = b"x" * (3 * 1024 * 1024 if self.path == "/long" else 5)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def _served(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[Any]]]:
    server = ThreadingHTTPServer.__new__(ThreadingHTTPServer)
    server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server.__init__((host, 0), _Handler)  # type: ignore[misc]
    server.got = []  # type: ignore[attr-defined]
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], server.got  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_name_is_resolved_once_and_the_connection_goes_to_what_was_judged() -> None:
    """DNS rebinding: the name says a public address when it is looked at, and the server itself when it is connected to."""
    answers = iter([["127.0.0.1"], ["93.184.215.14"]])
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return next(answers)

    with _served() as (port, got):
        answer = exchange("GET", f"http://hook.example:{port}/a", rule=HERE, resolve_host=resolve)
        assert (answer.status, answer.body) == (200, b"xxxxx")
        assert got == [("/a", f"hook.example:{port}")]
        assert asked == ["hook.example"]
        for mixed in (["93.184.215.14", "127.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%eth0"], ["0.0.0.0"], ["nonsense"], []):
            with pytest.raises(OutgoingError):
                exchange("GET", f"http://hook.example:{port}/b", rule=PUBLIC, resolve_host=lambda *_, found=mixed: found)
        assert len(got) == 1


def test_a_redirect_is_an_answer_and_where_it_is_followed_it_is_judged_anew() -> None:
    """A receiver that was taken over sends the server on to the cloud's metadata, or to another port of itself."""
    with _served() as (port, _), _served() as (other, got_there):
        url = f"http://hook.example:{port}/away?"
        answer = exchange("GET", f"{url}http://169.254.169.254/", rule=HERE, resolve_host=lambda *_: ["127.0.0.1"])
        assert answer.status == 302
        rule = OutgoingRule(hosts=frozenset({"hook.example"}))
        with guarded_client(rule, resolve_host=lambda *_: ["127.0.0.1"]) as client:
            client.follow_redirects = True
            for elsewhere in (
                f"http://127.0.0.1:{other}/",
                "http://169.254.169.254/",
                f"http://localhost:{other}/",
                "http://2130706433/",
            ):
                with pytest.raises(OutgoingError):
                    client.get(url + elsewhere)
            assert client.get(f"{url}/plain").status_code == 200
        assert got_there == []


def test_an_answer_is_short_and_not_packed() -> None:
    with _served() as (port, _got):
        for path, why in (("/long", "too long"), ("/packed", "packed")):
            with pytest.raises(OutgoingError, match=why):
                exchange("GET", f"http://127.0.0.1:{port}{path}", rule=HERE)


def test_the_certificate_is_that_of_the_name_though_the_connection_goes_to_an_address(tmp_path: Path) -> None:
    """Over TLS the checked address must prove the name; another name's certificate is refused."""


    authority_x509.prepare(tmp_path, ["hook.example"], time.time())
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    trusted = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    with _served(tls=served) as (port, got):
        ask = {"rule": HERE, "resolve_host": lambda *_: ["127.0.0.1"], "verify": trusted}
        assert exchange("GET", f"https://hook.example:{port}/", **ask).status == 200  # type: ignore[arg-type]
        with pytest.raises(OutgoingError, match="certificate"):
            exchange("GET", f"https://other.example:{port}/", **ask)  # type: ignore[arg-type]
        assert len(got) == 1


def test_ipv6_literals_are_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address in brackets is an address; and a proxy in the environment is nobody that we were told of."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    rule = OutgoingRule(networks=(ipaddress.ip_network("::1/128"), ipaddress.ip_network("127.0.0.1/32")))
    try:
        with _served("::1") as (port, _got):
            assert exchange("GET", f"http://[::1]:{port}/", rule=rule).status == 200
    except OSError:  # a machine without IPv6
        with _served() as (port, _got):
            assert exchange("GET", f"http://127.0.0.1:{port}/", rule=rule).status == 200
