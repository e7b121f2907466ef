"""Enrolment on the operator door: claims, the boards that ask, rules, and an operator's word about a device's identity."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from fleet_server.context import context
from fleet_server.enrolment import service
from fleet_server.enrolment.issuer_http import issuer_here
from fleet_server.enrolment.operator_bodies import (
    DAY_S,
    AcceptBody,
    ClaimPath,
    ClaimsBody,
    ClaimsCsvBody,
    ClaimsQuery,
    DecideBody,
    DevicePath,
    EnrolmentPath,
    EnrolmentsQuery,
    NewKeyBody,
    ReasonBody,
    ReplaceBody,
    RuleBody,
    RulePath,
    RuleTestBody,
)
from fleet_server.errors import ServerError
from fleet_server.http_access import current_operator, origin, reach_here, require
from fleet_server.http_json import reply, reply_list

operator = APIBlueprint("enrolment", __name__, url_prefix="/api/v1")

@operator.post("/claims")
@require("operator", reach="filtered")
def post_claims(body: ClaimsBody) -> Response:
    """Fresh claims; each token is shown this once."""
    here, groups = context(), reach_here()
    terms = service.ClaimTerms(body.profile, body.serial, body.group, body.device_name, body.accept)
    with here.database.write() as session:
        made = service.make_claims(
            session, count=body.count, terms=terms, ttl_s=body.expires_in_s or here.settings.claim_ttl_s,
            who=current_operator().name, now_s=here.clock(), origin=origin(), groups=groups,
        )  # fmt: skip
    return Response(reply_list(made).get_data(), status=201, mimetype="application/json")


@operator.post("/claims/csv")
@require("operator", reach="filtered")
def post_claims_csv(body: ClaimsCsvBody) -> Response:
    """A claim for each line of a CSV text, all or none; each token is shown this once."""
    here, groups = context(), reach_here()
    with here.database.write() as session:
        made = service.make_claims_of_csv(
            session, body.csv, accept=body.accept, ttl_s=here.settings.claim_ttl_s, who=current_operator().name,
            now_s=here.clock(), origin=origin(), groups=groups,
        )  # fmt: skip
    return Response(reply_list(made).get_data(), status=201, mimetype="application/json")


@operator.get("/claims")
@require("viewer", reach="filtered")
def list_claims(query: ClaimsQuery) -> Response:
    """Claims, newest first; never their tokens."""
    here, groups = context(), reach_here()
    with here.database.read() as session:
        found = service.claims(
            session, here.clock(), query.limit, state=query.state, text=query.q, after=query.cursor, groups=groups
        )
    return reply_list(found, found[-1].id if len(found) == query.limit else None)


@operator.post("/claims/<claim>/end")
@require("operator", reach="filtered")
def post_end_claim(path: ClaimPath) -> Response:
    """Make a claim worthless before it is used."""
    here, groups = context(), reach_here()
    with here.database.write() as session:
        service.end_claim(
            session, path.claim, who=current_operator().name, origin=origin(), now_s=here.clock(), groups=groups
        )
    return Response(status=204)


@operator.get("/enrolments")
@require("viewer", reach="filtered")
def list_enrolments(query: EnrolmentsQuery) -> Response:
    """Requests, pending ones first."""
    groups = reach_here()
    with context().database.read() as session:
        found = service.enrolments(
            session, query.limit, state=query.state, text=query.q, after=query.cursor, groups=groups
        )
    return reply_list(found, found[-1].id if len(found) == query.limit else None)


@operator.post("/enrolments/<enrolment>/accept")
@require("operator", reach="filtered")
def post_accept(path: EnrolmentPath, body: AcceptBody) -> Response:
    """Let a pending board in."""
    here, issuer, groups = context(), issuer_here(), reach_here()
    with here.database.write() as session:
        device_id = service.accept(
            session, path.enrolment, issuer, who=current_operator().name, origin=origin(), now_s=here.clock(),
            group=body.group, name=body.name, groups=groups,
        )  # fmt: skip
    return reply({"device": device_id})


@operator.post("/enrolments/<enrolment>/reject")
@require("operator", reach="filtered")
def post_reject(path: EnrolmentPath, body: ReasonBody) -> Response:
    """Refuse a pending board."""
    here, groups = context(), reach_here()
    with here.database.write() as session:
        service.reject(
            session, path.enrolment, reason=body.reason, who=current_operator().name, origin=origin(), now_s=here.clock(),
            groups=groups,
        )  # fmt: skip
    return Response(status=204)


@operator.post("/enrolments/decide")
@require("operator", reach="filtered")
def post_decide(body: DecideBody) -> Response:
    """Accept or reject several boards; each is decided by itself, and the answer says what became of each."""
    groups = reach_here()
    return reply_list(decide_many(body.enrolments, accept=body.accept, group=body.group, reason=body.reason, groups=groups))


def decide_many(
    enrolments: list[str], *, accept: bool, group: str, reason: str, groups: frozenset[str] | None
) -> list[dict[str, str]]:
    """One transaction for each request: {enrolment, state, device, problem}; the pages do the same."""
    here, issuer, who, found = context(), issuer_here(), current_operator().name, []
    for enrolment in dict.fromkeys(enrolments):
        told = {"enrolment": enrolment, "state": "accepted" if accept else "rejected", "device": "", "problem": ""}
        try:
            with here.database.write() as session:
                if accept:
                    told["device"] = service.accept(
                        session, enrolment, issuer, who=who, origin=origin(), now_s=here.clock(), group=group, groups=groups
                    )
                else:
                    service.reject(
                        session, enrolment, reason=reason, who=who, origin=origin(), now_s=here.clock(), groups=groups
                    )
        except ServerError as error:
            told |= {"state": "", "problem": error.detail}
        found.append(told)
    return found


@operator.get("/enrolment-rules")
@require("viewer")
def list_rules() -> Response:
    """Rules, in the order in which they are asked."""
    here = context()
    with here.database.read() as session:
        return reply_list(service.all_rules(session, here.clock()))


@operator.post("/enrolment-rules")
@require("operator")
def post_rule(body: RuleBody) -> Response:
    """A new rule. Boards that wait and fit it are let in when they ask next."""
    here = context()
    with here.database.write() as session:
        made = service.add_rule(
            session, profile=body.profile, serial=body.serial, group=body.group, most_per_day=body.most_per_day,
            until_s=here.clock() + body.days * DAY_S, who=current_operator().name, origin=origin(), now_s=here.clock(),
        )  # fmt: skip
    return reply(made, 201)


@operator.post("/enrolment-rules/test")
@require("viewer")
def post_rule_test(body: RuleTestBody) -> Response:
    """Which rule would let such a board in now, and why, or why none does. Changes nothing."""
    here = context()
    with here.database.read() as session:
        verdict = service.decide_now(session, body.serial, body.profile, here.clock())
    reasons = [{"rule": rule, "reason": reason} for rule, reason in verdict.reasons]
    return reply({"rule": verdict.rule.id if verdict.rule else None, "reasons": reasons})


@operator.delete("/enrolment-rules/<rule>")
@require("operator")
def delete_rule(path: RulePath) -> Response:
    """The rule lets nobody in from now on."""
    here = context()
    with here.database.write() as session:
        service.remove_rule(session, path.rule, who=current_operator().name, origin=origin(), now_s=here.clock())
    return Response(status=204)


@operator.post("/devices/<device>/revoke")
@require("security", reach="device")
def post_revoke(path: DevicePath, body: ReasonBody) -> Response:
    """End every certificate of a device, now."""
    here = context()
    with here.database.write() as session:
        device_id = service.revoke(
            session, path.device, reason=body.reason, who=current_operator().name, origin=origin(), now_s=here.clock()
        )  # fmt: skip
    return reply({"device": device_id, "state": "revoked"})


@operator.post("/devices/<device>/readmit")
@require("security", reach="device")
def post_readmit(path: DevicePath, body: NewKeyBody) -> Response:
    """A claim that lets one new key in as this device; shown this once. Its old certificates end when it is used."""
    here = context()
    with here.database.write() as session:
        device_id, claim = service.readmit(
            session, path.device, ttl_s=body.expires_in_s or here.settings.claim_ttl_s, reason=body.reason,
            who=current_operator().name, origin=origin(), now_s=here.clock(),
        )  # fmt: skip
    return reply({"device": device_id, "claim": claim}, 201)


@operator.post("/devices/<device>/replace")
@require("security", reach="device")
def post_replace(path: DevicePath, body: ReplaceBody) -> Response:
    """A claim that puts another board in this device's place; shown this once. The old one goes when it is used."""
    here = context()
    with here.database.write() as session:
        device_id, claim = service.replace(
            session, path.device, serial=body.serial, ttl_s=body.expires_in_s or here.settings.claim_ttl_s,
            reason=body.reason, who=current_operator().name, origin=origin(), now_s=here.clock(),
        )  # fmt: skip
    return reply({"device": device_id, "claim": claim}, 201)


@operator.post("/devices/<device>/decommission")
@require("security", reach="device")
def post_decommission(path: DevicePath, body: ReasonBody) -> Response:
    """The device is gone for good: keys worthless, name free, history kept."""
    here = context()
    with here.database.write() as session:
        device_id = service.decommission(
            session, path.device, reason=body.reason, who=current_operator().name, origin=origin(), now_s=here.clock()
        )  # fmt: skip
    return reply({"device": device_id, "state": "decommissioned"})
