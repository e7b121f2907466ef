"""The TLS of the device door, made anew when one of its files changes: a renewed certificate, a next authority, a revocation.

Connections that are open go on, with the next handshake the new files count: nothing is restarted. Where the new files cannot be
used (a certificate is being replaced at this very moment), those of before go on.

The revocation lists are the fence behind the status that each request reads from the database. A list that has ended would refuse
everybody, so the door does without one then, and says so; the database still refuses whom it must.
"""

import logging
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from fleet_server.places_disk import stamp

log = logging.getLogger(__name__)
FILES = ("server.crt", "server.key", "ca.pem", "crl.pem")
_LIST_ENDS = b"-----END X509 CRL-----\n"


class DeviceTls:
    """``context()`` for each handshake. ``sockets``: the class of a connection. OSError and SSLError when it cannot begin."""

    def __init__(self, pki: Path, sockets: type[ssl.SSLSocket] = ssl.SSLSocket, now_s: Callable[[], float] = time.time) -> None:
        self._pki, self._sockets, self._now_s = pki, sockets, now_s
        self._seen = self._stamp()
        self._context, self._lists_end_s = self._made()
        self._failed: object = None

    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer; a client certificate is checked when it is shown, and demanded by the routes."""
        seen = self._stamp()
        if (seen != self._seen and seen != self._failed) or self._now_s() > self._lists_end_s:
            try:
                self._context, self._lists_end_s = self._made()
                self._seen = seen
            except (OSError, ValueError) as error:  # SSLError is an OSError
                self._failed = seen
                log.error("the TLS files in %s cannot be used (%s); those of before are", self._pki, error)
        return self._context

    def _stamp(self) -> object:
        return stamp(*(self._pki / name for name in FILES))

    def _made(self) -> tuple[ssl.SSLContext, float]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(self._pki / "server.crt", self._pki / "server.key")
        tls.load_verify_locations(self._pki / "ca.pem")
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.sslsocket_class = self._sockets
        until_s = self._lists_until_s()
        if until_s > self._now_s():
            tls.load_verify_locations(self._pki / "crl.pem")
            tls.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
            return tls, until_s
        log.error("no revocation list in %s is in force: the door goes by the database alone", self._pki)
        return tls, float("inf")

    def _lists_until_s(self) -> float:
        """When the first of the lists ends; 0 where there is none that could be read, or one is missing."""
        try:
            pieces = (self._pki / "crl.pem").read_bytes().split(_LIST_ENDS)[:-1]
            lists = [x509.load_pem_x509_crl(piece + _LIST_ENDS) for piece in pieces]
            known = x509.load_pem_x509_certificates((self._pki / "ca.pem").read_bytes())
        except (OSError, ValueError):
            return 0.0
        if not {one.subject for one in known if _issues(one)} <= {one.issuer for one in lists}:
            return 0.0
        return min(((one.next_update_utc or datetime.fromtimestamp(0, UTC)).timestamp() for one in lists), default=0.0)


def _issues(certificate: x509.Certificate) -> bool:
    """Whether this authority signs devices: no path lies below it."""
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
