"""Which device is asking: by TLS to us, by a proxy that we believe, or by its signature under this very request.

Mode ``direct``: the TLS peer certificate of this very connection, never a header. Mode ``proxy``: each request must come from the
proxy, whose word on the certificate is then taken. Whichever it is, the certificate's status is read per request.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from flask import Flask, current_app, g, request
from sqlalchemy import or_, select

from fleet_server.context import Context, context
from fleet_server.door_limits import RETRY_AFTER_S, Buckets, address_key
from fleet_server.enrolment import certificates, limited, proxy_headers, signed_requests
from fleet_server.enrolment.proxy_headers import Proxy
from fleet_server.enrolment.signed_requests import SignedBy
from fleet_server.enrolment.tables import CertificateRow
from fleet_server.errors import ClockApartError, ForbiddenError, SettingsError, TooManyError, UnauthenticatedError
from fleet_server.http_access import device_identity, install_devices
from fleet_server.http_wire import keep_body
from fleet_server.identities import DeviceIdentity
from ota.trust.assignment import sign_payload
from ota.wire.enrolment import TimeAnswer
from ota.wire.request_signatures import UNSIGNED
from ota.wire.topics import DEVICE_ID

__all__ = ["DeviceIdentity", "device_identity", "peer_certificate", "protect"]
MOST_KNOWN = 20_000
PROOFS_PER_STRANGER = 10
"""Signatures that do not hold, looked at for one address, per request that a stranger has there: what forging costs us."""
_NO_CERTIFICATE = "this route needs a client certificate"
_NOT_OURS = "enrol the device again if it is yours"


@dataclass(frozen=True, slots=True)
class _Door:
    """What the guards of one door process know."""

    proxy: Proxy | None
    devices: Buckets
    strangers: Buckets
    proofs: Buckets
    """Signatures that are looked at for one address; one that holds is given back."""
    reports: limited.Reports = field(default_factory=limited.Reports)
    issued: set[bytes] = field(default_factory=set)
    """Certificates (DER) that were compared with what was issued: they do not change, so once per process is enough."""


def peer_certificate(environ: Mapping[str, Any]) -> bytes | None:
    """DER bytes of the client certificate that gunicorn's TLS verified for this connection, or None when none was shown."""
    socket = environ.get("gunicorn.socket")
    if socket is None or not hasattr(socket, "getpeercert"):
        return None
    return cast("bytes | None", socket.getpeercert(binary_form=True))


def protect(app: Flask) -> None:
    """Tell the device door who may come in at all, how often, and how a device is recognised. SettingsError for a mode amiss."""
    settings = cast(Context, app.extensions["rookery"]).settings
    if settings.device_door_mode not in proxy_headers.MODES:
        raise SettingsError(f"device_door_mode {settings.device_door_mode[:40]!r} is neither direct nor proxy")
    behind = settings.device_door_mode == "proxy"
    app.extensions["rookery_door"] = _Door(
        Proxy(settings.proxy_secret, private=bool(settings.device_socket)) if behind else None,
        Buckets(settings.device_requests_per_minute),
        Buckets(settings.stranger_requests_per_minute),
        Buckets(settings.stranger_requests_per_minute * PROOFS_PER_STRANGER),
    )
    app.before_request(_admit)
    install_devices(app, _identify, _still_ours, _too_much)


def _admit() -> None:
    """Before any route: only through the proxy where there is one, and not more often than is good for the others."""
    door = cast(_Door, current_app.extensions["rookery_door"])
    if door.proxy is None:
        g.client_certificate = context().certificate_of(request.environ)
    else:
        said = {name: request.headers.get(name, "") for name in proxy_headers.NAMES}
        door.proxy.check(said)
        request.remote_addr = proxy_headers.client_address(said, request.remote_addr or "")
        g.client_certificate = proxy_headers.client_certificate(said)
    shown = _read(g.client_certificate) if g.client_certificate is not None else None
    if shown is not None:
        _limit(door, door.devices, shown.device_id)
    elif request.method == "GET":
        pass  # files for all are as cheap as the line that they go over
    elif _shows_signature() and request.path not in UNSIGNED:
        g.signed = _proven(door)  # a fleet behind somebody else's box has one address: who signs is counted as itself
    else:
        _limit(door, door.strangers, address_key(request.remote_addr or ""), stranger=True)


def _shows_signature() -> bool:
    return "Signature-Input" in request.headers and context().settings.signed_requests


def _proven(door: _Door) -> SignedBy:
    """Whose signature this is, counted as that device's request; one that does not hold is a stranger's."""
    place, now_s = address_key(request.remote_addr or ""), context().clock()
    _limit(door, door.proofs, place, stranger=True)
    try:
        signed = _verified(now_s)
    except (UnauthenticatedError, ClockApartError):
        _limit(door, door.strangers, place, stranger=True)
        raise
    door.proofs.give_back(place)
    _limit(door, door.devices, signed.device_id)
    return signed


def _limit(door: _Door, buckets: Buckets, key: str, *, stranger: bool = False) -> None:
    here = context()
    now_s = here.clock()
    if buckets.take(key, now_s):
        return
    detail = f"the last from {key}" if stranger else f"more than {here.settings.device_requests_per_minute} a minute"
    door.reports.note(here.database, limited.STRANGERS if stranger else key, "requests", detail, now_s)
    raise TooManyError("too many requests", "come back after the time in Retry-After", RETRY_AFTER_S)


def _too_much(device_id: str, what: str, detail: str) -> None:
    here = context()
    cast(_Door, current_app.extensions["rookery_door"]).reports.note(here.database, device_id, what, detail, here.clock())


def _still_ours(device_id: str) -> None:
    here = context()
    good = or_(CertificateRow.revoked_s.is_(None), CertificateRow.revoked_s > here.clock())
    with here.database.read() as session:
        found = session.scalar(select(CertificateRow.serial).where(CertificateRow.device_id == device_id, good).limit(1))
    if found is None:
        raise ForbiddenError("the device's certificates were revoked", _NOT_OURS)


def _identify() -> DeviceIdentity:
    here = context()
    identity = _of_connection(here)
    if _shows_signature():
        signed = _of_signature(here)
        if identity is not None and identity.device_id != signed.device_id:
            raise ForbiddenError("the request is signed by another device than the connection's certificate is for")
        identity = identity or signed
    if identity is None:
        hint = "enrol first, then connect with the certificate"
        if "Signature-Input" in request.headers:
            hint = "this server takes no signed requests: ROOKERY_SIGNED_REQUESTS"
        raise UnauthenticatedError(_NO_CERTIFICATE, hint)
    return identity


def _of_connection(here: Context) -> DeviceIdentity | None:
    der: bytes | None = g.client_certificate
    if der is None:
        return None
    shown = _read(der)
    if shown is None:
        raise ForbiddenError("the certificate's common name is not a device id")
    behind = here.settings.device_door_mode == "proxy"
    _check_status(here, shown.device_id, shown.certificate_serial, der)
    return DeviceIdentity(shown.device_id, shown.certificate_serial, "proxy") if behind else shown


def _verified(now_s: float) -> SignedBy:
    here = context()
    given = {name: request.headers.get(name, "") for name in signed_requests.HEADERS}
    asked = signed_requests.Asked(request.method, request.environ.get("RAW_URI", ""), given)
    try:
        with here.database.read() as session:
            return signed_requests.verify(asked, functools.partial(signed_requests.certificate_of, session), now_s)
    except signed_requests.ApartError as apart:
        told = sign_payload(TimeAnswer(nonce=apart.nonce, now_s=now_s), here.signer)
        raise ClockApartError(
            "the signature was made at a time that is too far from this server's",
            "the signed time is in this answer: sign again by it", msgspec.to_builtins(told),
        ) from None  # fmt: skip


def _of_signature(here: Context) -> DeviceIdentity:
    now_s = here.clock()
    if "signed" in g:
        signed: SignedBy = g.signed
    elif g.client_certificate is None:
        signed = _proven(cast(_Door, current_app.extensions["rookery_door"]))
    else:
        signed = _verified(now_s)
    if not signed.matches(keep_body()):
        raise UnauthenticatedError("the body is not the one that was signed")
    _check_status(here, signed.device_id, signed.serial, None)
    with here.database.write() as session:
        if not signed_requests.use_nonce(session, signed.serial, signed.nonce, signed.created_s, now_s):
            raise UnauthenticatedError("this very request came before", "sign each request anew, with a nonce of its own")
    return DeviceIdentity(signed.device_id, signed.serial, "signature")


def _check_status(here: Context, device_id: str, serial: str, der: bytes | None) -> None:
    """The one row that says whether a certificate is good now. ``der``: must be the very certificate that was issued."""
    now_s, issued = here.clock(), cast(_Door, current_app.extensions["rookery_door"]).issued
    with here.database.read() as session:
        standing = certificates.standing(session, serial=serial, device_id=device_id, now_s=now_s)
        if der is not None and not standing.refusal and der not in issued:
            found = signed_requests.certificate_of(session, serial)
            if found is not None and _der(found[1]) == der:
                if len(issued) >= MOST_KNOWN:
                    issued.clear()
                issued.add(der)
    if standing.refusal:
        raise ForbiddenError(standing.refusal, _NOT_OURS)
    if der is not None and der not in issued:
        # A thief of an issuing key, or a proxy that trusts another authority too: our names and our numbers, another's key.
        raise ForbiddenError("this server did not issue the certificate", _NOT_OURS)
    if standing.unused:
        with here.database.write() as session:
            certificates.note_use(session, serial, device_id, now_s)


@functools.lru_cache(maxsize=20_000)
def _read(der: bytes) -> DeviceIdentity | None:
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if len(names) == 1 else ""
    if not DEVICE_ID.fullmatch(name):
        return None
    return DeviceIdentity(name, f"{certificate.serial_number:x}")


def _der(pem: str) -> bytes:
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
