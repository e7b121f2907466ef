"""Events as a POST of JSON to one address: signed, without redirects, and never where a private network was not allowed."""

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from device_agent.duties.turn import Stop
from device_agent.errors import BoardError
from device_agent.local import words
from device_agent.local.mailbox import Mailbox
from device_agent.local.places import PlaceState
from device_agent.vision.types import EventUpdate

log = logging.getLogger(__name__)
MAILBOX = 200
FRESH_S = 120.0
"""An event that could not be told for so long is not told any more."""
LOOK_S = 2.0
FIRST_WAIT_S = 0.5
"""Between two tries, doubled for each further one."""
Resolve = Callable[[str, int], list[str]]
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PUBLIC_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All that is given out for use on the internet; what else Python calls global (site-local fec0::/10, ...) leads elsewhere."""
_LAST_32_BITS = tuple(ipaddress.IPv6Network(net) for net in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
"""Compatible, mapped, translated, NAT64: the last 32 bits are an IPv4 address. 64:ff9b:1::/48 is local use and never public."""


class WebhookError(Exception):
    """The receiver did not take it; ``again`` says whether another try may help."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True, slots=True)
class WebhookPlace:
    """Where to tell. ``secret`` signs, and is shown by nothing that prints this. ``timeout_s``: for each try as a whole."""

    url: str
    device: str
    secret: bytes = field(default=b"", repr=False)
    ca_file: Path | None = None
    private_hosts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("start", "update", "end")
    timeout_s: float = 5.0
    tries: int = 3


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host name; raises OSError."""
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})


def address_problem(address: str, host: str, private_hosts: Sequence[str]) -> str | None:
    """Why nothing may go to this address, or None: outside of the public internet only what is listed by name or address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address!r} is no address"
    outer, parsed = parsed, _innermost(parsed)
    if any(one.is_multicast or one.is_unspecified for one in (outer, parsed)):
        return f"{address} is no address of one machine"
    listed = {one.strip("[]").lower() for one in private_hosts}
    if host.lower() in listed or not listed.isdisjoint((str(parsed), str(outer))):
        return None
    if parsed.is_global and (isinstance(parsed, ipaddress.IPv4Address) or parsed in _PUBLIC_IPV6):
        return None
    return f"{address} lies in a private or loopback network; list {host} in local.webhook.private_hosts if that is meant"


def _innermost(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one leads to (mapped, compatible, translated, NAT64, 6to4, Teredo), else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if not address.is_loopback and not address.is_unspecified and any(address in net for net in _LAST_32_BITS):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def signature(secret: bytes, body: bytes, now_s: float) -> str:
    """``t=SECONDS,v1=HEX``: HMAC-SHA256 over ``SECONDS.BODY``. The time is signed, so that an old message cannot be sent anew."""
    at = str(int(now_s))
    return f"t={at},v1={hmac.new(secret, at.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def post(place: WebhookPlace, body: bytes, headers: dict[str, str], *, resolve_host: Resolve = resolve) -> None:
    """One try. Raises WebhookError. The name is resolved once and the connection goes to that very address."""
    parts = urlsplit(place.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = resolve_host(host, port)
    except OSError as error:
        raise WebhookError(f"{host} cannot be resolved: {error.strerror or error}", again=True) from None
    problems = [found for found in (address_problem(one, host, place.private_hosts) for one in addresses) if found]
    if problems or not addresses:
        raise WebhookError(problems[0] if problems else f"{host} has no address", again=False)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        status = _exchange(place, (addresses[0], port), host, parts.netloc, path, body, headers)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WebhookError(f"{host}:{port}: {type(error).__name__}: {error}"[:200], again=True) from None
    if not 200 <= status < 300:
        raise WebhookError(f"{host}:{port} answered {status}", again=status >= 500 or status in (408, 429))


def _exchange(
    place: WebhookPlace, address: tuple[str, int], host: str, shown_host: str, path: str, body: bytes, headers: dict[str, str]
) -> int:
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(socket.create_connection(address, place.timeout_s))
        used: list[socket.socket] = [plain]
        # A receiver that drips a byte at a time must not hold up the next event: the whole try has one end.
        timer = threading.Timer(place.timeout_s, lambda: _cut(used[-1]))
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        connection = http.client.HTTPConnection(host, address[1], timeout=place.timeout_s)
        if place.url.startswith("https:"):
            context = ssl.create_default_context(cafile=str(place.ca_file) if place.ca_file else None)
            wrapped = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
            used.append(stack.enter_context(wrapped))
            wrapped.do_handshake()
        connection.sock = used[-1]
        connection.request("POST", path, body=body, headers={**headers, "Host": shown_host, "Connection": "close"})
        return connection.getresponse().status


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class WebhookTelling:
    """A duty: one event after the other, each a bounded number of tries."""

    kind = "webhook"

    def __init__(self, place: WebhookPlace, *, steady_s: Callable[[], float], now_s: Callable[[], float]) -> None:
        self.name = "local webhook"
        self.silence_s = 300.0
        self._place, self._now_s = place, now_s
        self._mailbox: Mailbox[EventUpdate] = Mailbox("webhook", MAILBOX, steady_s)
        self._told = ""

    def take_event(self, update: EventUpdate, place: PlaceState, began: bool) -> None:
        """Keep an update until the receiver has it."""
        if update.kind in self._place.kinds:
            self._mailbox.put(update)

    def take_places(self, present: Sequence[PlaceState], gone: Sequence[PlaceState]) -> None:
        """A webhook hears of events alone."""

    def dropped(self) -> dict[str, int]:
        """Events that were not told, by reason: webhook_full, webhook_stale, webhook_failed, webhook_refused."""
        return self._mailbox.dropped()

    def run(self, stop: Stop, progress: Callable[[], None]) -> None:
        """Tell until told to stop."""
        if self._place.ca_file is not None and not self._place.ca_file.is_file():
            hint = "give the PEM of the receiver's authority"
            raise BoardError(f"local.webhook.ca_file {self._place.ca_file} is not there", hint)
        stop.on_set(self._mailbox.ring)
        try:
            while not stop.is_set():
                self._mailbox.wait(LOOK_S)
                while not stop.is_set() and (update := self._mailbox.take(FRESH_S)) is not None:
                    self._tell(update, stop)
                    progress()
                progress()
        finally:
            stop.forget(self._mailbox.ring)

    def _tell(self, update: EventUpdate, stop: Stop) -> None:
        body = json.dumps(words.event_body(update, self._place.device)).encode()
        headers = {
            "Content-Type": "application/json", "User-Agent": "rookery-agent",
            "X-Rookery-Delivery": f"{update.event.id}/{update.event.revision}",
        }  # fmt: skip
        if self._place.secret:
            headers["X-Rookery-Signature"] = signature(self._place.secret, body, self._now_s())
        # While the receiver is away one try an event is enough: the queue behind it holds fresher ones.
        tries = 1 if self._told else self._place.tries
        for number in range(1, tries + 1):
            try:
                post(self._place, body, headers)
            except WebhookError as error:
                if not error.again or number == tries:
                    self._mailbox.drop("failed" if error.again else "refused")
                    self._say(str(error))
                    return
                if stop.wait(FIRST_WAIT_S * 2 ** (number - 1)):
                    return
            else:
                if self._told:
                    log.info("local webhook: goes again")
                self._told = ""
                return

    def _say(self, message: str) -> None:
        log.log(logging.DEBUG if self._told else logging.WARNING, "local webhook: an event was not taken: %s", message)
        self._told = message
