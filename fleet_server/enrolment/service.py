"""The use cases of enrolment, in one place for whoever calls them; each is written in the file that bears its name."""

from fleet_server.enrolment.accepting import Outcome
from fleet_server.enrolment.asking import Bounds, check_asking, enrol
from fleet_server.enrolment.claims import (
    MAX_CLAIMS,
    Claim,
    ClaimTerms,
    NewClaim,
    claims,
    end_claim,
    end_of_maker,
    make_claims,
    make_claims_of_csv,
)
from fleet_server.enrolment.ending import decommission, readmit, replace, revoke
from fleet_server.enrolment.issuing import Heirs, Issuer, Nobody
from fleet_server.enrolment.queue import Enrolment, accept, enrolments, reject, turned_away
from fleet_server.enrolment.renewing import renew, renew_expired
from fleet_server.enrolment.rules import Verdict
from fleet_server.enrolment.ruling import RuleEntry, add_rule, all_rules, decide_now, remove_rule

__all__ = [
    "MAX_CLAIMS", "Bounds", "Claim", "ClaimTerms", "Enrolment", "Heirs", "Issuer", "NewClaim", "Nobody", "Outcome", "RuleEntry",
    "Verdict", "accept", "add_rule", "all_rules", "check_asking", "claims", "decide_now", "decommission", "end_claim",
    "end_of_maker", "enrol", "enrolments", "make_claims", "make_claims_of_csv", "readmit", "reject", "remove_rule", "renew",
    "renew_expired", "replace", "revoke", "turned_away",
]  # fmt: skip
