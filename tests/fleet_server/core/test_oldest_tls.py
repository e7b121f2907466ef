"""The oldest TLS that the operator door speaks, whatever the machine's own OpenSSL would still allow."""

import socket
import ssl
import threading

import pytest

from fleet_server.enrolment import authority_x509
from fleet_server.operator_tls_x509 import OperatorTls
from fleet_server.settings import Settings

NOW_S = 1_790_000_000.0


def _spoken(door: OperatorTls, newest: ssl.TLSVersion) -> str | None:
    """The TLS version that a client gets that speaks nothing newer; it does not look at the certificate."""
    near, far = socket.socketpair()

    def answer() -> None:
        try:
            with door.wrap(far) as served:
                served.recv(1)
        except OSError:
            far.close()

    serving = threading.Thread(target=answer)
    serving.start()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1, newest
    near.settimeout(60)
    try:
        with client.wrap_socket(near) as line:
            return line.version()
    finally:
        near.close()
        serving.join(60)
        assert not serving.is_alive()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_the_operator_door_speaks_no_old_tls(settings: Settings) -> None:
    """A downgrade: who offers TLS 1.1 and nothing newer is sent away; 1.2 and 1.3 are spoken."""
    authority_x509.prepare(settings.pki_dir, ["localhost"], NOW_S)
    door = OperatorTls(settings.pki_dir / "server.crt", settings.pki_dir / "server.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        _spoken(door, ssl.TLSVersion.TLSv1_1)
    assert _spoken(door, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert _spoken(door, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
