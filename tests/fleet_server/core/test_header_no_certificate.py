"""What a proxy would say of a client is nothing that a client may say of itself, where there is no proxy."""

from typing import Any
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleet_server.context import Context
from ota.wire import topics


@pytest.fixture
def server(sqlite_server: Context) -> Context:
    return sqlite_server


def test_a_real_certificate_in_a_header_opens_nothing_in_mode_direct(device_door: Any, enrolled: Any) -> None:
    """A certificate is no secret: a stranger sends a device's own one in the headers that nginx would set. With it he is nobody;
    the device itself, whose TLS showed it, is let in."""
    pem = x509.load_der_x509_certificate(enrolled.der).public_bytes(Encoding.PEM).decode()
    headers = {"X-Client-Verify": "SUCCESS", "X-Client-Cert": quote(pem)}
    body = {"v": 1, "nonce": "n" * 16, "seq": 0}
    assert device_door.client.post(topics.STATE, json=body, headers=headers).status_code == 401
    device_door.certificate = enrolled.der
    assert device_door.client.post(topics.STATE, json=body, headers=headers).status_code == 200
