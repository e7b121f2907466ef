"""What every answer of a door says to a browser, and which requests no browser of ours can have meant."""

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request

from fleet_server.errors import ForbiddenError, InvalidError
from fleet_server.settings import LOOPBACK, Settings
from fleet_server.settings_checks import proxies

CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
    "connect-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
))  # fmt: skip
NOTHING_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Of the device door: what it gives is for no browser."""
HSTS = f"max-age={365 * 86_400}"
"""A year. Not for sub-domains, which are not ours to promise for."""
PERMISSIONS = "camera=(), microphone=(), geolocation=(), usb=(), payment=()"
_BYPASSED = "rookery.bypassed"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_LOADED = frozenset({
    "audio", "audioworklet", "embed", "font", "frame", "iframe", "manifest", "object", "paintworklet", "report", "script",
    "serviceworker", "sharedworker", "style", "track", "video", "worker", "xslt",
})  # fmt: skip
"""What a browser says it wants an address for when a page embeds it; our API is never that."""


def harden_operators(app: Flask, settings: Settings) -> None:
    """Put the checks before every request of the operator door and the headers on every answer. Call it before other guards."""

    def headers(response: Response) -> Response:
        given = response.headers
        given.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)  # a route may say a stricter one of its own
        _plain(response)
        given["X-Frame-Options"] = "DENY"
        given["Referrer-Policy"] = "same-origin"
        given["Cross-Origin-Opener-Policy"] = "same-origin"
        given["Cross-Origin-Resource-Policy"] = "same-origin"
        given["Permissions-Policy"] = PERMISSIONS
        if settings.operator_over_tls:
            given["Strict-Transport-Security"] = HSTS
        return response

    names = frozenset({*settings.operator_names, *LOOPBACK})
    by_address = settings.host not in LOOPBACK

    if settings.operator_proxy:
        wrapped: Any = _BehindProxy(app.wsgi_app, settings)  # Flask's own way to put something around it all
        app.wsgi_app = wrapped  # type: ignore[method-assign]

    def check() -> None:
        if request.environ.get(_BYPASSED):
            raise ForbiddenError("this door is reached through its proxy alone")
        _known_host(names, by_address)
        _no_foreign_page(names)

    app.before_request(check)
    app.after_request(headers)


def harden_devices(app: Flask) -> None:
    """The headers of the device door, should a browser ever look at it."""

    def headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = NOTHING_POLICY
        _plain(response)
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        response.headers["Strict-Transport-Security"] = HSTS
        return response

    app.after_request(headers)


class _BehindProxy:
    """Who asked, by the word of a known proxy; who goes round it over the network, in plain HTTP, is marked and refused."""

    def __init__(self, inner: Callable[..., Iterable[bytes]], settings: Settings) -> None:
        self._inner, self._known = inner, proxies(settings)

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        try:
            peer = ipaddress.ip_address(str(environ.get("REMOTE_ADDR", "")))
        except ValueError:
            peer = ipaddress.ip_address("0.0.0.0")  # noqa: S104  compared with the known ones, not bound
        if any(peer.version == net.version and peer in net for net in self._known):
            # The last entry is the proxy's own; those before it are whatever its client liked to claim.
            said = str(environ.get("HTTP_X_FORWARDED_FOR", "")).rpartition(",")[2].strip()
            if _is_address(said):
                environ["REMOTE_ADDR"] = said
        elif not peer.is_loopback:
            environ[_BYPASSED] = True
        return self._inner(environ, start)


def _plain(response: Response) -> None:
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers.setdefault("Cache-Control", "no-store")


def _known_host(names: frozenset[str], by_address: bool) -> None:
    # DNS rebinding: a page elsewhere gives its own name our address, and its scripts then count as ours. That name stands here.
    # An address in place of a name is nobody's trick: there is no name that could be pointed elsewhere.
    host = _host_of("//" + request.headers.get("Host", ""))
    if host in names or (by_address and host is not None and _is_address(host)):
        return
    raise InvalidError(
        "this server is not known by the name that the request gives it",
        "its administrator lists the names that browsers may use: --operator-hosts NAME,NAME",
    )


def _no_foreign_page(names: frozenset[str]) -> None:
    if "Authorization" in request.headers:
        return  # no page elsewhere can add that without asking first, and we never say yes
    site = request.headers.get("Sec-Fetch-Site", "none")
    if request.path.startswith("/api/"):
        if site not in {"same-origin", "none"}:
            raise ForbiddenError("this request comes from another site")
        if request.headers.get("Sec-Fetch-Dest", "") in _LOADED:
            raise ForbiddenError("the API is not there to be embedded in a page")
    if request.method in _SAFE:
        return
    if site not in {"same-origin", "none"}:
        raise ForbiddenError("this request comes from another site")
    origin = request.headers.get("Origin")
    if origin is not None and _host_of(origin) not in {*names, _host_of("//" + request.headers.get("Host", ""))}:
        raise ForbiddenError("this request comes from another site")


def _host_of(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        _ = parts.port  # ValueError for a port that is none
    except ValueError:
        return None
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        return None
    return parts.hostname


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
