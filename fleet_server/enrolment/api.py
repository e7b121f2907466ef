"""Enrolment on the device door (enrol, renew, time) and on the operator door (claims, requests, revocation)."""

import functools
from pathlib import Path

from flask import Blueprint, Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.context import context
from fleet_server.enrolment import service
from fleet_server.enrolment.authority_x509 import Authority
from fleet_server.http_access import current_operator, device_identity, origin, require
from fleet_server.http_json import reply, reply_list
from fleet_server.http_wire import answer, read_message
from ota.trust.assignment import sign_payload
from ota.wire import topics
from ota.wire.enrolment import BrokerAddress, EnrolAnswer, EnrolRequest, RenewRequest, TimeAnswer, TimeRequest

operator = APIBlueprint("enrolment", __name__, url_prefix="/api/v1")
device = Blueprint("enrolment_device", __name__)

PENDING_RETRY_S = 5.0


@functools.lru_cache(maxsize=8)
def _authority(folder: Path) -> Authority:
    return Authority(folder)


def issuer_here() -> service.Issuer:
    """This server's certificate authority, read once per process; the dashboard accepts boards with it too."""
    settings = context().settings
    return service.Issuer(_authority(settings.pki_dir), settings.certificate_days)


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
    with here.database.write() as session:
        outcome = service.enrol(session, request, issuer, origin=origin(), now_s=here.clock())
    if outcome.status == "pending":
        return answer(EnrolAnswer(status="pending", retry_after_s=PENDING_RETRY_S), 202)
    return answer(_accepted(outcome.device_id, outcome.certificate_pem, issuer))


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
        pem = service.renew(session, who.device_id, request.csr_pem, issuer, now_s=here.clock())
    return answer(_accepted(who.device_id, pem, issuer))


@device.post(topics.TIME)
def post_time() -> Response:
    """The time, signed, for a board whose clock cannot be trusted yet."""
    request = read_message(TimeRequest)
    here = context()
    return answer(sign_payload(TimeAnswer(nonce=request.nonce, now_s=here.clock()), here.signer))


class ClaimsBody(BaseModel):
    """How many claims, and what they are bound to."""

    count: int = Field(1, ge=1, le=service.MAX_CLAIMS)
    profile: str | None = Field(None, max_length=60)
    serial: str | None = Field(None, max_length=64)
    group: str = Field("default", max_length=63)
    device_name: str | None = Field(None, max_length=63)
    expires_in_s: float | None = Field(None, gt=0, le=400 * 86400)
    accept: bool = Field(True, description="false: a person decides about each request")


class EnrolmentPath(BaseModel):
    """One request."""

    enrolment: str


class RevokePath(BaseModel):
    """A device's id or unique name."""

    device: str


class ReasonBody(BaseModel):
    """Why."""

    reason: str = Field("", max_length=1000)


@operator.post("/claims")
@require("operator")
def post_claims(body: ClaimsBody) -> Response:
    """Fresh claims; each token is shown this once."""
    here = context()
    terms = service.ClaimTerms(body.profile, body.serial, body.group, body.device_name, body.accept)
    with here.database.write() as session:
        made = service.make_claims(
            session, count=body.count, terms=terms, ttl_s=body.expires_in_s or here.settings.claim_ttl_s,
            who=current_operator().name, now_s=here.clock(),
        )  # fmt: skip
    return Response(reply_list(made).get_data(), status=201, mimetype="application/json")


@operator.get("/claims")
@require("viewer")
def list_claims() -> Response:
    """Claims, newest first; never their tokens."""
    here = context()
    with here.database.read() as session:
        return reply_list(service.claims(session, here.clock()))


@operator.get("/enrolments")
@require("viewer")
def list_enrolments() -> Response:
    """Requests, pending ones first."""
    with context().database.read() as session:
        return reply_list(service.enrolments(session))


@operator.post("/enrolments/<enrolment>/accept")
@require("operator")
def post_accept(path: EnrolmentPath) -> Response:
    """Let a pending board in."""
    here, issuer = context(), issuer_here()
    with here.database.write() as session:
        device_id = service.accept(
            session, path.enrolment, issuer, who=current_operator().name, origin=origin(), now_s=here.clock()
        )  # fmt: skip
    return reply({"device": device_id})


@operator.post("/enrolments/<enrolment>/reject")
@require("operator")
def post_reject(path: EnrolmentPath, body: ReasonBody) -> Response:
    """Refuse a pending board."""
    here = context()
    with here.database.write() as session:
        service.reject(
            session, path.enrolment, reason=body.reason, who=current_operator().name, origin=origin(), now_s=here.clock()
        )  # fmt: skip
    return Response(status=204)


@operator.post("/devices/<device>/revoke")
@require("security")
def post_revoke(path: RevokePath, body: ReasonBody) -> Response:
    """End every certificate of a device, now."""
    here = context()
    with here.database.write() as session:
        device_id = service.revoke(
            session, path.device, reason=body.reason, who=current_operator().name, origin=origin(), now_s=here.clock()
        )  # fmt: skip
    return reply({"device": device_id, "state": "revoked"})
