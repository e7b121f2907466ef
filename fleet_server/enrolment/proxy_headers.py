"""What a proxy says of a client, and when it is believed: only in mode ``proxy``, only from the proxy itself. Pure."""

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server.errors import ForbiddenError, SettingsError, UnauthenticatedError

SECRET, VERIFY, CERTIFICATE, ADDRESS = "X-Rookery-Proxy", "X-Client-Verify", "X-Client-Cert", "X-Client-Address"
NAMES = (SECRET, VERIFY, CERTIFICATE, ADDRESS)
LEAST_SECRET = 32
"""Characters. Whoever knows it is every device."""
MAX_CERTIFICATE_BYTES = 8 * 1024
"""Escaped, as nginx sends it; ours have 1.5 KiB."""
MODES = ("direct", "proxy")


class Proxy:
    """The proxy before the door. ``private``: it comes over a unix socket that nobody else may open."""

    def __init__(self, secret: str, *, private: bool) -> None:
        if not secret and not private:
            raise SettingsError(
                "device_door_mode = proxy on a TCP port needs a secret: anybody who reaches the port could send headers",
                "name its file in ROOKERY_PROXY_SECRET_FILE, or let the door listen on a unix socket: ROOKERY_DEVICE_SOCKET",
            )
        if secret and (len(secret) < LEAST_SECRET or not secret.isascii() or not secret.isprintable()):
            raise SettingsError(
                f"the proxy's secret must have {LEAST_SECRET} printable characters or more",
                "make one: openssl rand -hex 32",
            )
        self._secret = secret.encode()

    def check(self, headers: Mapping[str, str]) -> None:
        """ForbiddenError unless this request came through the proxy. Without a secret the socket's own rights vouch for it."""
        given = headers.get(SECRET, "").encode("utf-8", "replace")
        if self._secret and not hmac.compare_digest(self._secret, given):
            raise ForbiddenError("this door is reached through its proxy only", "connect to the address that devices are given")


def client_certificate(headers: Mapping[str, str]) -> bytes | None:
    """DER of the certificate that the proxy verified; None when the client showed none.

    UnauthenticatedError when it showed one that does not hold, or the proxy does not say: it is not set up to ask for any.
    """
    verified = headers.get(VERIFY, "")
    if verified == "NONE":
        return None
    if verified != "SUCCESS":
        said = verified[:100] if verified.isprintable() and verified else "nothing"
        raise UnauthenticatedError(f"the proxy says of the client certificate: {said}", "renew the certificate, or enrol again")
    text = headers.get(CERTIFICATE, "")
    try:
        if not text or len(text) > MAX_CERTIFICATE_BYTES:
            raise ValueError
        return x509.load_pem_x509_certificate(unquote_to_bytes(text)).public_bytes(Encoding.DER)
    except ValueError:
        raise UnauthenticatedError("the proxy verified a certificate, but does not hand it on so that it can be read") from None


def client_address(headers: Mapping[str, str], otherwise: str) -> str:
    """Where the client is, for limits and the audit; ``otherwise`` where the proxy says nothing that is an address."""
    text = headers.get(ADDRESS, "")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return otherwise
