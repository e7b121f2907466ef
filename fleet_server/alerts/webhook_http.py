"""Tell a webhook. The address was typed by an operator and is not trusted: it must not lead into our own network."""

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

TIMEOUT_S = 5.0
WHOLE_S = 15.0
"""For all of one call: a receiver that drips a byte every second must not keep the alerts of everybody else waiting."""
_TUNNELS = tuple(
    ipaddress.IPv6Network(net)
    for net in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
)
"""IPv4-compatible, translated, NAT64, Teredo, 6to4: our own network may hide in each; no receiver needs them."""
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All that is given out for use on the internet: Python calls site-local fec0::/10 global, too."""
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name; raises OSError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def url_problem(url: str, *, allow_private: bool) -> str | None:
    """Why this cannot be a webhook by its form alone, or None."""
    if not url.isprintable() or " " in url:
        return "an address holds no blanks or control characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"not an address: {error}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "a webhook begins with https:// or http:// and names a host"
    if parts.username or parts.password:
        return "an address with a name or password in it is not taken: it would stand in logs"
    if port == 0 or len(url) > 2000:
        return "the port or the length of the address makes no sense"
    try:
        return address_problem(str(ipaddress.ip_address(parts.hostname)), allow_private=allow_private)
    except ValueError:
        return "localhost is this server itself" if parts.hostname.lower() == "localhost" and not allow_private else None


def address_problem(address: str, *, allow_private: bool) -> str | None:
    """Why no webhook may go to this IP address, or None. Multicast and unspecified addresses are never allowed."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"{address!r} is not an IP address"
    mapped = getattr(parsed, "ipv4_mapped", None)
    if mapped is not None:
        parsed = mapped
    if parsed.is_multicast or parsed.is_unspecified:
        return f"{address} is no address of one machine"
    tunnel = isinstance(parsed, ipaddress.IPv6Address) and any(parsed in net for net in _TUNNELS) and not parsed.is_loopback
    if tunnel:
        return f"{address} may lead to an IPv4 address inside our own network"
    outside = isinstance(parsed, ipaddress.IPv6Address) and parsed not in _PUBLIC_IPV6
    if (outside or not parsed.is_global) and not allow_private:
        return f"{address} lies in a private, loopback or link-local network; allow it with the setting webhook_private"
    return None


def send(
    url: str, body: dict[str, Any], *, allow_private: bool, resolve_host: Resolve = resolve, timeout_s: float = TIMEOUT_S,
    whole_s: float = WHOLE_S,
) -> str | None:  # fmt: skip
    """POST the body; None when it was taken (2xx), else what went wrong. Redirects are not followed.

    The name is resolved once and the connection goes to that very address: a name that changes its mind in between
    (DNS rebinding) cannot lead elsewhere.
    """
    problem = url_problem(url, allow_private=allow_private)
    if problem is not None:
        return problem
    parsed = httpx.URL(url)
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    try:
        addresses = resolve_host(parsed.host, port)
    except OSError as error:
        return f"{parsed.host} cannot be resolved: {error.strerror or error}"
    refused = [found for found in (address_problem(each, allow_private=allow_private) for each in addresses) if found]
    if refused or not addresses:
        return refused[0] if refused else f"{parsed.host} has no address"
    answers: queue.Queue[str | None] = queue.Queue()

    def post() -> None:
        try:
            request = client.build_request("POST", parsed.copy_with(host=addresses[0]), json=body)
            request.headers["Host"] = parsed.netloc.decode()
            request.extensions["sni_hostname"] = parsed.host
            response = client.send(request, stream=True)
            response.close()
            answers.put(None if response.is_success else f"answered {response.status_code}")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as error:
            answers.put(f"{type(error).__name__}: {error}"[:200])

    with httpx.Client(timeout=timeout_s, follow_redirects=False, trust_env=False) as client:
        threading.Thread(target=post, name="webhook", daemon=True).start()
        try:
            return answers.get(timeout=whole_s)
        except queue.Empty:  # closing the client ends the thread at its next byte
            return f"no whole answer within {whole_s:g} s"
