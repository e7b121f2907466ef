"""Enrolment on the device door: enrol, renew, time. The operator door's routes are in ``operator_http``."""

from flask import Blueprint, Response

from fleet_server.context import context
from fleet_server.enrolment import late_renewal, service
from fleet_server.enrolment.issuer_http import install_heirs, issuer_here
from fleet_server.enrolment.operator_http import decide_many, operator
from fleet_server.errors import TooManyError, UnauthenticatedError
from fleet_server.http_access import device_identity, origin
from fleet_server.http_wire import answer, read_message
from ota.trust.assignment import sign_payload
from ota.wire import topics
from ota.wire.enrolment import BrokerAddress, EnrolAnswer, EnrolRequest, RenewRequest, TimeAnswer, TimeRequest
from ota.wire.late_renewal import LateRenewalRequest

__all__ = ["decide_many", "device", "install_heirs", "issuer_here", "operator"]

device = Blueprint("enrolment_device", __name__)

PENDING_RETRY_S = 5.0
"""Somebody stands beside the board and waits."""
LONG_PENDING_RETRY_S = 30.0
LONG_PENDING_S = 600.0
FULL_RETRY_S = 300


def _broker() -> BrokerAddress | None:
    settings = context().settings
    if settings.broker == "none" or not settings.broker_port:
        return None
    return BrokerAddress(host=settings.public_host, port=settings.broker_port)


@device.post(topics.ENROL)
def post_enrol() -> Response:
    """A claim and a certificate request; accepted (200) or pending (202)."""
    request = read_message(EnrolRequest)
    here, issuer = context(), issuer_here()
    with here.database.read() as session:  # whoever sends nonsense holds up no writer
        service.check_asking(session, request)
    with here.database.write() as session:
        outcome = service.enrol(session, request, issuer, origin=origin(), now_s=here.clock(), bounds=_bounds())
    if outcome.status == "full":
        hint = "an operator must look at the boards that wait, or give this one a claim"
        raise TooManyError("too many boards without a claim wait already", hint, FULL_RETRY_S)
    if outcome.status == "pending":
        retry_s = PENDING_RETRY_S if outcome.waits_s < LONG_PENDING_S else LONG_PENDING_RETRY_S
        return answer(EnrolAnswer(status="pending", retry_after_s=retry_s), 202)
    return answer(_accepted(outcome.device_id, outcome.certificate_pem, issuer))


def _bounds() -> service.Bounds:
    settings = context().settings
    return service.Bounds(settings.waiting_boards, settings.waiting_boards_per_address, settings.waiting_board_kept_s)


def _accepted(device_id: str | None, certificate_pem: str, issuer: service.Issuer) -> EnrolAnswer:
    return EnrolAnswer(
        status="accepted", device=device_id, certificate_pem=certificate_pem, chain_pem=issuer.authority.chain_pem,
        broker=_broker(),
    )  # fmt: skip


@device.post(topics.RENEW)
def post_renew() -> Response:
    """A new certificate over the connection that the present one authenticates."""
    who = device_identity()
    request = read_message(RenewRequest)
    here, issuer = context(), issuer_here()
    with here.database.write() as session:
        pem = service.renew(
            session, who.device_id, request.csr_pem, issuer, presented=who.certificate_serial, now_s=here.clock(),
            origin=origin(),
        )  # fmt: skip
    return answer(_accepted(who.device_id, pem, issuer))


@device.post(topics.RENEW_EXPIRED)
def post_renew_expired() -> Response:
    """A new certificate for a board that slept through the end of its last, against a proof that it holds that one's key."""
    request = read_message(LateRenewalRequest)
    here, issuer = context(), issuer_here()
    now_s = here.clock()
    with here.database.read() as session:
        proven = late_renewal.prove(session, request, now_s)
    if proven is None:
        hint = "ask for the signed time first (POST /device/v1/time), then sign anew"
        raise UnauthenticatedError("the proof was made at a time that is too far from this server's", hint)
    with here.database.write() as session:
        late_renewal.use_up(session, proven, now_s)
        pem = service.renew_expired(
            session, proven.device_id, proven.csr_pem, issuer, presented=proven.serial, now_s=now_s,
            longest_days=here.settings.renew_after_expiry_days, origin=origin(),
        )  # fmt: skip
    return answer(_accepted(proven.device_id, pem, issuer))


@device.post(topics.TIME)
def post_time() -> Response:
    """The time, signed, for a board whose clock cannot be trusted yet."""
    request = read_message(TimeRequest)
    here = context()
    return answer(sign_payload(TimeAnswer(nonce=request.nonce, now_s=here.clock()), here.signer))
