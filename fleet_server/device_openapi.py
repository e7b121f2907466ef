"""The device door in OpenAPI 3.1, made of the wire's own types: one row per route, and none may be without. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from ota.wire import topics
from ota.wire.assignments import Signed, StateAnswer, StateRequest
from ota.wire.base import VERSION, Message
from ota.wire.deployments import ReportBatch
from ota.wire.enrolment import EnrolAnswer, EnrolRequest, RenewRequest, TimeRequest
from ota.wire.events import EventBatch, Stored, UploadRequest, UploadSlot
from ota.wire.heartbeat import Heartbeat
from ota.wire.late_renewal import LateRenewalRequest
from ota.wire.logs import LogBatch

_REF = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class Route:
    """One route: its messages, who may ask (``device``: a certificate; ``url``: a signed URL; ``anybody``), what it answers.

    ``answers``: status -> the message of its body; None: no body, or plain bytes.
    """

    method: str
    path: str
    who: str
    says: str
    body: type[Message] | None
    answers: dict[int, type[Message] | None]


ROUTES = (
    Route("POST", topics.ENROL, "anybody", "Ask for an identity", EnrolRequest, {200: EnrolAnswer, 202: EnrolAnswer}),
    Route("POST", topics.RENEW, "device", "Ask for the next certificate", RenewRequest, {200: EnrolAnswer}),
    Route("POST", topics.RENEW_EXPIRED, "anybody", "Ask for it after the last has ended", LateRenewalRequest, {200: EnrolAnswer}),
    Route("POST", topics.TIME, "anybody", "Ask for the signed time", TimeRequest, {200: Signed}),
    Route("POST", topics.STATE, "device", "The poll", StateRequest, {200: StateAnswer}),
    Route("POST", topics.EVENTS, "device", "Hand over events", EventBatch, {200: Stored}),
    Route("POST", topics.REPORTS, "device", "Hand over reports", ReportBatch, {200: Stored}),
    Route("POST", topics.LOGS, "device", "Hand over log lines", LogBatch, {200: Stored}),
    Route("POST", topics.HEARTBEATS, "device", "Hand over a heartbeat", Heartbeat, {204: None}),
    Route("POST", topics.UPLOADS, "device", "Ask for a place for one blob", UploadRequest, {200: UploadSlot}),
    Route("PUT", f"{topics.BLOBS}/{{key}}", "url", "The bytes of a slot", None, {200: None, 201: None}),
    Route("GET", f"{topics.BLOBS}/{{key}}", "url", "The bytes of a blob", None, {200: None}),
    Route("GET", f"{topics.METADATA}/{{file}}", "anybody", "A signed metadata file", None, {200: None, 206: None, 304: None}),
    Route("GET", f"{topics.BUNDLES}/{{file}}", "anybody", "A manifest or content file", None, {200: None, 206: None, 304: None}),
)
"""Every route of the door. Each can also answer with a problem (RFC 9457): 4xx, 503 or 507."""

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "faults": {"type": "array", "items": {"type": "object"}},
        "time": {"$ref": _REF.format(name="Signed")},
    },
}
_REFUSALS = {
    "anybody": (400, 401, 403, 404, 409, 413, 416, 429, 503, 507), "device": (400, 401, 403, 409, 413, 429, 503, 507),
    "url": (400, 403, 404, 409, 413, 416, 429, 503, 507),
}  # fmt: skip


def document() -> dict[str, Any]:
    """The whole description."""
    kinds = {kind for route in ROUTES for kind in (route.body, *route.answers.values()) if kind is not None}
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rookery device door", "version": "1", "description": "TLS 1.2 or newer, with a client certificate."},
        "components": {"schemas": {**_plain(schemas), "Problem": PROBLEM}, "securitySchemes": {"device": {"type": "mutualTLS"}}},
        "paths": paths,
    }


def _plain(schemas: Any) -> Any:
    """The wire as it is: every message carries ``v``, and patterns end in ``$`` where Python's own say ``\\Z``."""
    for schema in schemas.values():
        if "v" in schema.get("properties", {}):
            schema["properties"]["v"] = {"const": VERSION}
            schema["required"] = ["v", *schema.get("required", [])]
    return msgspec.json.decode(msgspec.json.encode(schemas).replace(rb"\\Z", b"$"))


def missing(rules: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of (method, path) as the app has them (``{name}`` for a parameter): those without a row here, and rows without a route."""
    return set(rules) ^ {(route.method, route.path) for route in ROUTES}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": route.says, "responses": _responses(route)}
    if route.who == "device":
        operation["security"] = [{"device": []}]
    parameters = [
        {"name": part.strip("{}"), "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for part in route.path.split("/")
        if part.startswith("{")
    ]
    if route.who == "url":
        names = ("expires", "signature") if route.method == "GET" else ("expires", "type", "length", "sha256", "signature")
        parameters += [{"name": name, "in": "query", "required": True, "schema": {"type": "string"}} for name in names]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        content = {"application/json": {"schema": {"$ref": _REF.format(name=route.body.__name__)}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif route.method == "PUT":
        schema = {"type": "string", "format": "binary"}
        operation["requestBody"] = {"required": True, "content": {"image/jpeg": {"schema": schema}}}
    return operation


def _responses(route: Route) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, kind in route.answers.items():
        found[str(status)] = {"description": "well"}
        if kind is not None:
            schema = {"$ref": _REF.format(name=kind.__name__)}
            found[str(status)]["content"] = {"application/json": {"schema": schema}}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    for status in _REFUSALS[route.who]:
        found[str(status)] = {"description": "refused", "content": problem}
    return found
