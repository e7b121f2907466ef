"""The way to the server, step by step: name, port, certificate, answer, time. The first step that fails is the one to look at."""

import secrets
import socket
import ssl
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from device_agent.doctor import Finding, bad, well
from device_agent.errors import AgentError, ServerRefusedError, SettingsError
from device_agent.link.api_http import DeviceApi
from device_agent.link.socket_bytes_linux import ByteCount
from device_agent.link.tls_x509 import context
from device_agent.settings import ServerSection
from ota.wire.codec import MessageError, decode
from ota.wire.enrolment import TimeAnswer, TimeRequest

PATIENCE_S = 8.0
MOST_SKEW_S = 120.0
"""Beyond it signed upload links fail before long (object stores refuse at 15 minutes), and times of events mislead."""
NOT_YET, OVER = 9, 10
NAMES = (62, 64)
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED; _HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH."""


def look_at_link(server: ServerSection) -> Finding:
    """Name, port, TLS against the pinned authority, an answer, and how far the clocks are apart."""
    parts = urlsplit(server.url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        pinned = context(server.ca_file)
    except SettingsError as error:
        advice = "copy the server's authority (PEM) to the board and name it in agent.toml"
        return bad("server", "ca_file", "; ".join(error.faults), advice)
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        advice = "correct server.url in agent.toml, or give the board a DNS server that knows the name"
        return bad("server", "dns", f"nobody knows the name {host}: {getattr(error, 'strerror', None) or error}", advice)
    refused = _connect(places, host, port, pinned)
    return refused or _ask(server, pinned)


def _connect(places: Sequence[object], host: str, port: int, pinned: ssl.SSLContext) -> Finding | None:
    where = f"{host}:{port}"
    try:
        plain = socket.create_connection((host, port), timeout=PATIENCE_S)
    except OSError as error:
        advice = "check cable or Wi-Fi, the port in server.url, and that no firewall stands between"
        return bad("server", "tcp", f"{where} takes no connection ({len(places)} addresses): {error.strerror or error}", advice)
    with plain:
        try:
            pinned.wrap_socket(plain, server_hostname=host).close()
        except ssl.SSLCertVerificationError as error:
            return _certificate(where, error)
        except OSError as error:
            advice = "check that the port is that of the server's device door, which speaks TLS 1.2 or newer"
            return bad("server", "tls", f"{where} does not speak our TLS: {getattr(error, 'reason', None) or error}", advice)
    return None


def _certificate(where: str, error: ssl.SSLCertVerificationError) -> Finding:
    words = error.verify_message or str(error)
    if error.verify_code in (NOT_YET, OVER):
        advice = "correct this board's clock; if it is right, the server's certificate must be renewed there"
        return bad("server", "certificate_dates", f"{where} shows a certificate that is not good now: {words}", advice)
    if error.verify_code in NAMES:
        advice = "write the name or address that its certificate bears into server.url"
        return bad("server", "certificate_name", f"{where} shows a certificate for another name: {words}", advice)
    advice = "check server.url and server.ca_file; if both are right, somebody stands between"
    return bad("server", "certificate", f"{where} shows a certificate that the pinned authority did not issue: {words}", advice)


def _ask(server: ServerSection, pinned: ssl.SSLContext) -> Finding:
    nonce = secrets.token_hex(16)
    try:
        api = DeviceApi(server.url, pinned, ByteCount(), timeout_s=PATIENCE_S)
        try:
            before_s = time.time()
            signed = api.time(TimeRequest(nonce=nonce))
            after_s = time.time()
        finally:
            api.close()
        said = decode(TimeAnswer, signed.payload.encode())
    except ServerRefusedError as error:
        return bad("server", "refused", error.message, error.hint or "ask the server's operator")
    except AgentError as error:
        return bad("server", "no_answer", error.message, error.hint or "look at the server (rookery-server check)")
    except MessageError as error:
        advice = "check that server.url is that of a fleet server's device door"
        return bad("server", "nonsense", f"{server.url} says a time that is not of our wire: {error}", advice)
    if said.nonce != nonce:
        return bad("server", "nonsense", f"{server.url} does not echo our nonce", "look for a cache between board and server")
    skew_s = said.now_s - (before_s + after_s) / 2
    if abs(skew_s) > MOST_SKEW_S:
        side = "behind" if skew_s > 0 else "ahead of"
        advice = "let the board reach a time server (timedatectl set-ntp true); if its clock is right, correct the server's"
        return bad("server", "clock_skew", f"this board's clock is {abs(skew_s):.0f} s {side} the server's", advice)
    return well("server", f"{server.url} answers in {(after_s - before_s) * 1e3:.0f} ms, clocks {abs(skew_s):.1f} s apart")
