"""The operator door's OpenAPI description, completed in one place: what each route answers, and how every route can refuse.

flask-openapi3 writes down what goes in (pydantic); what comes out are dataclasses of the services, named here route by route.
Routes that stand in no table answer 200 with a JSON object. A test holds the tables and the routes together, a fuzz run the
answers and the description.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
from flask_openapi3.openapi import OpenAPI

from fleet_server.accounts.own import Overview as OwnAccount
from fleet_server.accounts.people import AccountEntry
from fleet_server.accounts.sessions import GrantEntry
from fleet_server.alerts.service import Alert, Webhook
from fleet_server.audit.service import AuditEntry
from fleet_server.configuration.service import Effective, Layer
from fleet_server.enrolment.service import Claim, Enrolment, NewClaim, RuleEntry
from fleet_server.experiments.service import Experiment
from fleet_server.http_access import scope_of
from fleet_server.inventory.device import Device
from fleet_server.logs.listing import FramesAnswered
from fleet_server.logs.service import DebugSessionEntry, LogEntry
from fleet_server.overview.service import Overview
from fleet_server.releases.service import Release
from fleet_server.rollouts.views import Rollout
from fleet_server.rollouts.why_not import WhyNot
from fleet_server.telemetry.service import HeartbeatEntry

PREFIX = "/api/v1"
REF = "#/components/schemas/{name}"
JSON, PROBLEM_JSON = "application/json", "application/problem+json"

LISTS: Mapping[str, type] = {
    "GET /alerts": Alert, "GET /webhooks": Webhook, "GET /audit": AuditEntry, "GET /configurations": Layer,
    "GET /configurations/{scope}/history": Layer, "GET /claims": Claim, "POST /claims": NewClaim, "GET /enrolments": Enrolment,
    "GET /experiments": Experiment, "GET /devices": Device, "GET /devices/{device}/logs": LogEntry,
    "GET /devices/{device}/debug-sessions": DebugSessionEntry,
    "GET /devices/{device}/debug-sessions/{session}/frames": FramesAnswered, "GET /releases": Release, "GET /rollouts": Rollout,
    "GET /devices/{device}/heartbeats": HeartbeatEntry, "GET /devices/{device}/reports": dict, "GET /detections": dict,
    "GET /configuration-diff": dict, "POST /claims/csv": NewClaim, "GET /enrolment-rules": RuleEntry,
    "POST /enrolments/decide": dict,
    "GET /accounts": AccountEntry, "GET /accounts/{account}/tokens": GrantEntry, "GET /account/sessions": GrantEntry,
    "GET /account/tokens": GrantEntry,
}  # fmt: skip
"""Routes that answer ``{"items": [...], "next": ...}``, and of what."""

ONES: Mapping[str, type] = {
    "POST /alerts/{alert}/acknowledge": Alert, "POST /webhooks": Webhook, "GET /configuration": Layer,
    "GET /devices/{device}/configuration": Layer, "GET /devices/{device}/configuration/effective": Effective,
    "GET /configurations/{scope}": Layer, "POST /configurations/{scope}/undo": Layer, "POST /experiments": Experiment,
    "GET /experiments/{experiment}": Experiment, "GET /devices/{device}": Device,
    "POST /devices/{device}/debug-sessions": DebugSessionEntry,
    "POST /devices/{device}/debug-sessions/{session}/frames": DebugSessionEntry, "GET /overview": Overview,
    "GET /releases/{release}": Release, "POST /releases/{release}/yank": Release, "DELETE /releases/{release}/yank": Release,
    "GET /devices/{device}/why-not": WhyNot, "POST /rollouts": Rollout, "GET /rollouts/{rollout}": Rollout,
    "POST /rollouts/{rollout}/pause": Rollout, "POST /rollouts/{rollout}/resume": Rollout,
    "POST /rollouts/{rollout}/abort": Rollout, "POST /enrolment-rules": RuleEntry,
    "GET /accounts/{account}": AccountEntry, "PUT /accounts/{account}": AccountEntry, "GET /account": OwnAccount,
}  # fmt: skip
"""Routes that answer one such object."""

CREATED: frozenset[str] = frozenset({
    "POST /setup", "POST /tokens", "POST /webhooks", "POST /claims", "POST /experiments", "POST /trust/online-keys",
    "POST /devices/{device}/debug-sessions", "POST /devices/{device}/debug-sessions/{session}/frames", "POST /trust/root",
    "POST /channels/{channel}/metadata", "POST /claims/csv", "POST /devices/{device}/readmit", "POST /devices/{device}/replace",
    "POST /enrolment-rules",
    "POST /accounts", "POST /accounts/{account}/link", "POST /accounts/{account}/tokens", "POST /account/tokens",
    "POST /account/second-factor", "POST /account/recovery-codes",
})  # fmt: skip
"""Routes that answer 201."""

CREATED_OR_NOT: frozenset[str] = frozenset({"PUT /content/{sha256}", "POST /rollouts"})
"""201 where something was made, 200 where it was there or was only tried."""

EMPTY: frozenset[str] = frozenset({
    "POST /logout", "DELETE /webhooks/{webhook}", "POST /enrolments/{enrolment}/reject", "POST /experiments/{experiment}/end",
    "DELETE /devices/{device}/debug-sessions/{session}", "POST /devices/{device}/unhold",
    "POST /claims/{claim}/end", "DELETE /enrolment-rules/{rule}",
    "DELETE /accounts/{account}", "POST /accounts/{account}/disable", "POST /accounts/{account}/enable",
    "DELETE /accounts/{account}/second-factor", "DELETE /accounts/{account}/tokens/{grant_id}",
    "POST /account/second-factor/remove", "DELETE /account/sessions/{grant_id}", "DELETE /account/tokens/{grant_id}",
})  # fmt: skip
"""Routes that answer 204."""

OTHER_TYPES: Mapping[str, str] = {
    "GET /crops/{key}": "image/jpeg", "GET /live": "text/event-stream", "GET /audit/export": "application/x-ndjson",
    "GET /devices/{device}/debug-sessions/{session}/pictures/{sha256}": "image/jpeg",
}  # fmt: skip
"""Routes whose body is no JSON."""

REFUSALS: Mapping[str, str] = {
    "400": "The request is not valid", "401": "Nobody is signed in", "403": "Refused", "404": "There is no such thing",
    "409": "Clashes with what is there", "413": "Too large", "415": "The body is of another type than this route takes",
    "422": "A document is wrong in the places that `faults` lists", "429": "Too many; Retry-After says when to come back",
    "503": "Not available at the moment; Retry-After says when to ask again", "507": "The server has no room",
}  # fmt: skip
"""How every route can refuse: RFC 9457, always the same shape. 500 is not among them: it would be our fault."""

_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "what was wrong with this request"},
        "hint": {"type": "string", "description": "what to do about it"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "problem"],
                "properties": {"path": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "a personal or machine token (`rookery login`)"},
    "session": {"type": "apiKey", "in": "cookie", "name": "rookery_session", "description": "changes need a CSRF token besides"},
}


def document(app: OpenAPI) -> dict[str, Any]:
    """The whole description of this app's API; made once and kept."""
    made: dict[str, Any] | None = app.extensions.get("rookery_openapi")
    if made is None:
        made = app.extensions["rookery_openapi"] = _complete(app)
    return made


def operation_key(method: str, path: str) -> str:
    """How the tables above name an operation: ``GET /devices/{device}``."""
    return f"{method.upper()} {path.removeprefix(PREFIX)}"


def _complete(app: OpenAPI) -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(app.api_doc))
    components = made.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.pop("ValidationErrorModel", None)  # flask-openapi3's own way to refuse, which is not ours
    kinds = sorted({kind for kind in (*LISTS.values(), *ONES.values()) if kind is not dict}, key=lambda kind: kind.__qualname__)
    found, ours = msgspec.json.schema_components(kinds, ref_template=REF)
    of_kinds = {dict: {"type": "object"}, **dict(zip(kinds, found, strict=True))}  # of two with one name each has its own
    twice = sorted(set(ours) & set(schemas))
    if twice:
        raise ValueError(f"bodies and answers have schemas of one name: {', '.join(twice)}")
    schemas |= {**ours, "Problem": _PROBLEM}
    components["securitySchemes"] = _SCHEMES
    scopes = _scopes(app)
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            key = operation_key(method, path)
            operation["responses"] = {**_answers(key, of_kinds), **_refusals()}
            scope = scopes.get((method.upper(), path), "admin")
            operation["security"] = [{"token": []}, {"session": []}] if scope else []
            operation["x-rookery-scope"] = scope
    return made


def _answers(key: str, of_kinds: Mapping[type, dict[str, Any]]) -> dict[str, Any]:
    if key in EMPTY:
        return {"204": {"description": "Done"}}
    if key in LISTS:
        items: dict[str, Any] = {"type": "array", "items": of_kinds[LISTS[key]]}
        following = {"type": ["string", "null"], "description": "the cursor of what follows"}
        schema = {"type": "object", "required": ["items", "next"], "properties": {"items": items, "next": following}}
    else:
        schema = of_kinds[ONES.get(key, dict)]
    content = {OTHER_TYPES[key]: {}} if key in OTHER_TYPES else {JSON: {"schema": schema}}
    answer = {"description": "As asked", "content": content}
    statuses = ("200", "201") if key in CREATED_OR_NOT else ("201",) if key in CREATED else ("200",)
    return dict.fromkeys(statuses, answer)


def _refusals() -> dict[str, Any]:
    content = {PROBLEM_JSON: {"schema": {"$ref": REF.format(name="Problem")}}}
    return {status: {"description": description, "content": content} for status, description in REFUSALS.items()}


def _scopes(app: OpenAPI) -> dict[tuple[str, str], str]:
    found: dict[tuple[str, str], str] = {}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<([^<:]+:)?", "{", rule.rule).replace(">", "}")
        for method in rule.methods or ():
            found[method, path] = scope_of(app.view_functions[rule.endpoint]) or ""
    return found
