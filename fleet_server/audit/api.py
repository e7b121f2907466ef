"""GET /audit."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from fleet_server.audit import service
from fleet_server.context import context
from fleet_server.http_access import require
from fleet_server.http_json import reply_list

operator = APIBlueprint("audit", __name__, url_prefix="/api/v1")


class AuditQuery(BaseModel):
    """Which part of the log."""

    target: str | None = None
    cursor: int | None = None
    limit: int = Field(100, ge=1, le=1000)


@operator.get("/audit")
@require("viewer")
def list_audit(query: AuditQuery) -> Response:
    """Who did what, newest first."""
    with context().database.read() as session:
        found = service.entries(session, target=query.target, before_id=query.cursor, limit=query.limit)
    return reply_list(found, str(found[-1].id) if len(found) == query.limit else None)
