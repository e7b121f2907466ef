"""Which device is asking: from the TLS peer certificate of this very connection, never from a header."""

import functools
from collections.abc import Mapping
from typing import Any, cast

from cryptography import x509
from cryptography.x509.oid import NameOID
from flask import Flask, request

from fleet_server.context import context
from fleet_server.enrolment import certificates
from fleet_server.errors import ForbiddenError, UnauthenticatedError
from fleet_server.http_access import device_identity, install_devices
from fleet_server.identities import DeviceIdentity
from ota.wire.topics import DEVICE_ID

__all__ = ["DeviceIdentity", "device_identity", "peer_certificate", "protect"]


def peer_certificate(environ: Mapping[str, Any]) -> bytes | None:
    """DER bytes of the client certificate that gunicorn's TLS verified for this connection, or None when none was shown."""
    socket = environ.get("gunicorn.socket")
    if socket is None or not hasattr(socket, "getpeercert"):
        return None
    return cast("bytes | None", socket.getpeercert(binary_form=True))


def protect(app: Flask) -> None:
    """Tell the device door how a device is recognised."""
    install_devices(app, _identify)


def _identify() -> DeviceIdentity:
    here = context()
    der = here.certificate_of(request.environ)
    if der is None:
        raise UnauthenticatedError("this route needs a client certificate", "enrol first, then connect with the certificate")
    identity = _read(der)
    if identity is None:
        raise ForbiddenError("the certificate's common name is not a device id")
    with here.database.read() as session:
        reason = certificates.refusal(
            session, serial=identity.certificate_serial, device_id=identity.device_id, now_s=here.clock()
        )
    if reason:
        raise ForbiddenError(reason, "enrol the device again if it is yours")
    return identity


@functools.lru_cache(maxsize=20_000)
def _read(der: bytes) -> DeviceIdentity | None:
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else ""
    if not DEVICE_ID.fullmatch(name):
        return None
    return DeviceIdentity(name, f"{certificate.serial_number:x}")
