"""TLS of the operator door: by files of an administrator, or by the server's own certificate; taken up anew when they change."""

import contextlib
import errno
import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from fleet_server.errors import SettingsError
from fleet_server.patience_http import DoorTls
from fleet_server.secret_files_disk import mode_problem
from fleet_server.settings import Settings

HANDSHAKE_S = 5.0


def files_of(settings: Settings) -> tuple[Path, Path] | None:
    """Certificate chain and key of the operator door; None where it speaks plain HTTP."""
    kind = settings.operator_tls_kind
    if kind == "off":
        return None
    if kind == "own":
        return settings.pki_dir / "server.crt", settings.pki_dir / "server.key"
    return Path(settings.operator_certificate), Path(settings.operator_key)


def check_files(settings: Settings, now_s: float) -> None:
    """SettingsError where an administrator's files cannot serve: missing, not a pair, ended, a key that others can read."""
    files = files_of(settings)
    if files is None or settings.operator_tls_kind != "files":
        return
    certificate, key = files
    try:
        found = x509.load_pem_x509_certificates(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        what = getattr(error, "filename", None) or f"{certificate} or {key}"
        why = getattr(error, "strerror", None) or "it is no PEM of a certificate, or of a key without a passphrase"
        raise SettingsError(f"TLS of the operator door: {what}: {why}") from None
    problem = mode_problem(key)
    if problem is not None:
        raise SettingsError(f"TLS of the operator door: {problem}", f"chmod 600 {key}")
    leaf, form = found[0], (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != private.public_key().public_bytes(*form):
        detail = f"TLS of the operator door: {key} is not the key of {certificate}"
        raise SettingsError(detail, "the server's own certificate comes first in its file")
    if leaf.not_valid_after_utc <= datetime.fromtimestamp(now_s, UTC):
        raise SettingsError(f"TLS of the operator door: {certificate} ended on {leaf.not_valid_after_utc:%Y-%m-%d}", "renew it")


class OperatorTls:
    """Wraps accepted connections. A renewed certificate counts from the next handshake; two files that are no pair do not."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._lock = threading.Lock()
        self._seen = self._stamps()
        self._tls = self._context()

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """The connection after its handshake, which has a deadline."""
        self._look_again()
        sock.settimeout(HANDSHAKE_S)
        try:
            wrapped = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=True, suppress_ragged_eofs=True)
        except TimeoutError:
            # To gunicorn a caller who hung up is no news; a time-out would be a stack trace for each silent stranger.
            raise ConnectionResetError(errno.ECONNRESET, "no TLS handshake in time") from None
        wrapped.settimeout(None)
        return wrapped

    def _look_again(self) -> None:
        with self._lock:
            stamps = self._stamps()
            if stamps == self._seen:
                return
            # Two files are replaced one after the other: in between they are no pair, and the old one serves on.
            with contextlib.suppress(OSError, ssl.SSLError):
                self._tls = self._context()
                self._seen = stamps

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        with contextlib.suppress(OSError):
            return tuple((found.st_mtime_ns, found.st_ino) for found in (path.stat() for path in self._files))
        return ()

    def _context(self) -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(*self._files)
        tls.sslsocket_class = DoorTls
        return tls


def own_client(certificate: Path) -> ssl.SSLContext:
    """TLS of the supervisor's own look at the door: exactly this certificate, whatever name it carries."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname = False  # it is asked by its address, and no other certificate is believed
    tls.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    tls.load_verify_locations(certificate)
    return tls
