"""Every request that this server sends because somebody named an address: webhooks, an identity provider.

Whoever may type an address could make the server knock at doors that only the server reaches: its own database, the cloud's
metadata, a printer. So an address is read in one way or not at all, its name is resolved once, every answer is judged, and the
connection goes to that very answer: a name that changes its mind in between (DNS rebinding) leads nowhere else.
"""

import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from fleet_server.errors import SettingsError
from fleet_server.settings import Settings
from ota.wire.addresses import plain_address

TIMEOUT_S = 5.0
WHOLE_S = 15.0
"""For all of one exchange: who drips a byte every second holds nobody else up."""
LIMIT_BYTES = 1024 * 1024
MAX_URL_CHARS = 2000
Resolve = Callable[[str, int], list[str]]
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
)  # fmt: skip
"""IANA's registries of special addresses (2025-10): written down, because what Python calls global differs by its version."""
_NEVER: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(net) for net in ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8")
)
"""No one machine's address; on Linux the first and ``::`` lead to ourselves."""
_TUNNELS: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(net)
    for net in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
)
"""IPv4-compatible, translated, NAT64, Teredo, 6to4: our own network may hide in each; no receiver needs them."""
_METADATA: tuple[_Network, ...] = tuple(
    ipaddress.ip_network(net)
    for net in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32")
)
"""Where clouds hand out their machines' own keys: only by its address, never because private networks are allowed."""
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)\Z")
_LOW_PORTS = {80, 443}


class OutgoingError(httpx.RequestError):
    """The request was not sent, or its answer not taken; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class OutgoingRule:
    """What may be reached beside the public internet: ``private`` all private networks; else these ``hosts`` and ``networks``."""

    private: bool = False
    hosts: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def rule_of(settings: Settings) -> OutgoingRule:
    """The rule that the settings ask for; SettingsError names the entry of ``outgoing_hosts`` that cannot be read."""
    hosts, networks = set(), []
    for entry in filter(None, (each.strip().lower() for each in settings.outgoing_hosts.split(","))):
        try:
            networks.append(ipaddress.ip_network(entry.strip("[]")))
        except ValueError:
            if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", entry) or _NUMBER.search(entry.rpartition(".")[2]):
                detail = f"outgoing_hosts: {entry[:80]!r} is no host name, address or network"
                raise SettingsError(detail, "such as hooks.example.org or 10.1.2.0/24") from None
            hosts.add(entry)
    return OutgoingRule(private=settings.webhook_private, hosts=frozenset(hosts), networks=tuple(networks))


def url_problem(url: str, rule: OutgoingRule) -> str | None:
    """Why nothing is sent there, by the address's form alone; None when only its name has to be resolved yet."""
    if len(url) > MAX_URL_CHARS:
        return f"the address is longer than {MAX_URL_CHARS} characters"
    if not url.isprintable() or " " in url:
        return "an address holds no blanks or control characters"
    if not url.isascii():
        return "an address is written in plain letters: the host as xn--…, the rest with %…"
    place = plain_address(url)
    if place is None:
        return "not an address of one reading: https://host[:port]/path, without a name or password before the host"
    host = place.host
    if "%" in host or host.endswith(".") or ".." in host or not host:
        return "the host is not written as everybody would write it"
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return address_problem(host, rule, host) or (
            None if place.port and _within(literal, rule.networks) else _port_problem(place.port, rule, host)
        )
    if _NUMBER.match(host.rpartition(".")[2]):
        return f"{host} is a number that some read as an address and some do not: write it as 203.0.113.7 would be written"
    if (host == "localhost" or host.endswith(".localhost")) and not rule.private and host not in rule.hosts:
        return "localhost is this server itself"
    return _port_problem(place.port, rule, host)


def _port_problem(port: int, rule: OutgoingRule, host: str) -> str | None:
    # Below 1024 live mail, shells and file shares, and some of them obey what looks like a request.
    if port >= 1024 or port in _LOW_PORTS or ((rule.private or host in rule.hosts) and port):
        return None
    return f"port {port} is not one that the web uses (80, 443, or 1024 and above)"


def address_problem(address: str, rule: OutgoingRule, host: str = "") -> str | None:
    """Why nothing may go to this IP address (of ``host``), or None."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"{address[:80]!r} is not an IP address"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.scope_id is not None:
            return f"{address} names an interface of this machine"
        if parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
    if _within(parsed, _NEVER):
        return f"{address} is no address of one machine"
    if _within(parsed, _TUNNELS) and not parsed.is_loopback:
        return f"{address} may lead to an IPv4 address inside our own network"
    if _within(parsed, rule.networks):
        return None
    if _within(parsed, _METADATA):
        return f"{address} is where a network hands out its machines' own secrets"
    public = not _within(parsed, _NOT_PUBLIC) and (parsed.version == 4 or parsed in _PUBLIC_IPV6)
    if public or rule.private or host.lower() in rule.hosts:
        return None
    return f"{address} lies in a private, loopback or link-local network; allow it with the setting outgoing_hosts"


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, networks: tuple[_Network, ...]) -> bool:
    return any(address.version == net.version and address in net for net in networks)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name; raises OSError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def checked_address(url: str, rule: OutgoingRule, resolve_host: Resolve = resolve) -> str:
    """The one IP address to connect to; OutgoingError when the URL or any address of its name is refused."""
    problem = url_problem(url, rule)
    if problem is not None:
        raise OutgoingError(problem)
    place = plain_address(url)
    if place is None:  # url_problem has said so
        raise OutgoingError("not an address")
    try:
        return str(ipaddress.ip_address(place.host))
    except ValueError:
        pass
    try:
        addresses = resolve_host(place.host, place.port)
    except (OSError, UnicodeError) as error:
        raise OutgoingError(f"{place.host} cannot be resolved: {getattr(error, 'strerror', None) or error}") from None
    refused = [found for found in (address_problem(each, rule, place.host) for each in addresses) if found]
    if refused or not addresses:
        raise OutgoingError(refused[0] if refused else f"{place.host} has no address")
    return addresses[0]


class GuardedTransport(httpx.BaseTransport):
    """httpx's way out, guarded: each request, one that follows a redirect too, is judged anew. No proxy, nothing kept open."""

    def __init__(
        self, rule: OutgoingRule, *, resolve_host: Resolve = resolve, verify: ssl.SSLContext | bool = True,
        limit_bytes: int = LIMIT_BYTES, whole_s: float = WHOLE_S,
    ) -> None:  # fmt: skip
        self._rule, self._resolve, self._limit_bytes, self._whole_s = rule, resolve_host, limit_bytes, whole_s
        # A kept connection belongs to an address, not to the name that its certificate was checked for.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = httpx.HTTPTransport(verify=verify, trust_env=False, limits=limits, retries=0)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to the checked address; the certificate must be that of the name."""
        until_s = time.monotonic() + self._whole_s
        address = checked_address(str(request.url), self._rule, self._resolve)
        headers = httpx.Headers(request.headers)
        headers["Accept-Encoding"] = "identity"  # what is small on the line must not be large in memory
        moved = httpx.Request(
            request.method, request.url.copy_with(host=address), headers=headers, stream=request.stream,
            extensions={**request.extensions, "sni_hostname": request.url.host},
        )  # fmt: skip
        answer = self._inner.handle_request(moved)
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            answer.close()
            raise OutgoingError("the answer is packed, which was not asked for", request=request)
        answer.stream = _Bounded(answer, self._limit_bytes, until_s)
        return answer

    def close(self) -> None:
        """End its connections."""
        self._inner.close()


class _Bounded(httpx.SyncByteStream):
    """An answer's body that ends when it is too long or takes too long."""

    def __init__(self, answer: httpx.Response, limit_bytes: int, until_s: float) -> None:
        self._stream, self._left_bytes, self._until_s = answer.stream, limit_bytes, until_s

    def __iter__(self) -> Iterator[bytes]:
        if not isinstance(self._stream, httpx.SyncByteStream):
            raise OutgoingError("the answer cannot be read here")
        for chunk in self._stream:
            self._left_bytes -= len(chunk)
            if self._left_bytes < 0:
                raise OutgoingError("the answer is too long")
            if time.monotonic() > self._until_s:
                raise OutgoingError("the answer takes too long")
            yield chunk

    def close(self) -> None:
        if isinstance(self._stream, httpx.SyncByteStream):
            self._stream.close()


def guarded_client(
    rule: OutgoingRule, *, timeout_s: float = TIMEOUT_S, resolve_host: Resolve = resolve, verify: ssl.SSLContext | bool = True,
    limit_bytes: int = LIMIT_BYTES, whole_s: float = WHOLE_S,
) -> httpx.Client:  # fmt: skip
    """The httpx client of all that goes out: each request guarded, no redirect followed by itself, no proxy settings read."""
    transport = GuardedTransport(rule, resolve_host=resolve_host, verify=verify, limit_bytes=limit_bytes, whole_s=whole_s)
    return httpx.Client(transport=transport, timeout=timeout_s, follow_redirects=False, trust_env=False)


def exchange(
    method: str, url: str, *, rule: OutgoingRule, content: bytes = b"", headers: Mapping[str, str] | None = None,
    limit_bytes: int = 65_536, timeout_s: float = TIMEOUT_S, whole_s: float = WHOLE_S, resolve_host: Resolve = resolve,
    verify: ssl.SSLContext | bool = True,
) -> Answer:  # fmt: skip
    """One request and its whole answer within ``whole_s``, resolution included. Raises OutgoingError. Redirects are answers."""
    problem = url_problem(url, rule)  # as it was typed: httpx tidies up before anybody else sees it
    if problem is not None:
        raise OutgoingError(problem)
    answers: queue.Queue[Answer | str] = queue.Queue()

    def send() -> None:
        try:
            with client.stream(method, url, content=content, headers=dict(headers or {})) as response:
                answers.put(Answer(response.status_code, dict(response.headers), response.read()))
        except OutgoingError as error:
            answers.put(str(error))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as error:
            answers.put(f"{type(error).__name__}: {error}"[:200])

    with guarded_client(
        rule, timeout_s=timeout_s, resolve_host=resolve_host, verify=verify, limit_bytes=limit_bytes, whole_s=whole_s
    ) as client:
        threading.Thread(target=send, name="outgoing", daemon=True).start()
        try:
            found = answers.get(timeout=whole_s)
        except queue.Empty:  # closing the client ends the thread at its next byte
            raise OutgoingError(f"no whole answer within {whole_s:g} s") from None
    if isinstance(found, str):
        raise OutgoingError(found)
    return found
